"""Vectors of native forms against docs/BUNDLE.md, section 5, in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nicrt.runtime.native_form import Constant, Exponential, Factor, InterpolatedExponential, Row
from nicrt.runtime.native_vectors import vector

MATRIX = np.random.default_rng(1).normal(0, 1, (4, 5)).astype(np.float32)
ARRAYS = {
    "constant": MATRIX[0],
    "one": np.array([1.5], np.float32),
    "rows": MATRIX,
    "one per row": MATRIX[:, :1].copy(),
    "half": MATRIX.astype(np.float16),
}


def single(factor: Factor, p: int = 0) -> list[float]:
    made = vector([factor], 5, ARRAYS, {"p": p}, without=0.0)
    assert made.dtype == np.float32 and made.shape == (5,) and made.flags.c_contiguous
    return made.tolist()


def rounded(values: list[float]) -> list[float]:
    return np.array(values, np.float64).astype(np.float32).tolist()


def test_without_factors() -> None:
    assert vector([], 3, {}, {}, without=0.0).tolist() == [0, 0, 0]
    assert vector([], 3, {}, {}, without=1.0).tolist() == [1, 1, 1]


def test_constants_and_rows() -> None:
    assert single(Constant(tensor="constant")) == MATRIX[0].tolist()
    assert single(Constant(tensor="one")) == [1.5] * 5
    for p in range(4):
        assert single(Row(tensor="rows", parameter="p"), p) == MATRIX[p].tolist()
        assert single(Row(tensor="one per row", parameter="p"), p) == [MATRIX[p, 0].item()] * 5
    assert single(Row(tensor="half", parameter="p"), 2) == MATRIX[2].astype(np.float16).tolist()
    for p in (-1, 4, 2**31 - 1):
        with pytest.raises(ValueError, match=f"row {p} of 4"):
            single(Row(tensor="rows", parameter="p"), p)


def test_exponentials_are_rounded_once() -> None:
    for p in (-128, -1, 0, 3, 128):
        expected = rounded([math.exp(0.0625 * p - 0.3)] * 5)
        assert single(Exponential(parameter="p", factor=0.0625, offset=-0.3), p) == expected
    assert single(Exponential(parameter="p", factor=1e30), 2**31 - 1) == [math.inf] * 5
    assert single(Exponential(parameter="p", factor=-1e30), 2**31 - 1) == [0] * 5


@pytest.mark.parametrize("p", [-150, -100, -40, 0, 1, 50, 100, 233, 300, 350, 400, 2**31 - 1, -(2**31)])
def test_interpolated_exponentials(p: int) -> None:
    """Linear between rows, 0 beyond them."""
    place = p / 100
    weights = [max(0.0, 1.0 - abs(place - k)) for k in range(4)]
    expected = [math.exp(sum(w * float(MATRIX[k, c]) for k, w in enumerate(weights))) for c in range(5)]
    found = single(InterpolatedExponential(tensor="rows", parameter="p", unit=100), p)
    np.testing.assert_allclose(found, rounded(expected), rtol=2e-7)
    if 0 <= p <= 300 and p % 100 == 0:
        np.testing.assert_allclose(found, np.exp(MATRIX[p // 100]), rtol=2e-7)
    if not -100 < p < 400:
        assert found == [1] * 5


def test_factors_are_multiplied() -> None:
    factors = [Constant(tensor="constant"), Exponential(parameter="p", factor=0.1), Row(tensor="rows", parameter="q")]
    found = vector(factors, 5, ARRAYS, {"p": 7, "q": 3}, without=0.0)
    assert found.tolist() == (MATRIX[0] * np.float32(math.exp(0.1 * 7)) * MATRIX[3]).tolist()

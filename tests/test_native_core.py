"""Chains of the core itself: which arrays and sizes it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_graphs import Array

from nicrt import _core
from nicrt.runtime.errors import UnsupportedError


def chain_layer(**changes: Any) -> _core.ChainLayer:
    values = {"weights": np.zeros((4, 3, 5, 5), np.float32), "bias": np.zeros(3, np.float32), "stride": (2, 2)}
    return _core.ChainLayer(**{**values, "pad": (2, 2), **changes})


def test_the_core_checks_what_it_is_given() -> None:
    layer = chain_layer()
    norm = {"beta": np.ones(4, np.float32), "gamma": np.ones((4, 3), np.float32)}
    short, alone = chain_layer(bias=np.zeros(2, np.float32)), chain_layer(beta=norm["beta"])
    for bad in ([], [short], [layer, layer], [chain_layer(**norm)], [alone]):
        with pytest.raises((ValueError, UnsupportedError)):
            _core.Chain(bad)
    for stride, pad in (((0, 2), (2, 2)), ((2, 65), (2, 2)), ((2, 2), (65, 2)), ((1, 1), (40, 40))):
        with pytest.raises(UnsupportedError):
            _core.Chain([chain_layer(stride=stride, pad=pad)])
    chain = _core.Chain([layer])
    y, scale = np.zeros((1, 4, 6, 5), np.float32), np.ones(4, np.float32)

    def term(tensor: Array, by: Array = scale) -> _core.ChainTerm:
        return _core.ChainTerm(tensor=tensor, scale=by)

    assert chain.run([term(y)], scale * 0, 0, 255, 1).shape == (1, 12, 10, 3)
    for terms, offset, low, high in (
        ([], scale, 0.0, 255.0),
        ([term(y[:, :3].copy())], scale, 0.0, 255.0),
        ([term(y, scale[:3].copy())], scale, 0.0, 255.0),
        ([term(y)], scale[:3].copy(), 0.0, 255.0),
        ([term(y), term(y[:, :, :5].copy())], scale, 0.0, 255.0),
        ([term(y[:, :, :0].copy())], scale, 0.0, 255.0),
        ([term(y)], scale, 0.0, 256.0),
        ([term(y)], scale, float("nan"), 255.0),
    ):
        with pytest.raises(ValueError):
            chain.run(terms, offset, low, high, 1)


def test_arrays_are_never_converted_nor_given_by_place() -> None:
    y, scale = np.zeros((1, 4, 6, 5), np.float32), np.ones(4, np.float32)
    for tensor, by in ((y.astype(np.float64), scale), (y[:, :, ::2], scale), (y, scale.astype(np.float64))):
        with pytest.raises(TypeError):
            _core.ChainTerm(tensor=tensor, scale=by)
    for changes in ({"weights": np.zeros((4, 3, 5, 5), np.float16)}, {"bias": np.zeros(3)}, {"beta": np.ones(4)}):
        with pytest.raises(TypeError):
            chain_layer(**changes)
    with pytest.raises(TypeError):
        _core.ChainTerm(y, scale)  # type: ignore[misc]

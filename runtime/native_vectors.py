"""What the parameters of a run decide in a native form: vectors, rows of layers, rules of table indices.

docs/BUNDLE.md, section 5, says what each is. Parameters are integers by the name of their port, arrays the form's
tensors by their stored name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .native_form import (
    Constant,
    Exponential,
    Factor,
    Head,
    IndexRule,
    IntegerLayer,
    InterpolatedExponential,
    Row,
    ScaleTable,
)

Floats = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[Any]]
Parameters = Mapping[str, int]


def vector(
    factors: Sequence[Factor], channels: int, arrays: Arrays, parameters: Parameters, *, without: float
) -> Floats:
    """float32 [channels], the product of the factors; `without`: where there are none. Raises ValueError for a row that
    is not there."""
    if not factors:
        return np.full(channels, without, np.float32)
    result = np.ones(channels, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # an infinity is clipped like any other value
        for factor in factors:
            result = result * np.asarray(_factor(factor, arrays, parameters), np.float64).astype(np.float32)
    return result


def _factor(factor: Factor, arrays: Arrays, parameters: Parameters) -> npt.NDArray[Any] | np.float64:
    match factor:
        case Constant():
            constant: npt.NDArray[Any] = arrays[factor.tensor]
            return constant
        case Row():
            return _row(arrays[factor.tensor], parameters[factor.parameter])
        case Exponential():
            number: np.float64 = np.exp(np.float64(factor.factor) * parameters[factor.parameter] + factor.offset)
            return number
        case InterpolatedExponential():
            matrix = arrays[factor.tensor].astype(np.float64)
            place = parameters[factor.parameter] / factor.unit
            weights = np.maximum(0.0, 1.0 - np.abs(place - np.arange(len(matrix))))
            exponent: npt.NDArray[np.float64] = np.exp(weights @ matrix)
            return exponent


def _row(matrix: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    if not 0 <= number < len(matrix):
        raise ValueError(f"row {number} of {len(matrix)}")
    row: npt.NDArray[Any] = matrix[number]
    return row


def rescale(layer: IntegerLayer | Head, arrays: Arrays, parameters: Parameters) -> _core.Rescale:
    """Bias and multipliers of a layer of integers. Raises ValueError for a row that is not there."""

    def of_row(name: str) -> npt.NDArray[Any]:
        return arrays[name] if layer.row is None else _row(arrays[name], parameters[layer.row])

    negative = layer.negative if isinstance(layer, IntegerLayer) else None
    return _core.Rescale(
        bias=of_row(layer.bias),
        multiplier=of_row(layer.multiplier),
        negative=None if negative is None else of_row(negative),
    )


def index_rule(rule: IndexRule, arrays: Arrays, parameters: Parameters) -> _core.IndexRule:
    """How a head's values become table indices. Raises ValueError for numbers beyond what the kernels take."""
    return _core.IndexRule(
        add=rule.add - parameters[rule.minus],
        unit=rule.unit,
        low=rule.low,
        high=rule.high,
        skip=parameters[rule.skip],
        skipped=rule.skipped,
        scales=None if rule.scales is None else _scale_table(rule.scales, arrays),
    )


def _scale_table(scales: ScaleTable, arrays: Arrays) -> _core.ScaleTable:
    return _core.ScaleTable(
        values=arrays[scales.tensor].astype(np.float32),
        low=scales.low,
        high=scales.high,
        limit=scales.limit,
        unit=scales.unit,
        add=scales.add,
    )

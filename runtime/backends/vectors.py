"""The few ONNX operators on small arrays (gains, step sizes, weights) that a backend of our own evaluates itself.

Bundles are untrusted: every result is bounded before it is computed, and what ONNX would treat otherwise than numpy is
refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..errors import UnsupportedError, one_line
from ..onnx_graph import DTYPES, Array, Node

MAX_PLACES = 1 << 22
MAX_PRODUCTS = 1 << 26


def _unary(function: Callable[[Array], Array]) -> Callable[[Node, list[Array]], Array]:
    def evaluate(_: Node, inputs: list[Array]) -> Array:
        (only,) = inputs
        _check_places(only.shape)
        return function(only)

    return evaluate


def _binary(function: Callable[[Array, Array], Array]) -> Callable[[Node, list[Array]], Array]:
    def evaluate(_: Node, inputs: list[Array]) -> Array:
        a, b = inputs
        if a.dtype != b.dtype:
            raise UnsupportedError("operands of different types")
        _check_places(np.broadcast_shapes(a.shape, b.shape))
        return function(a, b)

    return evaluate


def _cast(node: Node, inputs: list[Array]) -> Array:
    (only,) = inputs
    to = node.attributes.get("to")
    name = DTYPES.get(to) if isinstance(to, int) else None
    if name is None or (np.dtype(name).kind != "f" and (only.dtype.kind == "f" or name not in ("int32", "int64"))):
        raise UnsupportedError("a Cast of floats to integers, or to an integer type that may not hold its input")
    if name == "int32" and only.dtype == np.int64:
        raise UnsupportedError("a Cast to an integer type that may not hold its input")
    return only.astype(name)


def _unsqueeze(node: Node, inputs: list[Array]) -> Array:
    data, axes = inputs
    if axes.ndim != 1 or axes.size > 4 or axes.dtype != np.int64:
        raise UnsupportedError("an Unsqueeze of more than 4 axes")
    return np.expand_dims(data, tuple(int(axis) for axis in axes))


def _reshape(node: Node, inputs: list[Array]) -> Array:
    data, shape = inputs
    if shape.dtype != np.int64 or list(shape) != [-1] or node.attributes.get("allowzero", 0) != 0:
        raise UnsupportedError("a Reshape that is not to one axis")
    return data.reshape(-1)


def _gather(node: Node, inputs: list[Array]) -> Array:
    data, places = inputs
    if node.attributes.get("axis", 0) != 0 or places.dtype.kind != "i" or data.ndim == 0:
        raise UnsupportedError("a Gather along another axis than the first")
    _check_places((*places.shape, *data.shape[1:]))
    if ((places < 0) | (places >= len(data))).any():
        raise UnsupportedError("a Gather of a row that is not there")
    return np.asarray(data[places])


def _matmul(_: Node, inputs: list[Array]) -> Array:
    a, b = inputs
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or a.dtype != np.float32 or b.dtype != np.float32:
        raise UnsupportedError("a MatMul that is not of two float32 matrices")
    _check_places((a.shape[0], b.shape[1]))
    if a.shape[0] * a.shape[1] * b.shape[1] > MAX_PRODUCTS:
        raise UnsupportedError("too large a MatMul")
    return np.asarray(a @ b)


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind != "f":
        raise UnsupportedError("a Div of integers")
    return np.asarray(a / b)


def _relu(a: Array) -> Array:
    return np.asarray(np.maximum(a, np.zeros((), a.dtype)))


OPERATORS: dict[str, Callable[[Node, list[Array]], Array]] = {
    "Abs": _unary(np.abs),
    "Add": _binary(np.add),
    "Cast": _cast,
    "Div": _binary(_divide),
    "Exp": _unary(np.exp),
    "Gather": _gather,
    "MatMul": _matmul,
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Relu": _unary(_relu),
    "Reshape": _reshape,
    "Sqrt": _unary(np.sqrt),
    "Sub": _binary(np.subtract),
    "Unsqueeze": _unsqueeze,
}


def evaluate(node: Node, inputs: list[Array]) -> Array:
    """The result of one operator. Raises UnsupportedError for one that is not of `OPERATORS` or does not fit."""
    operator = OPERATORS.get(node.operator)
    if operator is None:
        raise UnsupportedError(f"operator {node.operator} is not one of the native backend's")
    try:
        with np.errstate(all="ignore"):
            return np.asarray(operator(node, inputs))
    except (TypeError, ValueError, OverflowError) as error:
        raise UnsupportedError(f"operator {node.operator}: {one_line(error)}") from None


def _check_places(shape: tuple[int, ...]) -> None:
    if math.prod(shape) > MAX_PLACES:
        raise UnsupportedError("an array too large for the native backend to compute at run time")

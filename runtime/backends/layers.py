"""Layers of the native backend's chains, and what convolutions of an ONNX graph say about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import UnsupportedError
from ..onnx_graph import Array, Attribute, Node

Floats = npt.NDArray[np.float32]
MAX_EXTENT = 1 << 16  # of a stride or a pad


@dataclass(frozen=True)
class Layer:
    """A transposed convolution: weights float32 [in, out, rows, columns], bias float32 [out], strides and leading pads
    (rows, columns), slope for values below 0 behind it; inverse GDN of its input: beta [in] and gamma [in, in]."""

    weights: Floats
    bias: Floats
    strides: tuple[int, int]
    pads: tuple[int, int]
    slope: float = 1.0
    norm: tuple[Floats, Floats] | None = None


def transposed(node: Node, arrays: list[Array], channels: int) -> Layer:
    """The layer of a ConvTranspose with these constants."""
    weights, bias = constants(node, arrays, channels, inputs=0)
    strides, pads = upsampling(node, weights)
    return Layer(weights, bias, strides, pads)


def constants(node: Node, arrays: list[Array], channels: int, inputs: int) -> tuple[Floats, Floats]:
    """Weights and bias (zeros where there is none) of a Conv or ConvTranspose; `inputs`: axis of the weights with the
    channels of its input."""
    if len(arrays) not in (1, 2) or arrays[0].ndim != 4 or arrays[0].shape[inputs] != channels or 0 in arrays[0].shape:
        raise UnsupportedError(f"a {node.operator} whose weights do not fit its input")
    weights, outputs = arrays[0], arrays[0].shape[1 - inputs]
    bias = arrays[1] if len(arrays) == 2 else np.zeros(outputs, np.float32)
    if weights.dtype != np.float32 or bias.dtype != np.float32 or bias.shape != (outputs,):
        raise UnsupportedError(f"a {node.operator} of another type than float32, or whose bias does not fit")
    return np.ascontiguousarray(weights, dtype=np.float32), np.ascontiguousarray(bias, dtype=np.float32)


def upsampling(node: Node, weights: Array) -> tuple[tuple[int, int], tuple[int, int]]:
    """Strides and leading pads (rows, columns) of a ConvTranspose whose output has exactly stride times as many places
    as its input."""
    strides, pads, extra = window(node, weights)
    if any(weights.shape[2 + i] + extra[i] - pads[i] - pads[i + 2] != strides[i] for i in (0, 1)):
        raise UnsupportedError("a ConvTranspose whose output is not stride times as large as its input")
    return (strides[0], strides[1]), (pads[0], pads[1])


def window(node: Node, weights: Array) -> tuple[list[int], list[int], list[int]]:
    """Strides, pads and output padding of a Conv or ConvTranspose without groups or dilations."""
    known = {"auto_pad", "dilations", "group", "kernel_shape", "output_padding", "pads", "strides"}
    attributes = node.attributes
    plain = attributes.get("auto_pad", b"NOTSET") == b"NOTSET" and attributes.get("group", 1) == 1
    kernel = _ints(attributes, "kernel_shape", list(weights.shape[2:]))
    if not set(attributes) <= known or not plain or _ints(attributes, "dilations", [1, 1]) != [1, 1]:
        raise UnsupportedError(f"a {node.operator} with groups, dilations or automatic padding")
    strides, extra = _ints(attributes, "strides", [1, 1]), _ints(attributes, "output_padding", [0, 0])
    pads = _ints(attributes, "pads", [0, 0, 0, 0])
    sane = min(strides) >= 1 and min(*extra, *pads) >= 0 and max(*strides, *extra, *pads) <= MAX_EXTENT
    if kernel != list(weights.shape[2:]) or not sane:
        raise UnsupportedError(f"a {node.operator} whose attributes do not fit")
    return strides, pads, extra


def _ints(attributes: Mapping[str, Attribute], name: str, default: list[int]) -> list[int]:
    value = attributes.get(name, default)
    if not isinstance(value, list) or len(value) != len(default):
        raise UnsupportedError(f"a convolution of other than two dimensions ({name})")
    return value

"""Recognises ONNX graphs that are a chain of transposed convolutions from latents to a picture.

    affine prologue, channel by channel  →  ConvTranspose  →  [LeakyRelu | Relu]  →  ...  →  ConvTranspose
    →  Clip  →  Transpose to NHWC  →  Cast to uint8

or a chain with inverse GDN before its layers, in phases (`phases_graph`). The prologue is any expression of Cast, Add,
Sub, Mul and Div over tensors [1, C, h, w] (graph inputs) and vectors that broadcast over their places; the vectors come
from constants and small graph inputs by the operators of `vectors`. So the latents are x[c] = offset[c] + sum over the
tensors of scale[c] * tensor[c].

The nodes are walked once, each value being one of the kinds below; whatever does not fit raises UnsupportedError.
Nothing is guessed: an attribute with an unknown name or value is a refusal too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import UnsupportedError
from ..onnx_graph import Array, Node, OnnxGraph
from .layers import Floats, Layer, transposed
from .phases_graph import PHASES_OPERATORS, Hidden, PhasesValue, Sum, phases_result
from .vectors import evaluate

CHAIN_OPERATORS = {"Clip", "ConvTranspose", "LeakyRelu", "Transpose", *PHASES_OPERATORS}
_FLOAT32, _UINT8 = 1, 2


@dataclass(frozen=True)
class Integers:
    """An int32 graph input [1, C, h, w] that is not a number to reckon with before a Cast."""

    name: str
    channels: int


@dataclass(frozen=True)
class Affine:
    """x[c] = offset[c] + sum of scale[c] * tensor[c] over graph inputs; scales and offset float32 [C]."""

    scales: dict[str, Floats]
    offset: Floats


@dataclass(frozen=True)
class Picture:
    """What comes out of the layers, and what has been done to it since. latents: name of the first one's input."""

    latents: str
    layers: list[Layer]
    limits: tuple[float, float] | None = None
    done: tuple[str, ...] = field(default=())


Value = Array | Integers | Affine | Picture | PhasesValue


def recognise(graph: OnnxGraph, inputs: Mapping[str, Value]) -> Picture:
    """The chain that a graph computes, given a value for each of its inputs: `Integers` or `identity` for tensors, an
    array for what is small. Nothing in it depends on these arrays; the latents do (`affine`).
    """
    if len(graph.outputs) != 1 or set(graph.inputs) != set(inputs):
        raise UnsupportedError("not a graph with one output and these inputs")
    if sum(node.operator == "Clip" for node in graph.nodes) != 1:  # where layers are put together from their phases
        raise UnsupportedError("not a graph with one Clip")
    picture = _walk(graph, inputs)
    if not isinstance(picture, Picture) or picture.done != ("Clip", "Transpose", "Cast") or picture.limits is None:
        raise UnsupportedError("not a chain of transposed convolutions that ends in uint8 [1, H, W, C]")
    return picture


def prologue(graph: OnnxGraph, *results: str) -> OnnxGraph:
    """The part of the graph that computes `results`."""
    needed = set(results)
    nodes = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            nodes.append(node)
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    return OnnxGraph(nodes[::-1], constants, graph.inputs, list(results))


def affine(graph: OnnxGraph, inputs: Mapping[str, Value]) -> Affine:
    """What a `prologue` gives for these inputs."""
    latents = _walk(graph, inputs)
    if not isinstance(latents, Affine):
        raise UnsupportedError("latents that are not an affine combination of tensors")
    return latents


def _walk(graph: OnnxGraph, inputs: Mapping[str, Value]) -> Value:
    """The value of the graph's only output."""
    values: dict[str, Value] = {**graph.constants, **inputs}
    for node in graph.nodes:
        if len(node.outputs) != 1 or node.outputs[0] in values:
            raise UnsupportedError("a node with more than one output, or a name used twice")
        values[node.outputs[0]] = _result(node, [_value(values, name) for name in node.inputs])
    return _value(values, graph.outputs[0])


def identity(name: str, channels: int) -> Affine:
    """A float32 graph input [1, channels, h, w]."""
    return Affine({name: np.ones(channels, np.float32)}, np.zeros(channels, np.float32))


def _value(values: Mapping[str, Value], name: str) -> Value:
    if name not in values:
        raise UnsupportedError("a node whose input is left out or comes later")
    return values[name]


def _result(node: Node, inputs: list[Value]) -> Value:
    arrays = [value for value in inputs if isinstance(value, np.ndarray)]
    if len(arrays) == len(inputs):
        return evaluate(node, arrays)
    first = inputs[0]
    if isinstance(first, Sum) and node.operator == "Clip":
        first = Picture(*first.chain())
    if isinstance(first, Picture) and len(arrays) == len(inputs) - 1:
        return _finish(node, first, arrays)
    if any(isinstance(value, Picture) for value in inputs):
        raise UnsupportedError(f"{node.operator} where the chain should go on")
    if isinstance(first, Integers | Affine) and node.operator == "Cast" and node.attributes == {"to": _FLOAT32}:
        return identity(first.name, first.channels) if isinstance(first, Integers) else first
    if isinstance(first, Affine) and node.operator == "ConvTranspose" and len(arrays) == len(inputs) - 1:
        return Picture(node.inputs[0], [transposed(node, arrays, len(first.offset))])
    hidden = phases_result(node, [_hidden(name, value) for name, value in zip(node.inputs, inputs, strict=True)])
    return _affine(node, inputs) if hidden is None else hidden


def _hidden(name: str, value: Value) -> Array | PhasesValue | None:
    """A value as `phases_graph` knows it: latents are a tensor without layers yet."""
    if isinstance(value, Affine):
        return Hidden(name, len(value.offset))
    return None if isinstance(value, Integers | Picture) else value


def _affine(node: Node, inputs: list[Value]) -> Affine:
    if node.attributes or len(inputs) != 2 or not all(isinstance(value, Affine | np.ndarray) for value in inputs):
        raise UnsupportedError(f"{node.operator} of tensors is not one of the native backend's")
    a, b = inputs
    if node.operator in ("Add", "Sub"):
        sign = np.float32(-1 if node.operator == "Sub" else 1)
        left, right = _as_affine(a, b), _scaled(_as_affine(b, a), sign)
        scales = dict(left.scales)
        for name, scale in right.scales.items():
            scales[name] = scales[name] + scale if name in scales else scale
        return Affine(scales, left.offset + right.offset)
    if node.operator == "Mul" and isinstance(a, np.ndarray) and isinstance(b, Affine):
        a, b = b, a
    if node.operator in ("Mul", "Div") and isinstance(a, Affine) and isinstance(b, np.ndarray):
        factor = _per_channel(b, len(a.offset))
        return _scaled(a, factor if node.operator == "Mul" else np.float32(1) / factor)
    raise UnsupportedError(f"{node.operator} of these tensors is not affine")


def _as_affine(value: Value, other: Value) -> Affine:
    if isinstance(value, Affine):
        if isinstance(other, Affine) and len(other.offset) != len(value.offset):
            raise UnsupportedError("tensors of different numbers of channels")
        return value
    assert isinstance(value, np.ndarray) and isinstance(other, Affine)  # one of the two is a tensor
    return Affine({}, _per_channel(value, len(other.offset)))


def _scaled(value: Affine, factor: Floats | np.float32) -> Affine:
    with np.errstate(all="ignore"):
        return Affine({name: scale * factor for name, scale in value.scales.items()}, value.offset * factor)


def _per_channel(array: Array, channels: int) -> Floats:
    """float32 [channels] of an array that broadcasts over the places of [1, channels, h, w]."""
    shape = (1,) * (4 - array.ndim) + array.shape
    if array.dtype != np.float32 or len(shape) != 4 or shape not in ((1, 1, 1, 1), (1, channels, 1, 1)):
        raise UnsupportedError(f"an array {array.dtype} {array.shape} that is not one value per channel")
    return np.ascontiguousarray(np.broadcast_to(array.reshape(shape), (1, channels, 1, 1)).ravel(), dtype=np.float32)


def _finish(node: Node, picture: Picture, arrays: list[Array]) -> Picture:
    """What follows a transposed convolution."""
    step = (node.operator, picture.done)
    if node.operator == "ConvTranspose" and not picture.done:
        channels = len(picture.layers[-1].bias)
        return replace(picture, layers=[*picture.layers, transposed(node, arrays, channels)])
    if node.operator in ("LeakyRelu", "Relu") and not picture.done and picture.layers[-1].slope == 1:
        slope = node.attributes.get("alpha", 0.01) if node.operator == "LeakyRelu" else 0.0
        if not set(node.attributes) <= {"alpha"} or not isinstance(slope, float) or not np.isfinite(slope):
            raise UnsupportedError("a LeakyRelu without a slope")
        return replace(picture, layers=[*picture.layers[:-1], replace(picture.layers[-1], slope=slope)])
    if step == ("Clip", ()) and len(arrays) == 2 and not node.attributes:
        return replace(picture, limits=_limits(*arrays), done=("Clip",))
    if step == ("Transpose", ("Clip",)) and node.attributes == {"perm": [0, 2, 3, 1]}:
        return replace(picture, done=("Clip", "Transpose"))
    if step == ("Cast", ("Clip", "Transpose")) and node.attributes == {"to": _UINT8}:
        return replace(picture, done=("Clip", "Transpose", "Cast"))
    raise UnsupportedError(f"{node.operator} where the chain should go on")


def _limits(low: Array, high: Array) -> tuple[float, float]:
    if low.size != 1 or high.size != 1 or low.dtype != np.float32 or high.dtype != np.float32:
        raise UnsupportedError("a Clip without two float32 limits")
    limits = float(low.reshape(())), float(high.reshape(()))
    if not 0 <= limits[0] <= limits[1] <= 255:
        raise UnsupportedError("a Clip beyond the range of uint8")
    return limits

"""Recognises exact graphs that are a network of integers: transposed convolutions, then 1x1 convolutions as heads.

    Cast of an int32 input  →  [ConvTranspose  →  Round  →  Mul  →  Round  →  Clip] ...  →  heads
    head of values:  Conv 1x1  →  Round  →  Mul
    head of indices: Conv 1x1  →  Round  →  Mul  →  Round  →  Add  →  Mul  →  Floor  →  Clip  →  Less, Where
                     →  Cast to uint8

A bias may be the convolution's or an Add behind it. Biases, multipliers and the numbers of an index head may depend on
small inputs (a row gathered by a parameter): they are evaluated for each set of these, by `vectors`. As in
`chain_graph`, whatever does not fit raises UnsupportedError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..errors import UnsupportedError
from ..onnx_graph import Array, Node, OnnxGraph
from .chain_graph import MIN_OPSET, upsampling, window
from .vectors import evaluate

MAX_BIAS = 1 << 30
_FLOAT32, _UINT8 = 1, 2

Rescale = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
Rule = tuple[float, float, float, float, float, int]
"""add, unit, low, high, skip, skipped: see `_core.IntegerNetwork`."""


@dataclass(frozen=True)
class Layer:
    """weights int8 [in, out, rows, columns]; names of the values that are its bias (float32 [out] when broadcast over
    places; they add up) and multiplier; what a hidden layer's outputs are clipped to."""

    weights: npt.NDArray[np.int8]
    strides: tuple[int, int]
    pads: tuple[int, int]
    biases: tuple[str, ...]
    multiplier: str = ""
    limits: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class _Activations:
    """Integers that the layers so far give; none: the graph's input itself."""

    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class _Sums:
    """What has been done to the sums of one more layer, and the names of the values used for it."""

    layers: tuple[Layer, ...]
    layer: Layer
    done: str
    rule: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Skipped:
    """Where an index is below the skip threshold."""

    index: _Sums
    skip: str


@dataclass(frozen=True)
class Network:
    """`rules`: per head the names of (add, unit, low, high, skip, skipped), or () for float values. `small`: the nodes
    that compute what layers and rules name."""

    hidden: tuple[Layer, ...]
    heads: tuple[Layer, ...]
    rules: tuple[tuple[str, ...], ...]
    small: OnnxGraph

    def vectors(self, inputs: Mapping[str, Array]) -> tuple[list[Rescale], list[Rule | None]]:
        """Biases and multipliers of all layers, and the rules, for these small inputs."""
        values = {**self.small.constants, **inputs}
        for node in self.small.nodes:
            values[node.outputs[0]] = evaluate(node, [values[name] for name in node.inputs])
        rescales = [_rescale(layer, values) for layer in (*self.hidden, *self.heads)]
        return rescales, [_rule(names, values) for names in self.rules]


Value = Array | _Activations | _Sums | _Skipped


@dataclass
class _Walk:
    """Values by name, and the small nodes in order."""

    values: dict[str, Value]
    small: list[Node] = field(default_factory=list)

    def get(self, name: str) -> Value:
        if name not in self.values:
            raise UnsupportedError("a node whose input is left out or comes later")
        return self.values[name]

    def vector(self, name: str, channels: int) -> npt.NDArray[np.float32]:
        return _per_channel(self.get(name), channels)


def recognise(graph: OnnxGraph, tensor: str, small: Mapping[str, Array], outputs: Iterable[str]) -> Network:
    """The network that a graph computes. tensor: its int32 input [n, C, h, w]; small: an array for every other input,
    on whose values nothing depends here; outputs: in the order of the heads."""
    if graph.opset < MIN_OPSET or set(graph.inputs) != {tensor, *small}:
        raise UnsupportedError("too old an operator set, or other inputs")
    walk = _Walk({**graph.constants, **small, tensor: _Activations()})
    for node in graph.nodes:
        if len(node.outputs) != 1 or node.outputs[0] in walk.values:
            raise UnsupportedError("a node with more than one output, or a name used twice")
        inputs = [walk.get(name) for name in node.inputs]
        arrays = [value for value in inputs if isinstance(value, np.ndarray)]
        if len(arrays) == len(inputs):
            walk.small.append(node)
            walk.values[node.outputs[0]] = evaluate(node, arrays)
        else:
            walk.values[node.outputs[0]] = _result(node, inputs, walk)
    heads = [walk.get(name) for name in outputs]
    if not heads or not all(isinstance(head, _Sums) and head.done in ("Mul", "index") for head in heads):
        raise UnsupportedError("outputs that are neither scaled sums nor indices")
    sums = [head for head in heads if isinstance(head, _Sums)]
    hidden = sums[0].layers
    if not hidden or any(head.layers is not hidden for head in sums):
        raise UnsupportedError("heads of different activations")
    layers = tuple(head.layer for head in sums)
    rules = tuple(head.rule for head in sums)
    needed = {name for la in (*hidden, *layers) for name in (*la.biases, la.multiplier)}.union(*rules)
    return Network(hidden, layers, rules, _needed(graph, walk.small, needed))


def _needed(graph: OnnxGraph, nodes: list[Node], names: set[str]) -> OnnxGraph:
    """The small nodes and constants that compute `names`."""
    needed, kept = set(names), []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    return OnnxGraph(graph.opset, kept[::-1], constants, graph.inputs, sorted(names))


def _result(node: Node, inputs: list[Value], walk: _Walk) -> Value:
    first = inputs[0]
    if isinstance(first, _Activations) and node.operator == "Cast" and not first.layers:
        if node.attributes == {"to": _FLOAT32}:
            return first
    elif (
        isinstance(first, _Activations)
        and node.operator in ("Conv", "ConvTranspose")
        and isinstance(inputs[1], np.ndarray)
    ):
        return _Sums(first.layers, _layer(node, inputs[1], walk), "sums")
    elif isinstance(first, _Skipped) and node.operator == "Where" and inputs[2] is first.index:
        return replace(first.index, done="skipped", rule=(*first.index.rule, first.skip, node.inputs[1]))
    elif isinstance(first, _Sums):
        return _next(node, first, inputs, walk)
    raise UnsupportedError(f"{node.operator} where an integer network should go on")


def _next(node: Node, sums: _Sums, inputs: list[Value], walk: _Walk) -> Value:
    """What follows the sums of a layer, one operator after the other."""
    if any(not isinstance(value, np.ndarray) for value in inputs[1:]):
        raise UnsupportedError(f"{node.operator} of two tensors")
    layer, channels, names = sums.layer, sums.layer.weights.shape[1], tuple(node.inputs[1:])
    match node.operator, sums.done:
        case "Add", "sums":
            walk.vector(names[0], channels)
            return replace(sums, layer=replace(layer, biases=(*layer.biases, names[0])))
        case "Round", "sums" | "Mul":
            return replace(sums, done={"sums": "integers", "Mul": "rounded"}[sums.done])
        case "Mul", "integers":
            walk.vector(names[0], channels)
            return replace(sums, layer=replace(layer, multiplier=names[0]), done="Mul")
        case "Clip", "rounded" if len(names) == 2:
            low, high = (_number(value) for value in inputs[1:])
            if not (low.is_integer() and high.is_integer() and low <= high):
                raise UnsupportedError("activations that are not clipped to integers")
            return _Activations((*sums.layers, replace(layer, limits=(int(low), int(high)))))
        case ("Add", "rounded") | ("Mul", "shifted"):
            return replace(sums, done={"Add": "shifted", "Mul": "divided"}[node.operator], rule=(*sums.rule, *names))
        case "Floor", "divided":
            return replace(sums, done="floor")
        case "Clip", "floor" if len(names) == 2:
            return replace(sums, done="clipped", rule=(*sums.rule, *names))
        case "Less", "clipped":
            return _Skipped(sums, names[0])
        case "Cast", "skipped" if node.attributes == {"to": _UINT8}:
            return replace(sums, done="index")
        case _:
            raise UnsupportedError(f"{node.operator} where an integer network should go on")


def _layer(node: Node, weights: Array, walk: _Walk) -> Layer:
    """A ConvTranspose whose output has exactly stride times as many places as its input, or a 1x1 Conv."""
    if weights.ndim != 4 or 0 in weights.shape or weights.dtype != np.float32:
        raise UnsupportedError("weights that are not float32 [out, in, k, k]")
    transposed = node.operator == "ConvTranspose"
    with np.errstate(invalid="ignore"):
        as_int8 = weights.astype(np.int8)
    if not np.array_equal(as_int8, weights):
        raise UnsupportedError("weights that are not int8")
    if transposed:
        strides, pads = upsampling(node, weights)
    else:
        strides, pads = (1, 1), (0, 0)
        if weights.shape[2:] != (1, 1) or window(node, weights)[:2] != ([1, 1], [0, 0, 0, 0]):
            raise UnsupportedError("a Conv that is not 1x1")
    arranged = as_int8 if transposed else as_int8.transpose(1, 0, 2, 3)
    biases = tuple(node.inputs[2:])
    for name in biases:
        bias = walk.get(name)
        if not isinstance(bias, np.ndarray) or bias.dtype != np.float32 or bias.shape != arranged.shape[1:2]:
            raise UnsupportedError("a bias that does not fit")
    return Layer(np.ascontiguousarray(arranged), strides, pads, biases)


def _per_channel(value: Value, channels: int) -> npt.NDArray[np.float32]:
    """float32 [channels] of [channels], or of what broadcasts over the places of [n, channels, h, w]."""
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        if value.shape == (channels,):
            return value
        shape = (1,) * (4 - value.ndim) + value.shape
        if shape in ((1, channels, 1, 1), (1, 1, 1, 1)):
            return np.ascontiguousarray(np.broadcast_to(value.ravel(), channels), dtype=np.float32)
    raise UnsupportedError("an array that is not one float32 value per channel")


def _number(value: Value) -> float:
    if (
        not isinstance(value, np.ndarray)
        or value.size != 1
        or value.dtype != np.float32
        or not np.isfinite(value).all()
    ):
        raise UnsupportedError("not one finite float32 number")
    return float(value.reshape(()))


def _rescale(layer: Layer, values: Mapping[str, Array]) -> Rescale:
    channels = layer.weights.shape[1]
    bias = np.zeros(channels, np.float64)
    for name in layer.biases:
        bias += _per_channel(values[name], channels)
    if not (np.abs(bias) < MAX_BIAS).all() or not np.array_equal(bias, np.rint(bias)):
        raise UnsupportedError("biases that are not integers")
    multiplier = _per_channel(values[layer.multiplier], channels)
    if not np.isfinite(multiplier).all():
        raise UnsupportedError("a multiplier that is not a number")
    return bias.astype(np.int32), multiplier


def _rule(names: tuple[str, ...], values: Mapping[str, Array]) -> Rule | None:
    if not names:
        return None
    add, unit, low, high, skip, skipped = (_number(values[name]) for name in names)
    if not skipped.is_integer() or not 0 <= skipped <= 255:
        raise UnsupportedError("skipped places whose index is not a byte")
    return add, unit, low, high, skip, int(skipped)

"""Recognises exact graphs that are a network of integers: transposed convolutions, then convolutions as heads.

    Cast of an int32 input  →  [ConvTranspose  →  Round  →  Mul  →  Round  →  Clip] ...  →  heads
    head of values:  Conv 1x1  →  Round  →  Mul
    head of indices: Conv 1x1  →  Round  →  Mul  →  Round  →  [table  →]  Add  →  Mul  →  Floor  →  Clip  →  Less, Where
                     →  Cast to uint8

Where it says Mul, a leaky ReLU is the larger (Max) of two. A head's Conv may have a larger kernel, as a 1x1 Conv of all
the moved inputs (Pad, Slice, Concat). A table: Clip, then as it is or Mul, Floor, Add (Less, Where), Cast, Gather.
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
from .chain_graph import prologue
from .layers import upsampling, window
from .vectors import evaluate

NETWORK_OPERATORS = {
    *("Cast", "Conv", "ConvTranspose", "Round", "Max", "Clip", "Pad", "Slice", "Concat"),
    *("Floor", "Less", "Where", "Squeeze"),
}
MAX_BIAS = 1 << 30
MAX_REACH = 8
_FLOAT32, _UINT8, _INT32, _INT64 = 1, 2, 6, 7

Floats = npt.NDArray[np.float32]
Rescale = tuple[npt.NDArray[np.int32], Floats, Floats | None]
Table = tuple[Floats, float, float, float, float, float]
Rule = tuple[float, float, float, float, float, int, Table | None]
"""What `_core.IntegerNetwork.run` takes per layer and per head."""


@dataclass(frozen=True)
class Layer:
    """weights int8 [in, out, rows, columns] of a transposed convolution; names of the values that are its bias (float32
    [out] when broadcast over places; they add up), its multiplier, and that of negative sums ("" for none); what a
    hidden layer's outputs are clipped to."""

    weights: npt.NDArray[np.int8]
    strides: tuple[int, int]
    pads: tuple[int, int]
    biases: tuple[str, ...]
    multiplier: str = ""
    negative: str = ""
    limits: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class _Activations:
    """Integers that the layers so far give; none: the graph's input itself."""

    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class _Shifted:
    """Activations in `reach` zeros on every side; cut, along axis 2 or 3, to what is moved by a number of places; or
    several of these, one behind the other along the channels."""

    activations: _Activations
    reach: int
    cuts: tuple[tuple[int, int], ...] = ()  # (axis, first place)
    joined: tuple[tuple[int, int], ...] = ()  # (row, column) of each


@dataclass(frozen=True)
class _Sums:
    """What has been done to the sums of one more layer, and the names of the values used for it: `rule` for an index,
    `table` for the scale in front of it."""

    layers: tuple[Layer, ...]
    layer: Layer
    done: str
    rule: tuple[str, ...] = ()
    table: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Below:
    """Where sums are below a value."""

    sums: _Sums
    limit: str


@dataclass(frozen=True)
class Network:
    """`rules`: per head the names of (add, unit, low, high, skip, skipped), or () for float values; `tables`: per head
    those of (low, high, unit, add, limit, values), or (). `small`: the part of the graph that computes what these name,
    from small inputs alone."""

    hidden: tuple[Layer, ...]
    heads: tuple[Layer, ...]
    rules: tuple[tuple[str, ...], ...]
    tables: tuple[tuple[str, ...], ...]
    small: OnnxGraph

    def vectors(self, inputs: Mapping[str, Array]) -> tuple[list[Rescale], list[Rule | None]]:
        """Biases and multipliers of all layers, and the rules, for these small inputs."""
        values = {**self.small.constants, **inputs}
        for node in self.small.nodes:
            values[node.outputs[0]] = evaluate(node, [values[name] for name in node.inputs])
        rescales = [_rescale(layer, values) for layer in (*self.hidden, *self.heads)]
        return rescales, [_rule(*names, values) for names in zip(self.rules, self.tables, strict=True)]


Value = Array | _Activations | _Shifted | _Sums | _Below


@dataclass
class _Walk:
    """Values by name."""

    values: dict[str, Value]
    clipped: dict[int, _Activations] = field(default_factory=dict)  # by id of the sums that are activations

    def get(self, name: str) -> Value:
        if name not in self.values:
            raise UnsupportedError("a node whose input is left out or comes later")
        return self.values[name]


def recognise(graph: OnnxGraph, tensor: str, small: Mapping[str, Array], outputs: Iterable[str]) -> Network:
    """The network that a graph computes. tensor: its int32 input [n, C, h, w]; small: an array for every other input,
    on whose values nothing depends here; outputs: in the order of the heads."""
    if set(graph.inputs) != {tensor, *small}:
        raise UnsupportedError("other inputs than these")
    walk = _Walk({**graph.constants, **small, tensor: _Activations()})
    for node in graph.nodes:
        if len(node.outputs) != 1 or node.outputs[0] in walk.values:
            raise UnsupportedError("a node with more than one output, or a name used twice")
        inputs = [walk.get(name) for name in node.inputs]
        arrays = [value for value in inputs if isinstance(value, np.ndarray)]
        if len(arrays) == len(inputs):
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
    rules, tables = tuple(head.rule for head in sums), tuple(head.table for head in sums)
    needed = {n for la in (*hidden, *layers) for n in (*la.biases, la.multiplier, la.negative)}.union(*rules, *tables)
    return Network(hidden, layers, rules, tables, prologue(graph, *sorted(needed - {""})))


def _result(node: Node, inputs: list[Value], walk: _Walk) -> Value:
    first = inputs[0]
    moves = node.operator in ("Conv", "ConvTranspose", "Pad", "Slice", "Concat")
    if isinstance(first, _Sums) and first.done == "clipped" and moves:
        first = _activations(first, walk)
    match node.operator, first:
        case "Cast", _Activations(layers=()) if node.attributes == {"to": _FLOAT32}:
            return first
        case "Pad", _Activations():
            return _padded(node, first, inputs[1:])
        case "Slice", _Shifted(joined=()):
            return _cut(first, inputs[1:])
        case "Concat", _Shifted() if node.attributes == {"axis": 1}:
            return _joined(inputs)
        case "Conv" | "ConvTranspose", _Activations() | _Shifted() if isinstance(inputs[1], np.ndarray):
            return _convolved(node, first, inputs[1], walk)
        case "Max", _Sums(done="Mul") if len(inputs) == 2:
            return _leaky(first, inputs[1])
        case "Where", _Below():
            return _chosen(node, first, inputs[1:])
        case "Gather", np.ndarray() if isinstance(inputs[1], _Sums) and inputs[1].done == "place":
            if node.attributes.get("axis", 0) != 0 or first.ndim != 2 or first.shape[1] != 1:
                raise UnsupportedError("a Gather that is not from a table of one column")
            return replace(inputs[1], done="column", table=(*inputs[1].table, node.inputs[0]))
        case _, _Sums():
            return _next(node, first, inputs)
    raise UnsupportedError(f"{node.operator} where an integer network should go on")


def _next(node: Node, sums: _Sums, inputs: list[Value]) -> Value:
    """What follows the sums of a layer, one operator after the other."""
    if any(not isinstance(value, np.ndarray) for value in inputs[1:]):
        raise UnsupportedError(f"{node.operator} of two tensors")
    layer, channels, names = sums.layer, sums.layer.weights.shape[1], tuple(node.inputs[1:])
    match node.operator, sums.done:
        case "Add", "sums":
            _per_channel(inputs[1], channels)
            return replace(sums, layer=replace(layer, biases=(*layer.biases, names[0])))
        case "Round", "sums" | "Mul" | "leaky":
            return replace(sums, done="integers" if sums.done == "sums" else "rounded")
        case "Mul", "integers":
            _per_channel(inputs[1], channels)
            return replace(sums, layer=replace(layer, multiplier=names[0]), done="Mul")
        case "Clip", "rounded" if len(names) == 2:
            return replace(sums, done="clipped", table=names)
        case ("Mul", "clipped") | ("Floor", "scaled") | ("Add", "floored"):
            after = {"clipped": "scaled", "scaled": "floored", "floored": "coarse"}
            return replace(sums, done=after[sums.done], table=(*sums.table, *names))
        case "Cast", "place" if node.attributes.get("to") in (_INT32, _INT64):
            return sums
        case "Squeeze", "column" if _squeezes_last(inputs[1:]):
            return replace(sums, done="rounded")
        case ("Add", "rounded") | ("Mul", "shifted"):
            return replace(sums, done={"Add": "shifted", "Mul": "divided"}[node.operator], rule=(*sums.rule, *names))
        case "Floor", "divided":
            return replace(sums, done="floor")
        case "Clip", "floor" if len(names) == 2:
            return replace(sums, done="index places", rule=(*sums.rule, *names))
        case "Less", "clipped" | "index places":
            return _Below(sums, names[0])
        case "Cast", "skipped" if node.attributes == {"to": _UINT8}:
            return replace(sums, done="index")
        case _:
            raise UnsupportedError(f"{node.operator} where an integer network should go on")


def _activations(sums: _Sums, walk: _Walk) -> _Activations:
    """Clipped values as what the next layer reads; the same object for the same values."""
    if id(sums) not in walk.clipped:
        low, high = (_number(walk.get(name)) for name in sums.table)
        if not (low.is_integer() and high.is_integer() and low <= high):
            raise UnsupportedError("activations that are not clipped to integers")
        layer = replace(sums.layer, limits=(int(low), int(high)))
        walk.clipped[id(sums)] = _Activations((*sums.layers, layer))
    return walk.clipped[id(sums)]


def _leaky(positive: _Sums, negative: Value) -> _Sums:
    """The larger of two products of the same sums."""
    if not isinstance(negative, _Sums) or negative.done != "Mul" or negative.layers is not positive.layers:
        raise UnsupportedError("a Max of other things than two products")
    same = negative.layer.weights is positive.layer.weights and negative.layer.biases == positive.layer.biases
    if not same:
        raise UnsupportedError("a Max of products of different sums")
    return replace(positive, layer=replace(positive.layer, negative=negative.layer.multiplier), done="leaky")


def _chosen(node: Node, below: _Below, inputs: list[Value]) -> _Sums:
    """Where: an index that is not skipped, or a scale that is fine below a limit and coarse from there on."""
    sums = below.sums
    if sums.done == "index places" and inputs[1] is sums and isinstance(inputs[0], np.ndarray):
        return replace(sums, done="skipped", rule=(*sums.rule, below.limit, node.inputs[1]))
    coarse = inputs[1]
    if sums.done == "clipped" and inputs[0] is sums and isinstance(coarse, _Sums) and coarse.done == "coarse":
        if coarse.layer is not sums.layer or coarse.table[:2] != sums.table:
            raise UnsupportedError("a coarse scale of another one")
        return replace(coarse, done="place", table=(*coarse.table, below.limit))
    raise UnsupportedError("a Where that chooses between other things")


def _padded(node: Node, activations: _Activations, inputs: list[Value]) -> _Shifted:
    """The same number of zeros on every side of every channel."""
    pads = inputs[0]
    plain = node.attributes.get("mode", b"constant") == b"constant" and len(inputs) in (1, 2)
    if len(inputs) == 2:
        plain &= isinstance(inputs[1], np.ndarray) and not inputs[1].any()
    if not plain or not isinstance(pads, np.ndarray) or pads.shape != (8,):
        raise UnsupportedError("a Pad that is not zeros around places")
    reach = int(pads[2])
    if not 1 <= reach <= MAX_REACH or pads.tolist() != [0, 0, reach, reach, 0, 0, reach, reach]:
        raise UnsupportedError("a Pad that is not as wide on every side")
    return _Shifted(activations, reach)


def _cut(shifted: _Shifted, inputs: list[Value]) -> _Shifted:
    """As many places of an axis as there were before the padding, from some place on."""
    numbers = [value.tolist() for value in inputs if isinstance(value, np.ndarray) and value.shape == (1,)]
    if len(numbers) != 4 or len(inputs) != 4:
        raise UnsupportedError("a Slice that is not along one axis")
    (start,), (end,), (axis,), (step,) = numbers
    over = 2 * shifted.reach - start  # places left out behind
    ends = end >= np.iinfo(np.int32).max if over == 0 else end == -over
    if axis not in (2, 3) or axis in dict(shifted.cuts) or step != 1 or start < 0 or over < 0 or not ends:
        raise UnsupportedError("a Slice that does not move places")
    return replace(shifted, cuts=(*shifted.cuts, (axis, start)))


def _joined(parts: list[Value]) -> _Shifted:
    """Moved inputs one behind the other."""
    found = [part for part in parts if isinstance(part, _Shifted) and not part.joined and len(part.cuts) == 2]
    if len(found) != len(parts) or any(part.activations is not found[0].activations for part in found):
        raise UnsupportedError("a Concat of other things than moved inputs")
    if any(part.reach != found[0].reach for part in found):
        raise UnsupportedError("a Concat of inputs in different numbers of zeros")
    places = [dict(part.cuts) for part in found]
    return replace(found[0], cuts=(), joined=tuple((place[2], place[3]) for place in places))


def _convolved(node: Node, source: _Activations | _Shifted, weights: Array, walk: _Walk) -> _Sums:
    """A ConvTranspose whose output has exactly stride times as many places as its input, or a 1x1 Conv."""
    if weights.ndim != 4 or 0 in weights.shape or weights.dtype != np.float32:
        raise UnsupportedError("weights that are not float32 [out, in, k, k]")
    with np.errstate(invalid="ignore"):
        as_int8 = weights.astype(np.int8)
    if not np.array_equal(as_int8, weights):
        raise UnsupportedError("weights that are not int8")
    pads = (0, 0)
    if node.operator == "ConvTranspose" and isinstance(source, _Activations):
        strides, pads = upsampling(node, weights)
        activations = source
    else:
        strides = (1, 1)
        if node.operator != "Conv" or weights.shape[2:] != (1, 1) or window(node, weights)[:2] != ([1, 1], [0] * 4):
            raise UnsupportedError("a Conv that is not 1x1")
        as_int8 = as_int8.transpose(1, 0, 2, 3)
        if isinstance(source, _Shifted):
            as_int8, pads = _kernel(as_int8, source), (source.reach, source.reach)
            activations = source.activations
        else:
            activations = source
    biases = tuple(node.inputs[2:])
    for name in biases:
        bias = walk.get(name)
        if not isinstance(bias, np.ndarray) or bias.dtype != np.float32 or bias.shape != as_int8.shape[1:2]:
            raise UnsupportedError("a bias that does not fit")
    return _Sums(activations.layers, Layer(np.ascontiguousarray(as_int8), strides, pads, biases), "sums")


def _kernel(weights: npt.NDArray[np.int8], shifted: _Shifted) -> npt.NDArray[np.int8]:
    """[moves * in, out, 1, 1] → [in, out, k, k] of a transposed convolution of stride 1 and pad `reach`. What is cut
    from place r on is moved by r - reach; a transposed convolution's tap t reads from reach - t places away."""
    edge, moves = 2 * shifted.reach + 1, len(shifted.joined)
    if len(weights) % max(moves, 1) or len(set(shifted.joined)) != moves or moves != edge * edge:
        raise UnsupportedError("a Conv of moved inputs that are not those of a kernel")
    by_move = weights.reshape(moves, -1, weights.shape[1])
    kernel = np.zeros((*by_move.shape[1:], edge, edge), np.int8)
    for (row, column), part in zip(shifted.joined, by_move, strict=True):
        kernel[:, :, edge - 1 - row, edge - 1 - column] = part
    return kernel


def _squeezes_last(inputs: list[Value]) -> bool:
    """Whether the axes of a Squeeze are the fifth, which a Gather from a column adds."""
    return len(inputs) == 1 and isinstance(inputs[0], np.ndarray) and inputs[0].tolist() in ([-1], [4])


def _per_channel(value: Value, channels: int) -> Floats:
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
    names = [layer.multiplier, *([layer.negative] if layer.negative else [])]
    multipliers = [_per_channel(values[name], channels) for name in names]
    if not all(np.isfinite(multiplier).all() for multiplier in multipliers):
        raise UnsupportedError("a multiplier that is not a number")
    return bias.astype(np.int32), multipliers[0], multipliers[1] if layer.negative else None


def _rule(rule: tuple[str, ...], table: tuple[str, ...], values: Mapping[str, Array]) -> Rule | None:
    if not rule:
        return None
    add, unit, low, high, skip, skipped = (_number(values[name]) for name in rule)
    if not skipped.is_integer() or not 0 <= skipped <= 255:
        raise UnsupportedError("skipped places whose index is not a byte")
    if not table:
        return add, unit, low, high, skip, int(skipped), None
    bottom, top, step, shift, limit = (_number(values[name]) for name in table[:-1])
    scales = values[table[-1]]
    if scales.dtype != np.float32:
        raise UnsupportedError("a table that is not float32")
    found = np.ascontiguousarray(scales.reshape(-1)), bottom, top, limit, step, shift
    return add, unit, low, high, skip, int(skipped), found

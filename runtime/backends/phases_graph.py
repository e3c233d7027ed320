"""Recognises transposed convolutions in phases, with inverse GDN, as `export/phases.py` writes them.

    [GDN]  →  s² Conv of one tensor, each a phase of a layer's output  →  [GDN of each]  →  Concat  →  DepthToSpace
    →  ...  →  q² Conv  →  [GDN of each]  →  a ConvTranspose of each, with the same weights  →  [Slice]  →  Add of all

A GDN is x * Sqrt(Conv 1x1 of x * x). Which phase a Conv gives is where its results go: its place in the Concat, or
where the ConvTranspose's outputs begin; any such placing is some layer's, so nothing is assumed of the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ..errors import UnsupportedError
from ..onnx_graph import Array, Node
from .layers import Floats, Layer, constants, window

PHASES_OPERATORS = {"Add", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "Mul", "Slice", "Sqrt"}
MAX_STRIDE = 16
MAX_LAYERS, MAX_KERNEL, MAX_WEIGHTS = 8, 64, 1 << 23  # of a chain, and of one layer of it: phases may share constants

Norm = tuple[Floats, Floats]
"""Inverse GDN: beta [c], gamma [c, c]."""


@dataclass(frozen=True)
class Hidden:
    """A tensor from which layers go on, or, with `phases`, what a layer made. latents: name of the first one's input,
    before any normalisation."""

    latents: str
    channels: int
    phases: Phases | None = None
    norm: Norm | None = None
    depth: int = 0

    def layers(self) -> list[Layer]:
        """Those that make it. Raises UnsupportedError where the phases are not those of one layer."""
        return [] if self.phases is None else [*self.phases.parts[0].source.layers(), _join(self.phases)]


@dataclass(frozen=True)
class Part:
    """One phase of what a layer makes of `source`: Conv of stride 1 with weights float32 [out, in, rows, columns], and
    so many rows above and columns to the left."""

    source: Hidden
    source_name: str
    weights: Floats
    bias: Floats
    top_left: tuple[int, int]
    norm: Norm | None = None

    @property
    def channels(self) -> int:
        return len(self.bias)


@dataclass(frozen=True)
class Squares:
    """Of the tensor with this name; with `norm`, their weighted sums, and, `rooted`, the roots of these."""

    name: str
    of: Hidden | Part
    norm: Norm | None = None
    rooted: bool = False


@dataclass(frozen=True)
class Phases:
    """Of a tensor: those of rows s * j, s * j + 1, ..., one behind the other, for each those of its columns."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Sum:
    """Of transposed convolutions of parts, with the same weights float32 [in, out, rows, columns], each beginning so
    many rows and columns before the first that counts; `excess`: rows and columns behind the last one."""

    parts: dict[tuple[int, int], Part]
    weights: Floats
    bias: Floats
    strides: tuple[int, int]
    excess: tuple[int, int] = (0, 0)

    def chain(self) -> tuple[str, list[Layer]]:
        """Latents and layers. Raises UnsupportedError where the parts are not all the phases of one tensor."""
        count = round(len(self.parts) ** 0.5)
        first = max(self.parts)
        steps = [stride // count for stride in self.strides]
        order = [(first[0] - a * steps[0], first[1] - b * steps[1]) for a in range(count) for b in range(count)]
        whole = all(stride % count == 0 for stride in self.strides) and self.excess == (0, 0)
        if not whole or set(order) != set(self.parts):
            raise UnsupportedError("a sum of other parts than the phases of a tensor")
        source = _hidden(Phases(tuple(self.parts[place] for place in order)))
        last = Layer(self.weights, self.bias, (steps[0], steps[1]), first, norm=source.norm)
        return source.latents, [*source.layers(), last]


PhasesValue = Hidden | Part | Squares | Phases | Sum
Known = Array | PhasesValue | None


def phases_result(node: Node, inputs: list[Known]) -> PhasesValue | None:
    """What a node makes of these values; None where it is not a part of such a graph."""
    first, rest = inputs[0], inputs[1:]
    arrays = [value for value in rest if isinstance(value, np.ndarray)]
    alone = len(arrays) == len(rest)
    plain = not node.attributes
    if node.operator == "Mul" and plain and len(rest) == 1:
        return _product(node, first, rest[0])
    if node.operator == "Sqrt" and plain and not rest and isinstance(first, Squares) and first.norm is not None:
        return replace(first, rooted=True)
    if node.operator == "Conv" and alone and isinstance(first, Squares) and first.norm is None:
        return _sums_of_squares(node, first, arrays)
    if node.operator == "Conv" and alone and isinstance(first, Hidden):
        return _part(node, first, arrays)
    if node.operator == "Concat" and node.attributes == {"axis": 1} and all(isinstance(v, Part) for v in inputs):
        return Phases(tuple(cast(list[Part], inputs)))
    if node.operator == "DepthToSpace" and isinstance(first, Phases) and not rest:
        size = node.attributes.get("blocksize")
        if node.attributes != {"blocksize": size, "mode": b"DCR"} or not isinstance(size, int):
            raise UnsupportedError("a DepthToSpace of another order")
        if len(first.parts) != size**2:
            raise UnsupportedError("another number of phases than the square of a stride")
        return _hidden(first)
    if node.operator == "ConvTranspose" and alone and isinstance(first, Part):
        return _share(node, first, arrays)
    if node.operator == "Slice" and plain and alone and isinstance(first, Sum):
        return _cut(first, arrays)
    if node.operator == "Add" and plain and isinstance(first, Sum) and len(rest) == 1 and isinstance(rest[0], Sum):
        return _added(first, rest[0])
    return None


def _product(node: Node, a: Known, b: Known) -> PhasesValue | None:
    name, other = node.inputs
    if name == other and isinstance(a, Hidden | Part):
        return Squares(name, a)
    if isinstance(a, Hidden | Part) and isinstance(b, Squares) and b.rooted and b.name == name and a.norm is None:
        return replace(a, norm=b.norm)
    return None


def _sums_of_squares(node: Node, squares: Squares, arrays: list[Array]) -> Squares:
    channels = squares.of.channels
    gamma, beta = constants(node, arrays, channels, inputs=1)
    strides, pads, _ = window(node, gamma)
    if gamma.shape != (channels, channels, 1, 1) or strides != [1, 1] or any(pads):
        raise UnsupportedError("sums of squares that are not of one place")
    return replace(squares, norm=(beta, np.ascontiguousarray(gamma[:, :, 0, 0])))


def _part(node: Node, source: Hidden, arrays: list[Array]) -> Part:
    weights, bias = constants(node, arrays, source.channels, inputs=1)
    strides, pads, _ = window(node, weights)
    if strides != [1, 1] or any(pads[i] + pads[i + 2] + 1 != weights.shape[2 + i] for i in (0, 1)):
        raise UnsupportedError("a Conv whose output is not as large as its input")
    if max(weights.shape[2:]) > MAX_KERNEL:
        raise UnsupportedError("a convolution beyond the native kernels' sizes")
    return Part(source, node.inputs[0], weights, bias, (pads[0], pads[1]))


def _hidden(phases: Phases) -> Hidden:
    """The tensor of which these are the phases, not joined yet."""
    first = phases.parts[0]
    depth = first.source.depth + 1
    if depth >= MAX_LAYERS or len(phases.parts) > MAX_STRIDE**2:
        raise UnsupportedError("too many layers, or too large a stride")
    return Hidden(first.source.latents, first.channels, phases, first.norm, depth)


def _join(phases: Phases) -> Layer:
    """The layer of which these are the phases. Output place s * j + a of a transposed convolution reads input place
    j - k with the tap s * k + a + pad, so that a Conv's tap u, of input j + u - top, is k = top - u."""
    first = phases.parts[0]
    stride = math.isqrt(len(phases.parts))
    for part in phases.parts:
        same = part.source_name == first.source_name and np.array_equal(part.bias, first.bias)
        if not same or part.weights.shape[:2] != first.weights.shape[:2] or not _equal(part.norm, first.norm):
            raise UnsupportedError("phases of different layers")
    rows, columns = phases.parts[::stride], phases.parts[:stride]
    down, up = _placed([(part.weights.shape[2], part.top_left[0]) for part in rows])
    right, left = _placed([(part.weights.shape[3], part.top_left[1]) for part in columns])
    for number, part in enumerate(phases.parts):
        taps = len(down[number // stride]), len(right[number % stride])
        front = rows[number // stride].top_left[0], columns[number % stride].top_left[1]
        if part.weights.shape[2:] != taps or part.top_left != front:
            raise UnsupportedError("phases that do not fit each other")
    kernel = [max(max(taps) for taps in axis) + 1 for axis in (down, right)]
    if max(kernel) > MAX_KERNEL or math.prod((*first.weights.shape[:2], *kernel)) > MAX_WEIGHTS:
        raise UnsupportedError("a transposed convolution beyond the native kernels' sizes")
    weights = np.zeros((*first.weights.shape[1::-1], *kernel), np.float32)
    for number, part in enumerate(phases.parts):
        places = down[number // stride], right[number % stride]
        weights[:, :, np.array(places[0])[:, None], places[1]] = part.weights.transpose(1, 0, 2, 3)
    return Layer(weights, first.bias, (stride, stride), (up, left), norm=first.source.norm)


def _placed(phases: list[tuple[int, int]]) -> tuple[list[list[int]], int]:
    """Taps of each phase, given as (number of taps, leading pad), and the layer's leading pad."""
    stride = len(phases)
    pad = max(stride * (count - 1 - front) - phase for phase, (count, front) in enumerate(phases))
    return [
        [stride * (front - tap) + phase + pad for tap in range(count)] for phase, (count, front) in enumerate(phases)
    ], pad


def _equal(a: Norm | None, b: Norm | None) -> bool:
    if a is None or b is None:
        return a is b
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _share(node: Node, part: Part, arrays: list[Array]) -> Sum:
    weights, bias = constants(node, arrays, part.channels, inputs=0)
    strides, pads, extra = window(node, weights)
    excess = [weights.shape[2 + i] + extra[i] - pads[i] - pads[i + 2] - strides[i] for i in (0, 1)]
    if min(excess) < 0:
        raise UnsupportedError("a ConvTranspose whose output is less than stride times as large as its input")
    return Sum({(pads[0], pads[1]): part}, weights, bias, (strides[0], strides[1]), (excess[0], excess[1]))


def _cut(total: Sum, arrays: list[Array]) -> Sum:
    """Without rows or columns at the end."""
    if len(arrays) != 4 or any(array.shape != (1,) or array.dtype != np.int64 for array in arrays):
        raise UnsupportedError("a Slice of more than one axis")
    start, end, axis, step = (int(array[0]) for array in arrays)
    if start != 0 or step != 1 or end >= 0 or axis not in (2, 3) or -end > total.excess[axis - 2]:
        raise UnsupportedError("a Slice of what a transposed convolution needs")
    rows, columns = total.excess
    return replace(total, excess=(rows + end, columns) if axis == 2 else (rows, columns + end))


def _added(a: Sum, b: Sum) -> Sum:
    same = a.strides == b.strides and (a.weights is b.weights or np.array_equal(a.weights, b.weights))
    if len(a.parts) + len(b.parts) > MAX_STRIDE**2:
        raise UnsupportedError("too large a stride")
    if not same or a.excess != (0, 0) or b.excess != (0, 0) or set(a.parts) & set(b.parts):
        raise UnsupportedError("a sum of different transposed convolutions")
    return replace(a, parts=a.parts | b.parts, bias=a.bias + b.bias)

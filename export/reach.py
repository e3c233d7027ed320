"""How far a graph looks: the receptive field of an ONNX graph, from its nodes.

From an interval of rows (or columns) of the outputs the walk goes back through the nodes to the interval of each input
that they depend on. What sticks out on either side is the halo that a window needs to come out as in the whole picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from nicrt.runtime.manifest import Port, spatial_axes

POINTWISE = frozenset(
    """
    Abs Add Cast Ceil Clip Div Equal Erf Exp Floor Greater GreaterOrEqual Identity LeakyRelu Less LessOrEqual Log Max
    Min Mod Mul Neg Pow Reciprocal Relu Round Sigmoid Sign Softplus Sqrt Sub Tanh Where
    """.split()  # noqa: SIM905
)
UNITS = 1 << 12
"""Extent of the outputs in units of the dimension symbols: large against any kernel, so that both ends are seen
apart.
"""


@dataclass(frozen=True)
class Span:
    """Rows first .. last of a tensor, which lie along `axis`."""

    first: int
    last: int
    axis: int

    def hull(self, other: Span | None) -> Span:
        if other is None:
            return self
        return Span(min(self.first, other.first), max(self.last, other.last), self.axis)


def halo(model: onnx.ModelProto, inputs: Mapping[str, Port], outputs: Mapping[str, Port], unit: int) -> int | None:
    """Pixels around a window that the graph looks at; `unit`: picture pixels per unit of `h` and `w`. None where the
    walk meets a node that it does not know, or a port has no rows and columns.
    """
    most = 0
    for direction in (0, 1):
        reach = _reach(model, inputs, outputs, unit, direction)
        if reach is None:
            return None
        most = max(most, reach)
    return most


def _reach(
    model: onnx.ModelProto, inputs: Mapping[str, Port], outputs: Mapping[str, Port], unit: int, direction: int
) -> int | None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    fixed = set(constants)  # and what is computed of nothing else
    for node in model.graph.node:
        if fixed.issuperset(node.input):
            fixed.update(node.output)
    need: dict[str, Span | None] = {}
    for name, port in outputs.items():
        spatial = spatial_axes(port)
        if spatial is None:
            return None
        need[name] = Span(0, UNITS * spatial[1] - 1, spatial[0][direction])
    for node in reversed(model.graph.node):
        spans = [need[name] for name in node.output if name in need]
        if spans:
            _back(node, spans, constants, fixed, need)
    most = 0
    for name, port in inputs.items():
        spatial = spatial_axes(port)
        if spatial is None or name not in need:
            continue
        span = need[name]
        if span is None or unit % spatial[1]:
            return None
        stride = unit // spatial[1]
        most = max(most, -span.first * stride, (span.last + 1) * stride - UNITS * unit)
    return most


def _back(
    node: onnx.NodeProto,
    spans: list[Span | None],
    constants: Mapping[str, np.ndarray],
    fixed: Set[str],
    need: dict[str, Span | None],
) -> None:
    """Widen `need` (None: unknown) of the node's inputs by what its outputs' spans ask for."""
    known = [span for span in spans if span is not None]
    span = known[0] if len(known) == len(spans) else None
    for other in known[1:]:
        span = span.hull(other) if span is not None else None
    data = list(node.input) if node.op_type in POINTWISE or node.op_type == "Concat" else list(node.input[:1])
    table = node.op_type == "Gather" and node.input[0] in fixed
    if table:
        data = list(node.input[1:])
    back = None
    if span is not None:
        back = _along_table(_attributes(node), span) if table else _input_span(node, span, constants)
    if back is None:
        data = list(node.input)
    for name in data:
        if name and name not in fixed:
            before = need.get(name, back)
            need[name] = None if back is None or before is None else back.hull(before)


def _input_span(node: onnx.NodeProto, span: Span, constants: Mapping[str, np.ndarray]) -> Span | None:
    if node.op_type in POINTWISE:
        return span
    rule = _RULES.get(node.op_type)
    return None if rule is None else rule(_attributes(node), span, [constants.get(name) for name in node.input])


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


Attributes = Mapping[str, object]
Inputs = list["np.ndarray | None"]


def _window(attributes: Attributes, span: Span, inputs: Inputs) -> tuple[int, int, int]:
    """Kernel extent, stride and padding before, in the span's direction (NCHW)."""
    place = span.axis - 2
    kernel = attributes.get("kernel_shape") or (inputs[1].shape[2:] if inputs[1] is not None else None)
    assert kernel is not None, "kernel shapes are constant in exported graphs"
    dilation = list(attributes.get("dilations", [1, 1]))  # type: ignore[call-overload]
    stride = list(attributes.get("strides", [1, 1]))  # type: ignore[call-overload]
    pads = list(attributes.get("pads", [0, 0, 0, 0]))  # type: ignore[call-overload]
    return (int(list(kernel)[place]) - 1) * dilation[place] + 1, stride[place], pads[place]  # type: ignore[call-overload]


def _conv(attributes: Attributes, span: Span, inputs: Inputs) -> Span:
    extent, stride, pad = _window(attributes, span, inputs)
    return Span(span.first * stride - pad, span.last * stride - pad + extent - 1, span.axis)


def _conv_transpose(attributes: Attributes, span: Span, inputs: Inputs) -> Span:
    """Input i adds to the outputs i * stride - pad + 0 .. extent - 1."""
    extent, stride, pad = _window(attributes, span, inputs)
    return Span(-((extent - 1 - pad - span.first) // stride), (span.last + pad) // stride, span.axis)


def _depth_to_space(attributes: Attributes, span: Span, inputs: Inputs) -> Span:
    block = int(attributes["blocksize"])  # type: ignore[call-overload]
    return Span(span.first // block, span.last // block, span.axis)


def _space_to_depth(attributes: Attributes, span: Span, inputs: Inputs) -> Span:
    block = int(attributes["blocksize"])  # type: ignore[call-overload]
    return Span(span.first * block, span.last * block + block - 1, span.axis)


def _transpose(attributes: Attributes, span: Span, inputs: Inputs) -> Span:
    return Span(span.first, span.last, list(attributes["perm"])[span.axis])  # type: ignore[call-overload]


def _along_other_axis(attributes: Attributes, span: Span, inputs: Inputs) -> Span | None:
    """Concat, Split and Gather do not move rows unless they work along them."""
    return None if attributes.get("axis", 0) == span.axis else span


def _along_table(attributes: Attributes, span: Span) -> Span | None:
    """Places looked up in a table along its first axis: their own axes come first."""
    return span if attributes.get("axis", 0) == 0 else None


def _squeeze(attributes: Attributes, span: Span, inputs: Inputs) -> Span | None:
    """The last axis (-1), or ones behind the rows: these stay where they are."""
    axes = inputs[1] if len(inputs) > 1 else None
    return span if axes is not None and ((axes > span.axis) | (axes == -1)).all() else None


def _slice(attributes: Attributes, span: Span, inputs: Inputs) -> Span | None:
    starts, axes, steps = inputs[1], inputs[3] if len(inputs) > 3 else None, inputs[4] if len(inputs) > 4 else None
    if starts is None or axes is None or (steps is not None and (steps != 1).any()):
        return None
    place = np.flatnonzero(axes == span.axis)
    if not len(place):
        return span
    start = int(starts[place[0]])
    return None if start < 0 else Span(span.first + start, span.last + start, span.axis)


def _pad(attributes: Attributes, span: Span, inputs: Inputs) -> Span | None:
    pads, axes = inputs[1], inputs[3] if len(inputs) > 3 else None
    if pads is None or axes is not None:
        return None
    before = int(pads[span.axis])
    return Span(span.first - before, span.last - before, span.axis)


_RULES: dict[str, Callable[[Attributes, Span, Inputs], Span | None]] = {
    "AveragePool": _conv,
    "Concat": _along_other_axis,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Gather": _along_other_axis,
    "Pad": _pad,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _along_other_axis,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
}

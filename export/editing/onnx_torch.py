"""ONNX graphs in PyTorch, with gradients: what a bundle's graphs compute, differentiable in their inputs.

Values are those of the graph. Gradients go straight through what has none: Round, Floor, Ceil and casts to integers
have the gradient of the identity, comparisons have none, and a Gather from a table by an index that carries a gradient
has the slope of the table. A tensor that carries a gradient stays float32 where the graph has integers.

With `relaxed`, Round and casts to integers are the identity in value too: an encoder graph then gives the latents that
it would round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

from nicrt.runtime.errors import UnsupportedError

Attributes = dict[str, Any]
Operator = Callable[..., Tensor | tuple[Tensor, ...]]

_TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.BOOL: torch.bool,
}


class _StraightThrough(torch.autograd.Function):
    """The second argument's value with the first one's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """`value` (same shape), with the gradient of `x`."""
    result: Tensor = _StraightThrough.apply(x, value.detach())
    return result


class TorchGraph:
    """One ONNX model. Call it with its inputs by name; it returns its outputs by name."""

    def __init__(self, data: bytes) -> None:
        graph = onnx.load_from_string(data).graph
        self._outputs = [value.name for value in graph.output]
        self._constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
        self._constants[""] = None  # an optional input that is left out
        self._nodes: list[tuple[str, list[str], list[str], Attributes]] = []
        for node in graph.node:
            if node.op_type not in _OPERATORS:
                raise UnsupportedError(f"iterative encoding knows no operator {node.op_type}")
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            entry = (node.op_type, list(node.input), list(node.output), attributes)
            if all(name in self._constants for name in node.input):
                self._run(entry, self._constants, relaxed=False)
            else:
                self._nodes.append(entry)

    def __call__(self, inputs: Mapping[str, Tensor], *, relaxed: bool = False) -> dict[str, Tensor]:
        values: dict[str, Any] = {**self._constants, **inputs}
        for entry in self._nodes:
            self._run(entry, values, relaxed=relaxed)
        return {name: values[name] for name in self._outputs}

    @staticmethod
    def _run(entry: tuple[str, list[str], list[str], Attributes], values: dict[str, Any], *, relaxed: bool) -> None:
        kind, inputs, outputs, attributes = entry
        if kind in _RELAXED:
            attributes = {**attributes, "relaxed": relaxed}
        results = _OPERATORS[kind](attributes, *(values[name] for name in inputs))
        values.update(zip(outputs, results if isinstance(results, tuple) else (results,), strict=False))


def _round(a: Attributes, x: Tensor) -> Tensor:
    return x if a["relaxed"] else straight_through(x, torch.round(x))


def _cast(a: Attributes, x: Tensor) -> Tensor:
    kind = _TYPES[a["to"]]
    if kind.is_floating_point or not x.is_floating_point():
        return x.to(kind)
    if a["relaxed"]:
        return x
    return straight_through(x, torch.trunc(x)) if x.requires_grad else x.to(kind)


def _div(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    if x.is_floating_point() or y.is_floating_point():
        return x / y
    return torch.div(x, y, rounding_mode="trunc")


def _clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return torch.clamp(x, low, high)


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    pads = a.get("pads", [0, 0, 0, 0])
    x = F.pad(x, (pads[1], pads[3], pads[0], pads[2])) if any(pads) else x
    strides, dilations = tuple(a.get("strides", (1, 1))), tuple(a.get("dilations", (1, 1)))
    return F.conv2d(x, weight, bias, strides, 0, dilations, a.get("group", 1))


def _conv_transpose(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Padding at the end is taken off besides `output_padding`, so that any pads do."""
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    strides, extra = tuple(a.get("strides", (1, 1))), tuple(a.get("output_padding", (0, 0)))
    group, dilations = a.get("group", 1), tuple(a.get("dilations", (1, 1)))
    if (top, left) == (bottom, right):
        return F.conv_transpose2d(x, weight, bias, strides, (top, left), extra, group, dilations)
    full = F.conv_transpose2d(x, weight, bias, strides, 0, extra, group, dilations)
    return full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]


def _gather(a: Attributes, table: Tensor, index: Tensor) -> Tensor:
    axis = a.get("axis", 0)
    places = index.detach().long()
    places = torch.where(places < 0, places + table.shape[axis], places)
    found = table.index_select(axis, places.reshape(-1))
    found = found.reshape([*table.shape[:axis], *index.shape, *table.shape[axis + 1 :]])
    if not index.requires_grad or table.numel() != table.shape[axis]:
        return found
    slope = _slope(table.double().flatten())[places].float()
    return straight_through((index * slope).reshape(found.shape), found.float())


def _slope(table: Tensor) -> Tensor:
    """float64 [n] → slope at each place: of a staircase, of the line through the middles of its steps."""
    values = table.numpy()
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    middles = (starts + np.append(starts[1:], len(values)) - 1) / 2
    smooth = np.interp(np.arange(len(values)), middles, values[starts])
    return torch.from_numpy(np.gradient(smooth) if len(values) > 1 else np.zeros(1))


def _slice(
    a: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    which = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    for axis, start, end, step in zip(which, starts.tolist(), ends.tolist(), strides, strict=True):
        places = torch.arange(x.shape[axis])[slice(start, end, step)] if step > 0 else None
        if places is None:
            raise UnsupportedError("iterative encoding knows no Slice that runs backwards")
        x = x.index_select(axis, places)
    return x


def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = shape.tolist()
    if not a.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def _expand(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


def _unsqueeze(a: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    if sizes is None:
        return x.tensor_split(a["num_outputs"], axis)
    return x.split(sizes.tolist(), axis)


def _pad(a: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    """The axes in any number; modes other than constant along the last two only, as PyTorch has them."""
    mode = a.get("mode", b"constant").decode()
    which = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    sizes = pads.tolist()
    before, after = dict(zip(which, sizes, strict=False)), dict(zip(which, sizes[len(which) :], strict=True))
    if mode == "constant":
        flat = [n for axis in reversed(range(x.ndim)) for n in (before.get(axis, 0), after.get(axis, 0))]
        return F.pad(x, flat, value=0.0 if value is None else value.item())
    flat = [n for axis in (x.ndim - 1, x.ndim - 2) for n in (before.get(axis, 0), after.get(axis, 0))]
    return F.pad(x, flat, mode={"edge": "replicate"}.get(mode, mode))


def _depth_to_space(a: Attributes, x: Tensor) -> Tensor:
    block = a["blocksize"]
    n, _, h, w = x.shape
    if a.get("mode", b"DCR") == b"CRD":
        return x.reshape(n, -1, block, block, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, -1, h * block, w * block)
    return x.reshape(n, block, block, -1, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * block, w * block)


def _space_to_depth(a: Attributes, x: Tensor) -> Tensor:
    block = a["blocksize"]
    n, channels, h, w = x.shape
    x = x.reshape(n, channels, h // block, block, w // block, block)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // block, w // block)


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    if any(a.get("pads", [])) or a.get("ceil_mode", 0):
        raise UnsupportedError("iterative encoding knows no AveragePool with padding")
    return F.avg_pool2d(x, tuple(a["kernel_shape"]), tuple(a.get("strides", (1, 1))))


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def operator(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        which = tuple(range(x.ndim)) if axes is None else tuple(axes.tolist())
        return function(x, which, bool(a.get("keepdims", 1)))

    return operator


def _gemm(a: Attributes, x: Tensor, y: Tensor, c: Tensor | None = None) -> Tensor:
    x, y = (x.T if a.get("transA", 0) else x), (y.T if a.get("transB", 0) else y)
    product = a.get("alpha", 1.0) * (x @ y)
    return product if c is None else product + a.get("beta", 1.0) * c


def _softmax(a: Attributes, x: Tensor) -> Tensor:
    return torch.softmax(x, a.get("axis", -1))


def _range(a: Attributes, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _constant_of_shape(a: Attributes, shape: Tensor) -> Tensor:
    value = torch.from_numpy(numpy_helper.to_array(a["value"]).copy()) if "value" in a else torch.zeros(1)
    return value.expand(tuple(shape.tolist()))


def _where(a: Attributes, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    kind = torch.promote_types(x.dtype, y.dtype)
    return torch.where(condition, x.to(kind), y.to(kind))


def _plain(function: Callable[..., Tensor]) -> Operator:
    return lambda a, *inputs: function(*inputs)


def _max(*inputs: Tensor) -> Tensor:
    return inputs[0] if len(inputs) == 1 else torch.maximum(inputs[0], _max(*inputs[1:]))


def _min(*inputs: Tensor) -> Tensor:
    return inputs[0] if len(inputs) == 1 else torch.minimum(inputs[0], _min(*inputs[1:]))


_RELAXED = frozenset({"Round", "Cast"})

_OPERATORS: dict[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "AveragePool": _average_pool,
    "Cast": _cast,
    "Ceil": _plain(lambda x: straight_through(x, torch.ceil(x))),
    "Clip": _clip,
    "Concat": lambda a, *inputs: torch.cat(inputs, a["axis"]),
    "Constant": lambda a: torch.from_numpy(numpy_helper.to_array(a["value"]).copy()),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Expand": _expand,
    "Flatten": lambda a, x: x.reshape(int(np.prod(x.shape[: a.get("axis", 1)])), -1),
    "Floor": _plain(lambda x: straight_through(x, torch.floor(x))),
    "Gather": _gather,
    "Gemm": _gemm,
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "Identity": _plain(lambda x: x),
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "MatMul": _plain(torch.matmul),
    "Max": _plain(_max),
    "Min": _plain(_min),
    "Mod": lambda a, x, y: torch.fmod(x, y) if a.get("fmod", 0) else torch.remainder(x, y),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "Pad": _pad,
    "Pow": _plain(torch.pow),
    "Range": _range,
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _plain(F.relu),
    "Reshape": _reshape,
    "Round": _round,
    "Shape": lambda a, x: torch.tensor(x.shape)[a.get("start", 0) : a.get("end")],
    "Sigmoid": _plain(torch.sigmoid),
    "Sign": _plain(torch.sign),
    "Size": _plain(lambda x: torch.tensor(x.numel())),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _plain(F.softplus),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Tile": lambda a, x, repeats: x.repeat(tuple(repeats.tolist())),
    "Transpose": lambda a, x: x.permute(a.get("perm", tuple(reversed(range(x.ndim))))),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
    "Xor": _plain(torch.logical_xor),
}

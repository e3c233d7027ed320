"""A native form executed in PyTorch. The ONNX form of a graph is traced from this, so both come from one description.

Convolutions and GDN are modules of their own, which the form in phases (`phases`) and float16 (`float16`) put others in
the place of. How networks of integers stay exact in floats is in `integers_torch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nicrt.runtime.native_form import (
    Absolute,
    Affine,
    Concatenate,
    Constant,
    Exponential,
    Factor,
    IntegerNetwork,
    InterpolatedExponential,
    Layer,
    LogMagnitude,
    NativeForm,
    Operation,
    PadChannels,
    Quantise,
    Row,
    SelectChannels,
    StridedChain,
    Tanh,
    Term,
    TransposedChain,
)

from .integers_torch import IntegerModule
from .models.gdn import GDN
from .phases import in_phases

Scope = Mapping[str, Tensor]
Arrays = Mapping[str, npt.NDArray[Any]]


class NativeModule(nn.Module):
    """Takes the graph's inputs in the order of `inputs`, returns its `outputs` in theirs. `phases`: transposed
    convolutions with GDN between them are put into the form that ONNX Runtime computes fastest."""

    def __init__(
        self, form: NativeForm, arrays: Arrays, inputs: Sequence[str], outputs: Sequence[str], *, phases: bool = False
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = list(inputs), list(outputs)
        steps = [_STEPS[type(operation)](operation, arrays) for operation in form.operations]
        self.steps = nn.ModuleList(
            in_phases(step) if phases and isinstance(step, Chain) and step.has_phases else step for step in steps
        )

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        scope = dict(zip(self.inputs, values, strict=True))
        for step in self.steps:
            scope |= step(scope)
        return tuple(scope[name] for name in self.outputs)


def _floats(arrays: Arrays, name: str) -> Tensor:
    return torch.from_numpy(arrays[name].astype(np.float32))


class _Constant(nn.Module):
    values: Tensor

    def __init__(self, factor: Constant, arrays: Arrays) -> None:
        super().__init__()
        self.register_buffer("values", _floats(arrays, factor.tensor)[None, :, None, None])

    def forward(self, scope: Scope) -> Tensor:
        return self.values


class _Row(nn.Module):
    rows: Tensor

    def __init__(self, factor: Row, arrays: Arrays) -> None:
        super().__init__()
        self.parameter = factor.parameter
        self.register_buffer("rows", _floats(arrays, factor.tensor))

    def forward(self, scope: Scope) -> Tensor:
        return self.rows.index_select(0, scope[self.parameter])[:, :, None, None]


class _Exponential(nn.Module):
    """The offset is added to the parameter, not to the product: where it makes 0 of one, the exponential is 1."""

    def __init__(self, factor: Exponential, arrays: Arrays) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, scope: Scope) -> Tensor:
        parameter = scope[self.factor.parameter].float()
        if self.factor.offset:
            parameter = parameter + self.factor.offset / self.factor.factor
        return torch.exp(parameter * self.factor.factor)


class _InterpolatedExponential(nn.Module):
    logarithms: Tensor
    places: Tensor

    def __init__(self, factor: InterpolatedExponential, arrays: Arrays) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("logarithms", _floats(arrays, factor.tensor))
        self.register_buffer("places", torch.arange(len(self.logarithms), dtype=torch.float32) * factor.unit)

    def forward(self, scope: Scope) -> Tensor:
        """Row k weighs max(0, 1 - |parameter / unit - k|), which needs no gather and is exact at the rows."""
        distance = (scope[self.factor.parameter].float() - self.places).abs()
        weight = F.relu(self.factor.unit - distance) / self.factor.unit
        return (weight[None, :] @ self.logarithms).exp()[:, :, None, None]


_FACTORS: dict[type[Factor], Callable[..., nn.Module]] = {
    Constant: _Constant,
    Row: _Row,
    Exponential: _Exponential,
    InterpolatedExponential: _InterpolatedExponential,
}


class _Vector(nn.Module):
    """Product of one or more factors, float32 that broadcasts over [n, channels, h, w]."""

    def __init__(self, factors: Sequence[Factor], arrays: Arrays) -> None:
        super().__init__()
        self.factors = nn.ModuleList([_FACTORS[type(factor)](factor, arrays) for factor in factors])

    def forward(self, scope: Scope) -> Tensor:
        product: Tensor = self.factors[0](scope)
        for factor in self.factors[1:]:
            product = product * factor(scope)
        return product


class _Sum(nn.Module):
    def __init__(self, terms: Sequence[Term], offset: Sequence[Factor], arrays: Arrays) -> None:
        super().__init__()
        self.values = [term.value for term in terms]
        self.scales = nn.ModuleList(_Vector(term.scale, arrays) if term.scale else nn.Module() for term in terms)
        self.offset = _Vector(offset, arrays) if offset else None

    def forward(self, scope: Scope) -> Tensor:
        total: Tensor | None = None
        for value, scale in zip(self.values, self.scales, strict=True):
            part = scope[value].float()
            part = part * scale(scope) if isinstance(scale, _Vector) else part
            total = part if total is None else total + part
        assert total is not None
        return total if self.offset is None else total + self.offset(scope)


def _bent(x: Tensor, slope: float) -> Tensor:
    if slope == 1:
        return x
    return F.leaky_relu(x, slope) if slope else F.relu(x)


class _Affine(nn.Module):
    def __init__(self, operation: Affine, arrays: Arrays) -> None:
        super().__init__()
        self.operation = operation
        self.sum = _Sum(operation.terms, operation.offset, arrays)

    def forward(self, scope: Scope) -> dict[str, Tensor]:
        result = _bent(self.sum(scope), self.operation.slope)
        unchanged = any(result is value for value in scope.values())
        return {self.operation.out: result.clone() if unchanged else result}


class _Layer(nn.Module):
    """A convolution with what belongs to it."""

    def __init__(self, layer: Layer, arrays: Arrays, *, transposed: bool) -> None:
        super().__init__()
        self.transposed, self.slope = transposed, layer.slope
        self.norm = None if layer.norm is None else _gdn(arrays, layer.norm.beta, layer.norm.gamma, inverse=transposed)
        self.convolution = _convolution(layer, arrays, transposed=transposed)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None and self.transposed:
            x = self.norm(x)
        x = _bent(self.convolution(x), self.slope)
        return x if self.norm is None or self.transposed else self.norm(x)


def _convolution(layer: Layer, arrays: Arrays, *, transposed: bool) -> nn.Module:
    weight = _floats(arrays, layer.weight)
    ins, outs = weight.shape[:2] if transposed else weight.shape[1::-1]
    kernel, has_bias = tuple(weight.shape[2:]), layer.bias is not None
    module: nn.Conv2d | nn.ConvTranspose2d
    if transposed:
        more = [s - k + 2 * p for s, k, p in zip(layer.stride, kernel, layer.pad, strict=True)]
        module = nn.ConvTranspose2d(ins, outs, kernel, layer.stride, layer.pad, tuple(more), bias=has_bias)
    else:
        module = nn.Conv2d(ins, outs, kernel, layer.stride, layer.pad, bias=has_bias)
    module.weight = nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        module.bias = nn.Parameter(_floats(arrays, layer.bias), requires_grad=False)
    return module


def _gdn(arrays: Arrays, beta: str, gamma: str, *, inverse: bool) -> GDN:
    norm = GDN(len(arrays[beta]), inverse)
    norm.beta.data, norm.gamma.data = _floats(arrays, beta), _floats(arrays, gamma)
    return norm.requires_grad_(False)


class Chain(nn.Module):
    """`strided_chain` or `transposed_chain`."""

    def __init__(self, operation: StridedChain | TransposedChain, arrays: Arrays) -> None:
        super().__init__()
        self.operation = operation
        self.sum = _Sum(operation.terms, operation.offset, arrays)
        transposed = isinstance(operation, TransposedChain)
        self.layers = nn.ModuleList(_Layer(layer, arrays, transposed=transposed) for layer in operation.layers)

    @property
    def has_phases(self) -> bool:
        layers = self.operation.layers
        straight = len(layers) > 1 and all(layer.slope == 1 for layer in layers)
        return isinstance(self.operation, TransposedChain) and straight and any(layer.norm for layer in layers)

    def forward(self, scope: Scope) -> dict[str, Tensor]:
        x = self.sum(scope)
        for layer in self.layers:
            x = layer(x)
        x = x.float()  # of a convolution that was cast
        picture = self.operation.picture if isinstance(self.operation, TransposedChain) else None
        if picture is not None:
            x = shown(x, picture.low, picture.high)
        return {self.operation.out: x}


def shown(x: Tensor, low: float, high: float) -> Tensor:
    """float32 [n, channels, h, w] → uint8 [n, h, w, channels], clipped to low .. high and truncated. The
    transposition comes first and the cast last because TensorRT has uint8 only at the ends."""
    return x.clamp(low, high).permute(0, 2, 3, 1).to(torch.uint8)


class _Function(nn.Module):
    """An operation without tensors."""

    def __init__(self, operation: Any, arrays: Arrays) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, scope: Scope) -> dict[str, Tensor]:
        return {self.operation.out: _FUNCTIONS[type(self.operation)](self.operation, scope)}


def _select(operation: SelectChannels, scope: Scope) -> Tensor:
    """TensorRT cuts no bytes: they are floats meanwhile."""
    value = scope[operation.value]
    narrow = value.dtype == torch.uint8
    chosen = (value.float() if narrow else value)[:, operation.first : operation.first + operation.count]
    return chosen.to(torch.uint8) if narrow else chosen


def _padded(operation: PadChannels, scope: Scope) -> Tensor:
    value = scope[operation.value]
    return F.pad(value, (0, 0, 0, 0, 0, operation.count - value.shape[1]))


def _quantised(operation: Quantise, scope: Scope) -> Tensor:
    return torch.round(scope[operation.value]).clamp(operation.low, operation.high).to(torch.int32)


def _log_magnitude(operation: LogMagnitude, scope: Scope) -> Tensor:
    return torch.log(scope[operation.value].abs() + operation.floor)


_FUNCTIONS: dict[type[Operation], Callable[[Any, Scope], Tensor]] = {
    Concatenate: lambda operation, scope: torch.cat([scope[name] for name in operation.values], 1),
    SelectChannels: _select,
    PadChannels: _padded,
    Quantise: _quantised,
    Tanh: lambda operation, scope: torch.tanh(scope[operation.value]),
    Absolute: lambda operation, scope: scope[operation.value].abs(),
    LogMagnitude: _log_magnitude,
}

_STEPS: dict[type[Operation], Callable[[Any, Arrays], nn.Module]] = {
    Affine: _Affine,
    StridedChain: Chain,
    TransposedChain: Chain,
    IntegerNetwork: IntegerModule,
    **dict.fromkeys(_FUNCTIONS, _Function),
}

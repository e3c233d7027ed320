"""Networks of integers in PyTorch, in a form whose ONNX graph is exact at every optimisation level of every runtime.

Integers are held in float32: weights of 8 bits, activations of at most 8, sums below 2^24 (`exact`), which float32 adds
exactly in any order. Behind each layer: Round (which keeps optimisers from folding the multiplier into the weights),
one multiplication per channel, Round, Clip. A row of biases that a parameter picks is added outside the convolution,
whose own bias some runtimes want constant. Convolutions of stride 1 and kernels above 1 may run as Winograd, which is
not exact: here they are 1x1 convolutions of all the shifted inputs. Of activations with more than 8 bits, the low bits
are added up apart from the 8 high ones, each within the bound, and both are joined in int32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nicrt.runtime.native_form import Head, IndexRule, IntegerLayer, IntegerNetwork, ScaleTable

INT8 = "int8_weight"
"""Name of the buffers that hold integers of 8 bits, as float32."""
PLANE_BITS = 8

Scope = Mapping[str, Tensor]
Arrays = Mapping[str, npt.NDArray[Any]]


class IntegerModule(nn.Module):
    """An `integer_network`."""

    def __init__(self, operation: IntegerNetwork, arrays: Arrays) -> None:
        super().__init__()
        self.operation = operation
        self.hidden = nn.ModuleList()
        low_bits = 0  # a port's integers have no more than 8
        for layer in operation.hidden:
            self.hidden.append(_Layer(layer, arrays, low_bits))
            low_bits = max(0, layer.high.bit_length() - PLANE_BITS)
        self.heads = nn.ModuleList(_Layer(head, arrays, low_bits) for head in operation.heads)
        for number, head in enumerate(operation.heads):
            if head.index is not None and head.index.scales is not None:
                table = torch.from_numpy(arrays[head.index.scales.tensor].astype(np.float32))
                self.register_buffer(f"scales{number}", table[:, None])

    def forward(self, scope: Scope) -> dict[str, Tensor]:
        x = scope[self.operation.value].float()
        for layer, module in zip(self.operation.hidden, self.hidden, strict=True):
            x = torch.round(module(x, scope)).clamp(layer.low, layer.high)
        results = {}
        for number, (head, module) in enumerate(zip(self.operation.heads, self.heads, strict=True)):
            value = module(x, scope)
            if head.index is not None:
                value = torch.round(value)
                if head.index.scales is not None:
                    value = _looked_up(value, head.index.scales, getattr(self, f"scales{number}"))
                value = indexed(value, scope[head.index.minus], scope[head.index.skip], head.index)
            results[head.out] = value
        return results


class _Layer(nn.Module):
    """Integers float32 → (sums + bias) * multiplier, not rounded. `low_bits`: of the inputs, beyond 8."""

    bias: Tensor
    multiplier: Tensor
    negative: Tensor

    def __init__(self, layer: IntegerLayer | Head, arrays: Arrays, low_bits: int) -> None:
        super().__init__()
        self.layer, self.row, self.low_bits = layer, layer.row, low_bits
        weight = arrays[layer.weight].astype(np.float32)
        kernel = weight.shape[2:]
        missing = [s - k + 2 * p for s, k, p in zip(layer.stride, kernel, layer.pad, strict=True)]
        self.missing = missing
        self.reach = layer.pad[0] if layer.stride == (1, 1) else None
        if self.reach is not None:
            weight = weight[:, :, ::-1, ::-1].transpose(1, 2, 3, 0).reshape(weight.shape[1], -1, 1, 1)
        self.register_buffer(INT8, torch.from_numpy(np.ascontiguousarray(weight)))
        bias = arrays[layer.bias]
        self._per_channel("bias", bias if low_bits else bias.astype(np.float32))
        self._per_channel("multiplier", arrays[layer.multiplier])
        negative = layer.negative if isinstance(layer, IntegerLayer) else None
        self.bends = negative is not None
        if negative is not None:
            self._per_channel("negative", arrays[negative])

    def _per_channel(self, name: str, values: npt.NDArray[Any]) -> None:
        """[rows or 1, channels, 1, 1]."""
        self.register_buffer(name, torch.from_numpy(values.reshape(-1, values.shape[-1], 1, 1)))

    def _vector(self, name: str, scope: Scope) -> Tensor:
        values: Tensor = getattr(self, name)
        return values if self.row is None else values.index_select(0, scope[self.row])

    def _convolve(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        weight: Tensor = getattr(self, INT8)
        if self.reach is not None:
            return F.conv2d(_shifted(x, self.reach), weight, bias)
        return F.conv_transpose2d(x, weight, bias, self.layer.stride, self.layer.pad, self.missing)

    def _sums(self, x: Tensor, scope: Scope) -> Tensor:
        if self.low_bits:
            unit = 1 << self.low_bits
            high = torch.floor(x * (1 / unit))
            high_sums, low_sums = (
                torch.round(self._convolve(plane)).to(torch.int32) for plane in (high, x - high * unit)
            )
            return (high_sums * unit + low_sums + self._vector("bias", scope)).float()
        if self.row is None:
            return torch.round(self._convolve(x, self.bias.flatten()))
        return torch.round(self._convolve(x) + self._vector("bias", scope))

    def forward(self, x: Tensor, scope: Scope) -> Tensor:
        sums = self._sums(x, scope)
        scaled = sums * self._vector("multiplier", scope)
        if self.bends:  # slopes are below 1: the larger product is that of the sum's own sign
            scaled = torch.maximum(scaled, sums * self._vector("negative", scope))
        return scaled


def int8_weights(module: nn.Module) -> list[str]:
    """Names of the buffers that hold integers of 8 bits."""
    return [name for name, _ in module.named_buffers() if name.rpartition(".")[2] == INT8]


def _shifted(x: Tensor, reach: int) -> Tensor:
    """[n, c, h, w] → [n, k * k * c, h, w]: the inputs moved by -reach..reach in both directions (k = 2 reach + 1, rows
    first), zeros beyond the edge. The ends of the slices count from the end, so that no size is needed."""
    if reach == 0:
        return x
    moves = range(2 * reach + 1)
    padded = F.pad(x, (reach, reach, reach, reach))
    ends = [i - 2 * reach or None for i in moves]
    return torch.cat([padded[:, :, row : ends[row], column : ends[column]] for row in moves for column in moves], 1)


def _looked_up(value: Tensor, scales: ScaleTable, table: Tensor) -> Tensor:
    clipped = value.clamp(scales.low, scales.high)
    coarse = torch.floor(clipped * scales.unit) + scales.add
    place = torch.where(clipped < scales.limit, clipped, coarse).to(torch.int32)
    return F.embedding(place, table).squeeze(-1)


def indexed(value: Tensor, minus: Tensor, skip: Tensor, rule: IndexRule) -> Tensor:
    """Integers float32, of which `minus` is taken off, → table indices uint8. Quotients are exact in float32."""
    index = torch.floor((value + (rule.add - minus).float()) * rule.unit).clamp(rule.low, rule.high)
    return torch.where(index < skip.float(), float(rule.skipped), index).to(torch.uint8)

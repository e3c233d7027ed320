"""Transposed convolutions without their columns: one convolution per phase of the output.

ONNX Runtime computes a transposed convolution on the CPU as a matrix product, whose columns (kernel size times outputs
per input, 314 MB for k5 s2 of 128 channels at 128 x 192) it then adds up. But what a stride-s transposed convolution
gives in rows a, a + s, a + 2s, ... and columns b, b + s, ... is an ordinary convolution of its input with every s-th
tap: the same multiply-accumulates in all (9 + 6 + 6 + 4 = 25 for k5 s2), in the library's blocked kernels and with
workspace of the outputs' size. GDN works on each phase by itself, so phases are put together only where a convolution
is to follow; the last layer adds up what each phase gives at twice the stride. Measured on one core at 768 x 512 (ONNX
Runtime 1.31): the mean-scale synthesis takes 178 ms in place of 268 and 192 bytes of workspace per pixel in place of
960, that of the slimmable codec's width 96 takes 32 ms in place of 50. Of the former, the largest layer takes 85 ms in
place of 142; as one 3x3 convolution for all phases (36 taps) it would take 116.

Results are those of the layers replaced up to float rounding. This form is ONNX Runtime's alone: a native form has the
layers as they are.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .models.gdn import GDN

Phases = list[Tensor]
"""The s² tensors [n, c, h, w] of one of [n, c, s h, s w]: (row, column) modulo s = (0, 0), (0, 1), ..."""

Network = TypeVar("Network", bound=nn.Module)


def in_phases(network: Network) -> Network:
    """A copy of a synthesis transform whose transposed convolutions, with GDN or nothing between them, pass on phases.
    Raises ValueError for layers that have no such form."""
    result = deepcopy(network)
    modules = dict(result.named_modules())
    layers = [module for module in modules.values() if isinstance(module, nn.ConvTranspose2d)]
    if len(layers) < 2:
        raise ValueError("a single transposed convolution has no use for a form in phases")
    for name, module in modules.items():
        form: nn.Module | None = None
        if isinstance(module, GDN):
            form = NormaliseEach(module)
        elif isinstance(module, nn.ConvTranspose2d):
            form = ToPhases(module) if module is not layers[-1] else FromPhases(module, layers[-2].stride[0])
        if form is not None:
            result.set_submodule(name, form)
    return result


class NormaliseEach(nn.Module):
    """GDN of a tensor or of every phase of one, which share weights that are ready for use."""

    gamma: Tensor

    def __init__(self, norm: GDN) -> None:
        super().__init__()
        self.norm = norm
        self.register_buffer("gamma", norm.gamma.detach()[:, :, None, None].clone())

    def forward(self, x: Tensor | Phases) -> Tensor | Phases:
        if isinstance(x, list):
            return [self.norm.normalise(phase, self.gamma) for phase in x]
        return self.norm.normalise(x, self.gamma)


class ToPhases(nn.Module):
    """A transposed convolution: tensor [n, c, h, w], or its phases → phases of the output [n, d, s h, s w]."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        _check(layer)
        stride, (kernel, _), (padding, _) = layer.stride[0], layer.kernel_size, cast(tuple[int, int], layer.padding)
        taps = [_taps(phase, stride, kernel, padding) for phase in range(stride)]
        self.pads = [(right[0], -right[-1], down[0], -down[-1]) for down in taps for right in taps]
        self.convolutions = nn.ModuleList(
            _convolution(layer, *([stride * s + phase + padding for s in taps[phase]] for phase in (row, column)))
            for row in range(stride)
            for column in range(stride)
        )

    def forward(self, x: Tensor | Phases) -> Phases:
        whole = interleave(x) if isinstance(x, list) else x
        return [layer(F.pad(whole, pads)) for layer, pads in zip(self.convolutions, self.pads, strict=True)]


def _check(layer: nn.ConvTranspose2d) -> None:
    """Raise ValueError unless kernel, stride and padding are those of a square, and outputs are stride times inputs."""
    stride, extra = layer.stride[0], layer.output_padding[0]
    square = all(len(set(pair)) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding, layer.output_padding))
    fits = layer.kernel_size[0] + extra - 2 * int(layer.padding[0]) == stride
    if not square or not fits or layer.groups != 1 or layer.dilation != (1, 1) or layer.kernel_size[0] < stride:
        raise ValueError(f"{layer} has no form in phases")


def _taps(phase: int, stride: int, kernel: int, padding: int) -> list[int]:
    """Which inputs an output of a phase reads: s for input j - s of output stride * j + phase, which meets tap
    stride * s + phase + padding. In the inputs' order: falling."""
    shifts = range(kernel, -kernel, -1)
    return [s for s in shifts if 0 <= stride * s + phase + padding < kernel]


def _convolution(layer: nn.ConvTranspose2d, rows: list[int], columns: list[int]) -> nn.Conv2d:
    """The convolution of one phase, with these taps of the layer's; padding is its caller's."""
    result = nn.Conv2d(layer.in_channels, layer.out_channels, (len(rows), len(columns)))
    with torch.no_grad():
        result.weight.copy_(layer.weight[:, :, rows][:, :, :, columns].transpose(0, 1))
        cast(Tensor, result.bias).copy_(cast(Tensor, layer.bias))
    return result.requires_grad_(False)


def interleave(phases: Phases) -> Tensor:
    """Phases → the tensor. One DepthToSpace in a graph; PyTorch's pixel_shuffle has the other order of channels."""
    stride = round(len(phases) ** 0.5)
    n, channels, height, width = phases[0].shape
    if torch.onnx.is_in_onnx_export():
        return torch.onnx.ops.symbolic(
            "DepthToSpace",
            (torch.cat(phases, 1),),
            {"blocksize": stride, "mode": "DCR"},
            dtype=phases[0].dtype,
            shape=(n, channels, stride * height, stride * width),
        )
    return F.pixel_shuffle(torch.stack(phases, 2).flatten(1, 2), stride)


class FromPhases(nn.Module):
    """A transposed convolution of a tensor given as its phases of stride q: [n, c, q h, q w] → [n, d, q s h, q s w].

    Each phase adds its outputs at q times the stride, as far from the edge as the phase lies."""

    def __init__(self, layer: nn.ConvTranspose2d, phase_stride: int) -> None:
        super().__init__()
        _check(layer)
        self.layer = layer
        self.stride = phase_stride * layer.stride[0]
        self.offsets = [phase * layer.stride[0] - int(layer.padding[0]) for phase in range(phase_stride)]
        if max(self.offsets) > 0:
            raise ValueError(f"{layer} has no form in {phase_stride} phases: outputs of the first inputs begin at 0")

    def _pads(self, offset: int) -> tuple[int, int, int]:
        """Padding, output padding and outputs too many, for outputs that begin at offset."""
        missing = self.stride - self.layer.kernel_size[0] - 2 * offset
        return -offset, max(missing, 0), max(-missing, 0)

    def forward(self, x: Tensor | Phases) -> Tensor:
        assert isinstance(x, list)
        pads = [(self._pads(down), self._pads(right)) for down in self.offsets for right in self.offsets]
        total: Tensor | None = None
        for phase, ((top, below, low), (left, beyond, far)) in zip(x, pads, strict=True):
            bias = self.layer.bias if total is None else None
            narrow = phase.to(self.layer.weight.dtype)  # which may have been cast (`float16`); sums are wide
            part = F.conv_transpose2d(narrow, self.layer.weight, bias, self.stride, (top, left), (below, beyond))
            part = part[:, :, : -low or None, : -far or None].float()
            total = part if total is None else total + part
        assert total is not None
        return total

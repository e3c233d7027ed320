"""Entropy models that the families share: the Gaussian scale grid, the factorised prior, the exact-ready
hyper synthesis."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE_MIN, SCALE_MAX, SCALE_COUNT = 0.11, 256.0, 64
LOG_SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_COUNT - 1)
"""Natural logarithm of the ratio of neighbouring scales: scale(i) = SCALE_MIN * exp(i * LOG_SCALE_STEP)."""

LOGISTIC_SCALE_MIN = 0.067
"""Scale of logistic table 0, in quantisation steps; table i has this times exp(i * LOG_SCALE_STEP)."""

STEPS_PER_INDEX = 8
"""The quantisation step is given in eighths of a table step: step(s) = exp(s * LOG_SCALE_STEP / 8)."""

Z_STEPS, DZ_DEFAULT = 7, 3
"""Steps of the hyper latents z: half powers of 2 from 2^-1.5 to 2^1.5; the default is 1."""

_BISECTIONS = 40

_LEAST_PROBABILITY = 1e-9
"""Floor under probabilities, so that a symbol far in the tail has a finite cost."""


class _Clamped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high) = ctx.saved_tensors, ctx.range
        passes = ((x >= low) | (gradient < 0)) & ((x <= high) | (gradient > 0))
        return gradient * passes, None, None


def clamped(x: Tensor, low: float, high: float = math.inf) -> Tensor:
    """x clamped, for training: what is out of range keeps a gradient that leads back."""
    clamp: Tensor = _Clamped.apply(x, low, high)
    return clamp


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """`value` with the gradient of `x`."""
    return x + (value - x).detach()


def rounded(x: Tensor) -> Tensor:
    """Integers with the gradient of `x`: what the decoder gets, in training."""
    return straight_through(x, torch.round(x))


def noisy(x: Tensor) -> Tensor:
    """Uniform noise in place of rounding, for rates in training (Ballé et al., ICLR 2017)."""
    return x + torch.rand_like(x) - 0.5


def index_to_scale(index: Tensor) -> Tensor:
    """Scale of a table index, in float64."""
    return SCALE_MIN * torch.exp(LOG_SCALE_STEP * index.double())


def z_step(dz: int) -> float:
    """What one unit of z's symbols stands for, by a file's parameter `dz`, 0 .. Z_STEPS - 1."""
    return float(2 ** ((dz - DZ_DEFAULT) / 2))


def gaussian_bits(symbols: Tensor, index: Tensor) -> Tensor:
    """Ideal cost in bits of integer `symbols` under zero-mean Gaussians with the scales of `index` (same
    shape), in float64."""
    return scale_bits(symbols, index_to_scale(index))


def scale_bits(symbols: Tensor, scale: Tensor) -> Tensor:
    """The same for scales (same shape); those below SCALE_MIN count as that."""
    return -torch.log2(
        _gaussian_mass(symbols.double(), scale.double().clamp_min(SCALE_MIN)).clamp_min(_LEAST_PROBABILITY)
    )


def _gaussian_mass(values: Tensor, scale: Tensor) -> Tensor:
    """Of the unit intervals around `values`."""
    distance, inverse = values.abs(), 1 / (scale * math.sqrt(2))
    return 0.5 * (torch.erfc((distance - 0.5) * inverse) - torch.erfc((distance + 0.5) * inverse))


def trained_scale_bits(residual: Tensor, scale: Tensor) -> Tensor:
    """`scale_bits` for training, in float32: `residual` gets noise in place of rounding, and what is out of range
    keeps its gradient."""
    mass = _gaussian_mass(noisy(residual.float()), clamped(scale.float(), SCALE_MIN))
    return -torch.log2(clamped(mass, _LEAST_PROBABILITY))


def trained_gaussian_bits(residual: Tensor, index: Tensor) -> Tensor:
    """`gaussian_bits` for training: the same, with a continuous index."""
    return trained_scale_bits(residual, trained_scale(index))


def trained_scale(index: Tensor) -> Tensor:
    """Scale of a continuous table index, in float32, for training."""
    return SCALE_MIN * torch.exp(LOG_SCALE_STEP * clamped(index.float(), 0, SCALE_COUNT - 1))


def logistic_bits(symbols: Tensor, scale: Tensor) -> Tensor:
    """Ideal cost in bits of integer `symbols` under zero-mean logistic distributions of these scales (float64, same
    shape)."""
    distance = symbols.double().abs()
    mass = torch.sigmoid((0.5 - distance) / scale) - torch.sigmoid((-0.5 - distance) / scale)
    return -torch.log2(mass.clamp_min(_LEAST_PROBABILITY))


def trained_logistic_index_bits(residual: Tensor, index: Tensor) -> Tensor:
    """`trained_logistic_bits` for continuous table indices, which keep a gradient out of their range."""
    scale = LOGISTIC_SCALE_MIN * torch.exp(LOG_SCALE_STEP * clamped(index.float(), 0, SCALE_COUNT - 1))
    return trained_logistic_bits(residual, scale)


def trained_logistic_bits(values: Tensor, scale: Tensor) -> Tensor:
    """`logistic_bits` for training, in float32: `values` get noise in place of rounding."""
    distance = noisy(values.float()).abs()
    mass = torch.sigmoid((0.5 - distance) / scale) - torch.sigmoid((-0.5 - distance) / scale)
    return -torch.log2(clamped(mass, _LEAST_PROBABILITY))


class FactorizedPrior(nn.Module):
    """A learned cumulative distribution per channel: a monotone network from a value to the logit of P(X <=
    value) (Balle et al., ICLR 2018, appendix 6.1): layer i is softplus(H_i) x + B_i, then x + tanh(A_i)
    tanh(x) but for the last."""

    def __init__(self, channels: int, filters: tuple[int, ...] = (3, 3, 3)) -> None:
        super().__init__()
        widths = (1, *filters, 1)
        pairs = list(pairwise(widths))
        self.H = nn.ParameterList([nn.Parameter(torch.zeros(channels, o, i)) for i, o in pairs])
        self.B = nn.ParameterList([nn.Parameter(torch.zeros(channels, o, 1)) for _, o in pairs])
        self.A = nn.ParameterList([nn.Parameter(torch.zeros(channels, o, 1)) for o in filters])

    def logits(self, values: Tensor) -> Tensor:
        """float64 [channels, n] → logit of the cumulative distribution, float64 [channels, n]."""
        return self._logits(values.double())

    def _logits(self, values: Tensor) -> Tensor:
        """In the type of `values`."""
        x = values[:, None, :]
        for i, (matrix, bias) in enumerate(zip(self.H, self.B, strict=True)):
            x = F.softplus(matrix.to(x.dtype)) @ x + bias.to(x.dtype)
            if i < len(self.A):
                x = x + torch.tanh(self.A[i].to(x.dtype)) * torch.tanh(x)
        return x[:, 0, :]

    @torch.no_grad()
    def medians(self, reach: float = 2.0**16) -> Tensor:
        """Where each channel's cumulative distribution is a half, by bisection of +-reach, float64 [channels]."""
        low = torch.full((len(self.H[0]), 1), -reach, dtype=torch.float64)
        high = -low
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            above = self.logits(middle) > 0
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return high[:, 0]

    def bits(self, symbols: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """Ideal cost in bits of integers [1, channels, h, w] that stand for multiples of `step` (a number, or
        [1, channels, 1, 1]), in float64, same shape."""
        values = symbols[0].flatten(1).double()
        width = step.reshape(-1, 1).double() if isinstance(step, Tensor) else step
        mass = self._mass((values - 0.5) * width, (values + 0.5) * width)
        return -torch.log2(mass.clamp_min(_LEAST_PROBABILITY)).reshape(symbols.shape)

    def _mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Of the intervals between two ends [channels, n]."""
        low, up = self._logits(lower), self._logits(upper)
        sign = torch.where(low + up > 0, -1.0, 1.0).to(low.dtype)  # sigmoids keep their precision below 0
        return (torch.sigmoid(sign * up) - torch.sigmoid(sign * low)).abs()

    def trained_bits(self, values: Tensor, width: Tensor | float = 1.0) -> Tensor:
        """`bits` for training, in float32, of continuous values [b, channels, h, w]: they get noise of `width` (a
        number, or [b, 1, 1, 1]) in place of rounding to its multiples."""
        with torch.autocast(values.device.type, enabled=False):
            units = noisy(values.float() / width)
            lower, upper = ((units + half) * width for half in (-0.5, 0.5))
            by_channel = [edge.transpose(0, 1).flatten(1) for edge in (lower, upper)]
            bits = -torch.log2(clamped(self._mass(*by_channel), _LEAST_PROBABILITY))
        batch, channels, height, columns = values.shape
        return bits.reshape(channels, batch, height, columns).transpose(0, 1)

    @torch.no_grad()
    def start(self, spread: float = 10.0) -> None:
        """Wide and nearly flat distributions, before training (Ballé et al., 2018: the reference code's start)."""
        scale = spread ** (1 / len(self.H))
        for matrix, bias in zip(self.H, self.B, strict=True):
            matrix.fill_(math.log(math.expm1(1 / scale / matrix.shape[1])))
            bias.uniform_(-0.5, 0.5)


def _weight(layer: nn.Conv2d | nn.ConvTranspose2d, integers: bool) -> Tensor:
    """Its weight, with `integers` rounded to int8 with a scale per output channel, gradients passing through."""
    if not integers:
        return layer.weight
    others = (0, 2, 3) if isinstance(layer, nn.ConvTranspose2d) else (1, 2, 3)
    scale = layer.weight.detach().abs().amax(others, keepdim=True).clamp_min(1e-8) / 127
    return straight_through(layer.weight, torch.round(layer.weight / scale) * scale)


class HyperSynthesis(nn.Module):
    """z → mean and scale index, of a shape that lowers to exact integers: stride-2 transposed
    convolutions whose outputs (`hidden` channels) are clamped to [0, CAP], then a 1x1 convolution to mean and raw
    index; index = SLOPE * raw + OFFSET."""

    CAP = 6.0
    SLOPE, OFFSET = 8.0, 12.0

    def __init__(self, channels: int, latents: int, hidden: tuple[int, ...] = (160, 192)) -> None:
        super().__init__()
        doubling = [
            nn.ConvTranspose2d(inputs, outputs, 5, 2, padding=2, output_padding=1)
            for inputs, outputs in pairwise((channels, *hidden))
        ]
        self.layers = nn.ModuleList([*doubling, nn.Conv2d(hidden[-1], 2 * latents, 1)])

    @property
    def hidden(self) -> list[nn.ConvTranspose2d]:
        """The layers whose outputs are clamped."""
        return [layer for layer in self.layers if isinstance(layer, nn.ConvTranspose2d)]

    @property
    def last(self) -> nn.Conv2d:
        """The layer that gives means and raw indices."""
        return cast(nn.Conv2d, self.layers[-1])

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [1, channels, h, w] → mean and continuous index, float32 [1, latents, s h, s w] each; s is 2 to the
        number of hidden layers."""
        for layer in self.hidden:
            z = layer(z).clamp(0, self.CAP)
        mean, raw = self.last(z).chunk(2, 1)
        return mean, self.SLOPE * raw + self.OFFSET

    def trained(self, z: Tensor, integers: bool) -> tuple[Tensor, Tensor]:
        """`forward` for training; with `integers` of the weights and activations that the lowering makes."""
        step = self.CAP / 255
        for layer in self.hidden:
            z = F.conv_transpose2d(
                z, _weight(layer, integers), layer.bias, layer.stride, layer.padding, layer.output_padding
            ).clamp(0, self.CAP)
            if integers:
                z = straight_through(z, torch.round(z.float() / step) * step)
        mean, raw = F.conv2d(z, _weight(self.last, integers), self.last.bias).float().chunk(2, 1)
        return mean, self.SLOPE * raw + self.OFFSET


class JpegLikeHyperSynthesis(nn.Module):
    """z → mean and scale index by one transposed convolution k6 s4, 1 cropped on either side (Yang & Mandt, ICCV
    2023)."""

    SLOPE, OFFSET = HyperSynthesis.SLOPE, HyperSynthesis.OFFSET

    def __init__(self, channels: int, latents: int) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(channels, 2 * latents, 6, 4, padding=1)

    @property
    def layers(self) -> list[nn.ConvTranspose2d]:
        """What decides the receptive field."""
        return [self.layer]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [1, channels, h, w] → mean and continuous index, float32 [1, latents, 4h, 4w] each."""
        mean, raw = self.layer(z).chunk(2, 1)
        return mean, self.SLOPE * raw + self.OFFSET

    def trained(self, z: Tensor, integers: bool) -> tuple[Tensor, Tensor]:
        """`forward` for training; with `integers` of the weights that the lowering makes."""
        layer = self.layer
        weight = _weight(layer, integers)
        mean, raw = F.conv_transpose2d(z, weight, layer.bias, layer.stride, layer.padding).float().chunk(2, 1)
        return mean, self.SLOPE * raw + self.OFFSET

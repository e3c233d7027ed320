"""Side information for codecs whose transforms were trained with a static prior: a hyperprior (Ballé et al., ICLR
2018) added afterwards, with a hyper synthesis of the kind that lowers to exact integers.

Latents v are float32 [b, latents, 2h, 2w], hyper latents z [b, channels, h, w]. The hyper analysis sees the latents in
units of their spread, which means are in, too, and the logarithms of their magnitudes in quantisation steps: scales are
what there is most to say about. Distributions are logistic: what so little side information leaves unknown makes tails
heavier than Gaussian ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from .entropy import (
    LOG_SCALE_STEP,
    LOGISTIC_SCALE_MIN,
    SCALE_COUNT,
    FactorizedPrior,
    HyperSynthesis,
    logistic_bits,
    rounded,
    trained_logistic_index_bits,
)

STRIDE = 2  # latents per hyper latent in each direction
Z_LIMIT = 127
LEAKY_SLOPE = 0.01
FLOOR = 0.3
"""Added to magnitudes before the logarithm: those well below half a step are all the same."""


class SideInformation(nn.Module):
    """Symbols are latents less their means, in quantisation steps, rounded. `lattice`: means are rounded to whole
    steps, so that latents decode to multiples of the step whatever z says, and to the same ones when a decoded picture
    is encoded again."""

    def __init__(self, latents: int, channels: int, hidden: int, lattice: bool) -> None:
        super().__init__()
        self.channels, self.lattice = channels, lattice
        self.h_a = nn.Sequential(
            nn.Conv2d(2 * latents, channels, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(channels, channels, 5, STRIDE, padding=2),
        )
        self.h_s = HyperSynthesis(channels, latents, (hidden,))
        self.prior = FactorizedPrior(channels)
        self.register_buffer("spread", torch.ones(latents))

    @property
    def _spread(self) -> Tensor:
        """[latents, 1, 1]."""
        return cast(Tensor, self.spread)[:, None, None]

    def analyse(self, v: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """Latents, quantisation step (a number, or broadcast to them) → continuous z."""
        magnitudes = torch.log(v.abs() / step + FLOOR)
        return cast(Tensor, self.h_a(torch.cat([v / self._spread, magnitudes], 1)))

    def cost(self, v: Tensor, step: Tensor | float = 1.0, integers: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """For training: → means and bits of each latent [b, latents, 2h, 2w], bits of z [b]. `integers`: the hyper
        synthesis computes as it is lowered."""
        with torch.autocast(v.device.type, enabled=False):
            z = self.analyse(v, step)
            mean, index = self.h_s.trained(rounded(z), integers)
            mean = mean * self._spread
            index = index - _in_indices(step)
            if self.lattice:
                # A rounded mean with the gradient of one that is not would be driven to and fro between two multiples:
                # means learn as if they were used as they are, and indices from what is used.
                learned = trained_logistic_index_bits((v - mean) / step, index.detach())
                mean = (torch.round(mean / step) * step).detach()
            bits = trained_logistic_index_bits((v - mean) / step, index)
            if self.lattice:
                bits = bits + learned - learned.detach()
            return mean, bits, self.prior.trained_bits(z).sum((1, 2, 3))

    @torch.no_grad()
    def evaluate(self, v: Tensor, step: Tensor | float = 1.0) -> tuple[Tensor, Tensor, Tensor, float]:
        """One picture's latents → z (int32), means, symbols, and the ideal code length of both in bits."""
        z = torch.round(self.analyse(v, step)).clamp(-Z_LIMIT, Z_LIMIT)
        mean, index = self.h_s(z)
        mean = mean * self._spread
        mean = torch.round(mean / step) * step if self.lattice else mean
        symbols = torch.round((v - mean) / step)
        index = torch.round(index - _in_indices(step)).clamp(0, SCALE_COUNT - 1)
        scale = LOGISTIC_SCALE_MIN * torch.exp(LOG_SCALE_STEP * index.double())
        bits = self.prior.bits(z).sum() + logistic_bits(symbols, scale).sum()
        return z.int(), mean, symbols, float(bits)

    def synthesis(self) -> HyperSynthesis:
        """The hyper synthesis with means in the units of latents, to be lowered."""
        result = deepcopy(self.h_s)
        weight, bias = result.last.weight, cast(Tensor, result.last.bias)
        with torch.no_grad():
            for tensor in (weight, bias):
                means = tensor[: len(tensor) // 2]
                means.mul_(cast(Tensor, self.spread).reshape(-1, *[1] * (tensor.ndim - 1)))
        return result

    @torch.no_grad()
    def start(self, v: Tensor) -> None:
        """For latents like these: the scales of a static prior, no means."""
        spread = v.square().mean((0, 2, 3)).sqrt().clamp_min(1e-3)
        cast(Tensor, self.spread).copy_(spread)
        last, outputs = self.h_s.last, len(spread)
        nn.init.normal_(last.weight, 0, 1e-3)
        bias = cast(Tensor, last.bias)
        bias.zero_()
        bias[-outputs:] = (_in_indices(spread / LOGISTIC_SCALE_MIN) - self.h_s.OFFSET) / self.h_s.SLOPE
        for layer in self.h_s.hidden:
            nn.init.ones_(cast(Tensor, layer.bias))
        self.prior.start(spread=5.0)


def _in_indices(factor: Tensor | float) -> Tensor:
    """A factor on scales as a distance between table indices."""
    return torch.as_tensor(factor).log() / LOG_SCALE_STEP


def has_side(weights: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint has side information."""
    return any(name.startswith("side.") for name in weights)

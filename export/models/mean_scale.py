"""Codecs of four stride-2 convolutions with GDN (Ballé et al., ICLR 2018; Minnen et al., NeurIPS 2018 without its
context model), module names as in CompressAI.

Pictures are float32 [1, 3, 64h, 64w], RGB in [0, 1]; latents y [1, latents, 4h, 4w]; hyper latents z [1, channels, h,
w]. `MeanScale` codes y with means and scales from z, `ScaleOnly` with scales alone, `Factorized` with a factorised
prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from .entropy import (
    SCALE_COUNT,
    FactorizedPrior,
    HyperSynthesis,
    index_to_scale,
    rounded,
    scale_bits,
    trained_scale,
    trained_scale_bits,
)
from .gdn import GDN

ALIGN, LATENT_STRIDE, HYPER_STRIDE = 64, 16, 64
Z_LIMIT = 127
FILTERS = (3, 3, 3)
LEAKY_SLOPE = 0.01


@dataclass(frozen=True)
class Evaluation:
    """PyTorch's own evaluation of one padded picture with rounded latents; bits are ideal code lengths; z is None
    without a hyperprior, `scale` is that of the symbols' Gaussians."""

    z: Tensor | None
    symbols: Tensor
    mean: Tensor | None
    scale: Tensor | None
    z_bits: float
    symbol_bits: float
    reconstruction: Tensor


def conv(inputs: int, outputs: int, kernel: int = 5, stride: int = 2) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)


def deconv(inputs: int, outputs: int, kernel: int = 5, stride: int = 2) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding=kernel // 2, output_padding=stride - 1)


class Transforms(nn.Module):
    """Analysis g_a and synthesis g_s between picture and latents."""

    def __init__(self, channels: int, latents: int) -> None:
        super().__init__()
        self.channels, self.latents = channels, latents
        n, m = channels, latents
        self.g_a = nn.Sequential(conv(3, n), GDN(n), conv(n, n), GDN(n), conv(n, n), GDN(n), conv(n, m))
        self.g_s = nn.Sequential(
            deconv(m, n), GDN(n, True), deconv(n, n), GDN(n, True), deconv(n, n), GDN(n, True), deconv(n, 3)
        )


class Hyperprior(Transforms):
    """What codecs with side information share. `h_a`: latents (their `magnitudes`) → continuous z; `h_s`: z →
    parameters of the symbols' Gaussians."""

    magnitudes = False
    h_a: nn.Sequential
    h_s: nn.Module

    def __init__(self, channels: int, latents: int, filters: tuple[int, ...]) -> None:
        super().__init__(channels, latents)
        self.prior = FactorizedPrior(channels, filters)

    def analyse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Picture → latents and continuous hyper latents."""
        y = self.g_a(x)
        return y, self.h_a(y.abs() if self.magnitudes else y)

    def gaussians(self, z: Tensor) -> tuple[Tensor | None, Tensor]:
        """Rounded hyper latents → mean (None: 0 everywhere) and scale of the latents."""
        raise NotImplementedError

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Evaluation:
        """Round, cost and reconstruct one padded picture."""
        y, z = self.analyse(x)
        z = torch.round(z).clamp(-Z_LIMIT, Z_LIMIT)
        mean, scale = self.gaussians(z)
        symbols = torch.round(y if mean is None else y - mean)
        return Evaluation(
            z=z.int(),
            symbols=symbols.int(),
            mean=mean,
            scale=scale,
            z_bits=float(self.prior.bits(z).sum()),
            symbol_bits=float(scale_bits(symbols, scale).sum()),
            reconstruction=self.g_s(symbols if mean is None else symbols + mean),
        )


class MeanScale(Hyperprior):
    """Mean-scale hyperprior. `exact`: the hyper synthesis gives mean and scale index and is trained for 8-bit
    arithmetic; else it is CompressAI's, which gives the scale itself, then the mean."""

    def __init__(
        self, channels: int = 128, latents: int = 192, exact: bool = False, filters: tuple[int, ...] = FILTERS
    ) -> None:
        super().__init__(channels, latents, filters)
        n, m = channels, latents
        self.h_a = nn.Sequential(
            conv(m, n, 3, 1), nn.LeakyReLU(LEAKY_SLOPE), conv(n, n), nn.LeakyReLU(LEAKY_SLOPE), conv(n, n)
        )
        self.h_s = (
            HyperSynthesis(n, m)
            if exact
            else nn.Sequential(
                deconv(n, m),
                nn.LeakyReLU(LEAKY_SLOPE),
                deconv(m, m * 3 // 2),
                nn.LeakyReLU(LEAKY_SLOPE),
                conv(m * 3 // 2, 2 * m, 3, 1),
            )
        )

    def forward(self, x: Tensor, integers: bool = False, step: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        """For training: pictures [b, 3, 64h, 64w] → reconstructions and bits [b]. `integers`: an exact hyper synthesis
        computes as it is lowered. `step`: quantisation step of y, a number or [b, 1, 1, 1]."""
        hidden = self.g_a[:-1](x)
        with torch.autocast(x.device.type, enabled=False):  # it must not round latents
            y = self.g_a[-1](hidden.float())
        mean, bits = self.cost(y, integers, step)
        return self.g_s(rounded((y - mean) / step) * step + mean).float(), bits

    def cost(self, y: Tensor, integers: bool = False, step: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        """For training: latents [b, m, 4h, 4w] → their means, and bits of all [b]."""
        z = self.h_a(y).float()
        if isinstance(self.h_s, HyperSynthesis):
            mean, index = self.h_s.trained(rounded(z), integers)
            scale = trained_scale(index)
        else:
            scale, mean = self.h_s(rounded(z)).float().chunk(2, 1)
        symbol_bits = trained_scale_bits((y - mean) / step, scale / step)
        return mean, self.prior.trained_bits(z).sum((1, 2, 3)) + symbol_bits.sum((1, 2, 3))

    def gaussians(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.h_s, HyperSynthesis):
            mean, index = self.h_s(z)
            return mean, index_to_scale(torch.round(index).clamp(0, SCALE_COUNT - 1))
        scale, mean = self.h_s(z).chunk(2, 1)
        return mean, scale


class ScaleOnly(Hyperprior):
    """Scale hyperprior (`bmshj2018-hyperprior`): zero means, z from the latents' magnitudes."""

    magnitudes = True

    def __init__(self, channels: int = 128, latents: int = 192, filters: tuple[int, ...] = FILTERS) -> None:
        super().__init__(channels, latents, filters)
        n, m = channels, latents
        self.h_a = nn.Sequential(conv(m, n, 3, 1), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, n))
        self.h_s = nn.Sequential(deconv(n, n), nn.ReLU(), deconv(n, n), nn.ReLU(), conv(n, m, 3, 1), nn.ReLU())

    def gaussians(self, z: Tensor) -> tuple[None, Tensor]:
        return None, cast(Tensor, self.h_s(z))


class Factorized(Transforms):
    """Factorised prior on the latents (`bmshj2018-factorized`); no hyper latents. Pictures are multiples of 16."""

    def __init__(self, channels: int = 128, latents: int = 192, filters: tuple[int, ...] = FILTERS) -> None:
        super().__init__(channels, latents)
        self.prior = FactorizedPrior(latents, filters)

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Evaluation:
        """Round, cost and reconstruct one padded picture."""
        symbols = torch.round(self.g_a(x))
        return Evaluation(
            z=None,
            symbols=symbols.int(),
            mean=None,
            scale=None,
            z_bits=0.0,
            symbol_bits=float(self.prior.bits(symbols).sum()),
            reconstruction=self.g_s(symbols),
        )

"""The shallow-decoder codec: a linear analysis, a synthesis of one or two layers, a mean-scale hyperprior (Yang &
Mandt, ICCV 2023).

Pictures are float32 [1, 3, 64h, 64w], RGB in [0, 1]; latents [1, 320, 4h, 4w]; hyper latents [1, 128, h,
w]. Synthesis crops are aligned to blocks: latent i owns pixels 16 i .. 16 i + 15 up to the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .entropy import SCALE_COUNT, FactorizedPrior, HyperSynthesis, JpegLikeHyperSynthesis, gaussian_bits

LATENTS, HYPER = 320, 128
HIDDEN, RESIDUAL_HIDDEN = 24, 12
QUALITIES = 8
LEAKY_SLOPE = 0.2
ALIGN, LATENT_STRIDE, HYPER_STRIDE = 64, 16, 64
Z_LIMIT = 127


@dataclass(frozen=True)
class Evaluation:
    """PyTorch's own evaluation of one picture with rounded latents; bits are ideal code lengths."""

    z: Tensor
    symbols: Tensor
    index: Tensor
    z_bits: float
    symbol_bits: float
    reconstruction: Tensor


def _to_half_size(hidden: int) -> nn.ConvTranspose2d:
    """Latents → `hidden` channels at half the picture's size; 3 cropped left, 2 right."""
    return nn.ConvTranspose2d(LATENTS, hidden, 13, 8, padding=3, output_padding=1)


def _to_picture(hidden: int) -> nn.ConvTranspose2d:
    """2 cropped left, 1 right."""
    return nn.ConvTranspose2d(hidden, 3, 5, 2, padding=2, output_padding=1)


class TwoLayerSynthesis(nn.ModuleList):
    """Transposed convolutions k13 s8 and k5 s2, a leaky ReLU between."""

    def __init__(self) -> None:
        super().__init__([_to_half_size(HIDDEN), _to_picture(HIDDEN)])

    @property
    def path(self) -> list[nn.Module]:
        """The layers on the way through, which decide the receptive field."""
        return [self[0], self[1]]

    def forward(self, latents: Tensor) -> Tensor:
        """float32 [1, 320, h, w] → picture - 0.5, float32 [1, 3, 16h, 16w]; so do the other syntheses."""
        return cast(Tensor, self[1](F.leaky_relu(self[0](latents), LEAKY_SLOPE)))


class ResidualSynthesis(nn.ModuleList):
    """Two layers of half the channels, and a linear way around the nonlinearity: a transposed convolution like the
    first one, added to what comes out of it."""

    def __init__(self) -> None:
        layers = [_to_half_size(RESIDUAL_HIDDEN), _to_half_size(RESIDUAL_HIDDEN), _to_picture(RESIDUAL_HIDDEN)]
        super().__init__(layers)

    @property
    def path(self) -> list[nn.Module]:
        return [self[0], self[2]]

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Tensor, self[2](F.leaky_relu(self[0](latents), LEAKY_SLOPE) + self[1](latents)))


class JpegLikeSynthesis(nn.ModuleList):
    """One transposed convolution k18 s16, 1 cropped on either side: blocks that overlap by 2 pixels."""

    def __init__(self) -> None:
        super().__init__([nn.ConvTranspose2d(LATENTS, 3, 18, 16, padding=1)])

    @property
    def path(self) -> list[nn.Module]:
        return [self[0]]

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Tensor, self[0](latents))


SYNTHESES = {"two-layer": TwoLayerSynthesis, "residual": ResidualSynthesis, "jpeg-like": JpegLikeSynthesis}
HYPER_SYNTHESES = {"three-layer": HyperSynthesis, "jpeg-like": JpegLikeHyperSynthesis}


class Shallow(nn.Module):
    """The float model. `synthesis` and `hyper_synthesis` are kinds, of SYNTHESES and HYPER_SYNTHESES. `position` is
    a place among the trained gains, 0..7, between which logarithms are interpolated."""

    def __init__(self, synthesis: str = "two-layer", hyper_synthesis: str = "three-layer") -> None:
        super().__init__()
        self.linear = nn.Conv2d(3, LATENTS, 32, 16, padding=8)
        self.synthesis = SYNTHESES[synthesis]()
        self.hyper_analysis = nn.Sequential(
            nn.Conv2d(LATENTS, HYPER, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HYPER, HYPER, 5, 2, padding=2),
            nn.ReLU(),
            nn.Conv2d(HYPER, HYPER, 5, 2, padding=2),
        )
        self.hyper_synthesis = HYPER_SYNTHESES[hyper_synthesis](HYPER, LATENTS)
        self.prior = FactorizedPrior(HYPER)
        self.log_gain = nn.Parameter(torch.zeros(QUALITIES, LATENTS))
        self.log_inv = nn.Parameter(torch.zeros(QUALITIES, LATENTS))

    @staticmethod
    def gain(logarithms: Tensor, position: float) -> Tensor:
        """exp of the row at `position` of float32 [8, 320], interpolated: float32 [1, 320, 1, 1]."""
        row = min(int(position), QUALITIES - 2)
        return torch.lerp(logarithms[row], logarithms[row + 1], position - row).exp()[None, :, None, None]

    def analyse(self, x: Tensor, position: float) -> tuple[Tensor, Tensor]:
        """Picture → scaled latents v and continuous hyper latents."""
        v = self.linear(x - 0.5) * self.gain(self.log_gain, position)
        return v, self.hyper_analysis(v)

    def synthesise(self, latents: Tensor, position: float) -> Tensor:
        """Scaled latents (symbol + mean) → picture."""
        picture: Tensor = self.synthesis(latents * self.gain(self.log_inv, position))
        return picture + 0.5

    @torch.no_grad()
    def evaluate(self, x: Tensor, position: float) -> Evaluation:
        """Round, cost and reconstruct one padded picture."""
        v, z = self.analyse(x, position)
        z = torch.round(z).clamp(-Z_LIMIT, Z_LIMIT)
        mean, index = self.hyper_synthesis(z)
        index = torch.round(index).clamp(0, SCALE_COUNT - 1)
        symbols = torch.round(v - mean)
        return Evaluation(
            z=z.int(),
            symbols=symbols.int(),
            index=index.int(),
            z_bits=float(self.prior.bits(z).sum()),
            symbol_bits=float(gaussian_bits(symbols, index).sum()),
            reconstruction=self.synthesise(symbols + mean, position),
        )

"""The shallow-decoder codec: a linear analysis, a two-layer synthesis, a mean-scale hyperprior (Yang & Mandt,
ICCV 2023).

Pictures are float32 [1, 3, 64h, 64w], RGB in [0, 1]; latents [1, 320, 4h, 4w]; hyper latents [1, 128, h,
w].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .entropy import SCALE_COUNT, FactorizedPrior, HyperSynthesis, gaussian_bits

LATENTS, HYPER, HIDDEN = 320, 128, 24
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


class Shallow(nn.Module):
    """The float model. `position` is a place among the trained gains, 0..7, between which logarithms are
    interpolated."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Conv2d(3, LATENTS, 32, 16, padding=8)
        # Crops are aligned to blocks (3 left, 2 right of k13 s8): latent i owns pixels 16 i .. 16 i + 15.
        self.synthesis = nn.ModuleList(
            [
                nn.ConvTranspose2d(LATENTS, HIDDEN, 13, 8, padding=3, output_padding=1),
                nn.ConvTranspose2d(HIDDEN, 3, 5, 2, padding=2, output_padding=1),
            ]
        )
        self.hyper_analysis = nn.Sequential(
            nn.Conv2d(LATENTS, HYPER, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HYPER, HYPER, 5, 2, padding=2),
            nn.ReLU(),
            nn.Conv2d(HYPER, HYPER, 5, 2, padding=2),
        )
        self.hyper_synthesis = HyperSynthesis(HYPER, LATENTS)
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
        hidden = self.synthesis[0](latents * self.gain(self.log_inv, position))
        picture: Tensor = self.synthesis[1](F.leaky_relu(hidden, LEAKY_SLOPE))
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

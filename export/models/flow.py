"""A normalising flow as a codec (Helminger et al., "Lossy image compression with normalizing flows", 2020): three
levels of additive couplings, coarse to fine z0, z1, z2.

Pictures are float32 [1, 3, 8h, 8w], RGB in [0, 1]. Latents: z0 [1, 48, h, w], z1 [1, 12, 2h, 2w], z2 [1, 6, 4h, 4w];
one unit of them is 255 / 32 grey levels. z0 has a factorised prior as in the paper, or side information (ours; pictures
are then multiples of 16); z1 and z2 have logistic distributions whose means and scales are functions of the coarser
levels' reconstructions (h1 [1, 12, 2h, 2w] and h0 [1, 6, 4h, 4w]).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tensors import load_weights
from .entropy import FactorizedPrior, logistic_bits, rounded, trained_logistic_bits
from .side_information import SideInformation, has_side

COUPLINGS, HIDDEN, BLOCKS = 8, 64, 2
WIDTHS = (12, 24, 48)
"""Channels of each level after its squeeze; the levels 0 and 1 give half of them away (as z2 and z1)."""
Z0, Z1, Z2 = WIDTHS[2], WIDTHS[1] // 2, WIDTHS[0] // 2
Z0_STRIDE, Z1_STRIDE, Z2_STRIDE = 8, 4, 2
UNIT = 16.0
"""Latents of a picture in [0, 1] are 2 * UNIT * (x - 0.5); networks see latents / UNIT."""
LOG_SCALE_LIMIT = 6.0
SIDE_CHANNELS, SIDE_HIDDEN = 32, 96


class Residual(nn.Module):
    """3x3 convolutions with residual blocks: the couplings' shifts and the conditional parameters."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()

        def convolution(i: int, o: int) -> nn.Conv2d:
            return nn.Conv2d(i, o, 3, padding=1)

        self.inp = convolution(inputs, HIDDEN)
        self.blocks = nn.ModuleList(nn.ModuleList(convolution(HIDDEN, HIDDEN) for _ in range(2)) for _ in range(BLOCKS))
        self.out = convolution(HIDDEN, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inp(x)
        for first, second in (cast(nn.ModuleList, block) for block in self.blocks):
            hidden = hidden + second(F.relu(first(F.relu(hidden))))
        return cast(Tensor, self.out(F.relu(hidden)))


@dataclass(frozen=True)
class Evaluation:
    """PyTorch's own evaluation of one picture: symbols (of side information, if there is any), ideal code lengths in
    bits by level, that of side information with the first, reconstruction."""

    side: Tensor | None
    symbols: tuple[Tensor, Tensor, Tensor]
    bits: tuple[float, float, float]
    reconstruction: Tensor


class Flow(nn.Module):
    """The float model. `side`: with side information in place of z0's factorised prior, around means on the
    lattice of z0, so that a picture that is encoded again keeps its latents."""

    def __init__(self, side: bool = False) -> None:
        super().__init__()
        self.t = nn.ModuleList(
            nn.ModuleList(Residual(width // 2, width // 2) for _ in range(COUPLINGS)) for width in WIDTHS
        )
        self.phi = nn.ModuleList(Residual(width // 2, width) for width in WIDTHS[:2])
        for level, width in enumerate(WIDTHS):
            self.register_buffer(f"perm{level}", torch.arange(width).repeat(COUPLINGS, 1))
        self.prior = None if side else FactorizedPrior(Z0)
        self.side = SideInformation(Z0, SIDE_CHANNELS, SIDE_HIDDEN, lattice=True) if side else None

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> Flow:
        """The trained model of a checkpoint, for evaluation."""
        model = cls(has_side(weights))
        load_weights(model, weights)
        return model.eval().requires_grad_(False)

    def _permutations(self, level: int) -> Tensor:
        return cast(Tensor, getattr(self, f"perm{level}"))

    def split(self, x: Tensor, level: int) -> Tensor:
        """One level of the analysis: [1, c, 2h, 2w] → [1, 4c, h, w]."""
        x = F.pixel_unshuffle(x, 2)
        for coupling, order in zip(cast(nn.ModuleList, self.t[level]), self._permutations(level), strict=True):
            a, b = x[:, order].chunk(2, 1)
            x = torch.cat([a, b + UNIT * coupling(a / UNIT)], 1)
        return x

    def join(self, x: Tensor, level: int) -> Tensor:
        """The inverse of `split`."""
        couplings = list(zip(cast(nn.ModuleList, self.t[level]), self._permutations(level), strict=True))
        for coupling, order in reversed(couplings):
            a, b = x.chunk(2, 1)
            x = torch.cat([a, b - UNIT * coupling(a / UNIT)], 1)[:, torch.argsort(order)]
        return F.pixel_shuffle(x, 2)

    def conditional(self, h: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the scale of the half that `level` gave away, from the half that went on."""
        mean, log_scale = self.phi[level](h / UNIT).chunk(2, 1)
        return UNIT * mean, log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)

    def analyse(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Picture → z0, z1, z2."""
        h0, z2 = self.split(2 * UNIT * (x - 0.5), 0).chunk(2, 1)
        h1, z1 = self.split(h0, 1).chunk(2, 1)
        return self.split(h1, 2), z1, z2

    def picture(self, h0: Tensor, z2: Tensor) -> Tensor:
        """Level 0 of the synthesis, and back to [0, 1] (not clipped)."""
        return self.join(torch.cat([h0, z2], 1), 0) / (2 * UNIT) + 0.5

    def forward(self, x: Tensor, step: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """For training with one quantisation step for all levels, [b, 1, 1, 1]: pictures [b, 3, 8h, 8w] → what z0, z0
        and z1, and all three show, and each one's bits [b]."""

        def quantised(z: Tensor) -> Tensor:
            return rounded(z / step) * step

        z0, z1, z2 = self.analyse(x)
        h1 = self.join(quantised(z0), 2)
        mean1, log_scale1 = self.conditional(h1, 1)
        h0 = self.join(torch.cat([h1, quantised(z1 - mean1) + mean1], 1), 1)
        mean2, log_scale2 = self.conditional(h0, 0)
        coarse = self.join(torch.cat([h1, mean1], 1), 1)
        shown = [
            self.picture(coarse, self.conditional(coarse, 0)[0]),
            self.picture(h0, mean2),
            self.picture(h0, quantised(z2 - mean2) + mean2),
        ]
        bits = [
            trained_logistic_bits((z1 - mean1) / step, log_scale1.float().exp() / step),
            trained_logistic_bits((z2 - mean2) / step, log_scale2.float().exp() / step),
        ]
        return shown, [self.cost(z0, step), *(level.sum((1, 2, 3)) for level in bits)]

    def cost(self, z0: Tensor, step: Tensor) -> Tensor:
        """For training: bits of z0 and of its side information [b]. `step`: [b, 1, 1, 1], with side information also
        [b, 48, 1, 1]."""
        if self.side is None:
            assert self.prior is not None
            return self.prior.trained_bits(z0, step).sum((1, 2, 3))
        _, bits, side_bits = self.side.cost(z0.float(), step, integers=True)
        return bits.sum((1, 2, 3)) + side_bits

    @torch.no_grad()
    def evaluate(self, x: Tensor, steps: tuple[Tensor | float, float, float]) -> Evaluation:
        """Round to multiples of the levels' steps around the means, cost and reconstruct one padded picture.
        `steps[0]` may be [1, 48, 1, 1]."""
        z0, z1, z2 = self.analyse(x)
        y0 = torch.round(z0 / steps[0])
        h1 = self.join(y0 * steps[0], 2)
        mean1, log_scale1 = self.conditional(h1, 1)
        y1 = torch.round((z1 - mean1) / steps[1])
        h0 = self.join(torch.cat([h1, y1 * steps[1] + mean1], 1), 1)
        mean2, log_scale2 = self.conditional(h0, 0)
        y2 = torch.round((z2 - mean2) / steps[2])
        side, bits0 = self._evaluate_first(z0, y0, steps[0])
        bits = (
            bits0,
            float(logistic_bits(y1, log_scale1.double().exp() / steps[1]).sum()),
            float(logistic_bits(y2, log_scale2.double().exp() / steps[2]).sum()),
        )
        return Evaluation(side, (y0.int(), y1.int(), y2.int()), bits, self.picture(h0, y2 * steps[2] + mean2))

    def _evaluate_first(self, z0: Tensor, y0: Tensor, step: Tensor | float) -> tuple[Tensor | None, float]:
        """Side information, and ideal code length of it and y0."""
        if self.side is None:
            assert self.prior is not None
            return None, float(self.prior.bits(y0, step).sum())
        z, _, _, bits = self.side.evaluate(z0, step)
        return z, bits

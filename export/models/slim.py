"""SlimCAE: one autoencoder whose layers run at five widths (Yang, Herranz et al., CVPR 2021).

The leading channels of every convolution form each narrower sub-network; biases, GDN and the entropy model are a
width's own: a factorised prior, as in the paper, or side information (ours). GDN is also the last step of the analysis,
before rounding, and its inverse the first of the synthesis. All padding is with zeros. Pictures are float32 [1, 3, 16h,
16w], with side information [1, 3, 32h, 32w], RGB in [0, 1]; latents [1, width, h, w] and [1, width, 2h, 2w].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tensors import load_weights
from .entropy import FactorizedPrior, rounded
from .gdn import GDN
from .side_information import SideInformation, has_side

WIDTHS = (48, 72, 96, 144, 192)
COLORS = 3
STRIDE = 16
SIDE_CHANNELS, SIDE_HIDDEN = 32, 96


class SlimConv(nn.Module):
    """A convolution or transposed convolution of which width k uses the first inputs and outputs and bias k."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, transposed: bool = False) -> None:
        super().__init__()
        self.stride, self.transposed = stride, transposed
        shape = (inputs, outputs) if transposed else (outputs, inputs)
        self.weight = nn.Parameter(torch.zeros(*shape, kernel, kernel))
        self.bias = nn.ParameterList([nn.Parameter(torch.zeros(outputs)) for _ in WIDTHS])

    def slices(self, number: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of the width with this number."""
        first, second = (min(size, WIDTHS[number]) for size in self.weight.shape[:2])
        return self.weight[:first, :second], self.bias[number][: second if self.transposed else first]

    def forward(self, x: Tensor, number: int) -> Tensor:
        weight, bias = self.slices(number)
        padding = weight.shape[-1] // 2
        if self.transposed:
            return F.conv_transpose2d(x, weight, bias, self.stride, padding, self.stride - 1)
        return F.conv2d(x, weight, bias, self.stride, padding)


@dataclass(frozen=True)
class Evaluation:
    """PyTorch's own evaluation of one picture with rounded latents; `bits` is the ideal code length, z and mean are
    None without side information."""

    z: Tensor | None
    symbols: Tensor
    mean: Tensor | None
    bits: float
    reconstruction: Tensor


def _norms(inverse: bool) -> nn.ModuleList:
    return nn.ModuleList([GDN(width, inverse) for width in WIDTHS])


class Slim(nn.Module):
    """The float model. A width is given by its number among WIDTHS. `side`: with side information in place of the
    factorised prior."""

    def __init__(self, side: bool = False) -> None:
        super().__init__()
        widest = WIDTHS[-1]
        self.enc = nn.ModuleList(
            [SlimConv(COLORS, widest, 9, 4), SlimConv(widest, widest, 5, 2), SlimConv(widest, widest, 5, 2)]
        )
        self.dec = nn.ModuleList(
            [
                SlimConv(widest, widest, 5, 2, transposed=True),
                SlimConv(widest, widest, 5, 2, transposed=True),
                SlimConv(widest, COLORS, 9, 4, transposed=True),
            ]
        )
        self.gdn = nn.ModuleList([_norms(inverse=False) for _ in self.enc])
        self.igdn = nn.ModuleList([_norms(inverse=True) for _ in self.dec])
        self.prior = None if side else nn.ModuleList([FactorizedPrior(width) for width in WIDTHS])
        self.side = nn.ModuleList([_side(width) for width in WIDTHS]) if side else None

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> Slim:
        """The trained model of a checkpoint, for evaluation."""
        model = cls(has_side(weights))
        load_weights(model, weights)
        return model.eval().requires_grad_(False)

    def analyse(self, x: Tensor, number: int) -> Tensor:
        """Picture → latents before rounding."""
        t = x - 0.5
        for layer, norms in zip(self.enc, self.gdn, strict=True):
            t = layer(t, number)
            t = norms[number](t.float() if layer is self.enc[-1] else t)  # autocast of training must not round latents
        return t

    def synthesise(self, latents: Tensor, number: int) -> Tensor:
        """Rounded latents → picture, not clamped."""
        t = latents
        for layer, norms in zip(self.dec, self.igdn, strict=True):
            t = layer(norms[number](t), number)
        return t + 0.5

    def cost(self, y: Tensor, number: int, step: Tensor | float = 1.0) -> tuple[Tensor | float, Tensor, Tensor | float]:
        """For training: latents of a width → their means, bits of each, and bits of z [b]; 0 where there are none.
        `step`, of quantisation: a number or [b, 1, 1, 1]; not 1 with side information alone."""
        if self.side is not None:
            return cast(SideInformation, self.side[number]).cost(y, step, integers=True)
        assert self.prior is not None
        return 0.0, self.prior[number].trained_bits(y), 0.0

    def forward(self, x: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """For training one width: pictures [b, 3, 32h, 32w] → reconstructions and bits [b]."""
        y = self.analyse(x, number)
        mean, bits, z_bits = self.cost(y, number)
        return self.synthesise(rounded(y - mean) + mean, number), bits.sum((1, 2, 3)) + z_bits

    def scalable(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """For training the widest latents in groups of channels: pictures → for each width, what the widest synthesis
        makes of that many channels with means (without side information zeros) for the others, and their bits [b]."""
        widest = len(WIDTHS) - 1
        y = self.analyse(x, widest)
        mean, bits, z_bits = self.cost(y, widest)
        by_channel, symbols = bits.sum((2, 3)), rounded(y - mean)
        known = [F.pad(symbols[:, :width], (0, 0, 0, 0, 0, WIDTHS[-1] - width)) + mean for width in WIDTHS]
        return (
            [self.synthesise(latents, widest) for latents in known],
            [by_channel[:, :width].sum(1) + z_bits for width in WIDTHS],
        )

    @torch.no_grad()
    def evaluate(self, x: Tensor, number: int) -> Evaluation:
        """Round, cost and reconstruct one padded picture."""
        y = self.analyse(x, number)
        z = mean = None
        if self.side is None:
            assert self.prior is not None
            symbols = torch.round(y)
            bits = float(self.prior[number].bits(symbols).sum())
        else:
            z, mean, symbols, bits = cast(SideInformation, self.side[number]).evaluate(y)
        return Evaluation(
            z=z,
            symbols=symbols.int(),
            mean=mean,
            bits=bits,
            reconstruction=self.synthesise(symbols if mean is None else symbols + mean, number),
        )


def _side(width: int) -> SideInformation:
    return SideInformation(width, SIDE_CHANNELS, SIDE_HIDDEN, lattice=False)

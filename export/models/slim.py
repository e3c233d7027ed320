"""SlimCAE: one autoencoder whose layers run at five widths (Yang, Herranz et al., CVPR 2021).

The leading channels of every convolution form each narrower sub-network; biases, GDN and the factorised prior are a
width's own. GDN is also the last step of the analysis, before rounding, and its inverse the first of the synthesis. All
padding is with zeros. Pictures are float32 [1, 3, 16h, 16w], RGB in [0, 1]; latents [1, width, h, w].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .entropy import FactorizedPrior, rounded
from .gdn import GDN

WIDTHS = (48, 72, 96, 144, 192)
COLORS = 3
STRIDE = 16


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

    def alone(self, number: int) -> nn.Conv2d | nn.ConvTranspose2d:
        """The layer of one width, with weights of its own."""
        weight, bias = self.slices(number)
        first, second, kernel = weight.shape[:3]
        layer: nn.Conv2d | nn.ConvTranspose2d
        if self.transposed:
            layer = nn.ConvTranspose2d(first, second, kernel, self.stride, kernel // 2, self.stride - 1)
        else:
            layer = nn.Conv2d(second, first, kernel, self.stride, kernel // 2)
        with torch.no_grad():
            layer.weight.copy_(weight)
            assert layer.bias is not None
            layer.bias.copy_(bias)
        return layer.requires_grad_(False)


@dataclass(frozen=True)
class Evaluation:
    """PyTorch's own evaluation of one picture with rounded latents; `bits` is the ideal code length."""

    symbols: Tensor
    bits: float
    reconstruction: Tensor


def _norms(inverse: bool) -> nn.ModuleList:
    return nn.ModuleList([GDN(width, inverse) for width in WIDTHS])


class Slim(nn.Module):
    """The float model. A width is given by its number among WIDTHS."""

    def __init__(self) -> None:
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
        self.prior = nn.ModuleList([FactorizedPrior(width) for width in WIDTHS])

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

    def forward(self, x: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """For training one width: pictures [b, 3, 16h, 16w] → reconstructions and bits [b]."""
        y = self.analyse(x, number)
        bits = self.prior[number].trained_bits(y).sum((1, 2, 3))
        return self.synthesise(rounded(y), number), bits

    def scalable(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """For training the widest latents in groups of channels: pictures → for each width, what the widest synthesis
        makes of that many channels with zeros for the others, and their bits [b]."""
        widest = len(WIDTHS) - 1
        y = self.analyse(x, widest)
        bits = self.prior[widest].trained_bits(y).sum((2, 3))
        known = [F.pad(rounded(y[:, :width]), (0, 0, 0, 0, 0, WIDTHS[-1] - width)) for width in WIDTHS]
        return [self.synthesise(symbols, widest) for symbols in known], [bits[:, :width].sum(1) for width in WIDTHS]

    @torch.no_grad()
    def evaluate(self, x: Tensor, number: int) -> Evaluation:
        """Round, cost and reconstruct one padded picture."""
        symbols = torch.round(self.analyse(x, number))
        return Evaluation(
            symbols=symbols.int(),
            bits=float(self.prior[number].bits(symbols).sum()),
            reconstruction=self.synthesise(symbols, number),
        )

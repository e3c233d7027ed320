"""The shallow-decoder codec: a linear analysis, or a deep one on top of it, a synthesis of one or two layers, a
mean-scale hyperprior (Yang & Mandt, ICCV 2023).

Pictures are float32 [1, 3, 64h, 64w], RGB in [0, 1]; latents [1, 320, 4h, 4w]; hyper latents [1, 128, h,
w]. Synthesis crops are aligned to blocks: latent i owns pixels 16 i .. 16 i + 15 up to the border.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tensors import load_weights
from .entropy import (
    SCALE_COUNT,
    FactorizedPrior,
    HyperSynthesis,
    JpegLikeHyperSynthesis,
    gaussian_bits,
    rounded,
    trained_gaussian_bits,
)

LATENTS, HYPER = 320, 128
HIDDEN, RESIDUAL_HIDDEN = 24, 12
DEEP_WIDTHS = (48, 96, 192)
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


class Bottleneck(nn.Module):
    """Residual bottleneck block (He et al., "ELIC", CVPR 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.layers = nn.Sequential(
            nn.Conv2d(channels, half, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(half, half, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(half, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class DeepAnalysis(nn.Module):
    """What a deep analysis adds to the scaled latents of the linear one, from the picture and from them: they are in
    quantisation steps, so it can tell what is worth its bits. Starts as 0."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = DEEP_WIDTHS
        self.picture = nn.Sequential(
            nn.Conv2d(3, first, 8, 4, padding=2),
            Bottleneck(first),
            Bottleneck(first),
            nn.Conv2d(first, second, 5, 2, padding=2),
            Bottleneck(second),
            Bottleneck(second),
            nn.Conv2d(second, third, 3, 2, padding=1),
        )
        self.latents = nn.Conv2d(LATENTS, third, 1)
        self.joint = nn.Sequential(
            Bottleneck(third), Bottleneck(third), nn.LeakyReLU(LEAKY_SLOPE), nn.Conv2d(third, LATENTS, 1)
        )
        last = cast(nn.Conv2d, self.joint[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Picture - 0.5, float32 [b, 3, 64h, 64w], scaled latents float32 [b, 320, 4h, 4w] → what is added to them.
        Rounding of small latents is what there is most to say about: tanh takes the others out of the way."""
        return cast(Tensor, self.joint(self.picture(x) + self.latents(torch.tanh(v / 2))))


SYNTHESES = {"two-layer": TwoLayerSynthesis, "residual": ResidualSynthesis, "jpeg-like": JpegLikeSynthesis}
HYPER_SYNTHESES = {"three-layer": HyperSynthesis, "jpeg-like": JpegLikeHyperSynthesis}


class Shallow(nn.Module):
    """The float model. `synthesis` and `hyper_synthesis` are kinds, of SYNTHESES and HYPER_SYNTHESES. `position` is
    a place among the trained gains, 0..7, between which logarithms are interpolated."""

    def __init__(self, synthesis: str = "two-layer", hyper_synthesis: str = "three-layer", deep: bool = False) -> None:
        super().__init__()
        self.linear = nn.Conv2d(3, LATENTS, 32, 16, padding=8)
        self.deep = DeepAnalysis() if deep else None
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

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], **kind: str) -> Shallow:
        """The trained model of a checkpoint, with a deep analysis where the checkpoint has one, for evaluation."""
        model = cls(**kind, deep=any(name.startswith("deep.") for name in weights))
        load_weights(model, weights)
        return model.eval().requires_grad_(False)

    @staticmethod
    def gain(logarithms: Tensor, position: float) -> Tensor:
        """exp of the row at `position` of float32 [8, 320], interpolated: float32 [1, 320, 1, 1]."""
        row = min(int(position), QUALITIES - 2)
        return torch.lerp(logarithms[row], logarithms[row + 1], position - row).exp()[None, :, None, None]

    def analyse(self, x: Tensor, position: float) -> tuple[Tensor, Tensor]:
        """Picture → scaled latents v, by the deep analysis where there is one, and continuous hyper latents, which the
        linear one decides."""
        v = self.linear(x - 0.5) * self.gain(self.log_gain, position)
        return v if self.deep is None else v + self.deep(x - 0.5, v), self.hyper_analysis(v)

    def synthesise(self, latents: Tensor, position: float) -> Tensor:
        """Scaled latents (symbol + mean) → picture."""
        picture: Tensor = self.synthesis(latents * self.gain(self.log_inv, position))
        return picture + 0.5

    def forward(self, x: Tensor, quality: Tensor, deep: Tensor, integers: bool) -> tuple[Tensor, Tensor]:
        """For training: pictures [b, 3, 64h, 64w] at the trained gains `quality`, int64 [b] → reconstruction and bits
        [b]. `deep` [b, 1, 1, 1]: share of the deep analysis, 0 or 1; `integers`: arithmetic of the hyper synthesis as
        it is lowered. Linear analysis and synthesis are float32 inside autocast, too."""
        with torch.autocast(x.device.type, enabled=False):
            v = self.linear(x - 0.5) * self.log_gain[quality].exp()[:, :, None, None]
        z = self.hyper_analysis(v).float()
        if self.deep is not None:
            v = v + deep * self.deep(x - 0.5, v).float()
        mean, index = self.hyper_synthesis.trained(rounded(z), integers)
        bits = self.prior.trained_bits(z).sum((1, 2, 3)) + trained_gaussian_bits(v - mean, index).sum((1, 2, 3))
        latents = (rounded(v - mean) + mean) * self.log_inv[quality].exp()[:, :, None, None]
        with torch.autocast(x.device.type, enabled=False):
            return self.synthesis(latents) + 0.5, bits

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

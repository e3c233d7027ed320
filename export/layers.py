"""Pieces of float graphs that the families share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .models.entropy import DZ_DEFAULT, LOG_SCALE_STEP, STEPS_PER_INDEX

GAIN_UNIT = 100
"""The `gain` parameter of a file counts hundredths of the distance between two trained gains."""


class InterpolatedGain(nn.Module):
    """exp of a row of `logarithms` (float32 [n, c]), linear between rows: gain int32 [1] → float32 [1, c, 1,
    1]."""

    logarithms: Tensor
    places: Tensor

    def __init__(self, logarithms: Tensor) -> None:
        super().__init__()
        self.register_buffer("logarithms", logarithms.detach().float())
        self.register_buffer("places", torch.arange(len(logarithms), dtype=torch.float32) * GAIN_UNIT)

    def forward(self, gain: Tensor) -> Tensor:
        """Row k weighs max(0, 1 - |gain / 100 - k|), which needs no gather and is exact at the rows."""
        weight = F.relu(GAIN_UNIT - (gain.float() - self.places).abs()) / GAIN_UNIT
        return (weight[None, :] @ self.logarithms).exp()[:, :, None, None]


def step_size(step: Tensor) -> Tensor:
    """Quantisation step of a file: int32 [1] in eighths of a table step → float32 [1]."""
    return torch.exp(step.float() * (LOG_SCALE_STEP / STEPS_PER_INDEX))


class QuantiseZ(nn.Module):
    """Encoder: continuous z float32, dz int32 [1] → symbols int32 of z / z_step(dz), clipped to +-limit."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, z: Tensor, dz: Tensor) -> Tensor:
        inverse = torch.exp((DZ_DEFAULT - dz.float()) * (math.log(2) / 2))
        return torch.round(z * inverse).clamp(-self.limit, self.limit).to(torch.int32)


class Quantise(nn.Module):
    """Encoder: v and mean float32 (same shape), step int32 [1] → symbols int32, clipped to int16."""

    def forward(self, v: Tensor, mean: Tensor, step: Tensor) -> Tensor:
        symbols = torch.round((v - mean) / step_size(step))
        return symbols.clamp(-(2**15), 2**15 - 1).to(torch.int32)


class Dequantise(nn.Module):
    """symbols int32, mean float32 (same shape), step int32 [1] → latents float32; a symbol that is not coded
    is 0."""

    def forward(self, y: Tensor, mean: Tensor, step: Tensor) -> Tensor:
        return y.float() * step_size(step) + mean


def to_bytes(scaled: Tensor) -> Tensor:
    """float32 [n, 3, h, w] in grey levels + 0.5 → uint8 [n, h, w, 3]. Casting truncates, so the half makes it
    round; the transposition comes first and the cast last because TensorRT has uint8 only at the ends."""
    return scaled.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)

"""The float graphs of the flow family as PyTorch modules."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from .layers import step_size, to_bytes
from .models.entropy import DZ_DEFAULT
from .models.flow import UNIT, Flow
from .models.side_information import Z_LIMIT, SideInformation

SYMBOLS = (-(2**15), 2**15 - 1)

STEPS_PER_OCTAVE, UNIT_STEP, Z0_STEPS = 4, 16, 41
"""z0's table sets: set d has the step 2^((d - UNIT_STEP) / 4), from 1/16 to 64."""


def z0_steps(d0: Tensor) -> Tensor:
    """Steps of z0's channels: int32 [48] → float32 [1, 48, 1, 1]."""
    return torch.exp2((d0.float() - UNIT_STEP) / STEPS_PER_OCTAVE)[None, :, None, None]


def _dequantised(y: Tensor, mean: Tensor, step: Tensor) -> Tensor:
    """Symbols int32, mean float32 (same shape), step int32 [1] → latents float32; a symbol that is not coded is 0."""
    return y.float() * step_size(step) + mean


class _Level(nn.Module):
    """Level `number` of the synthesis of a flow: what `Flow.join` does, with its permutations as constants."""

    def __init__(self, model: Flow, number: int) -> None:
        super().__init__()
        self.couplings = cast(nn.ModuleList, model.t[number])
        inverse = torch.argsort(cast(Tensor, getattr(model, f"perm{number}")), dim=1)
        self.register_buffer("inverse", inverse)

    def forward(self, x: Tensor) -> Tensor:
        for number in reversed(range(len(self.couplings))):
            a, b = x.chunk(2, 1)
            x = torch.cat([a, b - UNIT * self.couplings[number](a / UNIT)], 1)
            x = x.index_select(1, self.inverse[number])
        return nn.functional.pixel_shuffle(x, 2)


class _Mean(nn.Module):
    """Conditional mean of the half that a level gave away: the first half of `phi`'s outputs."""

    def __init__(self, model: Flow, number: int) -> None:
        super().__init__()
        self.network = model.phi[number]

    def forward(self, h: Tensor) -> Tensor:
        return UNIT * self.network(h / UNIT).chunk(2, 1)[0].float()


class Analyse(nn.Module):
    """Picture float32 [n, 3, 16h, 16w], d0 int32 [48] → z0 in steps, int32, v1 and v2 float32 (z1 and z2)."""

    def __init__(self, model: Flow) -> None:
        super().__init__()
        self.couplings = model.t
        self.orders = [_after_gathering(cast(Tensor, getattr(model, f"perm{level}"))) for level in range(len(model.t))]

    def _split(self, x: Tensor, level: int) -> Tensor:
        x = torch.cat([x[:, :, row::2, column::2] for row in range(2) for column in range(2)], 1)
        for coupling, order in zip(self.couplings[level], self.orders[level], strict=True):
            a, b = x.index_select(1, order).chunk(2, 1)
            x = torch.cat([a, b + UNIT * coupling(a / UNIT)], 1)
        return x

    def latents(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z0, z1, z2."""
        h0, v2 = self._split(2 * UNIT * (x - 0.5), 0).chunk(2, 1)
        h1, v1 = self._split(h0, 1).chunk(2, 1)
        return self._split(h1, 2), v1, v2

    def forward(self, x: Tensor, d0: Tensor) -> tuple[Tensor, ...]:
        z0, v1, v2 = self.latents(x)
        return _in_steps(z0, z0_steps(d0)), v1, v2


class SideAnalyse(Analyse):
    """Picture, d0, dz int32 [1] → z0 in steps, v1, v2, and side information z int32 [n, channels, h, w]."""

    def __init__(self, model: Flow, side: SideInformation) -> None:
        super().__init__(model)
        self.side = side

    def forward(self, x: Tensor, d0: Tensor, dz: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        z0, v1, v2 = self.latents(x)
        step = z0_steps(d0)
        return _in_steps(z0, step), v1, v2, _quantised_z(self.side.analyse(z0, step), dz)


def _quantised_z(z: Tensor, dz: Tensor) -> Tensor:
    """Continuous z float32, dz int32 [1] → symbols int32 of z / z_step(dz)."""
    inverse = torch.exp((DZ_DEFAULT - dz.float()) * (math.log(2) / 2))
    return torch.round(z * inverse).clamp(-Z_LIMIT, Z_LIMIT).to(torch.int32)


def _in_steps(z0: Tensor, step: Tensor) -> Tensor:
    """Rounded, int32."""
    return torch.round(z0 / step).clamp(*SYMBOLS).to(torch.int32)


def _after_gathering(orders: Tensor) -> Tensor:
    """Orders of a level's couplings, int64 [couplings, 4c], whose first reads the four phases of a picture one after
    another (channel phase * c + i) in place of `pixel_unshuffle`'s channels (4 i + phase)."""
    first = orders[0]
    return torch.cat([(first % 4 * (len(first) // 4) + first // 4)[None], orders[1:]])


class Level2(nn.Module):
    """z0 in steps, int32 [n, 48, 2h, 2w], d0 int32 [48] → h1, the mean of z1, and no symbols of z1: zeros."""

    def __init__(self, model: Flow) -> None:
        super().__init__()
        self.level, self.mean = _Level(model, 2), _Mean(model, 1)

    def forward(self, q0: Tensor, d0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h1 = self.level(q0.float() * z0_steps(d0))
        return h1, self.mean(h1), torch.zeros_like(h1, dtype=torch.int32)


class Level1(nn.Module):
    """y1 int32, h1, mean1 float32 [n, 12, 4h, 4w], step1 int32 [1] → h0, the mean of z2, and no symbols of
    z2: zeros."""

    def __init__(self, model: Flow) -> None:
        super().__init__()
        self.level, self.mean = _Level(model, 1), _Mean(model, 0)

    def forward(self, y1: Tensor, h1: Tensor, mean1: Tensor, step1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h0 = self.level(torch.cat([h1, _dequantised(y1, mean1, step1)], 1))
        return h0, self.mean(h0), torch.zeros_like(h0, dtype=torch.int32)


class Level0(nn.Module):
    """Symbols ya and yb int32 of the two halves of z2 (zeros where there are none), h0 and mean2 float32 [n, 6, 8h,
    8w], step2 int32 [1] → picture uint8 [n, 16h, 16w, 3]."""

    def __init__(self, model: Flow) -> None:
        super().__init__()
        self.level = _Level(model, 0)

    def forward(self, ya: Tensor, yb: Tensor, h0: Tensor, mean2: Tensor, step2: Tensor) -> Tensor:
        return _to_bytes(self.level(torch.cat([h0, _dequantised(ya + yb, mean2, step2)], 1)))


def _to_bytes(latents: Tensor) -> Tensor:
    """Picture in latent units → bytes."""
    return to_bytes(latents * (255 / (2 * UNIT)) + (127.5 + 0.5))

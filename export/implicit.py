"""Graphs that enlarge a picture to any size: bicubic interpolation and COMPASS's local implicit filter.

Which input pixels an output pixel reads comes from integers (never Resize or GridSample, whose rounding differs between
runtimes), so that every device reads the same ones. Output rows and columns are given by number: any band of rows can
be made alone, and numbers beyond the picture repeat its last row or column.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .models.compass import FEATURES, HIDDEN, ImplicitFilter

CUBIC = -0.75
"""Coefficient a of the bicubic kernel (Keys 1981), as PyTorch has it."""


def _doubled_centres(numbers: Tensor, outputs: Tensor, inputs: int) -> Tensor:
    """(2i + 1) * inputs for output rows i (int32 [n], clamped to `outputs` - 1), int64: the doubled centre of the row,
    in units of 1 / `outputs` input rows. int32 would overflow from 2^15 rows on."""
    return (2 * torch.minimum(numbers, outputs - 1).long() + 1) * inputs


def _divisor(size: Tensor) -> Tensor:
    """The size itself, which is at least 1. A model has to say so, as a division of integers by 0 ends the process."""
    return torch.maximum(size, torch.ones((), dtype=size.dtype))


def nearest(numbers: Tensor, outputs: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """Output rows (int32 [n]) of `outputs` (int32 []) over `inputs` rows → the input row that holds the centre of each,
    int64 [n], and twice the distance between the centres, float32 [n] in -1 .. 1."""
    centres, size = _doubled_centres(numbers, outputs, inputs), outputs.long()
    cell = _divisor(2 * size)
    return centres // cell, (centres % cell - size).float() / size.float()


def cubic(numbers: Tensor, outputs: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """As `nearest` → the four input rows of each output row, int64 [4, n], clamped to the picture, and their weights,
    float32 [4, n]: Keys' kernel at the distances t + 1, t, 1 - t, 2 - t, where t is the fraction of the centre."""
    size = outputs.long()
    above = _doubled_centres(numbers, outputs, inputs) + size  # from the centre of row -1 on: never negative
    cell = _divisor(2 * size)
    t = (above % cell).float() / cell.float()
    taps = (above // cell + torch.arange(-2, 2)[:, None]).clamp(min=0).clamp(max=inputs - 1)
    return taps, torch.stack([_far(t + 1), _near(t), _near(1 - t), _far(2 - t)])


def _near(x: Tensor) -> Tensor:
    return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1


def _far(x: Tensor) -> Tensor:
    return ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC


def _sum(parts: list[Tensor]) -> Tensor:
    return parts[0] + parts[1] + parts[2] + parts[3]


class Bicubic(nn.Module):
    """Picture float32 [n, 3, h, w], numbers of rows int32 [r] and columns int32 [c], size int32 [2] of the whole output
    → those rows and columns of it, float32 [n, 3, r, c]."""

    def forward(self, x: Tensor, rows: Tensor, cols: Tensor, size: Tensor) -> Tensor:
        taps, weights = cubic(rows, size[0], x.shape[2])
        down = _sum([x.index_select(2, taps[i]) * weights[i][:, None] for i in range(4)])
        taps, weights = cubic(cols, size[1], x.shape[3])
        return _sum([down.index_select(3, taps[i]) * weights[i] for i in range(4)])


class Filter(nn.Module):
    """The filter in a form that costs less, equal but for the order of float additions.

    With p the 3 x 3 features around a place, u = W1 p + b1 + (place in the cell) goes through two layers to h, and the
    output is p . (W3 h + b3). Both W1 p and p . W3, p . b3 depend on the cell alone: one 3 x 3 convolution of
    the features gives them. Per output pixel remain a HIDDEN x HIDDEN layer and three scalar products with h, where the
    model computes three filters of 9 * FEATURES taps. The convolution runs on the input's rows that a band reads,
    once for each output row, at the input's width.
    """

    HALF = ("cell", "bias", "second", "second_bias")
    """Parameters that may be float16; what is multiplied with them then is, too."""

    def __init__(self, model: ImplicitFilter) -> None:
        super().__init__()
        first, second, last = (cast(nn.Conv2d, model.mlp[number]) for number in (0, 2, 4))
        patch = FEATURES * 9
        assert first.bias is not None and last.bias is not None
        kernels = last.weight.detach().reshape(3, patch, HIDDEN).transpose(1, 2)
        constant = last.bias.detach().reshape(3, patch)
        weight = torch.cat([first.weight.detach()[:, :patch, 0, 0], kernels.reshape(3 * HIDDEN, patch), constant])
        bias = torch.cat([first.bias.detach(), torch.zeros(3 * HIDDEN + 3)])
        # taps by column, then channel and row: the graph gathers rows, and moves columns
        taps = weight.reshape(-1, FEATURES, 3, 3).permute(3, 1, 2, 0).reshape(patch, -1)
        self.cell = nn.Parameter(taps.clone(), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.place = nn.Parameter(first.weight.detach()[:, patch:, 0, 0].T.clone(), requires_grad=False)
        self.second = nn.Parameter(second.weight.detach()[:, :, 0, 0].T.clone(), requires_grad=False)
        self.second_bias = nn.Parameter(cast(Tensor, second.bias).detach().clone(), requires_grad=False)
        self.bicubic = Bicubic()

    def forward(self, x: Tensor, features: Tensor, rows: Tensor, cols: Tensor, size: Tensor) -> Tensor:
        """As `Bicubic`, with features [n, FEATURES, h, w]. Channels come last, so that a gathered column is one block
        of memory."""
        n, _, h, w = x.shape
        cells, down = nearest(rows, size[0], h)
        around = cells[None] + torch.arange(-1, 2)[:, None]
        inside = ((around >= 0) & (around < h)).float()
        taps = features.index_select(2, around.clamp(min=0).clamp(max=h - 1).flatten())
        taps = taps.reshape(n, FEATURES, 3, rows.shape[0], w) * inside[:, :, None]
        taps = F.pad(taps.reshape(n, 3 * FEATURES, rows.shape[0], w).permute(0, 2, 3, 1), (0, 0, 1, 1))
        patches = torch.cat([taps[:, :, :-2], taps[:, :, 1:-1], taps[:, :, 2:]], 3)
        columns, right = nearest(cols, size[1], w)
        cell = (patches.to(self.cell.dtype) @ self.cell + self.bias).index_select(2, columns)
        ratio = torch.stack([torch.full_like(size[0], h), torch.full_like(size[1], w)]).float() / size.float()
        by_row = down[:, None, None] * self.place[0] + ratio @ self.place[2:]
        by_column = right[:, None] * self.place[1]
        hidden = F.relu(cell[..., :HIDDEN] + by_row + by_column)
        hidden = F.relu(hidden.to(self.second.dtype) @ self.second + self.second_bias)
        filtered = [
            (cell[..., HIDDEN * colour : HIDDEN * (colour + 1)] * hidden).sum(3, keepdim=True) for colour in (1, 2, 3)
        ]
        picture = torch.cat(filtered, 3) + cell[..., 4 * HIDDEN :]
        skip: Tensor = self.bicubic(x, rows, cols, size)
        return picture.permute(0, 3, 1, 2) + skip

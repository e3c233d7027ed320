"""Transmitted indices: an exact route to table indices where a codec's own scales hang on floats.

The encoder sends, per block of places and group of channels, one *class* t in 0 .. CLASSES - 1. An exact graph spreads
it over the block: the table index of channel c is CLASS_STEP * t + offset_c, clipped to the 64 tables; those below the
file's `skip` are not coded. Scales are relative to the quantisation step, so the step needs no term of its own. The
classes are coded by tables that another exact graph picks from the activity (sum of magnitudes) of the symbols of the
level before, at the same place. All values are integers far below 2^24, which float32 holds exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .exact import NOT_CODED
from .layers import step_size
from .models.entropy import LOG_SCALE_STEP, LOGISTIC_SCALE_MIN, SCALE_COUNT
from .tables import ESCAPE_BITS, TOTAL, Distribution, Floats, Table, build, logistic, with_outliers

CLASSES, CLASS_STEP = 21, 3
ACTIVITIES = (1, 2, 3, 4, 6, 8, *(round(2 ** (i / 2)) for i in range(7, 32)))
"""Activity class: how many of these the sum of magnitudes reaches; half powers of two."""
ACTIVITY_CLASSES = len(ACTIVITIES) + 1
LOST_BITS = 6 / math.log(2)
"""Bits that one squared step of distortion is worth: uniform quantisation has D = step^2 / 12 and dD/dR = -2 ln 2 D."""
_LARGEST = 255  # magnitudes from which on the encoder's estimate of bits stays the same

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Layout:
    """Groups of channels that share a class, the offset of each channel's index, and the block's edge in places.
    `patterns`: masks of the places that one stream codes, bool [streams, block, block]."""

    groups: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]
    block: int
    patterns: npt.NDArray[np.bool_]

    @property
    def group_of(self) -> list[int]:
        """Group of each channel."""
        return [next(g for g, of in enumerate(self.groups) if c in of) for c in range(len(self.offsets))]

    def indices(self) -> npt.NDArray[np.int64]:
        """Table index by class and channel, int64 [CLASSES, channels]."""
        spread = CLASS_STEP * np.arange(CLASSES)[:, None] + np.array(self.offsets)
        return np.asarray(np.clip(spread, 0, SCALE_COUNT - 1))


class Spread(nn.Module):
    """t int32 [n, groups, h, w], skip int32 [1] → one index per stream, uint8 [n, channels, block h, block w]."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.block = layout.block
        self.register_buffer("group", torch.tensor(layout.group_of))
        self.register_buffer("offset", torch.tensor(layout.offsets, dtype=torch.float32)[None, :, None, None])
        self.register_buffer("patterns", torch.from_numpy(layout.patterns)[:, None, None, None, :, None, :])

    def forward(self, t: Tensor, skip: Tensor) -> tuple[Tensor, ...]:
        classes = t.float().index_select(1, self.group)
        index = (CLASS_STEP * classes + self.offset).clamp(0, SCALE_COUNT - 1)
        index = torch.where(index < skip.float(), float(NOT_CODED), index)[:, :, :, None, :, None]
        batch, channels, height, _, width, _ = index.shape
        shape = (batch, channels, height * self.block, width * self.block)
        every = (torch.where(pattern, index, float(NOT_CODED)) for pattern in self.patterns)
        return tuple(one.reshape(shape).to(torch.uint8) for one in every)


def spread_reference(layout: Layout, t: npt.NDArray[np.int32], skip: int) -> list[npt.NDArray[np.uint8]]:
    """`Spread` in integers."""
    index = np.clip(CLASS_STEP * t[0, layout.group_of] + np.array(layout.offsets)[:, None, None], 0, SCALE_COUNT - 1)
    index = np.where(index < skip, NOT_CODED, index).astype(np.uint8)
    block = np.ones((layout.block, layout.block), np.uint8)
    whole = np.kron(index, block[None])
    tiles = (1, *index.shape[1:])
    return [np.where(np.tile(pattern[None], tiles), whole, np.uint8(NOT_CODED))[None] for pattern in layout.patterns]


class Activity(nn.Module):
    """Symbols int32 [n, channels, factor h, factor w] → for each of `groups` streams of classes the number of its
    table, uint8 [n, groups, h, w]: ACTIVITY_CLASSES * group + activity class."""

    def __init__(self, factor: int, groups: int) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("edges", torch.tensor(ACTIVITIES, dtype=torch.float32)[None, :, None, None])
        self.register_buffer("first", ACTIVITY_CLASSES * torch.arange(groups, dtype=torch.float32)[None, :, None, None])

    def forward(self, y: Tensor) -> Tensor:
        magnitude = y.float().abs().sum(1, keepdim=True)
        batch, _, height, width = magnitude.shape
        blocks = (batch, 1, height // self.factor, self.factor, width // self.factor, self.factor)
        activity = magnitude.reshape(blocks).sum((3, 5))
        reached = (activity >= self.edges).float().sum(1, keepdim=True)
        return (reached + self.first).to(torch.uint8)


def activity_reference(y: npt.NDArray[np.int32], factor: int, groups: int) -> npt.NDArray[np.uint8]:
    """`Activity` in integers."""
    magnitude = np.abs(y[0].astype(np.int64)).sum(0)
    height, width = (side // factor for side in magnitude.shape)
    activity = magnitude.reshape(height, factor, width, factor).sum((1, 3))
    reached = np.searchsorted(np.array(ACTIVITIES), activity, side="right")
    return np.stack([reached + ACTIVITY_CLASSES * group for group in range(groups)]).astype(np.uint8)[None]


class Pick(nn.Module):
    """Encoder: v and mean float32 [n, channels, block h, block w], step (eighths of a table step) and skip int32 [1] →
    the symbols of each stream, int32 of the same shape, and the classes t int32 [n, groups, h, w] that code each block
    at the least cost: bits of the coded symbols, and what setting the others to 0 adds to the distortion, at LOST_BITS
    a squared step."""

    def __init__(self, layout: Layout, tables: Sequence[Table]) -> None:
        super().__init__()
        self.layout = layout
        indices = torch.from_numpy(layout.indices())
        self.register_buffer("indices", indices.float()[:, :, None, None])
        bits = torch.from_numpy(np.stack([symbol_bits(table) for table in tables])).float()
        self.register_buffer("bits", bits[indices].flatten(1))
        rows = torch.arange(len(layout.offsets), dtype=torch.int32) * (_LARGEST + 1)
        self.register_buffer("rows", rows[None, :, None, None])
        self.register_buffer("patterns", torch.from_numpy(layout.patterns)[:, None, None, None, :, None, :])
        for number, group in enumerate(layout.groups):
            self.register_buffer(f"group{number}", torch.tensor(group))

    def _sums(self, cost: Tensor) -> Tensor:
        """float32 [CLASSES, n, channels, block h, block w] → [CLASSES, n, groups, h, w]."""
        _, batch, channels, height, width = cost.shape
        block = self.layout.block
        sums = cost.reshape(CLASSES, batch, channels, height // block, block, width // block, block).sum((4, 6))
        groups = (sums.index_select(2, getattr(self, f"group{g}")) for g in range(len(self.layout.groups)))
        return torch.cat([group.sum(2, keepdim=True) for group in groups], 2)

    def forward(self, v: Tensor, mean: Tensor, step: Tensor, skip: Tensor) -> tuple[Tensor, ...]:
        residual = (v - mean) / step_size(step)
        symbols = torch.round(residual).clamp(-(2**15), 2**15 - 1)
        places = (symbols.abs().clamp(max=_LARGEST).to(torch.int32) + self.rows).flatten()
        lost = LOST_BITS * (residual**2 - (residual - symbols) ** 2)
        bits = self.bits.index_select(1, places).reshape(CLASSES, *symbols.shape)
        gain = -self._sums(torch.where(self.indices[:, None] < skip.float(), lost, bits))
        numbers = torch.arange(CLASSES, dtype=torch.float32)[:, None, None, None, None]
        # the lowest class of those that cost least, without ArgMin
        best = -torch.where(gain >= gain.amax(0, keepdim=True), -numbers, float(-CLASSES)).amax(0)
        return (*self._streams(symbols.to(torch.int32)), best.to(torch.int32))

    def _streams(self, symbols: Tensor) -> list[Tensor]:
        """The symbols at the places of each stream, 0 at the others."""
        batch, channels, height, width = symbols.shape
        block = self.layout.block
        blocks = symbols.reshape(batch, channels, height // block, block, width // block, block)
        return [torch.where(pattern, blocks, 0).reshape(symbols.shape) for pattern in self.patterns]


def symbol_bits(table: Table) -> Floats:
    """Code length of the magnitudes 0 .. _LARGEST under a table, the mean of both signs, float64."""

    def bits(symbols: npt.NDArray[np.int64]) -> Floats:
        place = (symbols >> table.shift) - table.low
        escaped = (place < 0) | (place >= len(table.frequency) - 1)
        frequency = table.frequency[np.where(escaped, len(table.frequency) - 1, place)]
        return np.asarray(np.log2(TOTAL / frequency) + table.shift + np.where(escaped, ESCAPE_BITS, 0))

    magnitudes = np.arange(_LARGEST + 1)
    return (bits(magnitudes) + bits(-magnitudes)) / 2


def scale_tables() -> list[Table]:
    """The 64 tables of the symbols."""
    family = with_outliers(logistic)
    return [build(family(LOGISTIC_SCALE_MIN * math.exp(LOG_SCALE_STEP * i))) for i in range(SCALE_COUNT)]


@dataclass(frozen=True)
class ClassModel:
    """Distribution of a class given the activity class k: logistic with mean a + b k + c k^2 and scale exp(d + e k),
    its tails folded into the first and last class."""

    a: float
    b: float
    c: float
    d: float
    e: float

    def table(self, activity: int) -> Table:
        mean = self.a + self.b * activity + self.c * activity**2
        family = logistic(math.exp(self.d + self.e * activity))

        def inside(x: Floats, values: Floats, low: float, high: float) -> Floats:
            return np.asarray(np.where(x < 0, low, np.where(x > CLASSES - 1, high, values)))

        return build(
            Distribution(
                lambda x: inside(x, family.below(x - mean), 0.0, 1.0),
                lambda x: inside(x, family.above(x - mean), 1.0, 0.0),
            ),
            max_shift=0,
        )

    def tables(self) -> list[Table]:
        """A table per activity class."""
        return [self.table(activity) for activity in range(ACTIVITY_CLASSES)]

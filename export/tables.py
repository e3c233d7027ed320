"""Entropy tables of 12-bit frequencies, built in float64 and stored as integers (docs/FORMAT.md, section
4).

A table covers the quotients low .. low + m - 1 of symbols by 2^shift; everything else is the escape. Range
and shift are the ones with the least expected code length, raw bits and escapes included; the frequencies
are rounded probabilities, brought to a sum of 4096 one by one where that costs the least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nicrt.runtime.errors import UnsupportedError

from .models.entropy import Z_STEPS, z_step

Floats = npt.NDArray[np.float64]

TOTAL = 4096
MAX_QUOTIENT = 127  # quotients are -127 .. 127, and -128 marks the escape in a decoder's table
MAX_SHIFT = 12
ESCAPE_BITS = 16  # an escaped quotient is stored as an int16
MAX_TABLES = 256
OUTLIER_SHARE, OUTLIER_WIDTH = 0.03, 2.0
RAW_BITS_WORTH = (
    1e-3  # share of the cost that more raw bits must save; on the benchmark's job 10% faster, 0.004% larger
)
_TAILS = (0.125, 0.5, 2.0, 8.0)  # candidates for the mass beyond either end of a range, in 1/4096


@dataclass(frozen=True)
class Distribution:
    """A distribution on the real line by its cumulative `below` (P(X <= x)) and `above` (P(X > x)), so that
    neither tail loses its precision."""

    below: Callable[[Floats], Floats]
    above: Callable[[Floats], Floats]

    def mass(self, edges: Floats) -> Floats:
        """float64 [n + 1], rising → probability between neighbours, float64 [n]."""
        below, above = self.below(edges), self.above(edges)
        return np.where(below[:-1] > 0.5, above[:-1] - above[1:], below[1:] - below[:-1])

    def clipped(self, limit: int) -> Distribution:
        """That of integers clipped to +-limit: what lies beyond lies on it."""
        inner = limit - 0.25  # edges of unit bins are halves
        return Distribution(
            lambda x: np.where(x > inner, 1.0, np.where(x < -limit, 0.0, self.below(x))),
            lambda x: np.where(x > inner, 0.0, np.where(x < -limit, 1.0, self.above(x))),
        )


def gaussian(scale: float) -> Distribution:
    """Zero-mean normal distribution: P(X <= x) = erfc(-x / (scale sqrt 2)) / 2."""
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    root = scale * math.sqrt(2)
    return Distribution(lambda x: 0.5 * erfc(-x / root), lambda x: 0.5 * erfc(x / root))


def logistic(scale: float) -> Distribution:
    """Zero-mean logistic distribution: P(X <= x) = 1 / (1 + exp(-x / scale))."""
    return Distribution(lambda x: _sigmoid(x / scale), lambda x: _sigmoid(-x / scale))


def with_outliers(family: Callable[[float], Distribution]) -> Callable[[float], Distribution]:
    """The family with a small share of a wider copy of itself. Latents of trained codecs have heavier tails
    than the Gaussians that they were trained with: on photographs the tables of the mixture cost 1 to 2% less
    than plain ones."""

    def mixture(scale: float) -> Distribution:
        narrow, wide = family(scale), family(OUTLIER_WIDTH * scale)
        return Distribution(
            lambda x: (1 - OUTLIER_SHARE) * narrow.below(x) + OUTLIER_SHARE * wide.below(x),
            lambda x: (1 - OUTLIER_SHARE) * narrow.above(x) + OUTLIER_SHARE * wide.above(x),
        )

    return mixture


def _sigmoid(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, small, 1.0) / (1.0 + small))


@dataclass(frozen=True)
class Table:
    """One table, with what it costs: bits per symbol of its own distribution, and the entropy of that."""

    low: int
    shift: int
    frequency: npt.NDArray[np.uint16]
    expected_bits: float
    entropy_bits: float

    @property
    def overhead_bits(self) -> float:
        return self.expected_bits - self.entropy_bits


def normalise(probability: Floats) -> npt.NDArray[np.uint16]:
    """Probabilities [n] → frequencies of at least 1 and at most 4095 with the sum 4096, at the least expected
    cost."""
    frequency = np.clip(np.rint(probability * TOTAL), 1, TOTAL - 1)
    while (missing := TOTAL - int(frequency.sum())) != 0:
        change = 1 if missing > 0 else -1
        changed = frequency + change
        allowed = (changed >= 1) & (changed < TOTAL)
        gain = np.full(len(frequency), -np.inf)
        gain[allowed] = probability[allowed] * np.log2(changed[allowed] / frequency[allowed])
        frequency[int(np.argmax(gain))] += change
    return frequency.astype(np.uint16)


def _candidate(distribution: Distribution, low: int, high: int, shift: int, entropy: float) -> Table:
    edges = (np.arange(low, high + 2, dtype=np.float64) * 2**shift) - 0.5
    inside = distribution.mass(edges)
    outside = float(distribution.below(edges[:1])[0] + distribution.above(edges[-1:])[0])
    probability = np.append(inside, outside)
    frequency = normalise(probability)
    bits = float(probability @ np.log2(TOTAL / frequency)) + outside * ESCAPE_BITS + shift
    return Table(low, shift, frequency, bits, entropy)


def build(distribution: Distribution, max_shift: int = MAX_SHIFT) -> Table:
    """The cheapest table for integers whose unit bins have the mass of `distribution`, or one with fewer raw bits that
    costs hardly more: raw bits slow the decoder down."""
    entropy = _entropy(distribution)
    quotients = np.arange(-MAX_QUOTIENT, MAX_QUOTIENT + 1)
    cheapest: list[Table] = []
    for shift in range(max_shift + 1):
        edges = np.arange(-MAX_QUOTIENT, MAX_QUOTIENT + 2, dtype=np.float64) * 2**shift - 0.5
        below, above = distribution.below(edges), distribution.above(edges)
        ranges = set()
        for tail in _TAILS:
            used = quotients[(below[1:] * TOTAL >= tail) & (above[:-1] * TOTAL >= tail)]
            if len(used):
                ranges.add((int(used[0]), int(used[-1])))
        tables = [_candidate(distribution, low, high, shift, entropy) for low, high in sorted(ranges)]
        if tables:
            cheapest.append(min(tables, key=lambda table: table.expected_bits))
            if cheapest[-1].expected_bits > 2 * cheapest[0].expected_bits:
                break  # more raw bits only cost more from here on
    if not cheapest:
        raise UnsupportedError(f"a distribution has no mass within +-{MAX_QUOTIENT << max_shift}: no table can hold it")
    enough = (1 + RAW_BITS_WORTH) * min(table.expected_bits for table in cheapest)
    return next(table for table in cheapest if table.expected_bits <= enough)


def _entropy(distribution: Distribution) -> float:
    """Bits per symbol of the unit bins of int16."""
    reach = 16
    while reach < 1 << 15 and distribution.below(np.array([-reach - 0.5]))[0] > 1e-15:
        reach *= 2
    while reach < 1 << 15 and distribution.above(np.array([reach + 0.5]))[0] > 1e-15:
        reach *= 2
    mass = distribution.mass(np.arange(-reach, reach + 2, dtype=np.float64) - 0.5)
    mass = mass[mass > 0]
    return float(-(mass @ np.log2(mass)))


def by_scale(family: Callable[[float], Distribution], scales: Sequence[float]) -> list[Table]:
    """A table per scale, for streams whose tables an index tensor names."""
    return [build(family(scale)) for scale in scales]


def by_channel(logits: Callable[[Floats], Floats], channels: int, limit: int | None = None) -> list[Table]:
    """A table per channel of a factorised prior. `logits`: float64 [channels, n] → logit of P(X <= x), same shape.
    `limit`, at most MAX_QUOTIENT: symbols are clipped to +-limit and need no raw bits; a channel that lies beyond it
    altogether has all its symbols on it."""

    known: dict[bytes, Floats] = {}  # the channels ask for the same places, and all are computed at once

    def channel(number: int) -> Distribution:
        def at(x: Floats) -> Floats:
            key = x.tobytes()
            if key not in known:
                known[key] = np.asarray(logits(np.broadcast_to(x, (channels, len(x)))))
            return known[key][number]

        return Distribution(lambda x: _sigmoid(at(x)), lambda x: _sigmoid(-at(x)))

    def table(distribution: Distribution) -> Table:
        if limit is None:
            return build(distribution)
        try:
            return build(distribution, max_shift=0)
        except UnsupportedError:
            return build(distribution.clipped(limit), max_shift=0)

    return [table(channel(number)) for number in range(channels)]


def by_channel_and_step(logits: Callable[[Floats], Floats], channels: int) -> TableSet:
    """The tables of z: a set for each z step (`nicrt.export.exact`), the prior of `by_channel` on bins of that
    width, symbols clipped to +-MAX_QUOTIENT."""

    def of_step(step: float) -> list[Table]:
        return by_channel(lambda x: logits(x * step), channels, MAX_QUOTIENT)

    sets = [of_step(z_step(dz)) for dz in range(Z_STEPS)]
    numbers = np.arange(Z_STEPS * channels, dtype=np.int32).reshape(Z_STEPS, channels)
    return TableSet([table for tables in sets for table in tables], numbers)


@dataclass(frozen=True)
class TableSet:
    """A group of tables. `channel`: table of each channel, int32 [sets, channels], for streams coded by channel."""

    tables: list[Table]
    channel: npt.NDArray[np.int32] | None = None

    def arrays(self, name: str) -> dict[str, npt.NDArray[np.generic]]:
        """The group's arrays as in `nicrt.runtime.manifest.Tables`."""
        if self.channel is None and len(self.tables) > MAX_TABLES:
            raise UnsupportedError(f"table group {name!r} has {len(self.tables)} tables, more than {MAX_TABLES}")
        group: dict[str, npt.NDArray[np.generic]] = {
            f"{name}.low": np.array([t.low for t in self.tables], np.int16),
            f"{name}.shift": np.array([t.shift for t in self.tables], np.uint8),
            f"{name}.size": np.array([len(t.frequency) for t in self.tables], np.int32),
            f"{name}.frequency": np.concatenate([t.frequency for t in self.tables]),
        }
        if self.channel is not None:
            group[f"{name}.channel"] = self.channel
        return group

    def summary(self) -> str:
        """What 12 bits cost, for a person."""
        worst = max(self.tables, key=lambda table: table.overhead_bits)
        mean = sum(table.overhead_bits for table in self.tables) / len(self.tables)
        return (
            f"{len(self.tables)} tables, {mean:.5f} bit per symbol above the entropy on average, "
            f"{worst.overhead_bits:.5f} at most"
        )

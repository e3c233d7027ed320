"""Symbols at the ends of what they can hold: an encoder clips its latents there, and what is clipped is lost."""

from __future__ import annotations

from dataclasses import dataclass

SYMBOL_MAX = (1 << 15) - 1


class SaturationWarning(UserWarning):
    """Latents of a picture were clipped to what symbols hold."""


@dataclass(frozen=True)
class Saturated:
    """Of a stream: how many of its `total` symbols lie on an end of low..high."""

    stream: str
    count: int
    total: int
    low: int
    high: int

    def __str__(self) -> str:
        side = self.high < SYMBOL_MAX  # read by an exact graph: side information, which decides rates
        means = "the file is larger than need be" if side else "the decoded picture may be far from this one"
        clipped = f"{self.count} of {self.total} symbols of stream {self.stream!r} were clipped"
        return f"{clipped} to {self.low}..{self.high}: {means}"

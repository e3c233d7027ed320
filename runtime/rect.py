"""Rectangles of a picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Rect(NamedTuple):
    """Pixels top .. bottom - 1, left .. right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of(cls, size: tuple[int, int]) -> Rect:
        """All of a picture of `size` (height, width)."""
        return cls(0, 0, *size)

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def grown(self, by: int, unit: int, bounds: Rect) -> Rect:
        """With `by` more pixels on each side, outward to multiples of `unit`, cut at `bounds` (multiples of it too)."""
        return Rect(
            max(bounds.top, (self.top - by) // unit * unit),
            max(bounds.left, (self.left - by) // unit * unit),
            min(bounds.bottom, -(-(self.bottom + by) // unit) * unit),
            min(bounds.right, -(-(self.right + by) // unit) * unit),
        )

    def windows(self, edge: int) -> Iterator[Rect]:
        """Squares of `edge` pixels that tile it, the last ones cut."""
        for top in range(self.top, self.bottom, edge):
            for left in range(self.left, self.right, edge):
                yield Rect(top, left, min(top + edge, self.bottom), min(left + edge, self.right))

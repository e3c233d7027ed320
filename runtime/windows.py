"""Rectangles of a picture, and tensors that know which rectangle they cover.

Graphs whose manifest gives a halo can run on a window of the picture: their inputs are cut to the window grown by the
halo, and of their outputs only the window is kept. That bounds memory for large pictures and decodes regions without
the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .manifest import BATCH, DIMENSION, Port

Array = npt.NDArray[Any]

MIN_WINDOWED = 4 << 20
"""Pixels below which a picture runs whole."""
WINDOW_BYTES = 128 << 20
WINDOW_STEP, MAX_WINDOW = 512, 1 << 14


def window_edge(workspace_bytes_per_pixel: float) -> int:
    """Edge in pixels of the windows of a graph: as large as WINDOW_BYTES of workspace allow, since every window repeats
    its halo.
    """
    edge = math.isqrt(int(WINDOW_BYTES / max(workspace_bytes_per_pixel, 0.25)))
    return min(MAX_WINDOW, max(WINDOW_STEP, edge // WINDOW_STEP * WINDOW_STEP))


@dataclass(frozen=True)
class Rect:
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

    def union(self, other: Rect | None) -> Rect:
        """The smallest rectangle that covers both."""
        if other is None:
            return self
        return Rect(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def windows(self, edge: int) -> Iterator[Rect]:
        """Squares of `edge` pixels that tile it, the last ones cut."""
        for top in range(self.top, self.bottom, edge):
            for left in range(self.left, self.right, edge):
                yield Rect(top, left, min(top + edge, self.bottom), min(left + edge, self.right))


@dataclass(frozen=True)
class Placed:
    """A tensor; where it is spatial, with the rectangle that it covers, `stride` pixels a place along `axes`."""

    array: Array
    rect: Rect | None = None
    stride: int = 1
    axes: tuple[int, int] = (2, 3)

    def crop(self, rect: Rect) -> Array:
        """The part that covers `rect`: a view. All of it where the tensor is not spatial."""
        if self.rect is None or rect == self.rect:
            return self.array
        return self.array[self._index(rect)]

    def paste(self, part: Array, rect: Rect) -> None:
        """Write the part that covers `rect`."""
        self.array[self._index(rect)] = part

    def _index(self, rect: Rect) -> tuple[slice, ...]:
        assert self.rect is not None
        index = [slice(None)] * self.array.ndim
        rows, columns = self.axes
        index[rows] = slice((rect.top - self.rect.top) // self.stride, (rect.bottom - self.rect.top) // self.stride)
        index[columns] = slice(
            (rect.left - self.rect.left) // self.stride, (rect.right - self.rect.left) // self.stride
        )
        return tuple(index)


def spatial_axes(port: Port) -> tuple[tuple[int, int], int] | None:
    """Row and column axis of a port, and the factor of its dimensions ("4h", "4w": 4); None if it is not spatial."""
    found = [(axis, m) for axis, d in enumerate(port.dims) if d != BATCH and (m := DIMENSION.match(str(d)))]
    if [match[2] for _, match in found] != ["h", "w"] or found[0][1][1] != found[1][1][1]:
        return None
    return (found[0][0], found[1][0]), int(found[0][1][1] or 1)


def unit_of(ports: Mapping[str, Port], strides: Mapping[str, int]) -> int | None:
    """Pixels that one unit of the dimension symbols `h` and `w` stands for, from the strides of the inputs (by port);
    None where the inputs do not agree or none is spatial.
    """
    units = set()
    for name, port in ports.items():
        spatial = spatial_axes(port)
        if spatial is not None and name in strides:
            units.add(strides[name] * spatial[1])
    return units.pop() if len(units) == 1 else None


def place(array: Array, port: Port, unit: int | None, rect: Rect) -> Placed:
    """An output that covers `rect`."""
    spatial = spatial_axes(port)
    if spatial is None or unit is None or unit % spatial[1]:
        return Placed(array)
    axes, factor = spatial
    stride = unit // factor
    extents = (rect.bottom - rect.top, rect.right - rect.left)
    if any(array.shape[axis] * stride != extent for axis, extent in zip(axes, extents, strict=True)):
        return Placed(array)
    return Placed(array, rect, stride, axes)


def empty_like(part: Placed, rect: Rect) -> Placed:
    """A tensor like `part`, with nothing in it yet, that covers `rect`."""
    assert part.rect is not None
    shape = list(part.array.shape)
    for axis, extent in zip(part.axes, (rect.bottom - rect.top, rect.right - rect.left), strict=True):
        shape[axis] = extent // part.stride
    return Placed(np.empty(shape, part.array.dtype), rect, part.stride, part.axes)

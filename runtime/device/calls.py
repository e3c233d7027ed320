"""What a layout's steps are made of: tensors in buffers, and calls that queue work on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..backends import Executable
from ..backends.base import Array
from .graphs import DeviceExecutable

if TYPE_CHECKING:
    from nicrt._device_host import Buffer


@dataclass(frozen=True)
class Tensor:
    """per_picture: the first axis is the batch; else all pictures share it. memory: what it lies in, None for a buffer
    that is never used again.
    """

    buffer: Buffer
    per_picture: bool = False
    memory: Buffer | None = None

    def part(self, picture: int | None) -> Buffer:
        """The buffer of one picture of the batch, the batch axis kept; all of it for None or where it is shared."""
        if picture is None or not self.per_picture:
            return self.buffer
        shape = self.buffer.shape
        return self.buffer.view((1, *shape[1:]), offset_bytes=picture * (self.buffer.nbytes // shape[0]))


def all_of(calls: Sequence[Callable[[], None]]) -> Callable[[], None]:
    """One after the other."""
    if len(calls) == 1:
        return calls[0]

    def run() -> None:
        for call in calls:
            call()

    return run


def bound(executable: Executable, inputs: dict[str, Buffer], outputs: dict[str, Buffer]) -> Callable[[], None]:
    """One run of a graph on these buffers, by port."""
    if isinstance(executable, DeviceExecutable):
        return executable.bind(inputs, outputs)

    def run() -> None:  # by way of the host
        arrays: dict[str, Array] = {port: buffer.download() for port, buffer in inputs.items()}
        for buffer, array in zip(outputs.values(), executable.run(arrays, list(outputs)), strict=True):
            buffer.upload(np.ascontiguousarray(array))

    return run


def pasting(part: Buffer, whole: Buffer, row: int) -> Callable[[], None]:
    """What copies a band, plane by plane, to `row` of the whole: [n, c, rows, ...] both."""
    planes = math.prod(part.shape[:2])
    size, whole_size = part.nbytes // planes, whole.nbytes // planes
    offset = row * (whole_size // whole.shape[2])
    pairs = [
        (
            part.view(part.shape[2:], offset_bytes=plane * size),
            whole.view(part.shape[2:], offset_bytes=plane * whole_size + offset),
        )
        for plane in range(planes)
    ]

    def run() -> None:
        for source, target in pairs:
            target.copy_from(source)

    return run

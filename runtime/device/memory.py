"""The buffers of a layout, and what it holds on the device and on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import LimitError, UnsupportedError
from .devices import Device

if TYPE_CHECKING:
    from nicrt._device_host import Buffer, Queue

DTYPES = frozenset({"uint8", "int8", "int32", "int64", "float16", "float32"})
"""Of the tensors that devices have."""


class Memory:
    """limit_bytes: of device and host together. wanted: what all of it is for, in words.

    Methods raise LimitError where more is wanted than the limit allows, before it is taken.
    """

    def __init__(self, device: Device, queue: Queue, limit_bytes: int, wanted: str) -> None:
        self.device_bytes = self.host_bytes = 0
        self.reused: list[Buffer] = []
        """What tensors lie in, one after the other."""
        self._device = device
        self._queue = queue
        self._limit_bytes = limit_bytes
        self._wanted = wanted
        self._kept: list[Buffer] = []  # what runs knows their addresses only
        self._free: list[Buffer] = []
        self._workspaces: dict[str, int] = {}
        self._largest_copies_bytes = 0

    @property
    def total_bytes(self) -> int:
        return self.device_bytes + self.host_bytes

    def charge(self, size_bytes: int, *, on_device: bool = True) -> None:
        """Count what somebody else takes."""
        if on_device:
            self.device_bytes += size_bytes
        else:
            self.host_bytes += size_bytes
        if self.total_bytes > self._limit_bytes:
            raise LimitError(
                f"{self._wanted} on the device needs more memory, there and on the host, than the limit of "
                f"{self._limit_bytes >> 20} MiB (Limits.memory_bytes)"
            )

    def charge_workspace(self, graph: str, size_bytes: int, *, on_device: bool) -> None:
        """A graph keeps the memory of its largest run."""
        known = self._workspaces.get(graph, 0)
        self.charge(max(0, size_bytes - known), on_device=on_device)
        self._workspaces[graph] = max(size_bytes, known)

    def charge_copies(self, size_bytes: int) -> None:
        """A graph that runs on the host has copies of its tensors there, until the next such graph."""
        self.charge(max(0, size_bytes - self._largest_copies_bytes), on_device=False)
        self._largest_copies_bytes = max(size_bytes, self._largest_copies_bytes)

    def new(self, shape: Sequence[int], dtype: str) -> Buffer:
        """A buffer of its own."""
        if dtype not in DTYPES:
            raise UnsupportedError(f"the bundle has tensors of {dtype}, which do not go onto a device")
        self.charge(math.prod(shape) * np.dtype(dtype).itemsize)
        self._kept.append(self._device.module.Buffer(shape, dtype, self._queue))
        return self._kept[-1]

    def take(self, size_bytes: int) -> Buffer:
        """Bytes, until they are given back: the smallest free buffer that has as many, else a new one."""
        fitting = [buffer for buffer in self._free if buffer.nbytes >= size_bytes]
        if fitting:
            found = min(fitting, key=lambda buffer: buffer.nbytes)
            self._free.remove(found)
            return found
        self.reused.append(self.new((size_bytes,), "uint8"))
        return self.reused[-1]

    def give_back(self, buffer: Buffer) -> None:
        """What runs from now on may write over what `take` gave."""
        self._free.append(buffer)

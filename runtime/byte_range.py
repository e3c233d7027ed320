"""Bytes that a bundle is read from: a file, a part of one, or memory. Nothing is mapped, since a mapped file can change
or shrink after its contents were checked: what is read is a copy."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .errors import UnsupportedError

MEMORY = "the bundle in memory"
"""In messages, where a file's path would be."""


class Source(Protocol):
    """Where bytes lie. place: for messages."""

    @property
    def place(self) -> str: ...

    def read(self, start: int, count: int) -> bytes:
        """Raises UnsupportedError unless there are that many."""
        ...


@dataclass(frozen=True)
class FileSource:
    path: Path

    @property
    def place(self) -> str:
        return str(self.path)

    def size(self) -> int:
        """In bytes. Raises UnsupportedError as `read` does."""
        try:
            with open(self.path, "rb", opener=_open_regular) as file:
                return os.fstat(file.fileno()).st_size
        except (OSError, ValueError) as error:
            raise self._refused(error) from None

    def read(self, start: int, count: int) -> bytes:
        try:
            with open(self.path, "rb", opener=_open_regular) as file:
                file.seek(start)
                data = file.read(count)
        except (OSError, ValueError) as error:
            raise self._refused(error) from None
        if len(data) != count:
            raise UnsupportedError(f"{self.path}: it ends before byte {start + count}; export or install it again")
        return data

    def _refused(self, error: OSError | ValueError) -> UnsupportedError:
        """ValueError: of a path with a zero in it."""
        reason = getattr(error, "strerror", None) or error
        return UnsupportedError(f"{self.path}: {reason}; is this a codec bundle?")


def _open_regular(path: str, flags: int) -> int:
    """Opens files alone: a pipe in the place of one would be waited for without end."""
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("not a regular file")
    return handle


@dataclass(frozen=True)
class MemorySource:
    data: bytes
    place: str

    def read(self, start: int, count: int) -> bytes:
        if start + count > len(self.data):
            raise UnsupportedError(f"{self.place}: it ends before byte {start + count}")
        return self.data[start : start + count]


@dataclass(frozen=True)
class ByteRange:
    """Bytes start .. start + size - 1 of a source. name: of the file that they are, for messages."""

    source: Source
    start: int
    size: int
    name: str = ""

    @classmethod
    def of_file(cls, path: Path) -> ByteRange:
        """Raises UnsupportedError for what is not a readable, regular file."""
        source = FileSource(path)
        return cls(source, 0, source.size())

    @classmethod
    def of_memory(cls, data: bytes, place: str = MEMORY) -> ByteRange:
        return cls(MemorySource(data, place), 0, len(data))

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.source.place}: {self.name}" if self.name else self.source.place

    def read(self, start: int, count: int) -> bytes:
        """`count` bytes from `start` on. Raises UnsupportedError where there are fewer."""
        if start < 0 or count < 0 or start + count > self.size:
            raise UnsupportedError(f"{self.place}: it ends before byte {start + count}")
        return self.source.read(self.start + start, count)

    def all(self, most_bytes: int) -> bytes:
        """All bytes. Raises UnsupportedError for more than `most_bytes`."""
        if self.size > most_bytes:
            raise UnsupportedError(f"{self.place}: larger than {most_bytes} bytes")
        return self.read(0, self.size)

    def part(self, start: int, size: int, name: str) -> ByteRange:
        return ByteRange(self.source, self.start + start, size, name)

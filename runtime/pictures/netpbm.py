"""Netpbm pictures at their full depth (Pillow reads 8 bits of colour, and no PFM in colour): PGM, PPM and PFM."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageError

_CHANNELS = {b"P2": 1, b"P3": 3, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}
_PLAIN = (b"P2", b"P3")
_FLOAT = (b"Pf", b"PF")
_COMMENT = re.compile(rb"#[^\r\n]*")
_TOKEN = rb"(?:\s|#[^\r\n]*[\r\n])+([0-9.eE+-]{1,32})"
_HEADER = re.compile(rb"P[2356fF]" + _TOKEN * 3 + rb"\s")

Samples = npt.NDArray[Any]


def is_netpbm(data: bytes) -> bool:
    """Whether `Header` is for this file; bitmaps (P1, P4) are left to Pillow."""
    return data[:2] in _CHANNELS and data[2:3].isspace()


class Header:
    """Of a file that `is_netpbm`. white: None for floats. Raises ImageError."""

    def __init__(self, data: bytes) -> None:
        found = _HEADER.match(data)
        if found is None:
            raise ImageError("a damaged Netpbm picture: its header is not whole")
        self.kind = data[:2]
        try:
            self.width, self.height = int(found[1]), int(found[2])
            self.white = None if self.kind in _FLOAT else int(found[3])
            self._big_endian = float(found[3]) > 0  # PFM: a negative scale means little-endian; its size is a unit
        except ValueError:
            raise ImageError("a damaged Netpbm picture: its header has a number that is none") from None
        if self.width < 1 or self.height < 1:
            raise ImageError("a Netpbm picture without pixels")
        if self.white is not None and not 0 < self.white < 65536:
            raise ImageError(f"a Netpbm picture whose maxval is {self.white}; it is 1 to 65535")
        self._start = found.end()

    def read(self, data: bytes) -> tuple[Samples, bool]:
        """[height, width, 1 or 3], unsigned integers or float32, and whether more pictures follow in the file. Raises
        ImageError.
        """
        shape = self.height, self.width, _CHANNELS[self.kind]
        count = shape[0] * shape[1] * shape[2]
        samples, rest = self._plain(data, count) if self.kind in _PLAIN else self._raw(data, count)
        if samples.size < count:
            raise ImageError("a truncated Netpbm picture")
        if self.white is not None and samples.max() > self.white:
            raise ImageError("a damaged Netpbm picture: a sample is above its maxval")
        whole = samples.reshape(shape)
        return whole[::-1] if self.kind in _FLOAT else whole, rest  # PFM goes from bottom to top

    def _plain(self, data: bytes, count: int) -> tuple[Samples, bool]:
        words = _COMMENT.sub(b"", data[self._start :]).split(maxsplit=count)
        try:
            return np.array(words[:count], np.int64).astype(np.uint16), len(words) > count
        except (ValueError, OverflowError):
            raise ImageError("a damaged Netpbm picture: a sample is no number") from None

    def _raw(self, data: bytes, count: int) -> tuple[Samples, bool]:
        floats = ">f4" if self._big_endian else "<f4"
        kind = floats if self.white is None else ">u2" if self.white > 255 else "u1"
        whole = min(count, (len(data) - self._start) // np.dtype(kind).itemsize)
        end = self._start + whole * np.dtype(kind).itemsize
        return np.frombuffer(data, kind, whole, self._start), data[end : end + 1] == b"P"

"""Entropy tables of a bundle: read, checked, turned into codebooks of the C++ coder."""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .errors import UnsupportedError

MAX_TABLES_BYTES = 64 << 20
MAX_TABLES_PER_STREAM = 256
MAX_CHANNEL_PLACES = 1 << 18  # of a group's channel map, sets times channels: each has the hash go over its table
TABLE_TOTAL, ESCAPE_BITS = 4096, 16  # sum of a table's frequencies; size of an escaped quotient
MIN_QUOTIENT, MAX_SHIFT = -127, 12
MIN_REACH = 255  # of the symbols whose code lengths are looked up
MAX_CODEBOOKS = 64  # kept for reuse: a file may ask for any mixture of sets


class TableGroup:
    """One group of tables, of arrays that docs/BUNDLE.md, section 4, has."""

    PARTS = ("low", "shift", "size", "frequency", "channel")
    """The last one is left out where the tables are chosen by an index tensor."""

    def __init__(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._name = name
        self._low = self._array(arrays, "low", np.int16)
        self._shift = self._array(arrays, "shift", np.uint8)
        self._size = self._array(arrays, "size", np.int32)
        self._frequency = self._array(arrays, "frequency", np.uint16)
        self._channel = self._array(arrays, "channel", np.int32, ndim=2) if f"{name}.channel" in arrays else None
        count = len(self._size)
        if len(self._low) != count or len(self._shift) != count or count == 0:
            raise UnsupportedError(f"table group {name!r}: its arrays differ in length")
        if self._size.min() < 2 or self._size.max() > 256 or int(self._size.sum()) != len(self._frequency):
            raise UnsupportedError(f"table group {name!r}: its sizes do not match its frequencies")
        if self._channel is not None and (
            self._channel.size == 0 or self._channel.min() < 0 or self._channel.max() >= count
        ):
            raise UnsupportedError(f"table group {name!r}: a channel names a table that is not there")
        if self._channel is not None and self._channel.size > MAX_CHANNEL_PLACES:
            raise UnsupportedError(f"table group {name!r}: more than {MAX_CHANNEL_PLACES} sets times channels")
        self._start = np.concatenate([[0], np.cumsum(self._size)])
        self._check_ranges()
        self._lock = threading.Lock()
        self._codebooks: dict[tuple[int, ...] | None, tuple[_core.Codebook, npt.NDArray[np.uint8] | None]] = {}

    def _array(
        self, arrays: Mapping[str, npt.NDArray[Any]], key: str, dtype: type[np.generic], ndim: int = 1
    ) -> npt.NDArray[Any]:
        array = arrays.get(f"{self._name}.{key}")
        if array is None or array.dtype != dtype or array.ndim != ndim:
            raise UnsupportedError(f"table group {self._name!r}: array {key!r} is missing or of another type")
        return np.ascontiguousarray(array)

    def _check_ranges(self) -> None:
        """FORMAT.md, section 4, of all tables: also of those that no stream has asked for yet."""
        low, most = self._low.astype(int), 128 - (self._size.astype(int) - 1)
        if (
            self._frequency.min() < 1
            or (np.add.reduceat(self._frequency.astype(int), self._start[:-1]) != TABLE_TOTAL).any()
        ):
            raise UnsupportedError(
                f"table group {self._name!r}: frequencies that are 0, or do not sum to {TABLE_TOTAL}"
            )
        if (low < MIN_QUOTIENT).any() or (low > most).any() or self._shift.max() > MAX_SHIFT:
            raise UnsupportedError(f"table group {self._name!r}: quotients or raw bits beyond what a table may have")

    @property
    def count(self) -> int:
        return len(self._size)

    @property
    def channel_sets(self) -> tuple[int, int] | None:
        """(sets, channels) of the channel map, None for a group that is only used by index."""
        return None if self._channel is None else (self._channel.shape[0], self._channel.shape[1])

    def leaf(self) -> str:
        """Hex SHA-256 of what the group's streams see, whatever order or surplus the file has (docs/BUNDLE.md)."""
        used = np.arange(self.count) if self._channel is None else self._channel.ravel()
        shape = (self.count,) if self._channel is None else self._channel.shape
        digest = hashlib.sha256(f"nicrt tables 2\n{'x'.join(map(str, shape))}\n".encode())
        texts = {table: self._text(table) for table in np.unique(used).tolist()}  # a channel map names few tables often
        for table in used.tolist():
            digest.update(texts[table])
        return digest.hexdigest()

    def _text(self, table: int) -> bytes:
        frequencies = self._frequency[self._start[table] : self._start[table + 1]]
        head = struct.pack("<hHH", self._low[table], self._shift[table], len(frequencies))
        return head + frequencies.astype("<u2").tobytes()

    def code_lengths(self, reach: int) -> npt.NDArray[np.float32]:
        """Bits that symbols -reach .. reach cost with each table, raw bits and escapes included: float32 [tables,
        2 * reach + 1].
        """
        symbols = np.arange(-reach, reach + 1)
        ids = (symbols[None, :] >> self._shift[:, None]) - self._low[:, None]
        escape = self._size[:, None] - 1
        escaped = (ids < 0) | (ids >= escape)
        frequency = self._frequency[self._start[:-1, None] + np.where(escaped, escape, ids)]
        bits = np.log2(TABLE_TOTAL / frequency) + self._shift[:, None] + ESCAPE_BITS * escaped
        return np.asarray(bits, np.float32)

    def total_bits(self, symbols: npt.NDArray[np.int32], table: npt.NDArray[np.integer[Any]]) -> float:
        """Bits that symbols [channels, height, width] cost. table: number of each one's table, of that shape or one
        that broadcasts to it; one beyond the tables is that of symbols that are not coded."""
        reach = MIN_REACH
        if symbols.size:
            while max(symbols.max(), -int(symbols.min())) > reach:
                reach = 2 * reach + 1
        lengths = np.zeros((self.count + 1, 2 * reach + 1), np.float32)
        lengths[:-1] = self.code_lengths(reach)
        places = np.minimum(table, self.count).astype(np.int32) * lengths.shape[1] + reach + symbols
        return float(lengths.ravel()[places].sum(dtype=np.float64))

    def tables_of_channels(self, table_sets: Sequence[int]) -> npt.NDArray[np.int32]:
        """Number of each channel's table, int32 [channels]; `table_sets` as in `by_channel`."""
        assert self._channel is not None
        channels = np.arange(self._channel.shape[1])
        return np.asarray(self._channel[np.broadcast_to(table_sets, len(channels)), channels])

    def by_index(self) -> _core.Codebook:
        """All tables, for an index tensor."""
        return self._codebook(None)[0]

    def by_channel(self, table_sets: Sequence[int]) -> tuple[_core.Codebook, npt.NDArray[np.uint8]]:
        """The distinct tables of one set, or of each channel's own set, and the one of each channel: uint8
        [channels].
        """
        codebook, channel = self._codebook(tuple(table_sets))
        assert channel is not None
        return codebook, channel

    def _codebook(self, sets: tuple[int, ...] | None) -> tuple[_core.Codebook, npt.NDArray[np.uint8] | None]:
        with self._lock:
            if sets not in self._codebooks:
                if len(self._codebooks) >= MAX_CODEBOOKS:
                    self._codebooks.clear()
                self._codebooks[sets] = self._build(sets)
            return self._codebooks[sets]

    def _build(self, sets: tuple[int, ...] | None) -> tuple[_core.Codebook, npt.NDArray[np.uint8] | None]:
        if sets is None:
            used, channel = np.arange(self.count), None
        else:
            used, inverse = np.unique(self.tables_of_channels(sets), return_inverse=True)
            if len(used) > MAX_TABLES_PER_STREAM:
                raise UnsupportedError(f"table group {self._name!r}: {len(used)} tables in one stream, more than 256")
            channel = inverse.astype(np.uint8)
        frequencies = [self._frequency[self._start[t] : self._start[t + 1]] for t in used.tolist()]
        try:
            codebook = _core.Codebook(self._low[used], self._shift[used], self._size[used], np.concatenate(frequencies))
        except ValueError as error:
            raise UnsupportedError(f"table group {self._name!r}: {error}") from None
        return codebook, channel

"""Segments and symbols (FORMAT.md sections 3 to 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .container import Cursor, Tile, crc32c
from .errors import intact, require

NOT_CODED = 255  # any index beyond the tables


@dataclass
class Table:
    """low, shift: of section 4. frequencies: [m + 1], the escape last."""

    low: int
    shift: int
    frequencies: np.ndarray

    def __post_init__(self) -> None:
        counts = self.frequencies.astype(int)
        m = len(counts) - 1
        require(1 <= m <= 255 and counts.min() >= 1 and counts.max() <= 4095 and counts.sum() == 4096, "frequencies")
        require(-127 <= self.low <= 128 - m and 0 <= self.shift <= 12, "a table's low or shift")
        self.starts = np.concatenate([[0], np.cumsum(counts)]).tolist()
        self.counts = counts.tolist()
        self.ids = np.repeat(np.arange(m + 1), counts).tolist()  # of each slot


def decode_stream(tiles: list[Tile], tables: list[Table], index: np.ndarray, cell: int) -> np.ndarray:
    """int32 of index's shape [channels, height, width]. index: the table of each place; cell: tile edge in places, 0
    for one tile."""
    _, height, width = index.shape
    rows = [(0, height)] if cell == 0 else [(y, min(y + cell, height)) for y in range(0, height, cell)]
    columns = [(0, width)] if cell == 0 else [(x, min(x + cell, width)) for x in range(0, width, cell)]
    intact(len(tiles) == len(rows) * len(columns), "tiles that are not those of the grid")
    out = np.zeros(index.shape, np.int32)
    for k, tile in enumerate(tiles):
        (top, bottom), (left, right) = rows[k // len(columns)], columns[k % len(columns)]
        names = index[:, top:bottom, left:right]
        coded = names < len(tables)
        part = np.zeros(names.shape, np.int32)
        part[coded] = _decode_tile(tile, tables, names[coded].tolist())
        out[:, top:bottom, left:right] = part
    return out


def _decode_tile(tile: Tile, tables: list[Table], names: list[int]) -> list[int]:
    n, segments = len(names), tile.segments
    intact((n == 0) == (len(segments) == 0) and len(segments) <= n, "segments that do not fit the coded symbols")
    symbols: list[int] = []
    for i, segment in enumerate(segments):
        part = names[n * i // len(segments) : n * (i + 1) // len(segments)]
        symbols += _decode_segment(segment, tile.lanes, [tables[t] for t in part])
    return symbols


def _decode_segment(segment: bytes, lanes: int, tables: list[Table]) -> list[int]:
    intact(int.from_bytes(segment[-4:], "little") == crc32c(segment[:-4]), "segment crc differs")
    cursor = Cursor(segment[:-4])
    escape_count = cursor.varint()
    states = np.frombuffer(cursor.take(4 * lanes), "<u4").tolist()
    intact(min(states) >= 1 << 16, "a state below 2^16")
    raw_bits = sum(table.shift for table in tables)
    raw_bytes, escape_bytes = (raw_bits + 7) // 8, 2 * escape_count
    word_bytes = len(cursor.data) - cursor.place - raw_bytes - escape_bytes
    intact(word_bytes >= 0 and word_bytes % 2 == 0, "sizes that do not add up")
    words = np.frombuffer(cursor.take(word_bytes), "<u2").tolist()
    raw = int.from_bytes(cursor.take(raw_bytes), "little")
    intact(raw >> raw_bits == 0, "unused raw bits that are not 0")
    escapes = np.frombuffer(cursor.take(escape_bytes), "<i2").tolist()
    return _symbols(tables, states, words, raw, escapes)


def _symbols(tables: list[Table], states: list[int], words: list[int], raw: int, escapes: list[int]) -> list[int]:
    lanes, taken, escaped = len(states), 0, 0
    raw_stream = raw.to_bytes((raw.bit_length() + 7) // 8 + 4, "little")
    bit = 0
    symbols = []
    for i, table in enumerate(tables):
        x = states[i % lanes]
        slot = x & 4095
        number = table.ids[slot]
        x = table.counts[number] * (x >> 12) + slot - table.starts[number]
        if x < 1 << 16:
            intact(taken < len(words), "not enough words")
            x = x << 16 | words[taken]
            taken += 1
        states[i % lanes] = x
        quotient = table.low + number
        if number == len(table.counts) - 1:
            intact(escaped < len(escapes), "not enough escapes")
            quotient = escapes[escaped]
            escaped += 1
            intact(not table.low <= quotient < table.low + number, "an escape that its table codes")
        bits = 0
        if table.shift:
            near = int.from_bytes(raw_stream[bit >> 3 : (bit >> 3) + 4], "little")
            bits = near >> (bit & 7) & (1 << table.shift) - 1
            bit += table.shift
        symbol = (quotient << table.shift) + bits
        intact(-32768 <= symbol <= 32767, "a symbol outside 16 bits")
        symbols.append(symbol)
    intact(taken == len(words) and escaped == len(escapes), "words or escapes left over")
    intact(all(x == 1 << 16 for x in states), "wrong final states")
    return symbols

"""Record what entropy decoding of the golden files takes and gives: python tests/golden/record_entropy.py OUT

Tables and indices come out of graphs, which need a bundle and a backend. With this record cpp_ext/tests/golden_test.cpp
decodes the same streams on machines that have neither Python nor a backend, and compares every symbol. All integers are
little-endian; the record is a u32 count of files, then for each: its path and bytes (u32 size each), the status code
that the container must answer with (u8), and a u32 count of streams in the order of the file's directory, each with

- its tables: u32 count, then for each i16 low, u8 shift, u32 size, u16 frequencies;
- u32 channels, height, width and edge of a tile; u8 1 where tables go by channel;
- the table of each channel, or of each place: u32 size, u8 each;
- the symbols, i32 each.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

import nicrt
from nicrt import _core

HERE = Path(__file__).resolve().parent
CODES = {"TruncatedError": 1, "CorruptError": 2, "UnsupportedError": 3, "LimitError": 4, "WrongBundleError": 0}


class Recorder:
    """Stands in for the C++ core where it is told apart which tables a codebook has, and keeps each stream."""

    def __init__(self) -> None:
        self.streams: list[bytes] = []
        self._tables: dict[int, tuple[_core.Codebook, bytes]] = {}  # the codebook is kept so that its id stays its own

    def codebook(self, *arrays: Any) -> _core.Codebook:
        low, shift, size, frequency = arrays
        made = _core.Codebook(*arrays)
        parts, start = [struct.pack("<I", len(low))], 0
        for i, count in enumerate(size.tolist()):
            parts.append(struct.pack("<hBI", low[i], shift[i], count))
            parts.append(frequency[start : start + count].astype("<u2").tobytes())
            start += count
        self._tables[id(made)] = made, b"".join(parts)
        return made

    def decode_stream(
        self, codebook: _core.Codebook, index: npt.NDArray[np.uint8], shape: tuple[int, ...], tile: int, *rest: Any
    ) -> npt.NDArray[np.int32]:
        symbols = _core.decode_stream(codebook, index, shape, tile, *rest)
        head = struct.pack("<4IB", *shape, tile, index.ndim == 1)
        table_of = struct.pack("<I", index.size) + index.tobytes()
        self.streams.append(self._tables[id(codebook)][1] + head + table_of + symbols.astype("<i4").tobytes())
        return symbols


def recorded(data: bytes) -> list[bytes]:
    """Every stream of one good file."""
    recorder = Recorder()
    tables, interpreter = mock.Mock(wraps=_core), mock.Mock(wraps=_core)
    tables.Codebook, interpreter.decode_stream = recorder.codebook, recorder.decode_stream
    with mock.patch("nicrt.runtime.tables._core", tables), mock.patch("nicrt.runtime.interpreter._core", interpreter):
        nicrt.load_for(data, threads=1).symbols(data)
    return recorder.streams


def sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def main(out: str) -> None:
    entries = []
    for path in sorted(HERE.glob("**/*.nic")):
        data, code, streams = path.read_bytes(), 0, []
        if path.parent.name == "bad":
            code = CODES[json.loads((path.parent / "bad.json").read_text())[path.stem]["error"]]
        else:
            streams = recorded(data)
        name = str(path.relative_to(HERE)).encode()
        entries.append(sized(name) + sized(data) + struct.pack("<BI", code, len(streams)) + b"".join(streams))
    Path(out).write_bytes(struct.pack("<I", len(entries)) + b"".join(entries))
    print(f"{out}: {len(entries)} files")


if __name__ == "__main__":
    main(sys.argv[1])

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

import nicrt
from nicrt import _core

HERE = Path(__file__).resolve().parent
CODES = {"TruncatedError": 1, "CorruptError": 2, "UnsupportedError": 3, "LimitError": 4, "WrongBundleError": 0}


def recorded(data: bytes) -> list[bytes]:
    """Every stream of one good file."""
    tile = nicrt.info(data).tile_size
    return [_stream(coded, tile // coded.stride) for coded in nicrt.load_for(data, threads=1).coded(data)]


def _stream(coded: _core.Coded, tile: int) -> bytes:
    parts = [struct.pack("<I", len(coded.codebook))]
    for low, shift, frequencies in coded.codebook.tables:
        parts.append(struct.pack(f"<hBI{len(frequencies)}H", low, shift, len(frequencies), *frequencies))
    parts.append(struct.pack("<4IB", *coded.symbols.shape, tile, coded.index.ndim == 1))
    parts.append(struct.pack("<I", coded.index.size) + coded.index.tobytes())
    return b"".join([*parts, coded.symbols.astype("<i4").tobytes()])


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

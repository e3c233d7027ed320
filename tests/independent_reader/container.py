"""The `.nic` file: signature, header, directory (FORMAT.md sections 1, 2 and 7)."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import CorruptError, LimitError, TruncatedError, UnsupportedError, intact

SIGNATURE = b"\x89NIC\r\n\x1a\n"
LANES = (1, 4, 8, 32)
HEADER_LIMIT, PIXEL_LIMIT, STAGE_LIMIT = 1 << 20, 1 << 26, 64
_CRC_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    _CRC_TABLE.append(_byte)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class Cursor:
    """Reads fields one after the other; past the end is `short`: truncation of a file, corruption of a part of one."""

    def __init__(self, data: bytes, short: type[Exception] = CorruptError) -> None:
        self.data, self.place, self.short = data, 0, short

    def take(self, count: int) -> bytes:
        if self.place + count > len(self.data):
            raise self.short("ends too early")
        self.place += count
        return self.data[self.place - count : self.place]

    def varint(self, low: int = 0, high: int = 2**32 - 1) -> int:
        value = 0
        for i in range(5):
            byte = self.take(1)[0]
            value |= (byte & 127) << 7 * i
            if byte < 128:
                intact(not (byte == 0 and i > 0), "a varint in a longer form")
                intact(value < 2**32 and low <= value <= high, "a field outside its range")
                return value
        raise CorruptError("a varint of more than five bytes")

    def svarint(self) -> int:
        value = self.varint()
        return -(value + 1 >> 1) if value & 1 else value >> 1


@dataclass
class Tile:
    lanes: int
    segments: list[bytes]


@dataclass
class NicFile:
    symbol_id: str
    picture_id: str
    width: int
    height: int
    tile_size: int
    parameters: list[list[int]]
    stages: list[list[list[Tile]]]  # per stage its streams, per stream its tiles


def parse(data: bytes) -> NicFile:
    """Every check of section 7 that needs no bundle."""
    start = Cursor(data, TruncatedError)
    if start.take(4) != SIGNATURE[:4]:
        raise UnsupportedError("not a .nic file")
    intact(start.take(4) == SIGNATURE[4:], "damaged by a text-mode transfer")
    if (version := start.varint()) != 1:
        raise UnsupportedError(f"format version {version}")
    header_size = start.varint()
    if header_size > HEADER_LIMIT:
        raise LimitError("header beyond the limit")
    header = start.take(header_size)
    covered = data[: start.place]
    intact(int.from_bytes(start.take(4), "little") == crc32c(covered), "header_crc differs")
    file, sizes = _header(Cursor(header))
    for stage, stage_sizes in zip(file.stages, sizes, strict=True):
        for stream, stream_sizes in zip(stage, stage_sizes, strict=True):
            for tile, tile_sizes in zip(stream, stream_sizes, strict=True):
                tile.segments = [start.take(size) for size in tile_sizes]
    intact(start.place == len(data), "bytes after the last segment")
    return file


def _header(header: Cursor) -> tuple[NicFile, list[list[list[list[int]]]]]:
    """The header's fields, tiles without their segments yet, and the sizes of those."""
    if header.varint() != 0:
        raise UnsupportedError("flags of a later version")
    symbol_id, picture_id = header.take(8).hex(), header.take(4).hex()
    width, height = header.varint(1, 1 << 24), header.varint(1, 1 << 24)
    if width * height > PIXEL_LIMIT:
        raise LimitError("picture beyond the pixel limit")
    tile_size = header.varint(0, 1 << 24)
    parameters = [[header.svarint() for _ in range(header.varint(0, 4096))] for _ in range(header.varint(0, 64))]
    stage_count = header.varint(1, 64)
    if stage_count > STAGE_LIMIT:
        raise LimitError("stages beyond the limit")
    stages: list[list[list[Tile]]] = []
    sizes: list[list[list[list[int]]]] = []
    for _ in range(stage_count):
        stages.append([])
        sizes.append([])
        for _ in range(header.varint(0, 64)):
            pairs = [_tile(header) for _ in range(header.varint(0, 1 << 20))]
            stages[-1].append([tile for tile, _ in pairs])
            sizes[-1].append([tile_sizes for _, tile_sizes in pairs])
    intact(header.place == len(header.data), "header not consumed exactly")
    return NicFile(symbol_id, picture_id, width, height, tile_size, parameters, stages), sizes


def _tile(header: Cursor) -> tuple[Tile, list[int]]:
    count, code = divmod(header.varint(), 4)
    intact(count > 0 or code == 0, "lanes of a tile without segments")
    return Tile(LANES[code], []), [header.varint(5 + 4 * LANES[code]) for _ in range(count)]

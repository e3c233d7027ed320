"""Make the golden files again: python tests/golden/make.py

Good files come from the pictures in tests/pictures with the shipped bundle; their symbols (SHA-256) and pixels (PNG
beside each) are what every later version, instruction set, thread count and backend must reproduce. Bad files are
damaged or hostile variants of one good file, each with the error it must give. Run it only when bits are meant to
change, and say so in CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

import nicrt
from nicrt import _core

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parent / "pictures"
KODIM23 = HERE.parents[2] / "shared" / "data" / "kodak" / "kodim23.png"

# name: (picture, region x0 y0 x1 y1 or None, encode options, purpose)
GOOD: dict[str, tuple[str, tuple[int, int, int, int] | None, dict[str, object], str]] = {
    "harbour-q20": ("harbour.png", None, {"quality": 20}, "low rate: most places are not coded"),
    "harbour-q90": ("harbour.png", None, {"quality": 90}, "high rate: raw bits and wide tables"),
    "harbour-parallel": ("harbour.png", None, {"quality": 60, "lanes": "parallel"}, "32 lanes, several segments"),
    "harbour-tiles": ("harbour.png", None, {"quality": 60, "lanes": "balanced", "tile": 64}, "many tiles, 8 lanes"),
    "harbour-untiled": ("harbour.png", None, {"quality": 60, "tile": 0}, "one tile"),
    "harbour-all-coded": ("harbour.png", None, {"quality": 40, "parameters": {"skip": 0}}, "nothing is skipped"),
    "harbour-step": ("harbour.png", None, {"quality": 40, "parameters": {"step": 13}}, "a quantisation step beside 1"),
    "pixel": ("harbour.png", (100, 80, 101, 81), {"quality": 50}, "1 x 1"),
    "column": ("harbour.png", (100, 0, 101, 160), {"quality": 50}, "1 x 160, one column"),
    "row": ("harbour.png", (0, 80, 197, 81), {"quality": 50}, "197 x 1, one row, odd width"),
}


def symbols_sha256(codec: nicrt.Codec, data: bytes) -> str:
    """SHA-256 over all symbols of a file, stream by stream."""
    digest = hashlib.sha256()
    for tensor in codec.symbols(data):
        digest.update(np.ascontiguousarray(tensor, dtype="<i4").tobytes())
    return digest.hexdigest()


def bad_files(good: bytes) -> dict[str, tuple[bytes, str, str]]:
    """name: (bytes, error, purpose)."""
    file = _core.parse(good, 1 << 20, 1 << 26, 64)
    header_end = file.header_size

    def header_patched(offset: int, value: bytes) -> bytes:
        """The header with bytes replaced and its CRC made right again."""
        head = bytearray(good[: header_end - 4])
        head[offset : offset + len(value)] = value
        return bytes(head) + struct.pack("<I", _core.crc32c(bytes(head))) + good[header_end:]

    flipped = bytearray(good)
    flipped[-20] ^= 0x10
    return {
        "empty": (b"", "TruncatedError", "no bytes at all"),
        "half": (good[: len(good) // 2], "TruncatedError", "ends in the middle of the payload"),
        "header-cut": (good[: header_end - 6], "TruncatedError", "ends inside the header"),
        "trailing": (good + b"\0", "CorruptError", "a byte after the last segment"),
        "bit-flip": (bytes(flipped), "CorruptError", "one bit of a segment flipped"),
        "text-mode": (good.replace(b"\r\n", b"\n"), "CorruptError", "line ends rewritten by a transfer"),
        "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + bytes(64), "UnsupportedError", "another format"),
        "other-bundle": (header_patched(11, b"\0" * 8), "WrongBundleError", "symbol id of no bundle"),
        "version-2": (good[:8] + b"\2" + good[9:], "UnsupportedError", "a later format version"),
        "flags": (header_patched(10, b"\1"), "UnsupportedError", "a flag of a later version"),
    }


def main() -> None:
    codec = nicrt.load("shallow", threads=1)
    index: dict[str, object] = {}
    for name, (picture, region, options, purpose) in GOOD.items():
        image = Image.open(PICTURES / picture).convert("RGB")
        pixels = np.asarray(image.crop(region) if region else image)
        data = codec.encode(pixels, **options)  # type: ignore[arg-type]
        (HERE / f"{name}.nic").write_bytes(data)
        Image.fromarray(codec.decode(data)).save(HERE / f"{name}.png", optimize=True)
        index[name] = {"picture": picture, "purpose": purpose, "symbols_sha256": symbols_sha256(codec, data)}
    (HERE / "good.json").write_text(json.dumps(index, indent=2) + "\n")

    bad: dict[str, object] = {}
    for name, (data, error, purpose) in bad_files((HERE / "harbour-q20.nic").read_bytes()).items():
        (HERE / f"bad-{name}.nic").write_bytes(data)
        bad[name] = {"error": error, "purpose": purpose}
    (HERE / "bad.json").write_text(json.dumps(bad, indent=2) + "\n")
    if KODIM23.exists():  # the README's picture; the original is not in the repository
        (HERE / "parrots.nic").write_bytes(codec.encode(np.asarray(Image.open(KODIM23).convert("RGB")), quality=45))


if __name__ == "__main__":
    main()

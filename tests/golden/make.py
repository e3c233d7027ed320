"""Make the golden files again: python tests/golden/make.py [BUNDLE...]

Every folder with a `cases.json` belongs to a shipped bundle: name → region of tests/pictures/harbour.png (x0, y0, x1,
y1; the whole without), options of `Codec.encode`, purpose. Its symbols (SHA-256 in `good.json`) and pixels (PNG) are
what every later version, instruction set, thread count and backend must reproduce. `bad/` has damaged or hostile
variants of one good file, each with the error it must give. Run this only when bits are meant to change, and say so in
CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import nicrt
from nicrt import _core

HERE = Path(__file__).resolve().parent
HARBOUR = HERE.parent / "pictures" / "harbour.png"
KODIM23 = HERE.parents[2] / "shared" / "data" / "kodak" / "kodim23.png"
BAD = HERE / "bad"


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

    def body_replaced(start: int, end: int, value: bytes) -> bytes:
        """Bytes start..end of the header's body (after header_size) replaced, size and CRC made right again."""
        body = good[10 : header_end - 4]
        body = body[:start] + value + body[end:]
        head = good[:9] + bytes([len(body)]) + body
        return head + struct.pack("<I", _core.crc32c(head)) + good[header_end:]

    directory_end = header_end - 4 - 10
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
        "four-gigapixels": (body_replaced(13, 17, b"\x80\x80\x04" * 2), "LimitError", "claims 65536 x 65536 pixels"),
        "four-gigabytes": (
            body_replaced(directory_end - 2, directory_end, b"\xff\xff\xff\xff\x0f"),
            "TruncatedError",
            "claims a segment of 4 GB",
        ),
        "flags": (header_patched(10, b"\1"), "UnsupportedError", "a flag of a later version"),
    }


def make_good(folder: Path) -> None:
    """The golden files of one bundle."""
    codec = nicrt.load(folder.name, threads=1, backend="onnxruntime")  # whose pixels are the reference
    cases: dict[str, dict[str, Any]] = json.loads((folder / "cases.json").read_text())
    index = {}
    for name, case in cases.items():
        image = Image.open(HARBOUR).convert("RGB")
        pixels = np.asarray(image.crop(case["region"]) if "region" in case else image)
        data = codec.encode(pixels, **case["options"])
        (folder / f"{name}.nic").write_bytes(data)
        Image.fromarray(codec.decode(data)).save(folder / f"{name}.png", optimize=True)
        index[name] = symbols_sha256(codec, data)
    (folder / "good.json").write_text(json.dumps(index, indent=2) + "\n")


def make_bad(good: bytes) -> None:
    index = {}
    for name, (data, error, purpose) in bad_files(good).items():
        (BAD / f"{name}.nic").write_bytes(data)
        index[name] = {"error": error, "purpose": purpose}
    (BAD / "bad.json").write_text(json.dumps(index, indent=2) + "\n")


def make_parrots() -> None:
    """The README's picture, where its original is at hand (it is not in the repository)."""
    if KODIM23.exists():
        pixels = np.asarray(Image.open(KODIM23).convert("RGB"))
        (HERE / "parrots.nic").write_bytes(nicrt.load("shallow").encode(pixels, quality=45))


def main(bundles: list[str]) -> None:
    for cases in sorted(HERE.glob("*/cases.json")):
        if not bundles or cases.parent.name in bundles:
            make_good(cases.parent)
    if not bundles or "shallow" in bundles:
        make_bad((HERE / "shallow" / "harbour-q20.nic").read_bytes())
        make_parrots()


if __name__ == "__main__":
    main(sys.argv[1:])

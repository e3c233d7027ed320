"""Picture files and ICC profiles of kinds that Pillow does not write, made byte by byte; what they should become."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from nicrt.runtime.pictures import load_picture

SRGB_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3_PRIMARIES = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
PRECISION = "precision beyond 8 bits at the decoder"
WHITE = "transparency (shown on white)"


def load(data: bytes) -> tuple[np.ndarray, list[str]]:
    """Values 0..255, and what was said."""
    picture = load_picture(data, 1 << 20)
    assert picture.pixels.dtype == np.float32 and picture.pixels.flags["C_CONTIGUOUS"]
    return picture.pixels * 255, picture.dropped


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light → sRGB values 0..255."""
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def decoded(values: np.ndarray) -> np.ndarray:
    """sRGB values 0..1 → linear light."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def on_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return 255 - (255 - values) * alpha[:, :, None]


def grey(values: np.ndarray) -> np.ndarray:
    """[height, width] → [height, width, 3]"""
    return np.repeat(values[:, :, None], 3, axis=2)


def save(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(samples: np.ndarray, bits: int, chunks: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """Integers [height, width, 1..4] → a PNG file with these chunks before its pixels."""
    height, width, channels = samples.shape
    if bits >= 8:
        rows = samples.astype(f">u{bits // 8}").reshape(height, -1).view(np.uint8).reshape(height, -1)
    else:
        planes = (samples[:, :, :1].astype(int) >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(planes.reshape(height, -1), axis=1)
    pixels = zlib.compress(np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes())
    header = struct.pack(">IIBBBBB", width, height, bits, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def gamma_chunk(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(gamma * 100_000))


def primaries_chunk(primaries: Sequence[float]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in (0.3127, 0.3290, *primaries)))


def profile_chunk(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"profile\0\0" + zlib.compress(profile)


def tiff(
    samples: np.ndarray,
    photometric: int,
    sample_format: int = 1,
    *,
    extra: int | None = None,
    planar: bool = False,
    bits: int | None = None,
    width: int | None = None,
    profile: bytes = b"",
) -> bytes:
    """[height, width, channels] in the order of bytes of its dtype → an uncompressed TIFF file. sample_format: 1
    unsigned, 2 signed, 3 float. extra: what a channel beyond colour is (0 nothing, 1 premultiplied, 2 alpha). bits and
    width: where samples are packed otherwise than the array's dtype says.
    """
    order = ">" if samples.dtype.byteorder == ">" else "<"
    height, columns, channels = samples.shape
    body = (np.moveaxis(samples, 2, 0) if planar else samples).tobytes()
    strips = channels if planar else 1
    tags: list[tuple[int, str, list[int]]] = [
        (256, "I", [width or columns]), (257, "I", [height]), (258, "H", [bits or samples.itemsize * 8] * channels),
        (259, "H", [1]), (262, "H", [photometric]), (273, "I", [0] * strips), (277, "H", [channels]),
        (278, "I", [height]), (279, "I", [len(body) // strips] * strips), (284, "H", [2 if planar else 1]),
    ]  # fmt: skip
    tags += [] if extra is None else [(338, "H", [extra])]
    tags += [(339, "H", [sample_format] * channels)]
    tags += [(34675, "B", list(profile))] if profile else []
    place = 8 + 2 + 12 * len(tags) + 4
    start = place + sum(len(values) * struct.calcsize(kind) + 1 & ~1 for _, kind, values in tags)
    entries, blobs = b"", b""
    for tag, kind, values in tags:
        values = [start + strip * len(body) // strips for strip in range(strips)] if tag == 273 else values
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(data) > 4:
            reference = struct.pack(order + "I", place + len(blobs))
            blobs += data + bytes(len(data) % 2)
        else:
            reference = data.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, {"B": 7, "H": 3, "I": 4}[kind], len(values)) + reference
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return (head + entries + bytes(4) + blobs).ljust(start, b"\0") + body


def _icc(colours: bytes, pcs: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"made for tests\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": _xyz((0.9642, 1, 0.8249)),
        **tags,
    }
    place = 132 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, place + len(bodies), len(body))
        bodies += body.ljust(len(body) + 3 & ~3, b"\0")
    header = struct.pack(">II", place + len(bodies), 0).ljust(8, b"\0") + b"\x02\x40\0\0" + kind + colours + pcs
    header = header.ljust(36, b"\0") + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + bodies


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def grey_profile(gamma: float) -> bytes:
    return _icc(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": _curve(gamma)})


def matrix_profile(gamma: float, order: str = "rgb") -> bytes:
    """RGB of sRGB's primaries, `order` says which channel is which, and a gamma."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).profile
    colorants = {"r": srgb.red_colorant[0], "g": srgb.green_colorant[0], "b": srgb.blue_colorant[0]}
    tags = {name.encode() + b"TRC": _curve(gamma) for name in "rgb"}
    tags |= {place.encode() + b"XYZ": _xyz(colorants[name]) for place, name in zip("rgb", order, strict=True)}
    return _icc(b"RGB ", b"XYZ ", b"mntr", tags)


def table_profile(colours: bytes) -> bytes:
    """RGB or CMYK by a table to CIELAB: lightness goes from the first channel alone, 0 black (RGB) or white (CMYK), and
    nothing has a hue.
    """
    channels = len(colours.strip())
    table = b""
    for corner in range(2**channels):
        first = corner >> (channels - 1)
        table += bytes([255 * (1 - first if colours == b"CMYK" else first), 128, 128])
    ramp = bytes(range(256))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    body = b"mft1" + bytes(4) + bytes([channels, 3, 2, 0]) + identity + ramp * channels + table + ramp * 3
    return _icc(colours, b"Lab ", b"prtr" if colours == b"CMYK" else b"scnr", {b"A2B0": body})

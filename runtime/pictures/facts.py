"""What the bytes of a picture file say of its colours and depth where Pillow does not tell."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from .colour import UNSPECIFIED, WHITE_D65, ColourSpace, adobe_rgb, coded_space, gamma_space
from .metadata import says_adobe_rgb

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_BITS, _TRANSFER_FUNCTION, _WHITE_POINT, _PRIMARIES = 258, 301, 318, 319  # of TIFF
_INDEXED = 3  # of PNG

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass
class Facts:
    """bits: of a sample in the file. profile: ICC. space: what the file says of its colours by numbers, None for sRGB;
    never set beside a profile. problems: what it says that gives no colour space, in words.
    """

    bits: int = 8
    profile: bytes | None = None
    space: ColourSpace | None = None
    problems: tuple[str, ...] = ()


def facts_of(image: ImageFile, data: bytes) -> Facts:
    """Facts of an opened file. Raises ImageError for colours that cannot be converted."""
    profile = image.info.get("icc_profile") or None
    facts = _facts_of_type(image, data, profile)
    if "icc_profile" in image.info and profile is None:  # damaged, or a part of it is missing
        facts.problems += ("a colour profile that cannot be read",)
    return facts


def _facts_of_type(image: ImageFile, data: bytes, profile: bytes | None) -> Facts:
    if image.format == "PNG":
        return _png(data, profile)
    if image.format == "AVIF":
        bits, code_points = _avif(data)
        space = None if profile or code_points is None else coded_space(*code_points, True, bits)
        return Facts(bits, profile, space)
    if image.format == "JPEG2000":
        return _jpeg_2000(data)
    if image.format == "BMP":
        return Facts(profile=_bmp_profile(data))
    if image.format == "GIF":
        return Facts(profile=_gif_profile(data))
    if image.format == "TIFF":
        return _tiff(image.tag_v2, profile)  # type: ignore[attr-defined]
    if profile is None and image.format in ("JPEG", "MPO") and says_adobe_rgb(image):
        return Facts(space=adobe_rgb())
    return Facts(profile=profile)


def _tiff(tags: Mapping[int, Any], profile: bytes | None) -> Facts:
    bits = max(tags.get(_BITS, (1,)))
    if profile is not None:
        return Facts(bits, profile)
    problems = ("a transfer function",) if _TRANSFER_FUNCTION in tags else ()
    primaries = (*tags.get(_WHITE_POINT, WHITE_D65), *tags.get(_PRIMARIES, ()))
    try:
        space = gamma_space(None, tuple(map(float, primaries))) if len(primaries) == 8 else None
    except ValueError as error:
        return Facts(bits, problems=(*problems, f"chromaticities ({error})"))
    return Facts(bits, space=space, problems=problems)


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks that say what the samples mean: the first of each name before the pixels."""
    found: dict[bytes, bytes] = {}
    place = len(PNG_SIGNATURE)
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        if name == b"IDAT":
            break
        if name in (b"IHDR", b"cICP", b"sRGB", b"gAMA", b"cHRM"):
            found.setdefault(name, data[place + 8 : place + 8 + length])
        place += 12 + length
    return found


def check_png(data: bytes) -> None:
    """Raises ImageError for a chunk of pixels whose checksum is wrong, which Pillow does not look at."""
    place = len(PNG_SIGNATURE)
    view = memoryview(data)
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if name == b"IDAT" and end + 4 <= len(data):
            (checksum,) = struct.unpack_from(">I", data, end)
            if zlib.crc32(view[place + 4 : end]) != checksum:
                raise ImageError("a damaged PNG picture: the checksum of its pixels is wrong")
        place = end + 4


def _png(data: bytes, profile: bytes | None) -> Facts:
    """Of the chunks that say which colours there are the first one counts, in the PNG specification's order: cICP,
    iCCP, sRGB, gAMA with cHRM.
    """
    chunks = _png_chunks(data)
    bits, colour_type = chunks[b"IHDR"][8:10]
    bits = 8 if colour_type == _INDEXED else bits  # a palette's colours have 8
    if len(cicp := chunks.get(b"cICP", b"")) == 4:
        primaries, transfer, matrix, full_range = cicp
        if matrix != 0:
            raise ImageError("its cICP chunk has a matrix that PNG does not allow; convert the picture to sRGB first")
        return Facts(bits, None, coded_space(primaries, transfer, bool(full_range), bits))
    problems = ("a cICP chunk that cannot be read",) if b"cICP" in chunks else ()
    if profile or b"sRGB" in chunks:
        return Facts(bits, profile, problems=problems)
    gamma, chromaticities = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    try:
        space = gamma_space(
            struct.unpack(">I", gamma)[0] / 100_000 if len(gamma) == 4 else None,
            tuple(value / 100_000 for value in struct.unpack(">8I", chromaticities))
            if len(chromaticities) == 32
            else None,
        )
    except ValueError as error:
        return Facts(bits, problems=(*problems, f"gAMA and cHRM ({error})"))
    return Facts(bits, space=space, problems=problems)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the contents of each ISO box in data[start:end]."""
    while start + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1 and start + 16 <= end:
            (length,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        stop = end if length == 0 else start + length
        if stop > end or stop < start + head:
            return
        yield name, start + head, stop
        start = stop


def _box(data: bytes, start: int, end: int, name: bytes) -> tuple[int, int]:
    """Start and end of the first box of a name; an empty range without one."""
    return next(((first, last) for found, first, last in _boxes(data, start, end) if found == name), (0, 0))


def _avif(data: bytes) -> tuple[int, tuple[int, int] | None]:
    """Bits of a sample of the primary item, and its primaries and transfer where it has an nclx box."""
    bits, code_points = 8, None
    try:
        for name, start, end in _avif_properties(data):
            if name == b"colr" and data[start : start + 4] == b"nclx":
                primaries, transfer = struct.unpack_from(">HH", data, start + 4)
                code_points = primaries, transfer
            elif name == b"pixi" and end > start + 5:
                bits = max(bits, *data[start + 5 : end])
            elif name == b"av1C" and data[start + 2] & 0x40:
                bits = 12 if data[start + 2] & 0x20 else 10
    except (struct.error, IndexError):  # the decoder, which accepted the file, is more lenient than the standard
        return bits, code_points
    return bits, None if code_points == (UNSPECIFIED, UNSPECIFIED) else code_points


def _avif_properties(data: bytes) -> list[tuple[bytes, int, int]]:
    """Name and range of the properties of a HEIF file's primary item."""
    start, end = _box(data, 0, len(data), b"meta")
    start += 4  # version and flags
    primary, _ = _box(data, start, end, b"pitm")
    (item,) = struct.unpack_from(">I" if data[primary] else ">H", data, primary + 4)
    container = _box(data, start, end, b"iprp")
    properties = list(_boxes(data, *_box(data, *container, b"ipco")))
    place, _ = _box(data, *container, b"ipma")
    wide_items, wide_indices = data[place] > 0, data[place + 3] & 1
    (count,) = struct.unpack_from(">I", data, place + 4)
    place += 8
    for _ in range(count):
        found, indices = struct.unpack_from(">IB" if wide_items else ">HB", data, place)
        place += 5 if wide_items else 3
        kind, mask, size = ("H", 0x7FFF, 2) if wide_indices else ("B", 0x7F, 1)
        values = struct.unpack_from(f">{indices}{kind}", data, place)
        place += indices * size
        if found == item:
            return [properties[(value & mask) - 1] for value in values if value & mask]
    return []


# sRGB, grey and sYCC, and CMYK; 0 and 15 are bilevel
_JPEG_2000_COLOURS = (0, 12, 15, 16, 17, 18)


def _jpeg_2000(data: bytes) -> Facts:
    sizes = data.find(b"\xff\x4f\xff\x51")
    if sizes < 0 or len(data) < sizes + 43:
        return Facts()
    bits = (data[sizes + 42] & 0x7F) + 1
    start, end = _box(data, *_box(data, 0, len(data), b"jp2h"), b"colr")
    if end < start + 4:
        return Facts(bits)
    if data[start] == 2:
        return Facts(bits, data[start + 3 : end])
    code = int.from_bytes(data[start + 3 : start + 7], "big")
    if data[start] == 1 and code not in _JPEG_2000_COLOURS:
        raise ImageError(f"JPEG 2000 colours of kind {code} cannot be converted; convert the picture to sRGB first")
    return Facts(bits)


def _bmp_profile(data: bytes) -> bytes | None:
    """The ICC profile inside a BMP file with a header of version 5."""
    header = 14
    if len(data) < header + 124 or struct.unpack_from("<I", data, header)[0] < 124:
        return None
    if data[header + 56 : header + 60] != b"DEBM":  # little-endian 'MBED': embedded
        return None
    start, length = struct.unpack_from("<II", data, header + 112)
    return data[header + start : header + start + length] or None


def _gif_profile(data: bytes) -> bytes | None:
    """The ICC profile in an application extension before the first frame's pixels."""
    mark = b"\x21\xff\x0bICCRGBG1012"
    place = data.find(mark, 0, 1 << 12)
    if place < 0:
        return None
    place += len(mark)
    parts = []
    while place < len(data) and data[place]:
        parts.append(data[place + 1 : place + 1 + data[place]])
        place += 1 + data[place]
    return b"".join(parts) or None

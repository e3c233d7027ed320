"""Picture files → sRGB. Only types whose readers neither run programs nor interpret languages are opened."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import ImageError, LimitError, is_out_of_memory
from .arrays import Rgb
from .facts import PNG_SIGNATURE, Facts, check_png, facts_of
from .metadata import not_kept, orientation
from .netpbm import Header, is_netpbm
from .samples import Samples, read_samples
from .srgb import in_srgb

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else it prints errors where nobody has set up logging

# fmt: off
READ_SUFFIXES = frozenset((
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".avifs", ".tif", ".tiff", ".bmp",
    ".gif", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc", ".tga", ".qoi", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm",
))
# fmt: on
_READ_TYPES = "PNG, JPEG, WebP, AVIF, TIFF, BMP, GIF, JPEG 2000, TGA, QOI, PBM, PGM, PPM or PFM"
_NO_MEMORY = "not enough memory for this picture on this machine"

# first bytes → Pillow's format and its module
_SIGNATURES = (
    (PNG_SIGNATURE, "PNG", "Png"),
    (b"\xff\xd8\xff", "JPEG", "Jpeg"),
    (b"GIF87a", "GIF", "Gif"),
    (b"GIF89a", "GIF", "Gif"),
    (b"II*\0", "TIFF", "Tiff"),
    (b"MM\0*", "TIFF", "Tiff"),
    (b"II+\0", "TIFF", "Tiff"),
    (b"MM\0+", "TIFF", "Tiff"),
    (b"BM", "BMP", "Bmp"),
    (b"\xff\x4f\xff\x51", "JPEG2000", "Jpeg2K"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000", "Jpeg2K"),
    (b"qoif", "QOI", "Qoi"),
    (b"P1", "PPM", "Ppm"),
    (b"P4", "PPM", "Ppm"),
)


@dataclass
class LoadedPicture:
    """pixels: float32 [height, width, 3] in [0, 1]. dropped: what the file had and the codec cannot keep, in words."""

    pixels: Rgb
    dropped: list[str] = field(default_factory=list)


def load_picture(data: bytes, max_pixels: int) -> LoadedPicture:
    """An image file of one of the types in `READ_SUFFIXES`. Raises ImageError, or LimitError above `max_pixels`."""
    try:
        if is_netpbm(data):
            return _load_netpbm(data, max_pixels)
        return _load_with_pillow(data, max_pixels)
    except MemoryError:
        raise LimitError(_NO_MEMORY) from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise LimitError(
            f"the picture has {width} x {height} pixels, more than the limit of {max_pixels} (--max-pixels raises it)"
        )


def _load_netpbm(data: bytes, max_pixels: int) -> LoadedPicture:
    header = Header(data)
    _check_size(header.width, header.height, max_pixels)
    colour, more = header.read(data)
    dropped = ["all frames but the first"] if more else []
    deep = header.white is None or header.white > 255
    white = 1 if header.white is None else header.white
    return LoadedPicture(in_srgb(Samples(colour, white), Facts(16 if deep else 8), dropped), dropped)


def _load_with_pillow(data: bytes, max_pixels: int) -> LoadedPicture:
    kind, module = pillow_format(data)
    dropped: list[str] = []

    def opened() -> ImageFile:
        from PIL import Image

        import_module(f"PIL.{module}ImagePlugin")
        # not by Image.open, which has a limit on pixels of its own
        return Image.OPEN[kind][0](io.BytesIO(data), "")

    try:
        image = opened()
        _check_size(image.width, image.height, max_pixels)
        if kind == "PNG":
            check_png(data)
        facts = facts_of(image, data)
        samples = read_samples(image, facts.bits, opened)
        samples.turn(orientation(image))
        dropped += not_kept(image)
        del image
        return LoadedPicture(in_srgb(samples, facts, dropped), dropped)
    except (ImageError, LimitError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise _refusal(kind, error) from error


def pillow_format(data: bytes) -> tuple[str, str]:
    """Pillow's format of a file, by its first 128 bytes, and its module. Raises ImageError for a type that is not
    opened.
    """
    for signature, kind, module in _SIGNATURES:
        if data.startswith(signature):
            return kind, module
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP", "WebP"
    if data[4:8] == b"ftyp" and any(brand in data[8:128] for brand in (b"avif", b"avis")):
        return "AVIF", "Avif"
    if _is_tga(data):
        return "TGA", "Tga"
    raise ImageError(f"not a picture of a type that is read ({_READ_TYPES})" if data else "an empty file")


def _is_tga(data: bytes) -> bool:
    """TGA has no signature: a header that makes sense, with a palette or a type that goes without."""
    if len(data) < 18 or data[1] > 1 or data[2] not in (1, 2, 3, 9, 10, 11) or data[17] & 0xC0:
        return False
    with_palette = data[2] in (1, 9)
    return with_palette == (data[1] == 1) and data[16] in (8, 15, 16, 24, 32) and any(data[12:14]) and any(data[14:16])


def _refusal(kind: str, error: Exception) -> ImageError | LimitError:
    """An error of our own for one of Pillow's, whose texts name objects and memory addresses."""
    from PIL import Image

    text = str(error).lower()
    if isinstance(error, Image.DecompressionBombError):
        return LimitError("the picture is larger than Pillow's own limit for its type; save it as PNG or PPM first")
    if is_out_of_memory(error):
        return LimitError(_NO_MEMORY)
    if "truncated" in text or isinstance(error, EOFError):
        return ImageError(f"a truncated {kind} picture")
    if "text" in text and ("too large" in text or "memory" in text or "max_text" in text):
        return ImageError(f"a {kind} picture whose text or profile is too large; save it without its metadata")
    return ImageError(f"a damaged {kind} picture, or one of a sort that is not read; try to save it as PNG, PPM or PFM")

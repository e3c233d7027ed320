"""Pictures out: sRGB arrays → files of any type that holds them."""

from __future__ import annotations

import io
import os
from pathlib import PurePath
from typing import Any

from ..errors import ImageError, LimitError, is_out_of_memory
from .arrays import Pixels

# Pillow's defaults trade much time for few bytes here; a decoder's output is mostly read once
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 1},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "method": 0},
    "AVIF": {"quality": 90},
    "QOI": {"colorspace": "sRGB"},
}
# where `quality` is the user's: at Pillow's own effort, as files of that type usually are
_QUALITY_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"subsampling": 0},
    "WEBP": {"lossless": False},
    "AVIF": {},
}
_PALETTE_TYPES = ("GIF",)
_QUICK = {".png": "PNG", ".ppm": "PPM", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # spares Pillow's plugins
# bilevel, grey, icons of fixed sizes, palettes, documents with a JPEG inside, or written by programs beside Pillow
_UNFIT_SUFFIXES = (".pbm", ".pgm", ".pfm", ".bw")
_UNFIT_TYPES = (
    "BLP", "BUFR", "CUR", "GRIB", "HDF5", "ICNS", "ICO", "MSP", "PALM", "PDF", "SPIDER", "WMF", "XBM",
)  # fmt: skip
_LONGEST_TYPE = 12  # letters
_SUGGESTION = "try .png, .ppm, .jpg or .webp"


def output_format(name: str, *, quality: int | None = None, allow_palette: bool = False) -> str:
    """Pillow's format for a file name. `quality`: 0..100, for types that have one. `allow_palette`: accept types of at
    most 256 colours. ImageError for a type that cannot be written, or cannot hold the picture.
    """
    ending = PurePath(name).suffix or f".{name}"  # of a file's name, or the type alone
    if os.sep in ending or len(ending) > len(".") + _LONGEST_TYPE:
        raise ImageError(f"the name of the output has no type; {_SUGGESTION}")
    suffix = ending.lower()
    chosen = _QUICK.get(suffix) or _registered(suffix)
    if suffix in _UNFIT_SUFFIXES or chosen in _UNFIT_TYPES:
        raise ImageError(f"pictures of type {suffix!r} cannot hold all sizes and colours; {_SUGGESTION}")
    if chosen in _PALETTE_TYPES and not allow_palette:
        raise ImageError(
            f"pictures of type {suffix!r} have at most 256 colours; accept that by --allow-palette, or {_SUGGESTION}"
        )
    if quality is not None and chosen not in _QUALITY_OPTIONS:
        raise ImageError(f"pictures of type {suffix!r} have no quality; --output-quality is for .jpg, .webp and .avif")
    return chosen


def _registered(suffix: str) -> str:
    from PIL import Image

    Image.init()
    chosen = Image.registered_extensions().get(suffix)
    if chosen is None or chosen not in Image.SAVE:
        raise ImageError(f"cannot write pictures of type {suffix!r}; {_SUGGESTION}")
    return chosen


def save_picture(pixels: Pixels, format_name: str, *, quality: int | None = None) -> bytes:
    """uint8 [height, width, 3] → image file bytes. `quality`: 0..100, for JPEG, WebP (then lossy) and AVIF. Raises
    ImageError, or LimitError for want of memory.
    """
    from PIL import Image

    options = _SAVE_OPTIONS.get(format_name, {})
    if quality is not None:
        options = {**_QUALITY_OPTIONS[format_name], "quality": quality}
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, format_name, **options)
    except Exception as error:  # another library's text can be anything
        if is_out_of_memory(error):
            raise LimitError("not enough memory to write the picture on this machine") from None
        height, width = pixels.shape[:2]
        raise ImageError(
            f"cannot write a picture of {width} x {height} pixels as {format_name}: it may be too large for that type; "
            f"{_SUGGESTION}"
        ) from error
    return buffer.getvalue()

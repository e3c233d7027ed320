"""Which files are pictures: by the suffixes of their names, and by their first bytes."""

from __future__ import annotations

from pathlib import Path

from .errors import ImageError
from .pictures import READ_SUFFIXES
from .pictures.netpbm import is_netpbm
from .pictures.reading import pillow_format

# Types that Pillow knows only with a plugin, or not at all
_OTHER_SUFFIXES = frozenset({".heic", ".heif", ".jxl", ".jxr", ".dng", ".svg"})
_JPEG_XL = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a")
_SIGNATURE_BYTES = 128


def picture_suffixes() -> frozenset[str]:
    """Suffixes (lower case, with the dot) of pictures, whether or not they can be read here."""
    from PIL import Image

    Image.init()
    return READ_SUFFIXES | _OTHER_SUFFIXES | set(Image.registered_extensions())


def is_picture(path: Path) -> bool:
    """Whether a file begins as pictures do, of whatever size. Raises OSError."""
    import warnings

    from PIL import Image

    with path.open("rb") as file:
        if _has_signature(file.read(_SIGNATURE_BYTES)):
            return True
        file.seek(0)  # Pillow knows types that nicrt does not read
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                Image.open(file)
            except Image.DecompressionBombError:
                return True
            except Exception:  # Pillow's plugins raise nearly anything
                return False
    return True


def _has_signature(start: bytes) -> bool:
    # HEIF and AVIF are boxes of which the first says the type; `.nic` is no picture in this sense
    if start.startswith(_JPEG_XL) or start[4:8] == b"ftyp" or is_netpbm(start):
        return True
    try:
        pillow_format(start)
    except ImageError:
        return False
    return True

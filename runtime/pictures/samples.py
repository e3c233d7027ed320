"""An opened file's samples as arrays: palettes expanded, alpha apart, at the file's own depth where it can be had."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageError

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

Array = npt.NDArray[Any]

_TURNS = {  # EXIF's orientation → whether axes are swapped first, then the steps along rows and columns
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}

_TIFF_PHOTOMETRIC, _TIFF_PLANAR, _TIFF_SAMPLE_FORMAT = 262, 284, 339
_WHITE_IS_ZERO, _SEPARATE, _SIGNED = 0, 2, 2


@dataclass
class Samples:
    """colour: unsigned integers or floats [height, width, 1 or 3], or for 8-bit pictures the image of mode L, RGB, CMYK
    or LAB. white: the integer that is white. alpha: unsigned integers [height, width], None for an opaque picture.
    """

    colour: Array | Image.Image
    white: int = 255
    alpha: Array | None = None
    alpha_white: int = 255

    def turn(self, orientation: object) -> None:
        """Show the picture as EXIF's orientation (1..8) says; anything else changes nothing."""
        if not isinstance(orientation, int) or orientation not in _TURNS:
            return
        swapped, rows, columns = _TURNS[orientation]

        def turned(array: Array) -> Array:
            return (array.swapaxes(0, 1) if swapped else array)[::rows, ::columns]

        if isinstance(self.colour, np.ndarray):
            self.colour = turned(self.colour)
        else:
            from PIL import Image

            kinds = Image.Transpose
            for wanted, kind in (
                (swapped, kinds.TRANSPOSE),
                (rows < 0, kinds.FLIP_TOP_BOTTOM),
                (columns < 0, kinds.FLIP_LEFT_RIGHT),
            ):
                self.colour = self.colour.transpose(kind) if wanted else self.colour
        if self.alpha is not None:
            self.alpha = turned(self.alpha)


def read_samples(image: ImageFile, bits: int, open_again: Callable[[], ImageFile]) -> Samples:
    """Load an opened file, of whose samples it is known how many bits they have. Raises ImageError, and what Pillow
    raises for damaged files.
    """
    if image.format == "TIFF":
        _check_tiff(image, bits)
    wide = _wide_layout(image) if bits == 16 else None
    if wide is not None:
        samples = _read_wide(image, *wide, open_again)
    else:
        image.load()
        deep = image.mode.startswith("I") or image.mode == "F"
        samples = _deep_grey(image, bits) if deep else _split(image)
    key = image.info.get("transparency")
    if key is not None and samples.alpha is None and image.mode not in ("P", "PA"):  # palettes have had theirs
        samples.alpha, samples.alpha_white = _alpha_of_key(samples, key, bits)
    if samples.alpha is not None and samples.alpha.min() == samples.alpha_white:
        samples.alpha = None
    return samples


def _check_tiff(image: ImageFile, bits: int) -> None:
    """Refuses samples without a known white, and those that Pillow would take for others."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if _SIGNED in tags.get(_TIFF_SAMPLE_FORMAT, (1,)):
        raise ImageError(
            "a TIFF picture of signed integers, which have no agreed white; save it with unsigned ones of 8 or 16 bits "
            "or with floats from 0 to 1"
        )
    if tags.get(_TIFF_PLANAR) == _SEPARATE and bits > 8 and image.tile[0].codec_name == "raw":
        raise ImageError("a TIFF picture of more than 8 bits in separate planes; save its samples interleaved")


def _alpha_of_key(samples: Samples, key: Any, bits: int) -> tuple[Array, int]:
    """Alpha from the one colour that is transparent (PNG's tRNS for grey and RGB, in the file's own depth)."""
    colour: Array = np.atleast_3d(np.asarray(samples.colour))
    step = samples.white / ((1 << bits) - 1)
    values = np.round(np.atleast_1d(np.asarray(key, np.float64)) * step)
    opaque = np.zeros(colour.shape[:2], np.uint8)
    for channel in range(colour.shape[2]):  # one at a time: spares an array of all
        opaque |= colour[:, :, channel] != values[min(channel, values.size - 1)]
    return opaque, 1


def _deep_grey(image: ImageFile, bits: int) -> Samples:
    values: Array = np.asarray(image)[:, :, None]
    if image.format == "TIFF" and image.mode == "I":
        values, white = values.view(np.uint32), 2**32 - 1
    elif image.mode == "F":
        white = 1
    elif image.format == "JPEG2000":  # Pillow shifts samples up to 16 bits
        white = ((1 << bits) - 1) << (16 - bits)
    else:
        values, white = values.astype(np.uint16), (1 << bits) - 1
    if image.format == "TIFF" and _white_is_zero(image):
        values = values.dtype.type(white) - values
    return Samples(values, white)


def _white_is_zero(image: ImageFile) -> bool:
    tags = image.tag_v2  # type: ignore[attr-defined]
    return bool(tags.get(_TIFF_PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO)  # Pillow's default too


def _split(image: Image.Image) -> Samples:
    """Colours and alpha of an 8-bit picture."""
    if image.mode in ("P", "PA"):
        assert image.palette is not None
        if image.palette.mode not in ("RGB", "RGBA"):
            raise ImageError(f"a picture with a palette of {image.palette.mode} colours; convert it to RGB first")
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert(image.mode.upper())
    if image.mode in ("LA", "RGBA"):
        # Pillow drops alpha here and leaves colours as they are, those of clear pixels too
        return Samples(image.convert(image.mode[:-1]), alpha=np.asarray(image.getchannel("A")))
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return Samples(image)
    if image.mode in ("1", "RGBX", "YCbCr", "HSV"):
        return Samples(image.convert("L" if image.mode == "1" else "RGB"))
    raise ImageError(f"pictures of mode {image.mode} are not read; convert it to RGB first")


def _rawmode(image: ImageFile) -> str:
    args = image.tile[0].args if image.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _wide_layout(image: ImageFile) -> tuple[str, str] | None:
    """Channels and byte order of a file of 16-bit samples of which Pillow would keep only the upper byte."""
    channels, separator, order = _rawmode(image).partition(";16")
    if not separator or order not in ("B", "L", "N") or image.mode not in ("RGB", "RGBA"):
        return None
    if channels not in ("LA", "RGB", "RGBA", "RGBX", "RGBa"):
        return None
    return channels, order.replace("N", "L" if sys.byteorder == "little" else "B")


def _load_as(image: ImageFile, rawmode: str) -> Array:
    """The samples that Pillow unpacks by this rule in place of its own."""
    for place, tile in enumerate(image.tile):
        args = (rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode
        image.tile[place] = tile._replace(args=args)
    image.load()
    return np.asarray(image)


def _read_wide(image: ImageFile, channels: str, order: str, open_again: Callable[[], ImageFile]) -> Samples:
    """Both bytes of each sample. Pillow has no mode for them: the file is read once for the upper and once for the
    lower ones. Grey with alpha has four bytes a pixel, as many as RGBA of 8 bits.
    """
    if channels == "LA":
        pairs = _load_as(image, "RGBA").view(">u2").astype(np.uint16)
        return Samples(pairs[:, :, :1], 65535, pairs[:, :, 1], 65535)
    layout = "RGBA" if channels == "RGBa" else channels
    values = _load_as(image, f"{layout};16{order}").astype(np.uint16)
    values <<= 8
    values |= _load_as(open_again(), f"{layout};16{'L' if order == 'B' else 'B'}")
    if values.shape[2] == 3:
        return Samples(values, 65535)
    colour, alpha = values[:, :, :3], values[:, :, 3]
    if channels == "RGBa":
        for channel in range(3):
            product = colour[:, :, channel] * np.float32(65535) / np.maximum(alpha, 1)
            colour[:, :, channel] = np.minimum(np.rint(product), 65535)
    return Samples(colour, 65535, alpha, 65535)

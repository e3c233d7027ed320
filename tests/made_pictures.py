"""Pictures that code makes: what is not a photograph, and what codecs trained on photographs do badly on.

All are uint8 [SIDE, SIDE, 3] and the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

SIDE = 128
Pixels = npt.NDArray[np.uint8]

_WORDS = "The quick brown fox jumps over 13 lazy dogs; (sphinx) of black quartz, judge my vow!"


def _grey(values: npt.NDArray[np.generic]) -> Pixels:
    return np.repeat(np.asarray(values, np.uint8)[:, :, None], 3, axis=2)


def _dither() -> Pixels:
    """Black and white, error diffusion of a ball in front of a ramp."""
    rows, columns = np.indices((SIDE, SIDE)) / (SIDE - 1)
    distance = np.hypot(rows - 0.5, columns - 0.5)
    tones = np.where(distance < 0.35, 1 - 2 * distance, columns)
    grey = Image.fromarray(np.rint(255 * tones).astype(np.uint8))
    return np.asarray(grey.convert("1").convert("RGB"))


def _checker(edge: int) -> Pixels:
    rows, columns = np.indices((SIDE, SIDE)) // edge
    return _grey(255 * ((rows + columns) % 2))


def _text() -> Pixels:
    """Lines of small type, black on white and then white on blue."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, SIDE // 2, SIDE, SIDE), fill=(20, 40, 160))
    font = ImageFont.load_default_imagefont()
    for line, top in enumerate(range(1, SIDE - 8, 12)):
        ink = "black" if top + 11 < SIDE // 2 else "white"
        draw.text((2, top), (_WORDS * 2)[13 * line :][:24], fill=ink, font=font)
    return np.asarray(image)


def _flat() -> Pixels:
    return np.full((SIDE, SIDE, 3), (10, 200, 30), np.uint8)


def _flags() -> Pixels:
    """Saturated fields with straight borders between them."""
    colours = [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 0),
        (255, 0, 255),
        (0, 255, 255),
        (0, 0, 0),
        (255,) * 3,
    ]
    fields = np.array(colours, np.uint8).reshape(2, 4, 3)
    return fields.repeat(SIDE // 2, axis=0).repeat(SIDE // 4, axis=1)


def _gradient() -> Pixels:
    rows, columns = np.indices((SIDE, SIDE)) * (255 / (SIDE - 1))
    return np.rint(np.stack([rows, columns, 255 - (rows + columns) / 2], axis=2)).astype(np.uint8)


def _noise() -> Pixels:
    return np.random.default_rng(7).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def _grain() -> Pixels:
    """A soft ramp under noise as a camera gives it."""
    ramp = np.indices((SIDE, SIDE)).sum(0)[:, :, None] / 2 + 60
    grain = np.random.default_rng(8).normal(0, 8, (SIDE, SIDE, 3))
    return np.clip(np.rint(ramp + grain), 0, 255).astype(np.uint8)


MADE: dict[str, Callable[[], Pixels]] = {
    "dither": _dither,
    "checker-1": lambda: _checker(1),
    "checker-5": lambda: _checker(5),
    "text": _text,
    "flat": _flat,
    "flags": _flags,
    "gradient": _gradient,
    "noise": _noise,
    "grain": _grain,
}

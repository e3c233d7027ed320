"""A file's samples → sRGB: first colour, then transparency, then depth. Says what that loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ImageError
from . import icc
from .arrays import Rgb, as_rgb, clip, scale
from .colour import to_srgb
from .facts import Facts
from .samples import Array, Samples

if TYPE_CHECKING:
    from PIL import Image

_STRIP_PIXELS = 1 << 18
_MODELS = {"L": ("GRAY", "RGB"), "RGB": ("RGB",), "CMYK": ("CMYK",), "LAB": ("Lab",)}  # mode → whose profiles fit


def in_srgb(samples: Samples, facts: Facts, dropped: list[str]) -> Rgb:
    """float32 [height, width, 3] in [0, 1]; adds to `dropped` what is lost. Raises ImageError for values that are no
    numbers.
    """
    dropped += facts.problems
    pixels = _colours(samples, facts, dropped)
    if samples.alpha is not None:
        dropped.append("transparency (shown on white)")
        _show_on_white(pixels, samples.alpha, samples.alpha_white)
    if facts.bits > 8:
        dropped.append("precision beyond 8 bits at the decoder")
    return as_rgb(pixels)


def _colours(samples: Samples, facts: Facts, dropped: list[str]) -> Rgb:
    """[height, width, 1 or 3] in sRGB."""
    colour, white, profile = samples.colour, samples.white, facts.profile
    if not isinstance(colour, np.ndarray):
        colour, profile = _of_image(_image_in_srgb(colour, profile, dropped)), None
    if colour.dtype.kind == "f":
        colour = _clipped(colour, dropped)
    if profile is not None:
        return _deep_in_srgb(colour, white, profile, dropped)
    if facts.space is not None:
        dropped.append(f"{facts.space.name} (converted to sRGB)")
        return to_srgb(colour, white, facts.space)
    return _scaled(colour, white)


def _of_image(image: Image.Image) -> Array:
    """uint8 [height, width, 1 or 3] of an image of mode L or RGB."""
    pixels: Array = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _scaled(colour: Array, white: int) -> Rgb:
    """Integers → float32 in [0, 1]; floats have been clipped to that."""
    return colour if colour.dtype.kind == "f" else scale(colour, white)


def _clipped(colour: Array, dropped: list[str]) -> Rgb:
    try:
        pixels, beyond = clip(colour)
    except ValueError as error:
        raise ImageError(str(error)) from None
    if beyond:
        dropped.append(beyond)
    return pixels


def _by_profile(image: Image.Image, profile: bytes, dropped: list[str]) -> Image.Image | None:
    """An 8-bit picture by its profile → RGB; None where that does not fit."""
    model = icc.colour_model(profile)
    try:
        if model not in _MODELS[image.mode]:
            raise ValueError("a profile of other colours than the picture's")
        converted = icc.convert_image(image.convert("RGB") if model == "RGB" else image, profile)
    except ValueError:
        dropped.append("a colour profile that does not fit the picture")
        return None
    _say_profile(profile, dropped)
    return converted


def _image_in_srgb(image: Image.Image, profile: bytes | None, dropped: list[str]) -> Image.Image:
    """An 8-bit picture of mode L, RGB, CMYK or LAB → L or RGB in sRGB."""
    converted = None if profile is None else _by_profile(image, profile, dropped)
    if converted is not None:
        return converted
    if image.mode == "LAB":
        return icc.lab_to_srgb(image)
    if image.mode == "CMYK":
        dropped.append("CMYK inks (converted to RGB without a profile)")
        return image.convert("RGB")
    return image


def _deep_in_srgb(colour: Array, white: int, profile: bytes, dropped: list[str]) -> Rgb:
    """Samples of more than 8 bits by their profile; at 8 bits where the profile has tables."""
    from PIL import Image

    space = icc.profile_space(profile)
    if space is not None and (colour.shape[2] == 1 or icc.colour_model(profile) == "RGB"):
        _say_profile(profile, dropped)
        return to_srgb(colour, white, space)
    pixels = _scaled(colour, white)
    eight = np.rint(pixels * np.float32(255)).astype(np.uint8)
    converted = _by_profile(Image.fromarray(eight[:, :, 0] if eight.shape[2] == 1 else eight), profile, dropped)
    return pixels if converted is None else scale(_of_image(converted), 255)


def _say_profile(profile: bytes, dropped: list[str]) -> None:
    if not icc.is_srgb(profile):
        dropped.append(f"colour profile {icc.profile_name(profile)!r} (converted to sRGB)")


def _show_on_white(pixels: Rgb, alpha: Array, alpha_white: int) -> None:
    """In place: 1 - alpha * (1 - pixel)."""
    rows = max(1, _STRIP_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        strip = pixels[top : top + rows]
        strip -= 1
        strip *= scale(alpha[top : top + rows, :, None], alpha_white)
        strip += 1

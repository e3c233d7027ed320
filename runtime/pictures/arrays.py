"""Arrays ↔ float32 RGB. The scale follows the type of the samples, never the values that occur:

| samples | black | white |
|---|---|---|
| unsigned integers of n bits (uint8, uint16, uint32; 12-bit TIFF) | 0 | 2^n - 1 |
| Netpbm integers | 0 | the file's maxval |
| floats of any width, PFM | 0.0 | 1.0 |
| signed integers | refused: they have no agreed white | |

Samples are sRGB-encoded unless a file says otherwise. Floats beyond black or white are clipped, and that is reported.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..warn import warn_caller

Rgb = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

_UNSEEN = 0.5 / 255  # half a grey level of 8 bits: what is clipped by less cannot be seen in the decoder's output


class ClippingWarning(UserWarning):
    """A float array had values below 0 or above 1, which became black and white."""


def from_array(array: npt.ArrayLike) -> Rgb:
    """uint8, uint16, uint32 or float (0..1) array [h, w], [h, w, 1] or [h, w, 3] → float32 [h, w, 3] in [0, 1].

    Floats outside 0..1 are clipped, with a ClippingWarning. Raises TypeError for another dtype and ValueError for
    another shape, an empty picture or a value that is not finite.
    """
    pixels = np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(f"a picture is an array [height, width, 3] or [height, width], not {np.shape(array)}")
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 4:
        scaled = scale(pixels, np.iinfo(pixels.dtype).max)
    elif pixels.dtype.kind == "f":
        scaled, clipped = clip(pixels)
        if clipped:
            warn_caller(f"the picture has {clipped}", ClippingWarning)
    else:
        raise TypeError(f"a picture is of unsigned integers of 8, 16 or 32 bits or of floats, not of {pixels.dtype}")
    return as_rgb(scaled)


def scale(samples: npt.NDArray[np.unsignedinteger], white: int) -> Rgb:
    """Unsigned integers → float32 of the same shape, `white` → 1."""
    scaled = samples.astype(np.float32)
    scaled *= np.float32(1 / white)
    return scaled


def clip(samples: npt.NDArray[np.floating]) -> tuple[Rgb, str]:
    """Floats → float32 in [0, 1], and what was clipped in words, "" for nothing that could be seen. Raises ValueError
    for values that are not finite.
    """
    with np.errstate(over="ignore"):  # beyond float32 is not finite: refused below
        clipped = samples.astype(np.float32)
    low, high = float(clipped.min()), float(clipped.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("the picture has values that are not finite")
    beyond = 0
    if low < -_UNSEEN or high > 1 + _UNSEEN:
        beyond = int(np.count_nonzero(clipped < -_UNSEEN) + np.count_nonzero(clipped > 1 + _UNSEEN))
    if low < 0 or high > 1:
        np.clip(clipped, 0, 1, out=clipped)
    if not beyond:
        return clipped, ""
    share = f"{beyond} of {samples.size} values ({100 * beyond / samples.size:.2g}%)"
    return clipped, f"{share} outside 0..1 (from {low:.4g} to {high:.4g}), clipped"


def as_rgb(samples: Rgb) -> Rgb:
    """[h, w, 1 or 3] → [h, w, 3] without gaps in memory; the array itself if it is that."""
    return np.ascontiguousarray(np.broadcast_to(samples, (*samples.shape[:2], 3)))


def rounded(picture: Rgb) -> Pixels:
    """float32 in [0, 1] → uint8 of the same shape."""
    levels = picture * np.float32(255)
    np.rint(levels, out=levels)
    return levels.astype(np.uint8)


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """uint8 [h, w, 3] → [*size, 3], bicubic with antialiasing."""
    if pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC))


def resample(picture: Rgb, size: tuple[int, int]) -> Rgb:
    """[h, w, 3] → [*size, 3], bicubic with antialiasing; the picture itself when it has that size."""
    if picture.shape[:2] == size:
        return picture
    from PIL import Image

    planes = [
        np.asarray(Image.fromarray(picture[:, :, c]).resize(size[::-1], Image.Resampling.BICUBIC)) for c in range(3)
    ]
    return np.stack(planes, axis=-1).clip(0, 1).astype(np.float32)

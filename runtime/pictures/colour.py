"""Colour spaces that a file describes by numbers → sRGB, at any depth.

A space is a curve from encoded values to linear light for each channel, and the matrix from its linear light to that of
sRGB. Colours that sRGB does not have are clipped channel by channel. Code points are those of ITU-T H.273.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageError
from .arrays import Rgb

Curve = Callable[[Rgb], Rgb]
Matrix = npt.NDArray[np.float64]
Chromaticities = Sequence[float]  # x and y of white, red, green, blue

_STRIP_SAMPLES = 1 << 20
WHITE_D65 = (0.3127, 0.3290)
_WHITE_C = (0.310, 0.316)
SRGB_CHROMATICITIES = (*WHITE_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
D50 = np.array([0.9642, 1.0, 0.8249])  # white of the space that ICC profiles convert to
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB_CHROMATICITIES,
    4: (*_WHITE_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*WHITE_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*WHITE_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*WHITE_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (*_WHITE_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*WHITE_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1, 0, 0, 1, 0, 0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*WHITE_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*WHITE_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
UNSPECIFIED = 2
_SRGB_TRANSFER = 13
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class ColourSpace:
    """name: for the user. curves: one for all channels, or three. to_srgb: linear RGB → linear sRGB; None for the
    same primaries and for grey."""

    name: str
    curves: tuple[Curve, ...]
    to_srgb: Matrix | None = None


def power(gamma: float) -> Curve:
    return lambda values: np.power(values, np.float32(gamma))


def _with_toe(threshold: float, slope: float, offset: float, gamma: float) -> Curve:
    """Linear up to `threshold`, then a power function of the shifted value."""

    def linear(values: Rgb) -> Rgb:
        bent = np.power((values + np.float32(offset)) / np.float32(1 + offset), np.float32(gamma))
        return np.where(values <= np.float32(threshold), values / np.float32(slope), bent)

    return linear


srgb_curve = _with_toe(0.04045, 12.92, 0.055, 2.4)
_BT709 = _with_toe(0.081, 4.5, 0.099, 1 / 0.45)
_TRANSFERS: dict[int, Curve] = {
    1: _BT709,
    4: power(2.2),
    5: power(2.8),
    6: _BT709,
    7: _with_toe(0.0912, 4.0, 0.1115, 1 / 0.45),
    8: power(1.0),
    11: _BT709,
    12: _BT709,
    14: _BT709,
    15: _BT709,
    _SRGB_TRANSFER: srgb_curve,
}


def _srgb_encoded(linear: Rgb) -> Rgb:
    linear = np.clip(linear, 0, 1)
    bent = np.float32(1.055) * np.power(linear, np.float32(1 / 2.4)) - np.float32(0.055)
    return np.where(linear <= np.float32(0.0031308), linear * np.float32(12.92), bent)


def _white(x: float, y: float) -> Matrix:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_xyz(chromaticities: Chromaticities) -> Matrix:
    """Linear RGB → XYZ in which (1, 1, 1) is the space's own white."""
    x, y = np.array(chromaticities[2::2]), np.array(chromaticities[3::2])
    columns = np.array([x, y, 1 - x - y])
    whole: Matrix = columns * np.linalg.solve(columns, _white(chromaticities[0], chromaticities[1]))
    return whole


def _adapted(source_white: Matrix, white: Matrix) -> Matrix:
    """XYZ seen under one white → XYZ that look the same under another (Bradford)."""
    cones = (_BRADFORD @ white) / (_BRADFORD @ source_white)
    whole: Matrix = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    return whole


def srgb_from_xyz(white: Matrix) -> Matrix:
    """XYZ seen under `white` → linear sRGB."""
    whole: Matrix = np.linalg.inv(_to_xyz(SRGB_CHROMATICITIES)) @ _adapted(white, _white(*WHITE_D65))
    return whole


def _matrix(chromaticities: Chromaticities) -> Matrix | None:
    """Linear RGB of these primaries → linear sRGB; None where they are those of sRGB. Raises ValueError for points that
    span no colours.
    """
    if np.allclose(chromaticities, SRGB_CHROMATICITIES, atol=0.002):
        return None
    try:
        with np.errstate(all="ignore"):
            white = _white(chromaticities[0], chromaticities[1])
            whole: Matrix = srgb_from_xyz(white) @ _to_xyz(chromaticities)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        raise ValueError("the chromaticities span no colours") from None
    if not np.isfinite(whole).all() or np.abs(whole).max() > 100:
        raise ValueError("the chromaticities span no colours")
    return whole


def coded_space(primaries: int, transfer: int, full_range: bool, bits: int) -> ColourSpace | None:
    """The space of H.273 code points (PNG's cICP, the nclx of AVIF); None for sRGB. Raises ImageError for one that has
    no sRGB picture without choices that are the user's.
    """
    if transfer in _HDR_TRANSFERS:
        raise ImageError(f"an HDR picture ({_HDR_TRANSFERS[transfer]}); convert it to an SDR one, such as sRGB, first")
    primaries = 1 if primaries == UNSPECIFIED else primaries
    transfer = _SRGB_TRANSFER if transfer == UNSPECIFIED else transfer
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        raise ImageError(
            f"its colours (code points: primaries {primaries}, transfer {transfer}) cannot be converted; "
            "convert the picture to sRGB first"
        )
    matrix, curve = _matrix(_PRIMARIES[primaries]), _TRANSFERS[transfer]
    if matrix is None and transfer == _SRGB_TRANSFER and full_range:
        return None
    return ColourSpace(
        f"colour space of code points {primaries}, {transfer}", (curve if full_range else _narrow(curve, bits),), matrix
    )


def _narrow(curve: Curve, bits: int) -> Curve:
    """`curve` for values in which 16 is black and 235 white, times 2^(bits - 8)."""
    steps = (2**bits - 1) / 2 ** (bits - 8)
    return lambda values: curve(np.clip((values * np.float32(steps) - 16) / np.float32(219), 0, 1))


_SRGB_GAMMA = 0.45455  # 1 / 2.2 to five digits: what is written beside sRGB's primaries for its curve


def gamma_space(gamma: float | None, chromaticities: Chromaticities | None) -> ColourSpace | None:
    """The space of PNG's gAMA and cHRM, each in 1; None for sRGB. A missing one is that of sRGB. Raises ValueError for
    values that give no space.
    """
    if gamma is not None and not gamma > 0:
        raise ValueError("a gamma of 0")
    matrix = None if chromaticities is None else _matrix(chromaticities)
    if matrix is None and gamma is not None and abs(gamma - _SRGB_GAMMA) < 0.0001:
        gamma = None
    if gamma is None and matrix is None:
        return None
    parts = [] if gamma is None else [f"gamma {gamma:.4g}"]
    if matrix is not None:
        parts.append("primaries other than those of sRGB")
    return ColourSpace(" and ".join(parts), (srgb_curve if gamma is None else power(1 / gamma),), matrix)


def adobe_rgb() -> ColourSpace:
    return ColourSpace("Adobe RGB", (power(2.19921875),), _matrix((*WHITE_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)))


def to_srgb(samples: npt.NDArray[Any], white: int, space: ColourSpace) -> Rgb:
    """Unsigned integers (`white` is white) or floats (1 is) [h, w, c] → sRGB, float32 in [0, 1]. Grey (c = 1) becomes
    RGB where the space is one of RGB.
    """
    height, width, channels = samples.shape
    grey = channels == 1 and space.to_srgb is None and len(space.curves) == 1
    result = np.empty((height, width, 1 if grey else 3), np.float32)
    curves = [_tabled(curve, white) for curve in space.curves] if samples.dtype.itemsize <= 2 else space.curves
    rows = max(1, _STRIP_SAMPLES // (3 * width))
    for top in range(0, height, rows):
        strip = samples[top : top + rows]
        if samples.dtype.kind == "u" and samples.dtype.itemsize > 2:
            strip = strip.astype(np.float32) * np.float32(1 / white)
        linear = np.concatenate(
            [curve(strip[:, :, c : c + 1]) for c, curve in _per_channel(curves, channels)], axis=2, dtype=np.float32
        )
        if linear.shape[2] == 1 and not grey:
            linear = np.broadcast_to(linear, (*linear.shape[:2], 3))
        if space.to_srgb is not None:
            linear = linear @ space.to_srgb.T.astype(np.float32)
        result[top : top + rows] = _srgb_encoded(linear)
    return result


def _per_channel(curves: Sequence[Curve], channels: int) -> list[tuple[int, Curve]]:
    """Channel and curve for each channel of the result; grey goes through all three curves of a space of RGB."""
    count = max(channels, len(curves))
    return [(min(c, channels - 1), curves[min(c, len(curves) - 1)]) for c in range(count)]


def _tabled(curve: Curve, white: int) -> Curve:
    """The curve of integers 0..white by look-up."""
    table = curve(np.arange(white + 1, dtype=np.float32) / np.float32(white)).astype(np.float32)
    return lambda values: table[values]

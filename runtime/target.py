"""Finds the quality at which a bundle's files meet a rate or a PSNR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .choose import Wish

ROUNDS = 9  # halvings of 0..100
PRECISION = 100 / 2**ROUNDS


def at_target(
    wish: Wish, bpp: float | None, psnr: float | None, rate: Callable[[Wish], float], mse: Callable[[Wish], float]
) -> Wish:
    """The wish with the highest quality, within PRECISION, whose file has at most `bpp` bits per pixel, or with the
    lowest that has at least `psnr` dB. rate, mse: measure a file of a wish. Where no quality will do, the nearest."""
    if bpp is not None:
        quality, _ = _around(lambda q: rate(replace(wish, quality=q)) <= bpp)
        return replace(wish, quality=quality)
    if psnr is not None:
        most = mse_of(psnr)
        _, quality = _around(lambda q: mse(replace(wish, quality=q)) > most)
        return replace(wish, quality=quality)
    return wish


def _around(holds: Callable[[float], bool]) -> tuple[float, float]:
    """The ends of the interval in 0..100 in which what holds for low qualities ceases to hold."""
    low, high = 0.0, 100.0
    if holds(high):
        return high, high
    if not holds(low):
        return low, low
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high


def mse_of(psnr: float) -> float:
    """dB → mean squared error in grey levels."""
    return float(255.0**2 / 10 ** (psnr / 10))


def psnr_of(mse: float) -> float:
    """Mean squared error in grey levels → dB."""
    return float(10 * np.log10(255.0**2 / mse)) if mse else float("inf")


def mean_squared_error(
    pixels: npt.NDArray[np.uint8], original: npt.NDArray[np.float32], where: npt.NDArray[np.bool_] | None = None
) -> float:
    """Squared grey levels between uint8 [h, w, 3] and float32 [h, w, 3] in [0, 1], over all three channels, of the
    pixels `where` (bool [h, w])."""
    difference = pixels.astype(np.float64) - 255 * original.astype(np.float64)
    return float(np.mean((difference if where is None else difference[where]) ** 2))

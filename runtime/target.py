"""Finds the quality at which a bundle's files meet a rate or a PSNR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .choose import Values, Wish

ROUNDS = 9  # halvings of 0..100
PRECISION = 100 / 2**ROUNDS
SCAN = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)
"""Qualities to try where both ends of 0..100 miss: rate and distortion need not follow the quality on every picture."""


class TargetWarning(UserWarning):
    """No quality meets the target: the file is the nearest that was found."""


@dataclass(frozen=True)
class Target:
    """bpp: bits per pixel of the whole file, not to be exceeded. psnr: dB to be reached. At most one of them."""

    bpp: float | None = None
    psnr: float | None = None

    @property
    def is_set(self) -> bool:
        return self.bpp is not None or self.psnr is not None

    def miss(self, trial: Trial) -> float:
        """How far a file is beyond the target, in bits per pixel or squared grey levels; 0 where it meets it."""
        if self.bpp is not None:
            return max(0.0, trial.bpp - self.bpp)
        if self.psnr is not None:
            return max(0.0, trial.mse - mse_of(self.psnr))
        return 0.0

    def missed(self, trial: Trial) -> str | None:
        """What to say of a file that misses the target, in one line."""
        if not self.miss(trial):
            return None
        if self.bpp is not None:
            return f"the target of {self.bpp:g} bpp is out of reach, the nearest file has {trial.bpp:.4f} bpp"
        return f"the target of {self.psnr:g} dB is out of reach, the nearest file has {psnr_of(trial.mse):.3f} dB"


@dataclass(frozen=True)
class Encoded:
    """How a picture was encoded: what `Codec.encode` tells its `report`.

    variant, parameters: of the bundle's program. quality: None where another file set the parameters. bytes, bpp: of
    the whole file, in bits per pixel. psnr: of the decoded file in dB; None where no target was given. missed: one line
    on a target that the file does not meet, None where it does. clipped: one line on each stream of which latents were
    clipped.
    """

    variant: str
    parameters: Values
    quality: float | None
    bytes: int
    bpp: float
    psnr: float | None
    missed: str | None
    clipped: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One file of a picture. wish, variant, parameters: what it was made from. error: measures the squared grey levels
    between the decoded file and the picture. clipped: as in `Encoded`."""

    wish: Wish
    variant: str
    parameters: Values
    data: bytes
    bpp: float
    error: Callable[[], float]
    clipped: tuple[str, ...] = ()

    @cached_property
    def mse(self) -> float:
        """Mean squared error in grey levels; decodes the file when first asked for."""
        return self.error()


def at_target(wish: Wish, target: Target, trial: Callable[[Wish], Trial]) -> Trial:
    """The file with the highest quality, within PRECISION, that has at most the target's bits per pixel, or with the
    lowest that has at least its dB; without a target that of the wish. trial: encodes a wish. Where no quality meets
    the target, the nearest file of those tried.
    """
    if not target.is_set:
        return trial(wish)
    tried: list[Trial] = []

    def meets(quality: float) -> bool:
        tried.append(trial(replace(wish, quality=quality)))
        return not target.miss(tried[-1])

    easy, hard, scan = (0.0, 100.0, SCAN) if target.bpp is not None else (100.0, 0.0, SCAN[::-1])
    if not meets(hard):
        start = next((quality for quality in (easy, *scan) if meets(quality)), None)
        if start is not None:
            _narrow(start, hard, meets)
    # a low quality is cheap by rate, a high one near by distortion: of what meets the target the closest to it
    met = [each for each in tried if not target.miss(each)]
    if met:
        return max(met, key=lambda t: t.bpp) if target.bpp is not None else min(met, key=lambda t: t.bpp)
    return min(tried, key=lambda t: (target.miss(t), t.bpp))


def _narrow(meets_here: float, misses_here: float, meets: Callable[[float], bool]) -> None:
    """Halve the interval between a quality that meets the target and one that does not."""
    for _ in range(ROUNDS):
        middle = (meets_here + misses_here) / 2
        if meets(middle):
            meets_here = middle
        else:
            misses_here = middle


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

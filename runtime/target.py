"""What a file is held to: a rate or a PSNR, and how it was met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .choose import Values, Wish
from .thinning import Floats


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
    """A picture with some parameters. bpp: of its file; as long as `data` is None there is none, and this an estimate.
    error: measures the squared grey levels between what a decoder shows and the picture. code: makes the file. thin:
    makes what lessens its symbols. clipped: as in `Encoded`."""

    wish: Wish
    variant: str
    parameters: Values
    bpp: float
    error: Callable[[], float]
    code: Callable[[], bytes]
    thin: Callable[[], Thinner]
    clipped: tuple[str, ...] = ()
    data: bytes | None = None

    @cached_property
    def mse(self) -> float:
        """Mean squared error in grey levels; measured when first asked for."""
        return self.error()

    @cached_property
    def thinner(self) -> Thinner:
        """Lessens its symbols."""
        return self.thin()


@dataclass(frozen=True)
class Thinner:
    """Lessens symbols of a trial. saved_bpp, lost: what 1, 2, ... of them save in bits per pixel of the picture, and
    the error that they are expected to add, in squares of a quantisation step per pixel. lessened: the trial with so
    many less."""

    saved_bpp: Floats
    lost: Floats
    lessened: Callable[[int], Trial]

    @property
    def count(self) -> int:
        """Of symbols that can be lessened."""
        return len(self.lost)

    def count_saving(self, bpp: float) -> int:
        """How many save so much; 0 where all together do not."""
        count = int(np.searchsorted(self.saved_bpp, bpp)) + 1
        return count if count <= self.count else 0

    def count_at(self, lost: float) -> int:
        """How many add an error of so much at most."""
        return int(np.searchsorted(self.lost, lost, side="right"))


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

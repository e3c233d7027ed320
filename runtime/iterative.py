"""Iterative encoding (effort 6 to 9): what the export layer's optimiser is asked for, measured with single passes.

The optimiser needs PyTorch; the runtime does not, and this module imports it only when an encoder is asked to iterate.
Its result is the symbols of every stream, which the ordinary encoder then codes: the decoder needs nothing for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .choose import Wish, choose
from .errors import UnsupportedError, one_line
from .manifest import Entropy, Parameter, Program
from .target import Target

STEPS = {6: 0, 7: 200, 8: 600, 9: 2000}
"""Effort → steps of gradient descent on all latents; before them comes a descent on the side information alone."""

_SAVED_RATE, _LOST_PSNR = 1.06, 0.1  # what iterations change at an unchanged slope: they start so far off a target
_MARGIN_RATE, _MARGIN_PSNR = 0.998, 0.005  # the optimiser aims so far inside a target: lanes and float graphs differ
_REACHES = (5.0, 10.0, 20.0, 50.0, 100.0)  # how far from a quality to look for another point of the rate curve
_EXTRA = "effort 6 to 9 (iterative encoding) needs PyTorch: pip install 'nicrt[export]'; without it use 1 to 5"


@dataclass(frozen=True)
class Edit:
    """What iterative encoding may be asked for besides a quality.

    bpp: rate of the whole file to be met. psnr: dB to be met. weights: float32 [height, width] of the squared error,
    mean 1. ms_ssim_weight: share of MS-SSIM in the distortion, 0..1.
    """

    bpp: float | None = None
    psnr: float | None = None
    weights: npt.NDArray[np.float32] | None = None
    ms_ssim_weight: float = 0.0

    @property
    def target(self) -> Target:
        """What the file is held to."""
        return Target(self.bpp, self.psnr)


@dataclass(frozen=True)
class Goal:
    """Minimise bits per pixel + slope * distortion as `edit` says. slope: bits per pixel that a squared grey level of
    mean error is worth. single_pass_bpp: rate of the file from which the iterations start."""

    slope: float
    single_pass_bpp: float
    edit: Edit


@dataclass(frozen=True)
class Point:
    """A single pass: bits per pixel of the file, mean squared error in grey levels."""

    bpp: float
    mse: float


def steers(effort: int) -> bool:
    """Whether an effort's iterations move rate and distortion towards a goal of their own."""
    return STEPS.get(effort, 0) > 0


Probe = Callable[[Wish], Point]
"""Encodes and decodes the picture in a single pass."""


def check_request(effort: int, edit: Edit, like: bool) -> None:
    """Raise ValueError for what does not go together, UnsupportedError where an effort needs what is not installed."""
    if not 1 <= effort <= 9:
        raise ValueError(f"effort is 1..9, not {effort}")
    target = edit.bpp is not None or edit.psnr is not None
    if (edit.bpp is not None and not 0 < edit.bpp < math.inf) or not 0 <= edit.ms_ssim_weight <= 1:
        raise ValueError("a target rate is above 0 bits per pixel, the weight of MS-SSIM in 0..1")
    if edit.psnr is not None and not math.isfinite(edit.psnr):
        raise ValueError("a target PSNR is a number of dB")
    if edit.bpp is not None and edit.psnr is not None:
        raise ValueError("a target is a rate or a PSNR, not both")
    if (edit.weights is not None or edit.ms_ssim_weight) and not steers(effort):
        raise ValueError("a map of weights and MS-SSIM need effort 7 to 9")
    if like and (effort in STEPS or target):
        raise ValueError("`like` sets all parameters: it goes with no target, and with effort 1 to 5")
    if effort in STEPS:
        try:
            import nicrt.export.editing  # noqa: F401
        except ImportError as error:
            raise UnsupportedError(f"{_EXTRA} ({one_line(error)})") from None


def normalised_weights(roi: npt.ArrayLike, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Any map of numbers from 0 up, [height, width] → float32 with a mean of 1. Raises ValueError."""
    weights = np.asarray(roi, dtype=np.float32)
    if weights.shape != size:
        raise ValueError(f"the map of weights has shape {weights.shape}, the picture {size}")
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() <= 0:
        raise ValueError("the weights of a map are from 0 up, and not all 0")
    return np.asarray(weights / weights.mean(), np.float32)


def start_of(edit: Edit) -> Edit:
    """The targets of the single pass from which the iterations for `edit` start."""
    bpp = None if edit.bpp is None else edit.bpp * _SAVED_RATE
    return replace(edit, bpp=bpp, psnr=None if edit.psnr is None else edit.psnr + _LOST_PSNR)


def _inside(edit: Edit) -> Edit:
    bpp = None if edit.bpp is None else edit.bpp * _MARGIN_RATE
    return replace(edit, bpp=bpp, psnr=None if edit.psnr is None else edit.psnr + _MARGIN_PSNR)


def prepare(probe: Probe, wish: Wish, bundle: Bundle, size: tuple[int, int], edit: Edit) -> tuple[Wish, Goal]:
    """The wish with the best tables of side information, and what the iterations are to reach, by single passes."""
    slope = _slope(probe, wish)
    variant, values = choose(bundle, wish, size)
    for parameter in _open_table_sets(bundle.manifest.variants[variant].program, wish):
        wish = _with_best(probe, wish, parameter, values[parameter.name][0], slope)
    return wish, Goal(slope, probe(wish).bpp, _inside(edit))


def _slope(probe: Probe, wish: Wish) -> float:
    """Bits per pixel that a squared grey level is worth around a wish's quality: the slope of the bundle's own curve of
    rate and distortion for this picture. Raises UnsupportedError for a bundle without a curve."""
    for reach in _REACHES:
        below = probe(replace(wish, quality=max(0.0, wish.quality - reach)))
        above = probe(replace(wish, quality=min(100.0, wish.quality + reach)))
        if above.bpp > below.bpp and above.mse < below.mse:
            return (above.bpp - below.bpp) / (below.mse - above.mse)
    raise UnsupportedError("effort 6 to 9 needs a bundle whose rate and distortion follow its quality; use 1 to 5")


def _open_table_sets(program: Program, wish: Wish) -> list[Parameter]:
    """The numbers that pick a table set (quantisation steps of side information) and that the wish leaves open."""
    used = {step.set for stage in program.stages for step in stage.steps if isinstance(step, Entropy)}
    return [p for p in program.parameters if p.name in used - set(wish.parameters) and p.length is None]


def _with_best(probe: Probe, wish: Wish, parameter: Parameter, value: int, slope: float) -> Wish:
    """The wish with the best value of a parameter: a walk along its values while rate + slope * error falls."""

    def at(value: int) -> Wish:
        return replace(wish, parameters={**wish.parameters, parameter.name: value})

    @cache
    def cost(value: int) -> float:
        point = probe(at(value))
        return point.bpp + slope * point.mse

    while True:
        near = [v for v in (value - 1, value + 1) if parameter.min <= v <= parameter.max]
        best = min([value, *near], key=cost)
        if best == value:
            return at(value)
        value = best


def edited_symbols(
    bundle: Bundle,
    variant: str,
    values: dict[str, list[int]],
    picture: npt.NDArray[np.float32],
    goal: Goal,
    effort: int,
    threads: int,
) -> list[npt.NDArray[np.int32]]:
    """The symbols of every stream after `STEPS[effort]` steps; picture: float32 [height, width, 3] in [0, 1]."""
    from nicrt.export.editing import edit

    return edit(bundle, variant, values, picture, goal, STEPS[effort], threads)

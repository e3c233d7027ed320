"""One picture on its way to a file: single passes, iterations, and the search for a target with either."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .choose import Values, Wish, choose, for_size
from .iterative import Edit, Goal, Point, prepare, start_of, steers
from .manifest import Manifest
from .opened import Opened
from .pictures import Rgb
from .saturation import Saturated
from .target import Trial, at_target, mean_squared_error, psnr_of

SINGLE_PASS_EFFORT = 5  # above it, encoding iterates
CLOSE_RATE, CLOSE_PSNR = 0.02, 0.2  # share of a rate, dB: a target missed by less is worth a second try


@dataclass(frozen=True)
class Made:
    """A file, the parameters that it was made with, and the streams of which latents were clipped."""

    parameters: Values
    data: bytes
    clipped: list[Saturated]


Encode = Callable[[str, Values, Collection[str], int, Goal | None], Made]
"""Variant, parameters, names of those that the encoder may change, effort, goal of the iterations → a file. All files
of a search are made by it, with the lanes and tiles of the one that is kept: both cost bytes."""


class Encoding:
    """Encodes one picture, float32 [height, width, 3] in [0, 1]; each set of parameters once."""

    def __init__(
        self,
        manifest: Manifest,
        pixels: Rgb,
        effort: int,
        encode: Encode,
        decode: Callable[[bytes], npt.NDArray[np.uint8]],
    ) -> None:
        self._manifest = manifest
        self._pixels = pixels
        self._effort = effort
        self._encode = encode
        self._decode = decode
        self._made: dict[tuple[str, tuple[tuple[int, ...], ...]], Trial] = {}

    def best(self, wish: Wish, edit: Edit) -> Trial:
        """The file of a wish, or the one that comes nearest to the target of `edit`. Raises as `Codec.encode` does."""
        target = edit.target
        if self._effort <= SINGLE_PASS_EFFORT:
            return at_target(wish, target, self._single)
        if not steers(self._effort):
            return at_target(wish, target, lambda wish: self._iterated(wish, Edit()))
        wish = at_target(wish, start_of(edit).target, self._single).wish
        trial = self._iterated(wish, edit)
        aim = _corrected(edit, trial)
        if aim is None:
            return trial
        return min((trial, self._iterated(wish, aim)), key=lambda t: (target.miss(t), t.bpp))

    def like(self, other: Opened) -> Trial:
        """The file with the variant and the parameters of another one, its layers scaled to this picture."""
        program, made_for = self._manifest.variants[other.variant].program, (other.file.height, other.file.width)
        values = for_size(program, other.parameters, made_for, self._pixels.shape[:2])
        return self._trial(Wish(parameters=values), other.variant, values, self._effort, None)

    def _trial(self, wish: Wish, variant: str, values: Values, effort: int, goal: Goal | None) -> Trial:
        open_parameters = values.keys() - wish.parameters.keys()
        made = self._encode(variant, values, open_parameters, effort, goal)
        height, width = self._pixels.shape[:2]

        def error() -> float:
            return mean_squared_error(self._decode(made.data), self._pixels)

        bpp = 8 * len(made.data) / (width * height)
        return Trial(wish, variant, made.parameters, made.data, bpp, error, tuple(map(str, made.clipped)))

    def _choose(self, wish: Wish) -> tuple[str, Values]:
        return choose(self._manifest, wish, self._pixels.shape[:2])

    def _single(self, wish: Wish) -> Trial:
        variant, values = self._choose(wish)
        key = variant, tuple(map(tuple, values.values()))
        if key not in self._made:
            effort = min(self._effort, SINGLE_PASS_EFFORT)
            self._made[key] = self._trial(wish, variant, values, effort, None)
        return self._made[key]

    def _iterated(self, wish: Wish, edit: Edit) -> Trial:
        def probe(wish: Wish) -> Point:
            single = self._single(wish)
            return Point(single.bpp, single.mse)

        wish, goal = prepare(probe, wish, self._manifest, self._pixels.shape[:2], edit)
        return self._trial(wish, *self._choose(wish), self._effort, goal)


def _corrected(edit: Edit, trial: Trial) -> Edit | None:
    """What the iterations are to aim at instead, after they missed a target by a little: they reckon with the code
    length of symbols, not with the bytes of segments. None where they met it, or where it is out of their reach."""
    if not edit.target.miss(trial):
        return None
    if edit.bpp is not None:
        return replace(edit, bpp=edit.bpp**2 / trial.bpp) if trial.bpp < (1 + CLOSE_RATE) * edit.bpp else None
    assert edit.psnr is not None
    lost = edit.psnr - psnr_of(trial.mse)
    return replace(edit, psnr=edit.psnr + lost) if lost < CLOSE_PSNR else None

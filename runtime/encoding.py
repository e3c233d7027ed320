"""One picture on its way to a file: single passes, iterations, and the search for a target with either."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import NoReturn

from .bundle import Bundle
from .choose import Values, Wish, choose, for_size
from .iterative import Edit, Point, prepare, start_of, steers
from .opened import Opened
from .search import Search, Searched
from .session import Quantised, Session
from .target import Target, Thinner, Trial, psnr_of

SINGLE_PASS_EFFORT = 5  # above it, encoding iterates
CLOSE_RATE, CLOSE_PSNR = 0.02, 0.2  # share of a rate, dB: a target missed by less is worth a second try
START_WINDOW_DB = 0.2
"""How near a single pass must come to the target of iterations that start from it."""


class Encoding:
    """Encodes one picture; each set of parameters once. sample: a session with a part of the picture, None where that
    is too small for one. Methods raise as `Codec.encode` does."""

    def __init__(self, bundle: Bundle, session: Session, sample: Session | None, effort: int) -> None:
        self._bundle = bundle
        self._session = session
        self._sample = sample
        self._effort = effort
        self._trials: dict[Hashable, Trial] = {}
        self._real_bytes = 1.0  # of the last file, as a multiple of its estimate

    def best(self, wish: Wish, edit: Edit) -> Trial:
        """The file of a wish, or the one that comes nearest to the target of `edit`."""
        target = edit.target
        if self._effort <= SINGLE_PASS_EFFORT:
            return self._search(wish, target).best() if target.is_set else self._plain(wish, *self._choose(wish))
        if not steers(self._effort):
            side = self._side_iterated
            return self._search(wish, target, side).best() if target.is_set else side(wish)
        if target.is_set:
            wish = self._search(wish, start_of(edit).target).near(START_WINDOW_DB).wish
        trial = self._iterated(wish, edit)
        aim = _corrected(edit, trial)
        if aim is None:
            return trial
        return min((trial, self._iterated(wish, aim)), key=lambda t: (target.miss(t), t.bpp))

    def like(self, other: Opened) -> Trial:
        """The file with the variant and the parameters of another one, its layers scaled to this picture."""
        program, made_for = self._bundle.manifest.variants[other.variant].program, (other.file.height, other.file.width)
        values = for_size(program, other.parameters, made_for, self._session.size)
        return self._plain(Wish(parameters=values), other.variant, values)

    def _plain(self, wish: Wish, variant: str, values: Values) -> Trial:
        """A file of which nothing else is to be known."""
        open_parameters = values.keys() - wish.parameters.keys()
        values, data, clipped = self._session.encode(variant, values, open_parameters, self._effort)
        bpp = _bpp(len(data), self._session)
        return Trial(wish, variant, values, bpp, _unasked, _unasked, _unasked, clipped, data)

    def _choose(self, wish: Wish) -> tuple[str, Values]:
        return choose(self._bundle, wish, self._session.size)

    def _key(self, wish: Wish) -> Hashable:
        variant, values = self._choose(wish)
        return variant, tuple(map(tuple, values.values()))

    def _search(self, wish: Wish, target: Target, trial: Callable[[Wish], Trial] | None = None) -> Search:
        """trial: in place of single passes."""
        sizes = {p.name for v in self._bundle.manifest.variants.values() for p in v.program.parameters if p.is_sizes}
        sample = None if self._sample is None or sizes & wish.parameters.keys() else self._sample
        searched = Searched(
            trial or partial(self._single, asked=wish),
            self._finished,
            self._key,
            None if sample is None else partial(self._sampled, sample),
            self._cost,
        )
        return Search(wish, target, searched)

    def _cost(self) -> float:
        return self._session.macs + (0.0 if self._sample is None else self._sample.macs)

    def _single(self, wish: Wish, asked: Wish | None = None) -> Trial:
        """A single pass. asked: what its parameters are asked for by, where it is not the wish itself."""
        key = self._key(wish)
        if key not in self._trials:
            variant, values = self._choose(wish)
            open_parameters = values.keys() - (asked or wish).parameters.keys()
            made = self._session.quantise(variant, values, open_parameters, min(self._effort, SINGLE_PASS_EFFORT))
            self._trials[key] = self._trial(self._session, wish, made)
        return self._trials[key]

    def _sampled(self, sample: Session, wish: Wish) -> Trial:
        variant, values = choose(self._bundle, wish, sample.size)
        made = sample.quantise(variant, values, None, min(self._effort, SINGLE_PASS_EFFORT))
        return self._trial(sample, wish, made)

    def _trial(self, session: Session, wish: Wish, made: Quantised) -> Trial:
        bpp = _bpp(self._real_bytes * session.estimated_bytes(made), session)
        error, code, thin = partial(session.error, made), partial(session.file, made), partial(self._thinner, session)
        return Trial(wish, made.variant, made.parameters, bpp, error, code, partial(thin, wish, made), made.clipped)

    def _thinner(self, session: Session, wish: Wish, made: Quantised) -> Thinner:
        saved_bits, lost, lessened = session.thinned(made)
        pixels = math.prod(session.size)
        return Thinner(saved_bits / pixels, lost / pixels, lambda count: self._trial(session, wish, lessened(count)))

    def _finished(self, trial: Trial) -> Trial:
        """The trial with its file, of which the rate is."""
        if trial.data is not None:
            return trial
        data = trial.code()
        bpp = _bpp(len(data), self._session)
        self._real_bytes *= bpp / trial.bpp
        return replace(trial, data=data, bpp=bpp, error=lambda: trial.mse)

    def _side_iterated(self, wish: Wish) -> Trial:
        return self._iterated(wish, Edit())

    def _iterated(self, wish: Wish, edit: Edit) -> Trial:
        def probe(wish: Wish) -> Point:
            single = self._finished(self._single(wish))
            return Point(single.bpp, single.mse)

        wish, goal = prepare(probe, wish, self._bundle, self._session.size, edit)
        made = self._session.iterate(*self._choose(wish), self._effort, goal)
        return self._finished(self._trial(self._session, wish, made))


def _bpp(file_bytes: float, session: Session) -> float:
    return 8 * file_bytes / math.prod(session.size)


def _unasked() -> NoReturn:
    raise AssertionError("nothing is measured of a file without a target")


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

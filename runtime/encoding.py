"""One picture on its way to a file: single passes, iterations, and the search for a target with either."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn

from .choose import Values, Wish, choose, for_size
from .iterative import Edit, Point, prepare, start_of, steers
from .manifest import Entropy, Manifest, Parameter, Run
from .opened import Opened
from .plan import whole_rounds
from .reruns import Element, Encoder, encoder_macs, in_loop_macs, rerun_macs
from .search import REACH, Change, Knob, Search, Searched
from .session import Quantised, Session
from .target import Target, Trial, psnr_of

SINGLE_PASS_EFFORT = 5  # above it, encoding iterates
CLOSE_RATE, CLOSE_PSNR = 0.02, 0.2  # share of a rate, dB: a target missed by less is worth a second try
KNOB_SHARE = 0.6
"""What a trial with one parameter changed may cost, of one with another quality, to be worth a search of its own."""
START_WINDOW_DB = 0.2
"""How near a single pass must come to the target of iterations that start from it."""


class Encoding:
    """Encodes one picture; each set of parameters once. sample: a session with a part of the picture, None where that
    is too small for one. Methods raise as `Codec.encode` does."""

    def __init__(self, manifest: Manifest, session: Session, sample: Session | None, effort: int) -> None:
        self._manifest = manifest
        self._session = session
        self._sample = sample
        self._effort = effort
        self._trials: dict[Hashable, Trial] = {}
        self._real_bytes = 1.0  # of the last file, as a multiple of its estimate

    def best(self, wish: Wish, edit: Edit) -> Trial:
        """The file of a wish, or the one that comes nearest to the target of `edit`."""
        target = edit.target
        if self._effort <= SINGLE_PASS_EFFORT:
            return self._found(wish, target) if target.is_set else self._plain(wish, *self._choose(wish))
        if not steers(self._effort):
            return self._found(wish, target, self._side_iterated) if target.is_set else self._side_iterated(wish)
        if target.is_set:
            wish = self._found(wish, start_of(edit).target, window_db=START_WINDOW_DB).wish
        trial = self._iterated(wish, edit)
        aim = _corrected(edit, trial)
        if aim is None:
            return trial
        return min((trial, self._iterated(wish, aim)), key=lambda t: (target.miss(t), t.bpp))

    def like(self, other: Opened) -> Trial:
        """The file with the variant and the parameters of another one, its layers scaled to this picture."""
        program, made_for = self._manifest.variants[other.variant].program, (other.file.height, other.file.width)
        values = for_size(program, other.parameters, made_for, self._session.size)
        return self._plain(Wish(parameters=values), other.variant, values)

    def _plain(self, wish: Wish, variant: str, values: Values) -> Trial:
        """A file of which nothing else is to be known."""
        open_parameters = values.keys() - wish.parameters.keys()
        values, data, clipped = self._session.encode(variant, values, open_parameters, self._effort)
        height, width = self._session.size
        bpp = 8 * len(data) / (width * height)
        return Trial(wish, variant, values, bpp, _unasked, _unasked, clipped, data)

    def _choose(self, wish: Wish) -> tuple[str, Values]:
        return choose(self._manifest, wish, self._session.size)

    def _key(self, wish: Wish) -> Hashable:
        variant, values = self._choose(wish)
        return variant, tuple(map(tuple, values.values()))

    def _found(
        self,
        wish: Wish,
        target: Target,
        trial: Callable[[Wish], Trial] | None = None,
        window_db: float | None = None,
    ) -> Trial:
        """The file of a search for a target. trial: in place of single passes."""
        sizes = {p.name for v in self._manifest.variants.values() for p in v.program.parameters if p.is_sizes}
        sample = None if self._sample is None or sizes & wish.parameters.keys() else self._sample
        show = target.psnr is not None
        searched = Searched(
            partial(self._single, asked=wish) if trial is None else trial,
            self._finished,
            self._key,
            partial(self._changes, wish),
            partial(self._between, wish),
            partial(self._knob, wish, show),
            None if sample is None else partial(self._sampled, sample),
            self._cost,
            partial(self._trial_cost, show),
            self._decode_cost,
        )
        return Search(wish, target, searched, window_db).best()

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
        variant, values = choose(self._manifest, wish, sample.size)
        made = sample.quantise(variant, values, None, min(self._effort, SINGLE_PASS_EFFORT))
        return self._trial(sample, wish, made)

    def _trial(self, session: Session, wish: Wish, made: Quantised) -> Trial:
        height, width = session.size
        bpp = 8 * self._real_bytes * session.estimated_bytes(made) / (width * height)
        error, code = partial(session.error, made), partial(session.file, made)
        return Trial(wish, made.variant, made.parameters, bpp, error, code, made.clipped)

    def _finished(self, trial: Trial) -> Trial:
        """The trial with its file, of which the rate is."""
        if trial.data is not None:
            return trial
        data = trial.code()
        height, width = self._session.size
        bpp = 8 * len(data) / (width * height)
        self._real_bytes *= bpp / trial.bpp
        return replace(trial, data=data, bpp=bpp, error=lambda: trial.mse)

    def _changes(self, asked: Wish, wish: Wish, steps: Sequence[int]) -> list[Change]:
        """Steps of numbers that nobody has asked for, that pick no tables and that the quality does not move here."""
        variant, values = self._choose(wish)
        moved, found = {name for name, _ in self._moved(wish)}, []
        for parameter in self._open_parameters(variant, asked):
            if parameter.length is None and parameter.name not in moved:
                near = (values[parameter.name][0] + step for step in steps)
                found += [(parameter.name, v) for v in near if parameter.min <= v <= parameter.max]
        return found

    def _knob(self, asked: Wish, show: bool, wish: Wish) -> Knob | None:
        """The number, or the last round's number of a list, whose change makes least of the program run again."""
        variant, values = self._choose(wish)
        encoder = self._encoder(variant, values, show)
        last = encoder.items[-1]
        runs = (step for step in last.stage.steps if isinstance(step, Run))
        per_round = {source for run in runs for source in run.inputs.values() if source.endswith("[i]")}
        elements = [
            (p, last.item if p.length is not None else 0)
            for p in self._open_parameters(variant, asked)
            if p.length is None or f"${p.name}[i]" in per_round
        ]
        costs = [rerun_macs(encoder, {(p.name, place)}) for p, place in elements]
        if not costs or min(costs) > KNOB_SHARE * rerun_macs(encoder, self._moved(wish)):
            return None
        parameter, place = elements[costs.index(min(costs))]

        def turned(steps: int) -> Wish | None:
            value = list(values[parameter.name])
            value[place] += steps
            within = parameter.min <= value[place] <= parameter.max
            return replace(wish, parameters={**wish.parameters, parameter.name: value}) if within else None

        return turned

    def _between(self, asked: Wish, wish: Wish, other: Wish, share: float) -> Wish | None:
        """A wish with the first of those numbers of another one's lists that differ: such a share of each list."""
        (variant, values), (other_variant, others) = self._choose(wish), self._choose(other)
        mixed = {}
        for parameter in self._open_parameters(variant, asked) if variant == other_variant else ():
            value, goal = list(values[parameter.name]), others[parameter.name]
            differing = [place for place, number in enumerate(value) if number != goal[place]]
            for place in differing[: round(share * len(differing))]:
                value[place] = goal[place]
            if parameter.length is not None and len(differing) > 1:
                mixed[parameter.name] = value
        return replace(wish, parameters={**wish.parameters, **mixed}) if mixed else None

    def _encoder(self, variant: str, values: Values, show: bool) -> Encoder:
        items = whole_rounds(self._manifest.variants[variant].program, values, self._session.size)
        return Encoder(items, self._manifest.graphs, min(self._effort, SINGLE_PASS_EFFORT), show)

    def _trial_cost(self, show: bool, before: Wish | None, wish: Wish) -> float:
        """Of a trial after another one."""
        variant, values = self._choose(wish)
        encoder = self._encoder(variant, values, show)
        if before is None:
            return encoder_macs(encoder)
        variant_before, values_before = self._choose(before)
        if variant != variant_before:
            return encoder_macs(encoder)
        return rerun_macs(encoder, _differing(values_before, values))

    def _open_parameters(self, variant: str, asked: Wish) -> list[Parameter]:
        """Numbers and lists of numbers that nobody has asked for, but for those that pick tables."""
        program = self._manifest.variants[variant].program
        sets = {step.set for stage in program.stages for step in stage.steps if isinstance(step, Entropy)}
        return [p for p in program.parameters if not p.is_sizes and p.name not in sets | asked.parameters.keys()]

    def _moved(self, wish: Wish) -> set[Element]:
        """What a quality beside that of a wish would change."""
        _, values = self._choose(wish)
        near = (min(100.0, max(0.0, wish.quality + side * REACH)) for side in (-1, 1))
        others = [self._choose(replace(wish, quality=quality))[1] for quality in near]
        return set().union(*(_differing(values, other) for other in others))

    def _decode_cost(self, trial: Trial) -> float:
        return in_loop_macs(self._encoder(trial.variant, trial.parameters, show=True))

    def _side_iterated(self, wish: Wish) -> Trial:
        return self._iterated(wish, Edit())

    def _iterated(self, wish: Wish, edit: Edit) -> Trial:
        def probe(wish: Wish) -> Point:
            single = self._finished(self._single(wish))
            return Point(single.bpp, single.mse)

        wish, goal = prepare(probe, wish, self._manifest, self._session.size, edit)
        made = self._session.iterate(*self._choose(wish), self._effort, goal)
        return self._finished(self._trial(self._session, wish, made))


def _differing(before: Values, after: Values) -> set[Element]:
    """Numbers that differ, of the parameters that both have."""
    return {
        (name, place)
        for name in before.keys() & after.keys()
        for place, (old, new) in enumerate(zip(before[name], after[name], strict=False))
        if old != new
    }


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

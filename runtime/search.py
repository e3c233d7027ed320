"""Finds the parameters at which a picture's file meets a rate or a PSNR, with few trials.

Rate and PSNR follow the quality smoothly on photographs. A sample of the picture gives the shape of that curve, a first
trial of the picture where the curve lies, and every further one corrects it. Where another quality would run most of
the encoder again, a parameter near its end does the rest; where a quality's next step is too coarse, a parameter that
nobody has asked for makes finer ones.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from .choose import Wish
from .target import Target, Trial, psnr_of

PASSES = 3.0
"""What a search may cost as soon as it has met its target: so many plain encodes, for a PSNR with their decodes."""
MOST_TRIALS = 12
SLOPE_DB = 0.1
"""What a step of quality is worth, in PSNR or in rate (a tenth of a decibel is 2.3%), where nothing is known: 0.08 to
0.2 in the shipped bundles on photographs."""
STEEPEST = 5.0
"""How many times more or less than that is believed."""
WINDOW_PSNR_DB, WINDOW_RATE_DB = 0.05, 0.02
"""A file that is no further inside its target will do."""
AIM = 0.4
"""Share of that window to aim at."""
DOUBT = 0.1
"""A trial comes out as expected, give or take this share of what lies between the target and the nearest one before."""
GRID, REACH = 0.125, 2.5
"""Qualities are multiples of it; those so near to where the target should be are looked at."""
SAMPLES_BEFORE, SAMPLES = 3, 6
"""Trials of the sample before the picture's first one, and in all."""
NEAR_DB, NEAR = 0.5, 1.0
"""How near to the target one of them will do, before; and how near in quality to where the target should be, after."""
KNOB_DB, LAST_KNOB_DB = 0.5, 2.5
"""How near a trial must be for a knob to do the rest; and where another quality is not affordable."""
KNOB_STEPS, KNOB_PROBE, KNOB_LEAST_DB = 32, 4, 0.01
"""A knob's most steps, those that the sample is asked about, and what a step must be worth."""
FINE_STEPS, FINE_DB = (-1, 1), 0.2
"""Of a parameter that nobody has asked for, and how near a trial must be for them."""
SCAN, SCANNED_DB = (50.0, 25.0, 75.0), 1.0
"""Qualities to try where the end of 0..100 misses by less: rate and PSNR need not follow the quality on every
picture."""

Change = tuple[str, int]
"""A parameter and its value in place of the quality's."""


Knob = Callable[[int], Wish | None]
"""A wish with the parameter moved by steps whose trials cost least; None beyond its limits."""


@dataclass(frozen=True)
class Searched:
    """What a search is told of its picture. trial: of a wish. finished: a trial with its file, measured on it. key: of
    a wish, the same for the same parameters. changes: to a wish, by steps of parameters that nobody has asked for.
    between: a wish with a share of another one's numbers in lists; None where these do not differ, or hardly.
    knob: of a wish; None where trials of another quality cost little more. sample: a trial of a part of the picture;
    None where there is none. cost: of all so far, in any unit. trial_cost: what a wish's trial will cost after that of
    another wish, or as the first. decode_cost: of decoding a trial's file, without what a trial runs as well."""

    trial: Callable[[Wish], Trial]
    finished: Callable[[Trial], Trial]
    key: Callable[[Wish], Hashable]
    changes: Callable[[Wish, Sequence[int]], list[Change]]
    between: Callable[[Wish, Wish, float], Wish | None]
    knob: Callable[[Wish], Knob | None]
    sample: Callable[[Wish], Trial] | None
    cost: Callable[[], float]
    trial_cost: Callable[[Wish | None, Wish], float]
    decode_cost: Callable[[Trial], float]


@dataclass
class _Line:
    """Points (x, y) and what lies between them; beyond them it goes on as it does there. There is one at least."""

    points: list[tuple[float, float]] = field(default_factory=list)

    def add(self, x: float, y: float) -> None:
        self.points = sorted([*(p for p in self.points if p[0] != x), (x, y)])

    def __call__(self, x: float) -> float:
        if len(self.points) == 1:
            ((x0, y0),) = self.points
            return y0 + SLOPE_DB * (x - x0)
        number = min(max(1, bisect([p[0] for p in self.points], x)), len(self.points) - 1)
        (x0, y0), (x1, y1) = self.points[number - 1 : number + 1]
        slope = (y1 - y0) / (x1 - x0)
        if not x0 <= x <= x1:
            slope = min(max(slope, SLOPE_DB / STEEPEST), SLOPE_DB * STEEPEST)
            x0, y0 = (x0, y0) if x < x0 else (x1, y1)
        return y0 + slope * (x - x0)


@dataclass
class _Turned:
    """A knob at a trial: what it is worth a step, and the excess at the steps that were tried."""

    knob: Knob
    slope: float
    excess: dict[int, float]

    def expected(self, steps: int) -> float:
        nearest = min(self.excess, key=lambda tried: abs(tried - steps))
        return self.excess[nearest] + self.slope * (steps - nearest)

    def learn(self, steps: int, excess: float) -> None:
        if steps not in self.excess:
            nearest = min(self.excess, key=lambda tried: abs(tried - steps))
            slope = (excess - self.excess[nearest]) / (steps - nearest)
            if 0.3 < slope / self.slope < 3:
                self.slope = slope
        self.excess[steps] = excess


@dataclass
class _Tried:
    """One trial. ease: of one with a quality's own parameters, else None. learn: is told its excess."""

    wish: Wish
    ease: float | None
    learn: Callable[[float], None]
    excess: float = field(init=False)
    trial: Trial = field(init=False)


class Search:
    """One search. Where a file lies is told in decibels: *excess* is how far it is inside the target, and *ease* the
    quality, or its negative for a rate, so that excess rises with ease."""

    def __init__(self, wish: Wish, target: Target, picture: Searched, window_db: float | None = None) -> None:
        self._wish, self._target, self._picture = wish, target, picture
        default = WINDOW_RATE_DB if target.bpp is not None else WINDOW_PSNR_DB
        self._window = default if window_db is None else window_db
        self._ends = (-100.0, 0.0) if target.bpp is not None else (0.0, 100.0)
        self._shape = _Line()  # of the sample
        self._correction = _Line()  # what a picture has more than its sample, at the eases that were tried
        self._offsets: dict[Change, float] = {}
        self._turned: dict[Hashable, _Turned | None] = {}  # by the key of its trial
        self._tried: dict[Hashable, _Tried] = {}
        self._start = picture.cost()
        self._pass = self._unplanned = 0.0  # cost of the first trial with its decode; what it cost beyond its plan
        self._last: Wish | None = None

    def best(self) -> Trial:
        """The file with the most bits per pixel of those tried that have at most the target's, or with the fewest of
        those that have at least its dB; where none meets it, the nearest."""
        self._look_at_sample()
        while True:
            while (tried := self._next()) is not None:
                self._try(tried)
            chosen = self._chosen()
            estimated = chosen.trial.bpp
            self._record(chosen, self._picture.finished(chosen.trial))
            self._calibrate(chosen.trial.bpp / estimated)
            if chosen is self._chosen() and self._next() is None:
                return chosen.trial

    def _try(self, tried: _Tried) -> None:
        before = self._picture.cost()
        self._tried[self._picture.key(tried.wish)] = tried
        self._record(tried, self._picture.trial(tried.wish))
        if self._last is None:
            cost = self._picture.cost() - before
            decode = self._picture.decode_cost(tried.trial) if self._target.psnr is not None else 0.0
            self._pass, self._unplanned = cost + decode, max(0.0, cost - self._picture.trial_cost(None, tried.wish))
        self._last = tried.wish
        self._look_at_sample()

    def _record(self, tried: _Tried, trial: Trial) -> None:
        tried.trial, tried.excess = trial, self._excess(trial)
        tried.learn(tried.excess)

    def _calibrate(self, real: float) -> None:
        """A file is so many times as large as its estimate: so will others be."""
        for tried in self._tried.values():
            if tried.trial.data is None and self._target.bpp is not None:
                self._record(tried, replace(tried.trial, bpp=real * tried.trial.bpp))

    def _excess(self, trial: Trial) -> float:
        if self._target.bpp is not None:
            return 10 * math.log10(self._target.bpp / trial.bpp)
        assert self._target.psnr is not None
        return min(psnr_of(trial.mse), 1e3) - self._target.psnr

    def _sampled(self, wish: Wish) -> float:
        assert self._picture.sample is not None
        return self._excess(self._picture.sample(wish))

    def _at(self, ease: float, change: Change | None = None) -> Wish:
        parameters = self._wish.parameters if change is None else {**self._wish.parameters, change[0]: change[1]}
        return replace(self._wish, quality=abs(ease), parameters=parameters)

    def _chosen(self) -> _Tried:
        """The best of what was tried."""
        met = [each for each in self._tried.values() if each.excess >= 0]
        if not met:
            return max(self._tried.values(), key=lambda each: each.excess)
        if self._target.bpp is not None:
            return max(met, key=lambda each: each.trial.bpp)
        return min(met, key=lambda each: (each.excess > self._window, each.trial.bpp))

    def _affords(self, wish: Wish, trials: int = 1) -> bool:
        """Whether so many trials as this one keep to `PASSES`."""
        cost = self._picture.trial_cost(self._last, wish) + self._unplanned
        spent = self._picture.cost() - self._start + trials * cost
        return len(self._tried) < MOST_TRIALS and spent <= PASSES * self._pass

    def _next(self) -> _Tried | None:
        """What to try: None when the target is met well enough, or nothing is left that is worth its cost."""
        if any(0 <= each.excess <= self._window for each in self._tried.values()):
            return None
        if not self._tried:
            nearest = min(self._shape.points, key=lambda point: abs(point[1]), default=(sum(self._ends) / 2, 0.0))
            return self._quality(nearest[0])  # where the sample has been too, so that both can be compared
        is_met = any(each.excess >= 0 for each in self._tried.values())
        plain = self._next_quality()
        affordable = plain is not None and self._affords(plain.wish)
        if (turned := self._next_turned(KNOB_DB if affordable else LAST_KNOB_DB)) is not None:
            return turned
        if plain is not None and self._is_coarse(plain):
            fine = self._next_fine()
            if fine is not None and self._affords(fine.wish):
                return fine
        if plain is not None and (affordable or (not is_met and len(self._tried) < MOST_TRIALS)):
            has_turned = any(turned is not None and len(turned.excess) > 1 for turned in self._turned.values())
            return None if is_met and has_turned else plain
        found = self._next_fine() if is_met else self._next_scanned()
        return found if found is not None and self._affords(found.wish) else None

    def _aim(self, wish: Wish) -> float:
        """Excess to aim at: safer where no second trial like this one can follow."""
        doubt = min(abs(each.excess) for each in self._tried.values())
        return AIM * self._window + (0.0 if self._affords(wish, 2) else DOUBT * doubt)

    # -- other qualities

    def _look_at_sample(self) -> None:
        """The sample's curve around where the target should be."""
        if self._picture.sample is None or len({excess >= 0 for _, excess in self._plain()}) == 2:
            return  # between two trials the picture itself says more
        ease = self._ease_of(0.0) if self._shape.points else sum(self._ends) / 2
        while len(self._shape.points) < (SAMPLES if self._tried else SAMPLES_BEFORE):
            if any(abs(ease - x) < NEAR or (not self._tried and abs(y) < NEAR_DB) for x, y in self._shape.points):
                break
            self._shape.add(ease, self._sampled(self._at(ease)))
            for tried in self._tried.values():
                if tried.ease is not None:
                    tried.learn(tried.excess)
            ease = self._ease_of(0.0)

    def _expected(self, ease: float) -> float:
        """Excess of a trial."""
        points = self._correction.points
        if not self._shape.points:
            return self._correction(ease)
        if not points:
            return self._shape(ease)
        nearest = min(max(ease, points[0][0]), points[-1][0])  # beyond what was tried the shape is believed
        return self._shape(ease) + (self._correction(nearest) if len(points) > 1 else points[0][1])

    def _ease_of(self, excess: float) -> float:
        """Where a trial should have that excess, on the grid; an end of 0..100 where none does."""
        low, high = (int(end / GRID) for end in self._ends)
        while low < high:
            middle = (low + high) // 2
            if self._expected(middle * GRID) < excess:
                low = middle + 1
            else:
                high = middle
        return low * GRID

    def _quality(self, ease: float, wish: Wish | None = None) -> _Tried:
        def learn(excess: float) -> None:
            self._correction.add(ease, excess - (self._shape(ease) if self._shape.points else 0.0))

        return _Tried(wish or self._at(ease), ease, learn)

    def _plain(self) -> Iterator[tuple[float, float]]:
        """Ease and excess of each quality that was tried."""
        return ((each.ease, each.excess) for each in self._tried.values() if each.ease is not None)

    def _bracket(self) -> tuple[float, float]:
        """Eases between which the target is met first: of the hardest trial that meets it and of the one before it."""
        high = min((ease for ease, excess in self._plain() if excess >= 0), default=self._ends[1] + GRID)
        low = max((ease for ease, excess in self._plain() if excess < 0 and ease < high), default=self._ends[0] - GRID)
        return low, high

    def _next_quality(self) -> _Tried | None:
        """The untried quality that should come nearest; of two beside each other, a mixture of both."""
        low, high = self._bracket()
        aim = self._aim(self._at(self._ease_of(AIM * self._window)))
        near = [ease for ease in self._near(self._ease_of(aim), low, high) if low < ease < high]
        untried = [ease for ease in near if self._picture.key(self._at(ease)) not in self._tried]
        if untried:
            return self._quality(min(untried, key=lambda ease: abs(self._expected(ease) - aim)))
        ends = {each.ease: each for each in self._tried.values() if each.ease in (low, high)}
        if len(ends) < 2:
            return None
        share = (aim - ends[low].excess) / (ends[high].excess - ends[low].excess)
        mixed = self._picture.between(ends[low].wish, ends[high].wish, share)
        if mixed is None or self._picture.key(mixed) in self._tried:
            return None
        return self._quality(low + share * (high - low), mixed)

    def _near(self, ease: float, low: float, high: float) -> list[float]:
        """Eases on the grid around one, which is first moved between `low` and `high`."""
        middle = round(min(max(ease, low, self._ends[0]), high, self._ends[1]) / GRID)
        steps = round(REACH / GRID)
        eases = [step * GRID for step in range(middle - steps, middle + steps + 1)]
        return [ease for ease in eases if self._ends[0] <= ease <= self._ends[1]]

    def _next_scanned(self) -> _Tried | None:
        if max(each.excess for each in self._tried.values()) < -SCANNED_DB:
            return None
        eases = (math.copysign(quality, sum(self._ends)) for quality in SCAN)
        untried = (ease for ease in eases if self._picture.key(self._at(ease)) not in self._tried)
        return next(map(self._quality, untried), None)

    # -- other parameters

    def _next_turned(self, reach_db: float) -> _Tried | None:
        """The nearest trial with its knob turned, where that should come nearer."""
        qualities = (each for each in self._tried.values() if each.ease is not None)
        nearest = min(qualities, key=lambda each: abs(each.excess))
        knob = self._picture.knob(nearest.wish) if abs(nearest.excess) <= reach_db else None
        beside = None if knob is None else knob(1) or knob(-1)
        if knob is None or beside is None or not self._affords(beside, 1 if self._picture.sample else 2):
            return None
        turned = self._turned_at(nearest, knob)
        if turned is None:
            return None
        aim = self._aim(beside)
        best = min((each.excess - aim for each in self._tried.values() if each.excess >= 0), default=math.inf)
        found = None
        for steps in range(-KNOB_STEPS, KNOB_STEPS + 1):
            wish, expected = turned.knob(steps), turned.expected(steps)
            if wish is None or self._picture.key(wish) in self._tried or expected < 0:
                continue
            if abs(expected - aim) < best - self._window / 10:
                best, found = abs(expected - aim), (steps, wish)
        if found is None:
            return None
        steps, wish = found
        return _Tried(wish, None, lambda excess: turned.learn(steps, excess))

    def _turned_at(self, tried: _Tried, knob: Knob) -> _Turned | None:
        """None where the knob is worth nothing."""
        key = self._picture.key(tried.wish)
        if key not in self._turned:
            slope = self._slope_of(tried, knob)
            self._turned[key] = _Turned(knob, slope, {0: tried.excess}) if abs(slope) >= KNOB_LEAST_DB else None
        return self._turned[key]

    def _slope_of(self, tried: _Tried, knob: Knob) -> float:
        """Excess for a step, on the sample or else on the picture."""
        for steps in (KNOB_PROBE, -KNOB_PROBE):
            turned = knob(steps)
            if turned is None:
                continue
            if self._picture.sample is None:
                self._last = turned
                return (self._excess(self._picture.trial(turned)) - tried.excess) / steps
            return (self._sampled(turned) - self._sampled(tried.wish)) / steps
        return 0.0

    def _next_fine(self) -> _Tried | None:
        """A setting beside the best quality, with another parameter changed, that should come nearer."""
        if self._target.psnr is None:
            return None
        nearest, _ = min(self._plain(), key=lambda each: abs(each[1]))
        self._measure_offsets(nearest)
        best, found = self._window / 2, None
        for change, offset in self._offsets.items():
            for ease in self._near(nearest, *self._ends):
                off = abs(self._expected(ease) + offset - self._window / 2)
                if off < best and self._picture.key(self._at(ease, change)) not in self._tried:
                    best, found = off, (ease, change)
        return None if found is None else self._changed(*found)

    def _changed(self, ease: float, change: Change) -> _Tried:
        def learn(excess: float) -> None:
            self._offsets[change] = excess - self._expected(ease)

        return _Tried(self._at(ease, change), None, learn)

    def _measure_offsets(self, ease: float) -> None:
        """What changes are worth, on the sample."""
        changes = [c for c in self._picture.changes(self._at(ease), FINE_STEPS) if c not in self._offsets]
        if self._picture.sample is None or not changes:
            return
        where, plain = min(self._shape.points, key=lambda point: abs(point[0] - ease))
        for change in changes:
            self._offsets[change] = self._sampled(self._at(where, change)) - plain

    def _is_coarse(self, plain: _Tried) -> bool:
        """Whether the best quality that is left should miss the window, and one that was tried is so near that a fine
        step reaches it."""
        assert plain.ease is not None
        near = any(abs(excess) < FINE_DB for _, excess in self._plain())
        return near and self._picture.sample is not None and not 0 <= self._expected(plain.ease) <= self._window

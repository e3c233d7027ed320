"""Finds the file of a picture that meets a rate or a PSNR, with few trials.

Rate and PSNR follow the quality smoothly on photographs. A sample of the picture gives the shape of that curve, a first
trial of the picture where the curve lies, and every further one corrects it. A trial that is a little *richer* than it
need be, with more bits than the target or more decibels, is enough: lessening some of its symbols (`thinning`) brings
it down to the target itself, where no quality may lie.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace

from .choose import Wish
from .target import Target, Trial, mse_of, psnr_of

PASSES = 3.0
"""What a search may cost as soon as it can meet its target: so many plain encodes, for a PSNR with their decodes."""
LANDING = 0.8
"""What it costs to come down to a PSNR, in the same unit: two decodes."""
MOST_TRIALS = 12
SLOPE_DB = 0.1
"""What a step of quality is worth, in PSNR or in rate (a tenth of a decibel is 2.3%), where nothing is known: 0.08 to
0.2 in the shipped bundles on photographs."""
STEEPEST = 5.0
"""How many times more or less than that is believed."""
WINDOW_PSNR_DB, WINDOW_RATE_DB = 0.05, 0.02
"""A file that is no further inside its target will do."""
AIM = 0.4
"""Share of that window to aim at when symbols are lessened."""
RICH_DB, AIM_DB = 0.25, 0.1
"""How rich a trial may be to lessen symbols, and how rich it should be. With 0.1 dB less by these means a file has up
to 0.7% more bytes than with another quality, with 0.25 dB up to 1.7% (shallow, slim and mean-scale, Kodak)."""
RICHEST_RATE_DB = 1.0
"""The same where no quality comes nearer: with so many more bits than the target, a quality that has less is better."""
OVERDUE = 3.0
"""How far beyond the target to aim, as a multiple of the nearest trial's miss, where a search has cost too much already
and has not met it."""
GRID = 0.125
"""Qualities are multiples of it."""
NEAREST = 20
"""So many of them around the one that should do are looked at: several may have the same parameters."""
SAMPLES_BEFORE, SAMPLES = 3, 6
"""Trials of the sample before the picture's first one, and in all."""
NEAR_DB, NEAR = 0.5, 1.0
"""How near to the target one of them will do, before; and how near in quality to where the target should be, after."""
SCAN, SCANNED_DB = (50.0, 25.0, 75.0), 1.0
"""Qualities to try where the end of 0..100 misses by less: rate and PSNR need not follow the quality on every
picture."""
PROBE = 30
"""This part of the symbols is lessened first where nothing is known of the error that they add."""
MOST_LANDINGS = 4


@dataclass(frozen=True)
class Searched:
    """What a search is told of its picture. trial: of a wish. finished: a trial with its file, measured on it. key: of
    a wish, the same for the same parameters. sample: a trial of a part of the picture; None where there is none.
    cost: of all so far, in any unit."""

    trial: Callable[[Wish], Trial]
    finished: Callable[[Trial], Trial]
    key: Callable[[Wish], Hashable]
    sample: Callable[[Wish], Trial] | None
    cost: Callable[[], float]


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
class _Tried:
    quality: float
    trial: Trial
    excess: float
    """How rich it is: decibels above the PSNR; or by which its rate is above the target's."""


def _excess_of(tried: _Tried) -> float:
    return tried.excess


class Search:
    """One search. Both kinds of excess rise with the quality."""

    def __init__(self, wish: Wish, target: Target, picture: Searched) -> None:
        self._wish, self._target, self._picture = wish, target, picture
        self._shape = _Line()  # of the sample
        self._tried: dict[Hashable, _Tried] = {}
        self._start = picture.cost()
        self._pass = 0.0  # cost of the first trial

    def best(self) -> Trial:
        """The file with the most bits per pixel of those found that have at most the target's, or with the fewest of
        those that have at least its dB; where none meets it, the nearest."""
        chosen = self._nearest()
        if self._target.psnr is not None:
            return self._at_psnr(chosen)
        found = self._at_rate(chosen)
        while found is None:
            poorer = max((each for each in self._tried.values() if each.excess <= 0), key=_excess_of, default=None)
            if poorer is None and (quality := self._poorer_quality()) is not None:
                self._try(quality)
            elif poorer is None:
                return self._picture.finished(min(self._tried.values(), key=_excess_of).trial)
            else:
                found = self._at_rate(poorer)
        return found

    def near(self, window_db: float) -> Trial:
        """A trial that comes so near to the target, or as near as one does."""
        return self._nearest(window_db).trial

    def _nearest(self, window_db: float | None = None) -> _Tried:
        self._look_at_sample()
        while (quality := self._next(window_db)) is not None:
            self._try(quality)
        every = self._tried.values()
        rich = [each for each in every if each.excess >= 0]
        if window_db is not None or not rich or any(self._fits(each.excess) for each in every):
            return min(every, key=lambda each: (not self._fits(each.excess), abs(each.excess)))
        return min(rich, key=lambda each: each.excess)

    def _excess(self, trial: Trial) -> float:
        if self._target.bpp is not None:
            return 10 * math.log10(trial.bpp / self._target.bpp)
        assert self._target.psnr is not None
        return min(psnr_of(trial.mse), 1e3) - self._target.psnr

    def _fits(self, excess: float) -> bool:
        """Whether a file meets the target and has little more than that takes."""
        if self._target.bpp is not None:
            return -WINDOW_RATE_DB <= excess <= 0
        return 0 <= excess <= WINDOW_PSNR_DB

    def _at(self, quality: float) -> Wish:
        return replace(self._wish, quality=quality)

    # -- qualities

    def _try(self, quality: float) -> None:
        before, wish = self._picture.cost(), self._at(quality)
        trial = self._picture.trial(wish)
        excess = self._excess(trial)
        self._pass = self._pass or self._picture.cost() - before
        self._tried[self._picture.key(wish)] = _Tried(quality, trial, excess)
        self._look_at_sample()

    def _next(self, window_db: float | None) -> float | None:
        """The quality to try; None when something that was tried will do, or nothing is left that is worth its
        cost."""
        if not self._tried:
            nearest = min(self._shape.points, key=lambda point: abs(point[1]), default=(50.0, 0.0))
            return nearest[0]  # where the sample has been too, so that both can be compared
        excesses = [each.excess for each in self._tried.values()]
        if any(map(self._fits, excesses)) or any(abs(e) <= (window_db or 0) for e in excesses):
            return None
        is_rich, of_rate = max(excesses) >= 0, self._target.bpp is not None
        if is_rich and min(e for e in excesses if e >= 0) <= RICH_DB:
            return None
        if not self._affords(is_rich):
            if is_rich or (of_rate and max(excesses) > -RICH_DB) or len(self._tried) == MOST_TRIALS:
                return None
            return self._untried(AIM_DB if of_rate else OVERDUE * min(map(abs, excesses)))
        found = self._untried(AIM_DB)
        return found if found is not None or is_rich or of_rate else self._scanned(max(excesses))

    def _affords(self, is_rich: bool) -> bool:
        """Whether one more trial keeps to `PASSES`, with what is left to do after it."""
        left = PASSES - (LANDING if self._target.psnr is not None and is_rich else 0.0) - 1
        return len(self._tried) < MOST_TRIALS and self._picture.cost() - self._start <= left * self._pass

    def _untried(self, aim_db: float) -> float | None:
        """The quality of that excess, between those that were tried on both sides of the target."""
        qualities = [(each.quality, each.excess) for each in self._tried.values()]
        high = min((quality for quality, excess in qualities if excess >= 0), default=100.0 + GRID)
        low = max((quality for quality, excess in qualities if excess < 0 and quality < high), default=-GRID)
        wanted = min(max(self._quality_of(aim_db), low + GRID), high - GRID)
        near = (wanted + sign * step * GRID for step in range(NEAREST) for sign in (1, -1))
        return next((q for q in near if low < q < high and self._picture.key(self._at(q)) not in self._tried), None)

    def _scanned(self, best_excess: float) -> float | None:
        if best_excess < -SCANNED_DB:
            return None
        return next((q for q in SCAN if self._picture.key(self._at(q)) not in self._tried), None)

    def _look_at_sample(self) -> None:
        """The sample's curve around where the target should be."""
        if self._picture.sample is None or len({each.excess >= 0 for each in self._tried.values()}) == 2:
            return  # between two trials the picture itself says more
        quality = self._quality_of(AIM_DB) if self._shape.points else 50.0
        while len(self._shape.points) < (SAMPLES if self._tried else SAMPLES_BEFORE):
            if any(abs(quality - x) < NEAR or (not self._tried and abs(y) < NEAR_DB) for x, y in self._shape.points):
                break
            self._shape.add(quality, self._excess(self._picture.sample(self._at(quality))))
            quality = self._quality_of(AIM_DB)

    def _correction(self) -> _Line:
        """What the picture has more than its sample, at the qualities that were tried."""
        line = _Line()
        for each in self._tried.values():
            line.add(each.quality, each.excess - (self._shape(each.quality) if self._shape.points else 0.0))
        return line

    def _expected(self, quality: float, correction: _Line) -> float:
        """Excess of a trial."""
        points = correction.points
        if not self._shape.points:
            return correction(quality)
        if not points:
            return self._shape(quality)
        nearest = min(max(quality, points[0][0]), points[-1][0])  # beyond what was tried the shape is believed
        return self._shape(quality) + (correction(nearest) if len(points) > 1 else points[0][1])

    def _quality_of(self, excess: float) -> float:
        """Where a trial should have that excess, on the grid; an end of 0..100 where none does."""
        low, high, correction = 0, int(100 / GRID), self._correction()
        while low < high:
            middle = (low + high) // 2
            if self._expected(middle * GRID, correction) < excess:
                low = middle + 1
            else:
                high = middle
        return low * GRID

    # -- fewer symbols

    def _poorer_quality(self) -> float | None:
        """One with fewer bits than the target, where no symbols are left to lessen: further below with every trial."""
        if len(self._tried) == MOST_TRIALS:
            return None
        untried = self._untried(-(len(self._tried) ** 2) * RICH_DB)
        return 0.0 if untried is None and self._picture.key(self._at(0.0)) not in self._tried else untried

    def _finish(self, tried: _Tried) -> Trial:
        """The trial with its file. As many times as that is larger than its estimate, others will be, too."""
        estimated, tried.trial = tried.trial.bpp, self._picture.finished(tried.trial)
        for each in self._tried.values():
            each.excess += 10 * math.log10(tried.trial.bpp / estimated) if each.trial.data is None else 0.0
        tried.excess = self._excess(tried.trial)
        return tried.trial

    def _at_rate(self, tried: _Tried) -> Trial | None:
        """From a trial to the target's rate; None where that is too far."""
        rate, trial = self._target.bpp, tried.trial
        assert rate is not None
        if tried.excess <= 0:
            trial = self._finish(tried)
            if trial.bpp <= rate:
                return trial
        aim = goal = rate * 10 ** (-AIM * WINDOW_RATE_DB / 10)
        for _ in range(MOST_LANDINGS if tried.excess <= RICHEST_RATE_DB else 0):
            count = trial.thinner.count_saving(trial.bpp - aim)
            if not count:
                break
            found = self._picture.finished(trial.thinner.lessened(count))
            if found.bpp <= rate:
                return found
            aim -= found.bpp - goal  # a file has a little more than its symbols' bits
        return None

    def _at_psnr(self, chosen: _Tried) -> Trial:
        """From a trial with too many decibels to the target's."""
        assert self._target.psnr is not None
        best, thinner = chosen.trial, chosen.trial.thinner
        wanted, points = mse_of(self._target.psnr + AIM * WINDOW_PSNR_DB), [(0.0, best.mse)]
        slope = self._slope_of_sample(best.wish) if chosen.excess > 0 else 0.0
        for _ in range(MOST_LANDINGS if chosen.excess > 0 else 0):
            (lost, error), *_ = points  # the nearest
            count = thinner.count_at(lost + (wanted - error) / slope) if slope > 0 else thinner.count // PROBE
            if not count or any(thinner.lost[count - 1] == lost for lost, _ in points):
                break
            found = thinner.lessened(count)
            best = found if found.bpp < best.bpp and self._excess(found) >= 0 else best
            if self._fits(self._excess(found)):
                break
            points = sorted([*points, (thinner.lost[count - 1], found.mse)], key=lambda point: abs(point[1] - wanted))
            slope = (points[1][1] - points[0][1]) / (points[1][0] - points[0][0])
        return self._picture.finished(best)

    def _slope_of_sample(self, wish: Wish) -> float:
        """What an expected error adds to the measured one: much the same for all pictures. 0 where it is not known."""
        if self._picture.sample is None:
            return 0.0
        trial = self._picture.sample(wish)
        count = trial.thinner.count // PROBE
        return (trial.thinner.lessened(count).mse - trial.mse) / trial.thinner.lost[count - 1] if count else 0.0

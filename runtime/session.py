"""One picture on its way to a file: trials with any parameters, of which the last one's work is kept, and the file of
one of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .analysis_choice import AnalysisChoice, encode_looking
from .bundle import Bundle
from .choose import Values
from .errors import CorruptError, LimitError, UnsupportedError
from .fileinfo import parse
from .iterative import Goal, edited_symbols
from .limits import Limits
from .manifest import Program, Run
from .pictures import Rgb, resample
from .refinement import Attempt, Refinement
from .saturation import Saturated
from .target import mean_squared_error
from .thinning import Floats, order_of

T = TypeVar("T")

HEADER_BYTES, SEGMENT_BYTES, LANE_BYTES = 32, 8, 2
"""What a file without its parameters, a tile's segment and each lane add to the code lengths of symbols, about: ids,
checksums, entries in the header, and the part of the coder's state that says nothing."""


@dataclass(frozen=True)
class Coding:
    """What a session takes from its codec."""

    bundle: Bundle
    limits: Limits
    engine: _core.Engine


@dataclass(frozen=True)
class Quantised:
    """What a variant and its parameters make of a picture: the symbols of every round's streams, and the streams of
    which latents were clipped."""

    variant: str
    parameters: Values
    streams: list[list[_core.Coded]]
    clipped: tuple[str, ...]


class Session:
    """Encodes one picture, float32 [height, width, 3] in [0, 1]. tile: edge in pixels, None for the bundle's. Methods
    raise as `Codec.encode` does."""

    def __init__(self, coding: Coding, pixels: Rgb, tile: int | None, symbols_per_lane: int) -> None:
        self.pixels = pixels
        self._coding = coding
        self._tile = tile
        self._symbols_per_lane = symbols_per_lane
        self._memo: _core.Memo | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def macs(self) -> float:
        """Multiplications of the graphs that trials have run so far."""
        return 0.0 if self._memo is None else self._memo.macs

    def encode(
        self, variant: str, values: Values, open_parameters: Collection[str], effort: int
    ) -> tuple[Values, bytes, tuple[str, ...]]:
        """Parameters, file and what was clipped; nothing is kept. The encoder may change open parameters."""
        self._check(variant, values, effort)
        choice, tile = self._choice(variant, open_parameters, effort), self._tile_of(variant)

        def code(coded: _core.Coded) -> _core.EncodedStream:
            return coded.encode(tile, self._symbols_per_lane)

        def encode(values: Values, clipped: list[Saturated]) -> list[list[_core.EncodedStream]]:
            return self._run(variant, values, effort, code, clipped, choice=choice)

        values, streams, clipped = encode_looking(choice, values, encode)
        return values, self._file(variant, values, streams), tuple(map(str, clipped))

    def quantise(self, variant: str, values: Values, open_parameters: Collection[str] | None, effort: int) -> Quantised:
        """A trial: as `encode`, without entropy coding. Without open parameters (None) the encoder does not look at
        what it gets: that is enough to compare trials of a sample."""
        memo = self._checked_memo(variant, values, effort)
        choice = None if open_parameters is None else self._choice(variant, open_parameters, effort)

        def quantise(values: Values, clipped: list[Saturated]) -> list[list[_core.Coded]]:
            return self._run(variant, values, effort, _itself, clipped, memo=memo, choice=choice)

        if choice is None:
            return Quantised(variant, values, quantise(values, []), ())
        values, streams, clipped = encode_looking(choice, values, quantise)
        return Quantised(variant, values, streams, tuple(map(str, clipped)))

    def iterate(self, variant: str, values: Values, effort: int, goal: Goal) -> Quantised:
        """A trial with the symbols that iterations find."""
        memo = self._checked_memo(variant, values, effort)
        coding = self._coding
        given = edited_symbols(coding.bundle, variant, values, self.pixels, goal, effort, coding.engine.threads)
        clipped: list[Saturated] = []
        streams = self._run(variant, values, effort, _itself, clipped, memo=memo, given=given)
        return Quantised(variant, values, streams, tuple(map(str, clipped)))

    def _choice(self, variant: str, open_parameters: Collection[str], effort: int) -> AnalysisChoice:
        return AnalysisChoice(self._coding.bundle, self._program(variant), open_parameters, effort)

    def _run(
        self,
        variant: str,
        values: Values,
        effort: int,
        code: Callable[[_core.Coded], T],
        clipped: list[Saturated],
        *,
        memo: _core.Memo | None = None,
        given: Sequence[npt.NDArray[np.int32]] | None = None,
        choice: AnalysisChoice | None = None,
    ) -> list[list[T]]:
        """Run all steps of an encoder; what `code` makes of each round's streams. given: the symbols of every stream in
        file order, int32 [channels, height, width]; encoder graphs do not run then. choice: may change symbols before
        they are coded, or raise Retry. clipped: gets the streams whose latents symbols do not hold. memo: what steps
        have given that did the same the last time is taken from it.
        """
        engine, program = self._coding.engine, self._program(variant)
        plan = self._plan(variant, values, effort)
        steps = plan.steps
        execution = _core.Execution.encode(
            engine, plan, self.pixels, self._resampled, None if given is None else list(given), memo
        )
        rounds: list[list[T]] = [[] for _ in plan.rounds]
        while (number := execution.step()) is not None:
            planned = steps[number]
            step = program.stages[plan.rounds[planned.round].stage].steps[planned.place]
            if not isinstance(step, Run):
                coded = execution.coded(number)
                if coded.clipped:
                    size = coded.symbols.size
                    clipped.append(Saturated(coded.out, coded.clipped, size, coded.low, coded.high))
                rounds[planned.round].append(code(coded))
            elif choice is not None:
                attempt = partial(self._attempt, execution, plan, variant, values)
                choice.ran(step, execution, values, self.pixels, attempt)
        return rounds

    def _attempt(
        self, execution: _core.Execution, plan: _core.Plan, variant: str, values: Values, refinement: Refinement
    ) -> Attempt:
        """For programs with one stage and one round, as all have that have a refinement."""
        (stage,) = self._program(variant).stages
        numbers: dict[int, tuple[_core.Plan, int]] = {}
        for each in (plan, self._coding.engine.plan(variant, values, self.size)):
            for number, planned in enumerate(each.steps):
                step = [*stage.steps, *stage.show_runs][planned.place]
                numbers.setdefault(id(step), (each, number))
        halo = refinement.halo(self._coding.bundle.manifest.graphs)
        return Attempt(execution, stage.align, plan.rounds[0].padded, halo, numbers)

    def _resampled(self, height: int, width: int) -> Rgb:
        return resample(self.pixels, (height, width))

    def _plan(self, variant: str, values: Values, effort: int) -> _core.Plan:
        return self._coding.engine.plan(variant, values, self.size, encode=effort)

    def _program(self, variant: str) -> Program:
        return self._coding.bundle.manifest.variants[variant].program

    def file(self, trial: Quantised) -> bytes:
        """The trial's symbols, entropy coded, and decoded again to see that they come out: what `error` says of the
        trial then holds for its file."""
        tile = self._tile_of(trial.variant)
        streams = [[coded.encode(tile, self._symbols_per_lane) for coded in stage] for stage in trial.streams]
        data = self._file(trial.variant, trial.parameters, streams)
        file = parse(data, self._coding.limits)
        for stage, coded_stage in zip(file.stages, trial.streams, strict=True):
            for stream, coded in zip(stage, coded_stage, strict=True):
                if not coded.is_in(data, stream, tile):
                    raise CorruptError("the encoder's own file does not decode to its symbols; please report it")
        return data

    def thinned(self, trial: Quantised) -> tuple[Floats, Floats, Callable[[int], Quantised]]:
        """The bits that lessening symbols of the last stream saves, and the error in squares of a quantisation step
        that it should add, each for 1, 2, ... symbols; and the trial with so many lessened."""
        last = trial.streams[-1][-1]
        places, saved, lost = order_of(last.symbols, last.codebook, last.index)

        def lessened(count: int) -> Quantised:
            symbols = last.symbols.copy()
            symbols.ravel()[places[:count]] -= np.sign(last.symbols.ravel()[places[:count]])
            stage = [*trial.streams[-1][:-1], last.replaced(symbols)]
            return replace(trial, streams=[*trial.streams[:-1], stage])

        return np.cumsum(saved), np.cumsum(lost), lessened

    def estimated_bytes(self, trial: Quantised) -> float:
        """Size of the trial's file by its symbols' code lengths."""
        tile = self._tile_of(trial.variant)
        total = float(HEADER_BYTES + sum(map(len, trial.parameters.values())))
        for coded in (coded for stage in trial.streams for coded in stage):
            bits, count = coded.cost()
            total += bits / 8 + LANE_BYTES * count / self._symbols_per_lane + coded.tiles(tile) * SEGMENT_BYTES
        return total

    def error(self, trial: Quantised) -> float:
        """Mean squared error in grey levels of what a decoder shows of the trial's symbols."""
        assert self._memo is not None
        engine = self._coding.engine
        plan = engine.plan(trial.variant, trial.parameters, self.size)
        symbols = [coded.symbols for stage in trial.streams for coded in stage]
        execution = _core.Execution.show(engine, plan, symbols, self._memo)
        execution.run()
        return mean_squared_error(execution.shown(), self.pixels)

    def _file(self, variant: str, values: Values, streams: Sequence[Sequence[_core.EncodedStream]]) -> bytes:
        found = self._coding.bundle.manifest.variants[variant]
        ids = bytes.fromhex(found.symbol_id), bytes.fromhex(found.picture_id)
        parameters = [values[p.name] for p in found.program.parameters]
        height, width = self.size
        return _core.write(*ids, width, height, self._tile_of(variant), parameters, streams)

    def _checked_memo(self, variant: str, values: Values, effort: int) -> _core.Memo:
        """What is kept of trials has the memory that the limit leaves."""
        needed_bytes = self._check(variant, values, effort)
        if self._memo is None:
            memory_bytes = self._coding.limits.memory_bytes
            self._memo = _core.Memo(memory_bytes, memory_bytes - needed_bytes)
        return self._memo

    def _check(self, name: str, values: Values, effort: int) -> int:
        """Raise for a picture and parameters that cannot be encoded; bytes that encoding needs."""
        program, limits = self._program(name), self._coding.limits
        height, width = self.size
        if not program.encodes:
            bundle = self._coding.bundle.manifest.name
            raise UnsupportedError(f"bundle {bundle!r} only decodes: it was made without its encoder graphs")
        if height * width > limits.pixels:
            raise LimitError(
                f"the picture has {width} x {height} pixels, more than the limit of {limits.pixels} "
                "(--max-pixels, Limits.pixels)"
            )
        _core.check_values(self._coding.bundle.core, name, values, limits.pixels, limits.stages)
        tile, stages = self._tile_of(name), program.stages
        if tile < 0 or any(tile % stage.align for stage in stages):
            raise ValueError(f"tile {tile} is not a multiple of the bundle's {stages[0].align} pixels")
        return self._plan(name, values, effort).memory_bytes

    def _tile_of(self, variant: str) -> int:
        stages = self._program(variant).stages
        return max(stage.tile for stage in stages) if self._tile is None else self._tile


def _itself(coded: _core.Coded) -> _core.Coded:
    return coded

"""One picture on its way to a file: trials with any parameters, of which the last one's work is kept, and the file of
one of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .analysis_choice import AnalysisChoice, encode_looking
from .bundle import Bundle
from .choose import Values
from .errors import CorruptError, LimitError, UnsupportedError
from .fileinfo import parse
from .interpreter import Interpreter
from .iterative import Goal, edited_symbols
from .job import Coded
from .limits import Limits
from .manifest import Entropy, Variant
from .memo import Memo
from .pictures import Rgb
from .plan import Round, check_parameters, whole_rounds
from .saturation import Saturated
from .tables import TableGroup
from .target import mean_squared_error
from .thinning import Floats, order_of
from .validate import BY_CHANNEL

HEADER_BYTES, SEGMENT_BYTES, LANE_BYTES = 32, 8, 2
"""What a file without its parameters, a tile's segment and each lane add to the code lengths of symbols, about: ids,
checksums, entries in the header, and the part of the coder's state that says nothing."""


@dataclass(frozen=True)
class Coding:
    """What a session takes from its codec. interpreter: of a variant. memory: bytes that rounds of a variant need;
    raises LimitError where that is too much."""

    bundle: Bundle
    limits: Limits
    threads: int
    interpreter: Callable[[str], Interpreter]
    memory: Callable[[Variant, Sequence[Round]], int]


@dataclass(frozen=True)
class Quantised:
    """What a variant and its parameters make of a picture: the symbols of every round's streams, and the streams of
    which latents were clipped."""

    variant: str
    parameters: Values
    streams: list[list[Coded]]
    clipped: tuple[str, ...]


class Session:
    """Encodes one picture, float32 [height, width, 3] in [0, 1]. tile: edge in pixels, None for the bundle's. Methods
    raise as `Codec.encode` does."""

    def __init__(self, coding: Coding, pixels: Rgb, tile: int | None, symbols_per_lane: int) -> None:
        self.pixels = pixels
        self._coding = coding
        self._tile = tile
        self._symbols_per_lane = symbols_per_lane
        self._memo: Memo | None = None

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
        self._check(variant, values)
        interpreter, tile = self._coding.interpreter(variant), self._tile_of(variant)

        def encode(values: Values, choice: AnalysisChoice, clipped: list[Saturated]) -> list[list[_core.EncodedStream]]:
            return interpreter.encode(
                self.pixels,
                values,
                tile=tile,
                symbols_per_lane=self._symbols_per_lane,
                effort=effort,
                choice=choice,
                clipped=clipped,
            )

        values, streams, clipped = encode_looking(interpreter, values, open_parameters, effort, encode)
        return values, self._file(variant, values, streams), tuple(map(str, clipped))

    def quantise(self, variant: str, values: Values, open_parameters: Collection[str] | None, effort: int) -> Quantised:
        """A trial: as `encode`, without entropy coding. Without open parameters (None) the encoder does not look at
        what it gets: that is enough to compare trials of a sample."""
        memo = self._checked_memo(variant, values)
        interpreter = self._coding.interpreter(variant)

        def quantise(values: Values, choice: AnalysisChoice | None, clipped: list[Saturated]) -> list[list[Coded]]:
            return interpreter.quantise(self.pixels, values, effort=effort, memo=memo, choice=choice, clipped=clipped)

        if open_parameters is None:
            return Quantised(variant, values, quantise(values, None, []), ())
        values, streams, clipped = encode_looking(interpreter, values, open_parameters, effort, quantise)
        return Quantised(variant, values, streams, tuple(map(str, clipped)))

    def iterate(self, variant: str, values: Values, effort: int, goal: Goal) -> Quantised:
        """A trial with the symbols that iterations find."""
        memo = self._checked_memo(variant, values)
        coding, program = self._coding, self._coding.bundle.manifest.variants[variant].program
        given = edited_symbols(coding.bundle, program, values, self.pixels, goal, effort, coding.threads)
        clipped: list[Saturated] = []
        streams = coding.interpreter(variant).quantise(
            self.pixels, values, effort=effort, memo=memo, given=given, clipped=clipped
        )
        return Quantised(variant, values, streams, tuple(map(str, clipped)))

    def file(self, trial: Quantised) -> bytes:
        """The trial's symbols, entropy coded, and decoded again to see that they come out: what `error` says of the
        trial then holds for its file."""
        interpreter, tile = self._coding.interpreter(trial.variant), self._tile_of(trial.variant)
        streams = [[interpreter.write(c, tile, self._symbols_per_lane) for c in stage] for stage in trial.streams]
        data = self._file(trial.variant, trial.parameters, streams)
        file = parse(data, self._coding.limits)
        for stage, coded_stage in zip(file.stages, trial.streams, strict=True):
            for stream, coded in zip(stage, coded_stage, strict=True):
                if not np.array_equal(interpreter.read(coded, data, stream, tile), coded.symbols):
                    raise CorruptError("the encoder's own file does not decode to its symbols; please report it")
        return data

    def thinned(self, trial: Quantised) -> tuple[Floats, Floats, Callable[[int], Quantised]]:
        """The bits that lessening symbols of the last stream saves, and the error in squares of a quantisation step
        that it should add, each for 1, 2, ... symbols; and the trial with so many lessened."""
        last = trial.streams[-1][-1]
        group, tables = self._tables_of(last, trial.parameters)
        places, saved, lost = order_of(last.symbols, group, tables)

        def lessened(count: int) -> Quantised:
            symbols = last.symbols.copy()
            symbols.ravel()[places[:count]] -= np.sign(last.symbols.ravel()[places[:count]])
            stage = [*trial.streams[-1][:-1], replace(last, symbols=symbols)]
            return replace(trial, streams=[*trial.streams[:-1], stage])

        return np.cumsum(saved), np.cumsum(lost), lessened

    def estimated_bytes(self, trial: Quantised) -> float:
        """Size of the trial's file by its symbols' code lengths."""
        program, tile = self._coding.bundle.manifest.variants[trial.variant].program, self._tile_of(trial.variant)
        total = float(HEADER_BYTES + sum(map(len, trial.parameters.values())))
        for item, stage in zip(whole_rounds(program, trial.parameters, self.size), trial.streams, strict=True):
            for coded in stage:
                rows, columns = item.tile_grid(coded.step, tile)
                total += self._stream_bytes(coded, trial.parameters) + rows * columns * SEGMENT_BYTES
        return total

    def error(self, trial: Quantised) -> float:
        """Mean squared error in grey levels of what a decoder shows of the trial's symbols."""
        assert self._memo is not None
        interpreter = self._coding.interpreter(trial.variant)
        shown = interpreter.decode_again(self.size, trial.parameters, trial.streams, memo=self._memo)
        return mean_squared_error(shown, self.pixels)

    def _file(self, variant: str, values: Values, streams: Sequence[Sequence[_core.EncodedStream]]) -> bytes:
        found = self._coding.bundle.manifest.variants[variant]
        ids = bytes.fromhex(found.symbol_id), bytes.fromhex(found.picture_id)
        parameters = [values[p.name] for p in found.program.parameters]
        height, width = self.size
        return _core.write(*ids, width, height, self._tile_of(variant), parameters, streams)

    def _tables_of(self, coded: Coded, values: Values) -> tuple[TableGroup, npt.NDArray[np.integer[Any]]]:
        """A stream's tables, and the number of each symbol's among them, in a shape that broadcasts to the symbols'."""
        step: Entropy = coded.step
        group = self._coding.bundle.groups[step.tables]
        if step.by != BY_CHANNEL:
            return group, coded.index
        return group, group.tables_of_channels(values[step.set] if step.set else [0])[:, None, None]

    def _stream_bytes(self, coded: Coded, values: Values) -> float:
        group, tables = self._tables_of(coded, values)
        bits, count = group.total_bits(coded.symbols, tables), coded.symbols.size
        if coded.step.by != BY_CHANNEL:
            count = int(np.count_nonzero(coded.index < group.count))
        return bits / 8 + LANE_BYTES * count / self._symbols_per_lane

    def _checked_memo(self, variant: str, values: Values) -> Memo:
        """What is kept of trials has the memory that the limit leaves."""
        needed = self._check(variant, values)
        if self._memo is None:
            self._memo = Memo(self._coding.limits.memory_bytes - needed)
        return self._memo

    def _check(self, name: str, values: Values) -> int:
        """Raise for a picture and parameters that cannot be encoded; bytes that encoding needs."""
        variant, limits = self._coding.bundle.manifest.variants[name], self._coding.limits
        height, width = self.size
        if not variant.program.encodes:
            bundle = self._coding.bundle.manifest.name
            raise UnsupportedError(f"bundle {bundle!r} only decodes: it was made without its encoder graphs")
        if height * width > limits.pixels:
            raise LimitError(
                f"the picture has {width} x {height} pixels, more than the limit of {limits.pixels} "
                "(--max-pixels, Limits.pixels)"
            )
        check_parameters(variant.program, values, limits)
        needed = self._coding.memory(variant, whole_rounds(variant.program, values, (height, width)))
        tile, stages = self._tile_of(name), variant.program.stages
        if tile < 0 or any(tile % stage.align for stage in stages):
            raise ValueError(f"tile {tile} is not a multiple of the bundle's {stages[0].align} pixels")
        return needed

    def _tile_of(self, variant: str) -> int:
        stages = self._coding.bundle.manifest.variants[variant].program.stages
        return max(stage.tile for stage in stages) if self._tile is None else self._tile

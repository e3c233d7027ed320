"""Latents from which the synthesis makes the picture, where those of the analysis are none.

The analysis runs once more on the picture plus what the synthesis of its latents, not rounded, lacks; the difference is
added to them. On dithers, checkerboards and type three rounds of that give 3 to 9 dB for 3 to 25% more bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .manifest import BY_CHANNEL, MAX_SIDE, PICTURE, Entropy, Graph, Program, Run, Stage
from .rect import Rect

BLOCK = 64
"""Edge in pixels of the parts of a picture that keep their latents or change them."""
WINDOW = 512
"""Edge in pixels of what is worked on at once."""
ROUNDS = 3
MISSED = 0.92
"""Share of the squared error that coding all symbols must leave at most: 0.18 to 0.9 with saturated fields, 0.97 with a
checkerboard of single pixels, which no symbols help."""
REACH = 255  # symbols beyond it are taken to cost as much

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Symbols = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Quantiser:
    """Where a program rounds latents around means: the step, the tensors that it reads, how its symbols are coded, and
    the parameter below which table indices are not coded."""

    step: Run
    latents: str
    means: str
    symbols: Entropy
    not_coded: str

    @classmethod
    def all_of(cls, stage: Stage) -> list[Quantiser]:
        """Of the form that they have with a hyperprior: one graph makes means and table indices."""
        coded = {step.out: step for step in stage.steps if isinstance(step, Entropy) and step.by != BY_CHANNEL}
        runs = [step for step in stage.steps if isinstance(step, Run)]
        makers = {name: run for run in runs if not run.enc for name in run.outputs.values()}
        found = []
        for run in runs:
            symbols = coded.get(next(iter(run.outputs.values()))) if run.enc and len(run.outputs) == 1 else None
            hyper = makers.get(symbols.by) if symbols is not None else None
            tensors = [source for source in run.inputs.values() if not source.startswith(("$", "@"))]
            means = [name for name in tensors if hyper is not None and makers.get(name) is hyper]
            if symbols is not None and hyper is not None and len(tensors) == 2 and len(means) == 1:
                (latents,) = set(tensors) - set(means)
                found.append(cls(run, latents, means[0], symbols, hyper.inputs.get("skip", "").removeprefix("$")))
        return found


@dataclass(frozen=True)
class Refinement:
    """The steps of a program with one stage whose analysis has levels of effort: `analysis` reads the picture, `deepen`
    what it makes, `show` makes the picture of symbols and means."""

    analysis: Run
    deepen: Run
    show: Run
    quantiser: Quantiser

    @classmethod
    def of(cls, program: Program) -> Refinement | None:
        """None where a program has another form."""
        stage, quantisers = program.stages[0], Quantiser.all_of(program.stages[0])
        if len(program.stages) != 1 or len(stage.show_runs) != 1 or len(quantisers) != 1:
            return None
        (show,), (quantiser,) = stage.show_runs, quantisers
        runs = [step for step in stage.steps if isinstance(step, Run) and step.enc]
        levels = [run for run in runs if run.effort and list(run.outputs.values()) == [quantiser.latents]]
        if len(levels) != 1 or not {quantiser.means, quantiser.symbols.out} <= set(show.inputs.values()):
            return None
        read = set(levels[0].inputs.values())
        others = [run for run in runs if run is not levels[0] and PICTURE in run.inputs.values()]
        first = [run for run in others if read & set(run.outputs.values())]
        return cls(first[0], levels[0], show, quantiser) if len(first) == 1 else None

    def fits(self, step: Entropy | Run, execution: _core.Execution) -> bool:
        """Whether the quantising step has run, and its tensors lie where the picture does."""
        quantiser = self.quantiser
        names = (quantiser.latents, quantiser.means, quantiser.symbols.out, quantiser.symbols.by)
        return step is quantiser.step and all(stride and BLOCK % stride == 0 for stride in map(execution.stride, names))

    def halo(self, graphs: Mapping[str, Graph]) -> int:
        """Pixels around a window on which its steps depend; a whole picture where that is not known."""
        runs = (self.analysis, self.deepen, self.show)
        halos = [graphs[name].halo for run in runs for name in (run.graph, *run.effort.values())]
        return max(MAX_SIDE if halo is None else halo for halo in halos)


@dataclass(frozen=True)
class Attempt:
    """An encode whose quantising step has just run. numbers: of the program's steps in the plans that have them."""

    execution: _core.Execution
    align: int
    padded: tuple[int, int]
    halo: int
    numbers: Mapping[int, tuple[_core.Plan, int]]

    def evaluate(self, run: Run, graph: str, rect: Rect, given: Mapping[str, Array]) -> dict[str, Array]:
        """Run a graph in the place of a step's on `rect`, some of its sources given → the step's tensors."""
        plan, number = self.numbers[id(run)]
        made = self.execution.evaluate(plan, number, graph, rect, dict(given))
        return dict(zip(run.outputs.values(), made, strict=True))


def refine(refinement: Refinement, attempt: Attempt, tables: _core.Codebook, blocks: Mask) -> None:
    """Change the symbols in those of the `blocks` (BLOCK pixels each, bool [rows, columns]) where that is worth its
    bits."""
    if not blocks.any():
        return
    symbols = attempt.execution.change(refinement.quantiser.symbols.out)
    bounds = Rect.of(attempt.padded)
    for window in bounds.windows(WINDOW):
        rows, columns = np.nonzero(blocks[_blocks_of(window)])
        if len(rows):
            top, left = window.top + BLOCK * int(rows.min()), window.left + BLOCK * int(columns.min())
            bottom, right = window.top + BLOCK * int(rows.max() + 1), window.left + BLOCK * int(columns.max() + 1)
            rect = Rect(top, left, min(bottom, window.bottom), min(right, window.right))
            _Part(refinement, attempt, tables, rect).refine(symbols)


def is_missed(refinement: Refinement, attempt: Attempt, tables: _core.Codebook) -> bool:
    """Whether coding all symbols would lessen the squared error of some part of the picture to MISSED of it."""
    parts = (_Part(refinement, attempt, tables, rect) for rect in Rect.of(attempt.padded).windows(WINDOW))
    return any(part.misses_symbols() for part in parts)


@dataclass(frozen=True)
class _Part:
    """One rectangle of a picture. Graphs run on `around` it."""

    steps: Refinement
    attempt: Attempt
    tables: _core.Codebook
    rect: Rect

    @cached_property
    def around(self) -> Rect:
        return self.rect.grown(self.attempt.halo, self.attempt.align, Rect.of(self.attempt.padded))

    def _picture(self) -> Floats:
        return self.attempt.execution.picture(0, self.around)

    def misses_symbols(self) -> bool:
        quantiser, picture = self.steps.quantiser, self._picture()
        symbols, means = self._tensor(quantiser.symbols.out), self._tensor(quantiser.means)
        kept = self._kept(symbols)
        errors = [float(np.square(self._error(picture, values, means)).sum()) for values in (kept, symbols)]
        return errors[1] < MISSED * errors[0]

    def refine(self, symbols: Symbols) -> None:
        """symbols: of the whole picture, to be changed."""
        picture, latents = self._picture(), self._tensor(self.steps.quantiser.latents)
        own, refined, missing = self._analysed(picture), latents, self._missing(picture, latents)
        for _ in range(ROUNDS):
            refined = refined + self._analysed(picture + missing / np.float32(255)) - own
            missing = self._missing(picture, refined)
        before, after = self._quantised(latents), self._quantised(refined)
        better = self._is_better(picture, before, after, missing)
        stride = self.steps.quantiser.symbols.stride
        places = better.repeat(BLOCK // stride, 0).repeat(BLOCK // stride, 1)
        before, after = self._inner(before, stride), self._inner(after, stride)
        places = places[: before.shape[2], : before.shape[3]]
        top, left, bottom, right = (edge // stride for edge in self.rect)
        symbols[:, :, top:bottom, left:right] = np.where(places, after, before)

    def _tensor(self, name: str) -> Array:
        return self.attempt.execution.tensor(name, self.around)

    def _run(self, step: Run, given: dict[str, Array], name: str = "") -> dict[str, Array]:
        return self.attempt.evaluate(step, name or step.graph, self.around, given)

    def _analysed(self, picture: Floats) -> Floats:
        """Latents by the analysis of the lowest effort, which is linear in the shipped bundle."""
        made = self._run(self.steps.analysis, {PICTURE: picture})
        lowest = self.steps.deepen.effort[min(self.steps.deepen.effort)]
        return self._run(self.steps.deepen, {PICTURE: picture, **made}, lowest)[self.steps.quantiser.latents]

    def _missing(self, picture: Floats, latents: Floats) -> Floats:
        """Grey levels that the synthesis of these latents lacks, inside the rectangle."""
        return self._error(picture, np.zeros(latents.shape, np.int32), latents)

    def _error(self, picture: Floats, symbols: Symbols, means: Floats) -> Floats:
        """float32 [1, 3, height, width] of `around`, 0 outside the rectangle, where the synthesis lacks its halo."""
        given = {self.steps.quantiser.symbols.out: symbols, self.steps.quantiser.means: means}
        (shown,) = self._run(self.steps.show, given).values()
        error = 255 * picture - shown.transpose(0, 3, 1, 2)
        inside = np.zeros_like(error)
        self._inner(inside, 1)[:] = self._inner(error, 1)
        return inside

    def _quantised(self, latents: Floats) -> Symbols:
        quantiser = self.steps.quantiser
        (symbols,) = self._run(quantiser.step, {quantiser.latents: latents}).values()
        return self._kept(symbols)

    def _kept(self, symbols: Symbols) -> Symbols:
        """Those that are coded, 0 in place of the others."""
        return np.where(self._tensor(self.steps.quantiser.symbols.by) < len(self.tables), symbols, 0)

    def _is_better(self, picture: Floats, before: Symbols, after: Symbols, missing: Floats) -> Mask:
        """Blocks in which `after` lessens the error by more than its bits are worth: a bit more for every coded symbol
        halves its quantisation step, and takes 2 ln 2 of what rounding adds to the error. `missing`: the error of
        `after` without rounding."""
        means, index = self._tensor(self.steps.quantiser.means), self._tensor(self.steps.quantiser.symbols.by)
        coded = index < len(self.tables)
        lengths, rows = self.tables.code_lengths(REACH), np.minimum(index, len(self.tables) - 1)
        errors, bits = [], []
        for symbols in (before, after):
            errors.append(self._means(np.square(self._error(picture, symbols, means)).mean((0, 1))))
            each = np.where(coded, lengths[rows, np.clip(symbols, -REACH, REACH) + REACH], 0)
            bits.append(self._means(each.sum((0, 1))))
        rounding = np.maximum(errors[1] - self._means(np.square(missing).mean((0, 1))), 0)
        bits_per_symbol = (bits[1] - bits[0]) / np.maximum(self._means(coded.sum((0, 1))), 1e-3)
        return np.asarray(errors[0] - errors[1] > 2 * math.log(2) * rounding * bits_per_symbol)

    def _inner(self, array: Array, stride: int) -> Array:
        """[1, c, ...] of `around` → of the rectangle: a view."""
        top, left = (self.rect.top - self.around.top) // stride, (self.rect.left - self.around.left) // stride
        height, width = (self.rect.bottom - self.rect.top) // stride, (self.rect.right - self.rect.left) // stride
        return array[..., top : top + height, left : left + width]

    def _means(self, values: Array) -> Floats:
        """[height, width] of `around`, at any stride → mean of each block of the rectangle."""
        stride = (self.around.bottom - self.around.top) // values.shape[0]
        return block_means(self._inner(values, stride), BLOCK // stride, BLOCK // stride)


def block_means(values: Array, rows: int, columns: int) -> Floats:
    """[height, width] → mean of each block of that many rows and columns; those at the end may be smaller."""

    def starts(extent: int, step: int) -> npt.NDArray[np.intp]:
        return np.arange(0, extent, step)

    height, width = values.shape
    sums = np.add.reduceat(np.add.reduceat(values, starts(height, rows), 0), starts(width, columns), 1)
    counts = np.outer(np.diff([*starts(height, rows), height]), np.diff([*starts(width, columns), width]))
    return np.asarray(sums / counts, np.float32)


def _blocks_of(window: Rect) -> tuple[slice, slice]:
    rows, columns = slice(window.top // BLOCK, -(-window.bottom // BLOCK)), (window.left, window.right)
    return rows, slice(columns[0] // BLOCK, -(-columns[1] // BLOCK))

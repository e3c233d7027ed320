"""What an encoder decides by looking at its own result, for pictures unlike those that a codec was trained on.

Three things go wrong with dithers, checkerboards, text and saturated fields, and each has a remedy that the format
knows already, so that decoders need nothing for it:

- Side information reaches the end of its range, and scales and means are then nonsense: code it in coarser steps.
- Symbols that are not coded, because they are expected to be 0, are far from it: code all.
- The analysis does not give latents from which the synthesis makes the picture: see `refinement`. This and the second
  are for programs whose analysis has levels of effort.

On photographs all three only look: at the symbols, and at how much neighbouring pixels differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .bundle import Bundle
from .manifest import Entropy, Program, Run
from .refinement import BLOCK, Attempt, Refinement, block_means, is_missed, refine
from .saturation import Saturated

MIN_EFFORT = 5
"""From which on symbols that are not coded and the analysis are looked at."""
MAX_ROUGHNESS = 8000.0
"""Sum of the squared differences of a pixel to its left and its upper neighbour, in grey levels, mean of a block: at
most 6600 in the 24 Kodak pictures, from 13 000 on in dithers, checkerboards, small type and noise."""
ROW_STEP, ROWS_AT_ONCE = 8, 32
MAX_LOST = 0.003
"""Sum of the squares of symbols beyond +-1 that are not coded, per symbol: at most 0.0006 in the Kodak pictures, from
0.02 on in saturated fields."""
MAX_VIVIDNESS = 0.55
"""Difference of the largest and the smallest colour component along a picture's border, mean of a block's side: beyond
it, analyses that see grey outside make errors."""

Symbols = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Values = dict[str, list[int]]
T = TypeVar("T")


class Retry(Exception):  # noqa: N818 (no error)
    """Encode again with these parameters in place of the ones there were."""

    def __init__(self, values: dict[str, list[int]]) -> None:
        super().__init__(values)
        self.values = values


def clip_limits(bundle: Bundle, program: Program) -> dict[str, tuple[str, int]]:
    """Streams of side information whose steps a parameter sets: symbols → that parameter and the largest symbol."""
    found = {}
    numbers = {p.name for p in program.parameters if p.length is None and not p.is_sizes}
    for stage in program.stages:
        for entropy in stage.steps:
            if not isinstance(entropy, Entropy) or entropy.set not in numbers:
                continue
            for run in stage.steps:
                if isinstance(run, Run) and run.enc and entropy.out in run.outputs.values():
                    port = next(port for port, name in run.outputs.items() if name == entropy.out)
                    limits = bundle.manifest.graphs[run.graph].outputs[port].range
                    if limits is not None and "$" + entropy.set in run.inputs.values():
                        found[entropy.out] = entropy.set, limits[1]
    return found


class AnalysisChoice:
    """Looks at the steps of one encode, which may take several attempts. `open_parameters`: those that nobody has asked
    for."""

    def __init__(self, bundle: Bundle, program: Program, open_parameters: Collection[str], effort: int) -> None:
        self._bundle, self._open = bundle, open_parameters
        self._limits = clip_limits(bundle, program)
        self._most = {p.name: p.max for p in program.parameters}
        self._refinement = Refinement.of(program) if effort >= MIN_EFFORT else None
        self._suspicious = False  # whether all symbols are coded on account of what the first attempt gave

    def ran(
        self,
        step: Run,
        execution: _core.Execution,
        parameters: Values,
        picture: Floats,
        attempt: Callable[[Refinement], Attempt],
    ) -> None:
        """After a graph has run: raise Retry for other parameters, or change symbols that are not coded yet. attempt:
        what is needed to look closer."""
        for name in self._limits.keys() & set(step.outputs.values()):
            self._check_limit(*self._limits[name], execution.tensor(name), parameters)
        if self._refinement is not None and self._refinement.fits(step, execution):
            now = attempt(self._refinement)
            self._check_lost(self._refinement, now, parameters, picture)
            refine(self._refinement, now, self._tables, self._blocks(picture))

    def _check_limit(self, name: str, limit: int, symbols: Symbols, parameters: Values) -> None:
        """Coarser steps for side information that is at the end of its range."""
        (value,) = parameters[name]
        if name in self._open and value < self._most[name] and np.abs(symbols).max() >= limit:
            raise Retry({name: [value + 1]})

    @property
    def _tables(self) -> _core.Codebook:
        assert self._refinement is not None
        return self._bundle.core.codebook(self._refinement.quantiser.symbols.tables)

    def _blocks(self, picture: Floats) -> npt.NDArray[np.bool_]:
        """Blocks to look at, bool [rows, columns]."""
        height, width = picture.shape[:2]
        if self._suspicious:
            return np.ones((-(-height // BLOCK), -(-width // BLOCK)), np.bool_)
        return (roughness(picture) > MAX_ROUGHNESS) | (border_vividness(picture) > MAX_VIVIDNESS)

    def _check_lost(self, refinement: Refinement, now: Attempt, parameters: Values, picture: Floats) -> None:
        """Code everything where what is not coded is far from 0 and the picture has use for it, or where half of the
        border is vivid."""
        name = refinement.quantiser.not_coded
        if name not in self._open or parameters[name] == [0]:
            return
        if not is_framed_vividly(picture):
            symbols = now.execution.tensor(refinement.quantiser.symbols.out)
            index = now.execution.tensor(refinement.quantiser.symbols.by)
            if lost_energy(symbols, index, len(self._tables)) <= MAX_LOST:
                return
            if not is_missed(refinement, now, self._tables):
                return
        self._suspicious = True
        raise Retry({name: [0]})


def lost_energy(symbols: Symbols, index: npt.NDArray[np.uint8], tables: int) -> float:
    """Sum of the squares of the symbols beyond +-1 that are not coded, per symbol. Both are [1, c, h, w]."""
    total = 0.0
    for row in range(0, symbols.shape[2], ROWS_AT_ONCE):
        part, coded_by = symbols[:, :, row : row + ROWS_AT_ONCE], index[:, :, row : row + ROWS_AT_ONCE]
        lost = part[(np.abs(part) > 1) & (coded_by >= tables)]
        total += float(np.square(lost, dtype=np.float64).sum())
    return total / symbols.size


def roughness(picture: Floats) -> Floats:
    """float32 [height, width, 3] in 0..1 → of every BLOCK, from every eighth row and the one below it."""
    bands = range(0, picture.shape[0], ROWS_AT_ONCE * BLOCK)
    return np.concatenate([_roughness(picture[top : top + ROWS_AT_ONCE * BLOCK]) for top in bands])


def _roughness(picture: Floats) -> Floats:
    height, width = picture.shape[:2]
    rows = -(-height // ROW_STEP)
    upper, lower = picture[::ROW_STEP], picture[1::ROW_STEP]
    squares = np.zeros((rows, width, 3), np.float32)
    squares[:, 1:] = np.square(upper[:, 1:] - upper[:, :-1])
    squares[: len(lower)] += np.square(lower - upper[: len(lower)])
    return 255**2 * block_means(squares.reshape(rows, 3 * width), BLOCK // ROW_STEP, 3 * BLOCK)


def is_framed_vividly(picture: Floats) -> bool:
    """Whether half of the blocks at the border are vivid."""
    vivid = border_vividness(picture) > MAX_VIVIDNESS
    blocks = vivid.size - max(0, vivid.shape[0] - 2) * max(0, vivid.shape[1] - 2)
    return bool(2 * vivid.sum() >= blocks)


def border_vividness(picture: Floats) -> Floats:
    """float32 [height, width, 3] in 0..1 → of every BLOCK, 0 for those that are not at the border."""
    height, width = picture.shape[:2]
    result = np.zeros((-(-height // BLOCK), -(-width // BLOCK)), np.float32)
    for row in (0, -1):
        side = np.ptp(picture[row], axis=1)
        result[row] = np.maximum(result[row], block_means(side[None], 1, BLOCK)[0])
    for column in (0, -1):
        side = np.ptp(picture[:, column], axis=1)
        result[:, column] = np.maximum(result[:, column], block_means(side[:, None], BLOCK, 1)[:, 0])
    return result


def encode_looking(
    choice: AnalysisChoice, parameters: Values, encode: Callable[[Values, list[Saturated]], T]
) -> tuple[Values, T, list[Saturated]]:
    """What `encode` makes with the parameters that the encoder has come to, and what was clipped. encode: encodes with
    parameters, lets the choice look at its steps, and lists what it clips; Retry may come out of it."""
    while True:
        clipped: list[Saturated] = []
        try:
            made = encode(parameters, clipped)
        except Retry as retry:
            parameters = {**parameters, **retry.values}
        else:
            return parameters, made, clipped

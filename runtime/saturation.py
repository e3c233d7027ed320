"""Symbols at the ends of what they can hold: an encoder clips its latents there, and what is clipped is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import UnsupportedError
from .manifest import Graph, Run, Stage

SYMBOL_MIN, SYMBOL_MAX = -(1 << 15), (1 << 15) - 1


class SaturationWarning(UserWarning):
    """Latents of a picture were clipped to what symbols hold."""


@dataclass(frozen=True)
class Saturated:
    """Of a stream: how many of its `total` symbols lie on an end of low..high."""

    stream: str
    count: int
    total: int
    low: int
    high: int

    def __str__(self) -> str:
        side = self.high < SYMBOL_MAX  # read by an exact graph: side information, which decides rates
        means = "the file is larger than need be" if side else "the decoded picture may be far from this one"
        clipped = f"{self.count} of {self.total} symbols of stream {self.stream!r} were clipped"
        return f"{clipped} to {self.low}..{self.high}: {means}"


def symbol_range(graphs: Mapping[str, Graph], stage: Stage, stream: str) -> tuple[int, int]:
    """What a stream's symbols hold: int16, or less where an exact graph that reads them is bound to -n..n. (A range
    from 0 is that of classes, which are not clipped.)
    """
    limit = SYMBOL_MAX
    for run in [*stage.steps, *stage.show_runs]:
        if not isinstance(run, Run):
            continue
        for port, source in run.inputs.items():
            allowed = graphs[run.graph].inputs[port].range
            if source == stream and allowed is not None and allowed[0] == -allowed[1]:
                limit = min(limit, allowed[1])
    return (-limit, limit) if limit < SYMBOL_MAX else (SYMBOL_MIN, SYMBOL_MAX)


def saturated(stream: str, symbols: npt.NDArray[np.int32], allowed: tuple[int, int]) -> Saturated | None:
    """Count a stream's clipped symbols. Raises UnsupportedError for symbols that no encoder's graph gives but from
    latents that are no numbers.
    """
    low, high = allowed
    if not symbols.size:
        return None
    least, most = int(symbols.min()), int(symbols.max())
    if least < SYMBOL_MIN or most > SYMBOL_MAX:
        raise UnsupportedError(
            f"the bundle gives symbols of stream {stream!r} beyond {SYMBOL_MIN}..{SYMBOL_MAX} for this picture: its "
            "weights are damaged"
        )
    if least > low and most < high:
        return None
    count = int(np.count_nonzero((symbols <= low) | (symbols >= high)))
    return Saturated(stream, count, symbols.size, low, high)

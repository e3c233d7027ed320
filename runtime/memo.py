"""What the steps of a program gave for one picture, kept from one trial of an encoder to the next.

A search for a target runs one program on one picture again and again, with other parameters. Steps that these
parameters do not reach would do the same work each time. So every tensor of a trial has a *version*, a number that
stands for how it was made: a graph's step whose graph, parameters and versions of inputs are those of the last time
gives the tensors of the last time. Versions are compared in place of values, so that looking costs nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import count

from .windows import Placed


@dataclass(frozen=True)
class Kept:
    """Tensors that a step gave, in its order, and their versions. key: what they were made of."""

    key: Hashable
    tensors: Sequence[Placed]
    versions: Sequence[int]
    size_bytes: int


class Memo:
    """Of every step the tensors of its last run, as long as all of them together stay within `budget_bytes`. For one
    picture; one thread at a time. macs: multiplications of all graphs run so far, by the manifest's figures."""

    def __init__(self, budget_bytes: int) -> None:
        self.macs = 0.0
        self._left_bytes = budget_bytes
        self._kept: dict[Hashable, Kept] = {}
        self._versions = count()

    def version(self) -> int:
        """A new one, for a tensor unlike any other."""
        return next(self._versions)

    def last(self, step: Hashable) -> Kept | None:
        """What a step gave when it last ran, whatever it was made of."""
        return self._kept.get(step)

    def recall(self, step: Hashable, key: Hashable) -> Kept | None:
        """What a step gave when it last ran, if it was made of the same; None where it must run."""
        kept = self._kept.get(step)
        return kept if kept is not None and kept.key == key else None

    def keep(self, step: Hashable, key: Hashable, tensors: Sequence[Placed]) -> Kept:
        """Keep what a step has given in place of what it gave before. Nobody may change the tensors any more."""
        before = self._kept.pop(step, None)
        if before is not None:
            self._left_bytes += before.size_bytes
        size_bytes = sum(tensor.array.nbytes for tensor in tensors)
        kept = Kept(key, tensors, [self.version() for _ in tensors], size_bytes)
        if size_bytes <= self._left_bytes:
            self._left_bytes -= size_bytes
            self._kept[step] = kept
        return kept

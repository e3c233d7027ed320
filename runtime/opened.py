"""A .nic file held against the program that it names: what decoding it will run, or why it cannot be what it says."""

from __future__ import annotations

from dataclasses import dataclass

from nicrt import _core

from .bundle import Bundle
from .limits import Limits


@dataclass(frozen=True)
class Opened:
    """A file and what to decode of it: `rounds` are those to run, the last of them to show."""

    bundle: Bundle
    file: _core.File
    variant: str
    parameters: dict[str, list[int]]
    rounds: list[_core.Round]

    @property
    def graphs(self) -> list[str]:
        """The graphs that decoding runs, each once."""
        size = self.file.height, self.file.width
        plan = _core.plan(self.bundle.core, self.variant, self.parameters, size, rounds=len(self.rounds))
        return list(dict.fromkeys(step.graph for step in plan.steps if isinstance(step, _core.GraphStep)))

    def stage_for(self, scale: float) -> tuple[int, tuple[int, int]]:
        """The lowest stage (from 1) that is not smaller than `scale` of the picture, and that size (height, width)."""
        size = max(1, round(self.file.height * scale)), max(1, round(self.file.width * scale))
        large = [item.number for item in self.rounds if item.size[0] >= size[0] and item.size[1] >= size[1]]
        fine = [number for number in large if self.rounds[number].size != self.rounds[-1].size]
        return (fine[0] if fine else len(self.rounds) - 1) + 1, size


def held_against(file: _core.File, bundle: Bundle, limits: Limits) -> Opened:
    """A parsed file with all its rounds. Raises WrongBundleError when it was not made with this bundle, CorruptError
    when its header does not fit the program: parameters, number of stages, streams and tiles, and the picture's size,
    which must be what the last stage shows; LimitError for a stage of more pixels than the limits allow.
    """
    return Opened(bundle, file, *_core.open_file(bundle.core, file, limits.pixels, limits.stages))

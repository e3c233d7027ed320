"""What a program will do for a picture of a given size, known before anything runs: rounds, shapes, memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .limits import Limits
from .manifest import Entropy, Graph, Program, Stage

MAX_SIDE = 1 << 24

Parameters = Mapping[str, list[int]]


@dataclass
class Round:
    """One run of a stage: `size` is the (height, width) of its picture, `number` its place among the file's stages."""

    stage: Stage
    size: tuple[int, int]
    number: int

    @property
    def padded(self) -> tuple[int, int]:
        align = self.stage.align
        return -(-self.size[0] // align) * align, -(-self.size[1] // align) * align

    def shape(self, step: Entropy) -> tuple[int, int, int]:
        """[channels, height, width] of a stream's tensor."""
        height, width = self.padded
        return step.channels, -(-height // step.stride), -(-width // step.stride)


def rounds(program: Program, parameters: Parameters, size: tuple[int, int]) -> Iterator[Round]:
    """All rounds of a program for a picture of `size` (height, width), in file order."""
    number = 0
    for stage in program.stages:
        if stage.each is None:
            items = [size]
        else:
            values = parameters[stage.each]
            items = list(zip(values[::2], values[1::2], strict=True))
        for item in items:
            yield Round(stage, item, number)
            number += 1


def check_parameters(program: Program, parameters: Parameters, limits: Limits) -> None:
    """Raise ValueError for a parameter that the program does not allow."""
    for parameter in program.parameters:
        values = parameters[parameter.name]
        if parameter.sizes:
            pairs = list(zip(values[::2], values[1::2], strict=False))
            if len(values) % 2 or len(pairs) > limits.stages:
                raise ValueError(f"parameter {parameter.name!r} is not a list of at most {limits.stages} sizes")
            if any(not (1 <= h <= MAX_SIDE and 1 <= w <= MAX_SIDE) or h * w > limits.pixels for h, w in pairs):
                raise ValueError(f"parameter {parameter.name!r} has a size beyond the limit of {limits.pixels} pixels")
        elif len(values) != (parameter.length or 1):
            raise ValueError(f"parameter {parameter.name!r} has {len(values)} values")
        elif min(values) < parameter.min or max(values) > parameter.max:
            raise ValueError(f"parameter {parameter.name!r} is outside {parameter.min}..{parameter.max}")


def default_parameters(program: Program) -> dict[str, list[int]]:
    return {p.name: [] if p.sizes else [p.default] * (p.length or 1) for p in program.parameters}


def estimated_bytes(program: Program, graphs: Mapping[str, Graph], sizes: list[Round]) -> int:
    """Memory that a picture needs at once: its streams' symbols, indices and means, its pixels, and the workspace of
    the hungriest graph as its manifest gives it."""
    workspace = max((graph.workspace_bytes_per_pixel or 0.0) for graph in graphs.values())
    total = 0
    for item in sizes:
        pixels = item.padded[0] * item.padded[1]
        places = sum(math.prod(item.shape(s)) for s in item.stage.steps if isinstance(s, Entropy))
        total = max(total, 9 * places + int(pixels * (15 + workspace)))
    return total

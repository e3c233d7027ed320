"""What a program will do for a picture of a given size, known before anything runs: rounds, shapes, memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .limits import Limits
from .manifest import Entropy, Graph, Program, Run, Stage
from .windows import MIN_WINDOWED, window_edge

MAX_SIDE = 1 << 24
ARENA_GROWTH = 2  # backends take memory in blocks that double
REFINED_AT_ONCE = 768**2
"""Pixels of a window in which an encoder looks at what its symbols show (`refinement`), with what lies around it."""

Parameters = Mapping[str, list[int]]


@dataclass
class Round:
    """One run of a stage: `size` is the (height, width) of its picture, `number` its place among the file's stages,
    `item` its place in the list that the stage runs for."""

    stage: Stage
    size: tuple[int, int]
    number: int
    item: int

    @property
    def padded(self) -> tuple[int, int]:
        align = self.stage.align
        return -(-self.size[0] // align) * align, -(-self.size[1] // align) * align

    def shape(self, step: Entropy) -> tuple[int, int, int]:
        """[channels, height, width] of a stream's tensor."""
        height, width = self.padded
        return step.channels, -(-height // step.stride), -(-width // step.stride)

    def tile_grid(self, step: Entropy, tile: int) -> tuple[int, int]:
        """Rows and columns of a stream's tiles of `tile` pixels, a multiple of its stride; one tile for 0."""
        _, height, width = self.shape(step)
        if tile == 0:
            return 1, 1
        edge = tile // step.stride
        return -(-height // edge), -(-width // edge)


def rounds(program: Program, parameters: Parameters, size: tuple[int, int]) -> Iterator[Round]:
    """All rounds of a program for a picture of `size` (height, width), in file order."""
    number = 0
    for stage in program.stages:
        if stage.each is None:
            items = [size]
        else:
            values = parameters[stage.each]
            items = list(zip(values[::2], values[1::2], strict=True))
        for item, item_size in enumerate(items):
            yield Round(stage, item_size, number, item)
            number += 1


def whole_rounds(program: Program, parameters: Parameters, size: tuple[int, int]) -> list[Round]:
    """All rounds, of which the last shows the whole picture of `size` (height, width). Raises ValueError where it shows
    another size: the program's lists of sizes are then those of another picture.
    """
    items = list(rounds(program, parameters, size))
    height, width = items[-1].size
    if (height, width) != size:
        raise ValueError(f"the picture has {size[1]} x {size[0]} pixels, its last layer {width} x {height}")
    return items


def decoding_graphs(items: Sequence[Round]) -> list[str]:
    """The graphs that decoding these rounds and showing the last of them runs, each once."""
    steps = [step for item in items for step in item.stage.steps if isinstance(step, Run) and not step.enc]
    return list(dict.fromkeys(run.graph for run in [*steps, *items[-1].stage.show_runs]))


def graph_at(run: Run, effort: int) -> str:
    """The graph that a step runs at an encoder's effort."""
    levels = [level for level in run.effort if int(level) <= effort]
    return run.effort[max(levels)] if levels else run.graph


def check_parameters(program: Program, parameters: Parameters, limits: Limits) -> None:
    """Raise ValueError for a parameter that the program does not allow."""
    for parameter in program.parameters:
        values = parameters[parameter.name]
        if parameter.is_sizes:
            pairs = list(zip(values[::2], values[1::2], strict=False))
            if len(values) % 2 or len(pairs) > limits.stages:
                raise ValueError(f"parameter {parameter.name!r} is not a list of at most {limits.stages} sizes")
            if parameter.length not in (None, len(pairs)):
                raise ValueError(f"parameter {parameter.name!r} is {len(pairs)} sizes, not {parameter.length}")
            if any(not (1 <= h <= MAX_SIDE and 1 <= w <= MAX_SIDE) or h * w > limits.pixels for h, w in pairs):
                raise ValueError(f"parameter {parameter.name!r} has a size beyond the limit of {limits.pixels} pixels")
        elif len(values) != (parameter.length or 1):
            raise ValueError(f"parameter {parameter.name!r} has {len(values)} values")
        elif min(values) < parameter.min or max(values) > parameter.max:
            raise ValueError(f"parameter {parameter.name!r} is outside {parameter.min}..{parameter.max}")
    _check_rounds(program, parameters)


def _check_rounds(program: Program, parameters: Parameters) -> None:
    """A list that gives a value per round must be long enough for the stage's rounds, and some stage must run."""
    if all(stage.each is not None and not parameters[stage.each] for stage in program.stages):
        raise ValueError("with these parameters there is no layer at all")
    for stage in program.stages:
        runs = [step for step in [*stage.steps, *stage.show_runs] if isinstance(step, Run)]
        per_round = {s.removesuffix("[i]")[1:] for run in runs for s in run.inputs.values() if s.endswith("[i]")}
        layers = 1 if stage.each is None else len(parameters[stage.each]) // 2
        for name in per_round:
            if len(parameters[name]) < layers:
                raise ValueError(f"parameter {name!r} has {len(parameters[name])} values for {layers} layers")


def default_parameters(program: Program, size: tuple[int, int]) -> dict[str, list[int]]:
    """Values of all parameters where nobody asks for others; `size` is the picture's (height, width)."""
    return {
        p.name: scaled_sizes(size, p.scales) if p.scales is not None else [p.default] * (p.length or 1)
        for p in program.parameters
    }


def scaled_sizes(size: tuple[int, int], scales: Iterable[float]) -> list[int]:
    """height, width, height, ... of `size` times each scale, at least 1."""
    return [max(1, round(side * scale)) for scale in scales for side in size]


def estimated_bytes(
    program: Program,
    graphs: Mapping[str, Graph],
    plan: Iterable[Round],
    *,
    encoding: bool,
    workspace: Callable[[str], float] | None = None,
) -> int:
    """Memory that a picture needs at once: its streams' symbols, indices and means, its pixels, and the workspaces of
    the graphs, bytes per pixel by `workspace` or as the manifest gives them. They add up: a backend keeps a graph's
    memory for its next run.
    """
    if workspace is None:

        def workspace(name: str) -> float:
            return graphs[name].workspace_bytes_per_pixel or 0.0

    most = 0
    for item in plan:
        height, width = item.padded
        places = sum(math.prod(item.shape(s)) for s in item.stage.steps if isinstance(s, Entropy))
        steps = item.stage.steps if encoding else [*item.stage.steps, *item.stage.show_runs]
        total = 0.0
        for names, bands in _graphs_run(steps, encoding=encoding):
            per_pixel = max(workspace(name) for name in names)
            total += per_pixel * _pixels_at_once([graphs[name] for name in names], per_pixel, bands, item.padded)
        if encoding and any(isinstance(step, Run) and step.effort for step in item.stage.steps):
            shown = sum(workspace(run.graph) for run in item.stage.show_runs)
            total += shown * min(height * width, REFINED_AT_ONCE)
        most = max(most, 9 * places + 15 * height * width + ARENA_GROWTH * int(total))
    return most


def most_pixels(program: Program, graphs: Mapping[str, Graph], limits: Limits, *, encoding: bool) -> int:
    """Pixels of the largest square picture within the limits, by the manifest's figures and with default parameters; 0
    where there is none.
    """

    def fits(side: int) -> bool:
        plan = rounds(program, default_parameters(program, (side, side)), (side, side))
        return estimated_bytes(program, graphs, plan, encoding=encoding) <= limits.memory_bytes

    low, high = 0, math.isqrt(limits.pixels)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low * low


def _graphs_run(steps: Iterable[object], *, encoding: bool) -> set[tuple[tuple[str, ...], int | None]]:
    """What the steps run, each once: the graphs of which one runs, and the rows of its bands."""
    runs = (step for step in steps if isinstance(step, Run) and (encoding or not step.enc))
    return {((run.graph, *sorted(run.effort.values())), run.bands) for run in runs}


def _pixels_at_once(run: Sequence[Graph], workspace: float, bands: int | None, size: tuple[int, int]) -> int:
    """Pixels of a band, of a window with its halo, or of the whole picture."""
    height, width = size
    if bands is not None:
        return min(bands, height) * width
    if height * width < MIN_WINDOWED or any(graph.halo is None for graph in run):
        return height * width
    edge = window_edge(workspace) + 2 * max(graph.halo or 0 for graph in run)
    return min(edge, height) * min(edge, width)

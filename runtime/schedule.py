"""The order of a program's steps for one picture: which rectangle each makes, and which tensors die after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .manifest import Entropy, Graph, Run
from .plan import Round
from .validate import BY_CHANNEL, PICTURE
from .windows import Rect, spatial_axes, unit_of


@dataclass
class Scheduled:
    """One step of one round. `rect`: the pixels that its outputs must cover, None: nobody needs it. `dies`: tensors
    that no later step reads.
    """

    item: Round
    step: Entropy | Run
    rect: Rect | None
    dies: set[str] = field(default_factory=set)


def schedule(items: Sequence[Round], *, encoding: bool, show: bool) -> list[Scheduled]:
    """All steps of these rounds, each for its whole picture; with `show`, the last round's too."""
    steps = [
        Scheduled(item, step, Rect.of(item.padded))
        for item in items
        for step in item.stage.steps
        if encoding or isinstance(step, Entropy) or not step.enc
    ]
    last = items[-1]
    if show:
        steps.extend(Scheduled(last, run, Rect.of(last.padded)) for run in last.stage.show_runs)
    _mark_deaths(steps, keep=last.stage.shown if show else None)
    return steps


def _reads(step: Entropy | Run) -> set[str]:
    if isinstance(step, Entropy):
        return {step.out} | ({step.by} - {BY_CHANNEL})
    return {source for source in step.inputs.values() if not source.startswith(("$", "@"))}


def _mark_deaths(steps: list[Scheduled], keep: str | None) -> None:
    alive = set() if keep is None else {keep}
    for entry in reversed(steps):
        touched = _reads(entry.step)
        if isinstance(entry.step, Run):
            touched |= set(entry.step.outputs.values())
        entry.dies = touched - alive
        alive |= _reads(entry.step)


def narrow(steps: Sequence[Scheduled], graphs: Mapping[str, Graph], region: Rect, tile: int) -> bool:
    """Narrow every step to what `region` (pixels of the picture) needs. False, and nothing changed, where that cannot
    be: a graph without a halo, or rounds of several sizes.
    """
    bounds = steps[-1].rect
    assert bounds is not None
    units = _units(steps, graphs)
    if units is None or any(entry.rect != bounds for entry in steps):
        return False
    need: dict[str, Rect] = {}
    for entry, unit in zip(reversed(steps), reversed(units), strict=True):
        step = entry.step
        if isinstance(step, Entropy):
            wanted = need.pop(step.out, None)
            entry.rect = wanted and (wanted.grown(0, tile, bounds) if tile else bounds)
            if entry.rect is not None and step.by != BY_CHANNEL:
                need[step.by] = entry.rect.union(need.get(step.by))
            continue
        outputs = [need.pop(name) for name in step.outputs.values() if name in need]
        wanted = region if entry is steps[-1] else None
        for rect in outputs:
            wanted = rect.union(wanted)
        entry.rect = wanted and wanted.grown(0, unit, bounds)
        if entry.rect is None:
            continue
        for source in _reads(step):
            need[source] = entry.rect.grown(graphs[step.graph].halo or 0, unit, bounds).union(need.get(source))
    return True


def _units(steps: Sequence[Scheduled], graphs: Mapping[str, Graph]) -> list[int] | None:
    """Pixels per unit of each step's dimension symbols; None if a graph cannot be windowed, or the last step shows
    nothing.
    """
    if not isinstance(steps[-1].step, Run):
        return None
    strides: dict[str, int] = {PICTURE: 1}
    units = []
    for entry in steps:
        step = entry.step
        if isinstance(step, Entropy):
            strides[step.out] = step.stride
            units.append(step.stride)
            continue
        graph = graphs[step.graph]
        unit = unit_of(graph.inputs, {p: strides[s] for p, s in step.inputs.items() if s in strides})
        if graph.halo is None or unit is None:
            return None
        units.append(unit)
        for port, name in step.outputs.items():
            spatial = spatial_axes(graph.outputs[port])
            if spatial is None or unit % spatial[1]:
                return None
            strides[name] = unit // spatial[1]
    return units

"""What it costs to run a program again for the same picture after parameters have changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .manifest import Entropy, Graph, Run
from .plan import Round, graph_at
from .schedule import schedule
from .validate import BY_CHANNEL, parameter_source

Element = tuple[str, int]
"""A parameter and a place in its list; 0 for a single number."""


@dataclass(frozen=True)
class Encoder:
    """What runs: the rounds of a picture at an effort; show: and the graphs that show the last of them."""

    items: Sequence[Round]
    graphs: Mapping[str, Graph]
    effort: int
    show: bool


def encoder_macs(encoder: Encoder) -> float:
    """Multiplications of all graphs."""
    steps = schedule(encoder.items, encoding=True, show=encoder.show)
    return sum(_macs(entry.step, entry.item, encoder) for entry in steps if isinstance(entry.step, Run))


def rerun_macs(encoder: Encoder, changed: Collection[Element]) -> float:
    """Multiplications of the graphs that must run again: those that read a changed parameter, or what such graphs
    make."""
    names, total, other = {name for name, _ in changed}, 0.0, set[str]()
    for entry in schedule(encoder.items, encoding=True, show=encoder.show):
        step = entry.step
        if isinstance(step, Entropy):
            if (step.by != BY_CHANNEL and step.by in other) or step.set in names:
                other.add(step.out)
        elif any(_is_other(source, entry.item, changed, other) for source in step.inputs.values()):
            total += _macs(step, entry.item, encoder)
            other |= set(step.outputs.values())
        else:
            other -= set(step.outputs.values())
    return total


def in_loop_macs(encoder: Encoder) -> float:
    """Multiplications of the graphs that decoders run as well, besides those that show."""
    steps = schedule(encoder.items, encoding=False, show=False)
    return sum(_macs(entry.step, entry.item, encoder) for entry in steps if isinstance(entry.step, Run))


def _is_other(source: str, item: Round, changed: Collection[Element], other: Collection[str]) -> bool:
    if not source.startswith("$"):
        return source in other
    name, of_round = parameter_source(source)
    return (name, item.item) in changed if of_round else any(name == each for each, _ in changed)


def _macs(run: Run, item: Round, encoder: Encoder) -> float:
    height, width = item.padded
    return (encoder.graphs[graph_at(run, encoder.effort)].macs_per_pixel or 0.0) * height * width

"""What exact graphs are exact for, as far as a device cannot look: it has the values, and nobody reads them there."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nicrt import _core

from ..errors import CorruptError, UnsupportedError
from ..manifest import Graph

SYMBOLS = (-32768, 32767)
"""All symbols that the coder has: the limits of a stream that no exact graph reads."""


def symbol_limits(plan: _core.Plan, graphs: Mapping[str, Graph]) -> dict[int, tuple[int, int]]:
    """Step of a stream → the symbols that it may give: what the exact graphs that read them are exact for. Raises
    UnsupportedError where an exact graph reads another graph's output that may leave its range: any that is not of an
    exact graph which states a range for it, or of bytes.
    """
    limits: dict[int, tuple[int, int]] = {}
    coded: dict[int, int] = {}  # tensor → step of the stream that it comes from
    made: dict[int, tuple[float, float]] = {}  # tensor of a graph → range
    names = [tensor.name for tensor in plan.tensors]
    for number, step in enumerate(plan.steps):
        if isinstance(step, _core.EntropyStep):
            coded[step.out] = number
            limits[number] = SYMBOLS
            continue
        graph = graphs[step.graph]
        for source in step.inputs:
            bounds = graph.inputs[source.port].range
            if not graph.exact or bounds is None or source.kind != "tensor":
                continue
            if source.tensor in coded:
                where = coded[source.tensor]
                limits[where] = max(limits[where][0], bounds[0]), min(limits[where][1], bounds[1])
                continue
            low, high = made[source.tensor]
            if bounds[0] > low or bounds[1] < high:
                raise UnsupportedError(
                    f"graph {step.graph!r} is exact for {names[source.tensor]!r} in {bounds[0]}..{bounds[1]}, which "
                    "another graph makes: only the CPU checks that"
                )
        for port, tensor in step.outputs:
            made[tensor] = _range_of(graph, port)
    return limits


def _range_of(graph: Graph, output: str) -> tuple[float, float]:
    """What an output of a graph keeps to."""
    port = graph.outputs[output]
    if port.dtype == "uint8":
        return 0, 255
    return port.range if graph.exact and port.range is not None else (-math.inf, math.inf)


def check_parameters(plan: _core.Plan, graphs: Mapping[str, Graph]) -> None:
    """Raise CorruptError for values that an exact graph is not exact for."""
    for step in plan.steps:
        if isinstance(step, _core.EntropyStep) or not graphs[step.graph].exact:
            continue
        for source in step.inputs:
            bounds = graphs[step.graph].inputs[source.port].range
            if source.kind != "parameter" or bounds is None:
                continue
            if min(source.values) < bounds[0] or max(source.values) > bounds[1]:
                raise CorruptError(
                    f"values of {source.parameter!r} for graph {step.graph!r} are outside {bounds[0]}..{bounds[1]}"
                )

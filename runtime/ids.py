"""Symbol and picture ids: what must be equal for a file to decode, and for its pixels to be the same.

The **symbol id** is SHA-256 over a canonical serialisation of what decides the symbols: the program's parameters and
its entropy steps, the contents of their tables, and the digests of the exact (and in-loop) graphs that lead to a table
index. The **picture id** is over the digests of the float graphs that make pixels. Encoder graphs are in neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from .manifest import Entropy, Graph, Program, Run, Stage
from .tables import TableGroup

SYMBOL_ID_BYTES = 8
PICTURE_ID_BYTES = 4


def _canonical(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _graph_steps(stage: Stage) -> list[Run]:
    runs = [step for step in stage.steps if isinstance(step, Run) and not step.enc]
    return [*runs, *stage.show_runs]


def _run_entry(run: Run, graphs: Mapping[str, Graph]) -> dict[str, object]:
    return {"graph": graphs[run.graph].digest, "in": run.inputs, "out": run.outputs}


def symbol_id(program: Program, graphs: Mapping[str, Graph], groups: Mapping[str, TableGroup]) -> str:
    """Hex of 8 bytes. `groups`: the table groups that the program names."""
    stages = []
    for stage in program.stages:
        steps: list[object] = []
        for step in stage.steps:
            if isinstance(step, Entropy):
                entry = msgspec.to_builtins(step)
                entry["tables"] = groups[step.tables].digest()
                steps.append(entry)
            elif not step.enc and graphs[step.graph].decides_symbols:
                steps.append(_run_entry(step, graphs))
        stages.append({"each": stage.each, "align": stage.align, "steps": steps})
    parameters = [[p.name, p.length, p.is_sizes] for p in program.parameters]
    text = _canonical({"format": 1, "parameters": parameters, "stages": stages})
    return hashlib.sha256(b"nicrt symbol id\n" + text).hexdigest()[: 2 * SYMBOL_ID_BYTES]


def picture_id(program: Program, graphs: Mapping[str, Graph]) -> str:
    """Hex of 4 bytes."""
    runs = [
        _run_entry(run, graphs)
        for stage in program.stages
        for run in _graph_steps(stage)
        if not graphs[run.graph].decides_symbols
    ]
    return hashlib.sha256(b"nicrt picture id\n" + _canonical(runs)).hexdigest()[: 2 * PICTURE_ID_BYTES]

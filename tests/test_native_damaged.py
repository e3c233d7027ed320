"""Native forms with names and numbers changed anywhere: refused, left to other backends, or run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import native_graphs
import numpy as np
import pytest
import test_native
import test_native_integers
from native_graphs import Arrays

from nicrt.runtime.backends.native import NativeCpu
from nicrt.runtime.bundle import StoredGraph
from nicrt.runtime.errors import LimitError, UnsupportedError
from nicrt.runtime.native_form import NativeForm

NUMBERS = [-(1 << 31), -256, -1, 0, 1, 2, 3, 7, 40, 64, 65, 255, 256, 32768, (1 << 31) - 1, 0.5, -0.125, 1e30, None]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key at which there is a name or number."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        if isinstance(value[key], dict | list):
            yield from places(value[key])
        else:
            yield value, key


def damaged(stored: StoredGraph, rng: random.Random) -> dict[str, Any]:
    form: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(stored.entry.native))
    found = list(places(form["operations"]))
    names = [*form["tensors"], *stored.entry.inputs, *stored.entry.outputs]
    for container, key in rng.sample(found, rng.randint(1, 2)):
        container[key] = rng.choice(names if isinstance(container[key], str) and rng.random() < 0.9 else NUMBERS)
    used = {container[key] for container, key in places(form["operations"]) if isinstance(container[key], str)}
    form["tensors"] = {name: view for name, view in form["tensors"].items() if name in used}
    return form


def outcome(stored: StoredGraph, form: dict[str, Any], inputs: Arrays) -> str:
    try:
        native = msgspec.convert(form, NativeForm)
    except msgspec.ValidationError:
        return "no form"
    graph = msgspec.structs.replace(stored.entry, native=native)
    weights = stored.weights()
    try:
        native_graphs.check("g", graph)
    except UnsupportedError:
        return "refused"
    try:
        executable = NativeCpu(1, "scalar", "scalar").load(
            StoredGraph("g", graph, stored.onnx, lambda: {name: weights[name] for name in native.tensors})
        )
    except UnsupportedError:
        return "left"
    try:
        executable.run(inputs, list(graph.outputs))
    except LimitError:
        return "too large"
    return "run"


@pytest.mark.parametrize("kind", ["chain", "network"])
def test_damaged_forms_never_fail_otherwise(kind: str) -> None:
    if kind == "chain":
        case = test_native.normed_case("oblong")
        stored, inputs = case.build(), case.tensors(2, 3)
    else:
        network = test_native_integers.Case(4, leaky=True, reach=1, table=True)
        stored, inputs = network.build(), network.tensors()
    rng = random.Random(7)
    with np.errstate(all="ignore"):
        outcomes = [outcome(stored, damaged(stored, rng), inputs) for _ in range(4000)]
    assert {"no form", "refused", "left", "run"} <= set(outcomes)

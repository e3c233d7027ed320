"""Batches: every shipped graph gives several pictures at a time what it gives each alone."""

from __future__ import annotations

from pathlib import Path

import native_graphs
import numpy as np
import pytest

from nicrt.runtime.backends import Backend
from nicrt.runtime.backends.native import NativeCpu
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.backends.proving import prove
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.manifest import BATCH, File, Graph, Port, factored, spatial_axes
from nicrt.runtime.private_folder import CACHE_VARIABLE
from nicrt.runtime.proofs import shape_of

ENGINES = Path(__file__).resolve().parent.parent / "engines"
BUNDLES = {file.parent.name: Bundle.open(file.parent) for file in sorted(ENGINES.glob("*/manifest.json"))}
GRAPHS = [(bundle, name) for bundle, opened in BUNDLES.items() for name in opened.manifest.graphs]
EXACT = [(bundle, name) for bundle, name in GRAPHS if BUNDLES[bundle].manifest.graphs[name].exact]
PICTURES, PLACES = 8, 3


def _is_tensor(port: Port) -> bool:
    return len(port.dims) == 4


def _inputs(graph: Graph, pictures: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(pictures)
    found = [symbol for port in graph.inputs.values() for _, symbol in map(factored, port.dims) if symbol]
    sizes = dict.fromkeys(found, PLACES) | {BATCH: pictures}
    inputs: dict[str, np.ndarray] = {}
    for name, port in graph.inputs.items():
        shape = shape_of(port, sizes)
        if port.dtype == "float32":
            inputs[name] = generator.random(shape, np.float32)
        else:
            low, high = port.range or (1, 3)  # sizes are from 1 up
            inputs[name] = generator.integers(max(low, -50), min(high, 50) + 1, shape).astype(port.dtype)
    return inputs


def _one_by_one(backend: Backend, bundle: str, name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The outputs for PICTURES at a time, and for each alone, joined."""
    graph = BUNDLES[bundle].manifest.graphs[name]
    executable = backend.load(BUNDLES[bundle].graph(name))
    inputs, outputs = _inputs(graph, PICTURES), list(graph.outputs)
    together = executable.run(inputs, outputs)
    alone = []
    for i in range(PICTURES):
        shared = {p: v[i : i + 1] if graph.inputs[p].dims[0] == BATCH else v for p, v in inputs.items()}
        alone.append(executable.run(shared, outputs))
    return together, [np.concatenate(parts) for parts in zip(*alone, strict=True)]


@pytest.mark.parametrize(("bundle", "name"), GRAPHS)
def test_every_tensor_has_a_batch(bundle: str, name: str) -> None:
    graph = BUNDLES[bundle].manifest.graphs[name]
    ports = [port for port in (*graph.inputs.values(), *graph.outputs.values()) if _is_tensor(port)]
    assert ports
    assert [port.dims[0] for port in ports] == [BATCH] * len(ports)


@pytest.mark.parametrize(("bundle", "name"), GRAPHS)
def test_a_batch_is_its_pictures_one_by_one(bundle: str, name: str) -> None:
    graph = BUNDLES[bundle].manifest.graphs[name]
    together, alone = _one_by_one(OnnxRuntimeCpu(1), bundle, name)
    for port, a, b in zip(graph.outputs.values(), together, alone, strict=True):
        assert a.shape == b.shape
        if graph.exact:
            np.testing.assert_array_equal(a, b)
        else:  # another order of additions: a symbol may fall to the other side of one half
            np.testing.assert_allclose(a.astype(float), b, rtol=1e-4, atol=1 if port.dtype != "float32" else 1e-3)


def test_a_native_batch_is_its_pictures_one_by_one() -> None:
    together, alone = _one_by_one(NativeCpu(1, "scalar"), "shallow", "synthesis")
    np.testing.assert_array_equal(together[0], alone[0])


@pytest.mark.parametrize(("bundle", "name"), EXACT)
def test_exact_graphs_have_a_proof_of_a_batch(
    bundle: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    graph = BUNDLES[bundle].manifest.graphs[name]
    assert {proof.sizes[BATCH] for proof in graph.proofs} >= {1, 3}
    backend = OnnxRuntimeCpu(1)
    stored = BUNDLES[bundle].graph(name)
    prove(stored, backend.load(stored), "a test of batches")


def test_the_batch_is_no_axis_of_the_picture() -> None:
    assert spatial_axes(Port("float32", [BATCH, 3, "4h", "4w"])) == ((2, 3), 4)


@pytest.mark.parametrize("dims", [[1, BATCH, "h", "w"], [f"2{BATCH}", 3, "h", "w"], [BATCH, BATCH, "h", "w"]])
def test_a_batch_stands_in_front(dims: list[int | str]) -> None:
    graph = Graph({"x": Port("float32", dims)}, {"y": Port("float32", dims)}, onnx=File("f", "0" * 64))
    with pytest.raises(UnsupportedError, match="batch"):
        native_graphs.check("g", graph)

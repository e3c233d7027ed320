"""ONNX Runtime by its C API (cpp_ext/src/backends) beside Python's of the same version: equal bytes from every graph.

Needs the C++ test program of a build with ONNX Runtime's header: NICRT_ONNXRUNTIME_TEST names it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest

import synthetic
from conftest import ROOT
from nicrt.runtime.backends.base import Array
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.installed import SHIPPED
from nicrt.runtime.manifest import Graph, Manifest, Port, factored
from nicrt.runtime.proofs import outputs_sha256, proof_inputs, shape_of

PROGRAM = os.environ.get("NICRT_ONNXRUNTIME_TEST")
BUNDLES = sorted(path.parent for path in SHIPPED.glob("*/manifest.json"))
OK, UNSUPPORTED = 0, 3

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="needs NICRT_ONNXRUNTIME_TEST: a build with ONNX Runtime's header"
)


@pytest.fixture(scope="module")
def library() -> Path:
    onnxruntime = pytest.importorskip("onnxruntime")
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    if not found:
        pytest.skip("this onnxruntime brings no shared library")
    return found[0]


class Asked:
    """Runs that the program is asked for, and what it says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: list[str] = []
        self._count = 0

    def add(self, bundle: Path, graph: str, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> list[Path]:
        """outputs: of the wanted types and shapes. Gives the files where they will be."""
        files = []
        for word, arrays in (("in", inputs), ("out", outputs)):
            for name, array in arrays.items():
                file = self._folder / str(self._count)
                self._count += 1
                if word == "in":
                    file.write_bytes(np.ascontiguousarray(array).tobytes())
                else:
                    files.append(file)
                self._lines.append(f"{word} {name} {array.dtype} {file} {' '.join(map(str, array.shape))}")
        self._lines.append(f"run {bundle} {graph}")
        return files

    def run(self, library: Path) -> list[tuple[int, str]]:
        """Code and message of each."""
        assert PROGRAM is not None
        done = subprocess.run(
            [PROGRAM, "run"],
            input="\n".join(self._lines) + "\n",
            env={**os.environ, "NICRT_ONNXRUNTIME": str(library), "ORT_DISABLE_TELEMETRY": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        said = [line.partition(" ") for line in done.stdout.splitlines()]
        return [(int(code), message) for code, _, message in said]


def _values(port: Port, rng: np.random.Generator, sizes: Mapping[str, int]) -> Array:
    shape = shape_of(port, sizes)
    if port.dtype == "float32":
        return rng.normal(0, 1, shape).astype(np.float32)
    if port.range is None and shape == (2,):  # height and width
        return np.array([100, 70], port.dtype)
    low, high = port.range or ((0, 255) if port.dtype == "uint8" else (-3, 3))
    return rng.integers(low, high + 1, shape).astype(port.dtype)


def _inputs(graph: Graph) -> dict[str, Array]:
    symbols = {factored(dim)[1] for port in graph.inputs.values() for dim in port.dims}
    sizes = {symbol: 1 if symbol == "n" else 2 for symbol in symbols}
    rng = np.random.default_rng(1)
    return {name: _values(port, rng, sizes) for name, port in graph.inputs.items()}


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_every_graph_gives_the_bytes_that_python_gives(folder: Path, library: Path, tmp_path: Path) -> None:
    bundle, asked, wanted = Bundle.open(folder), Asked(tmp_path), []
    for name, graph in bundle.manifest.graphs.items():
        inputs, outputs = _inputs(graph), list(graph.outputs)
        results = OnnxRuntimeCpu(1).load(bundle.graph(name)).run(inputs, outputs)
        files = asked.add(folder, name, inputs, dict(zip(outputs, results, strict=True)))
        wanted += list(zip([f"{name}: {output}" for output in outputs], files, results, strict=True))
    assert asked.run(library) == [(OK, "")] * len(bundle.manifest.graphs)
    assert [name for name, file, result in wanted if file.read_bytes() != result.tobytes()] == []


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_exact_graphs_reach_their_proofs(folder: Path, library: Path, tmp_path: Path) -> None:
    bundle, asked, proofs = Bundle.open(folder), Asked(tmp_path), []
    for name, graph in bundle.manifest.graphs.items():
        for proof in graph.proofs:
            outputs = {n: np.empty(shape_of(port, proof.sizes), port.dtype) for n, port in graph.outputs.items()}
            files = asked.add(folder, name, proof_inputs(graph, proof), outputs)
            proofs.append((graph, proof, outputs, files))
    assert asked.run(library) == [(OK, "")] * len(proofs) and proofs
    for graph, proof, outputs, files in proofs:
        made = {
            name: np.frombuffer(file.read_bytes(), array.dtype).reshape(array.shape)
            for (name, array), file in zip(outputs.items(), files, strict=True)
        }
        assert outputs_sha256(graph, made) == proof.sha256


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests" / "cases" / "models").glob("*.onnx")), ids=lambda path: path.stem
)
def test_models_that_did_harm_never_reach_it(path: Path, library: Path, tmp_path: Path) -> None:
    folder = synthetic.layered(tmp_path / "layered")
    shutil.copy(path, folder / "graphs" / "show.onnx")
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    (folder / "manifest.json").write_bytes(synthetic.finished(manifest, folder))
    asked = Asked(tmp_path)
    asked.add(folder, "show", {}, {})
    [(code, message)] = asked.run(library)
    assert code == UNSUPPORTED and "graphs/show.onnx: the ONNX model has " in message

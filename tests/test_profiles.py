"""Profiles: the shapes that are derived from a program are those that its graphs meet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from wrapped_backend import WrappedBackend

import nicrt
import synthetic
from nicrt.runtime.backends import Executable, GraphSet
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.codec import Codec
from nicrt.runtime.limits import DEFAULT_LIMITS
from nicrt.runtime.manifest import Graph, Port
from nicrt.runtime.profiles import Pictures, Profile, profiles

ENGINES = Path(__file__).resolve().parent.parent / "engines"
BUNDLES = sorted(file.parent.name for file in ENGINES.glob("*/manifest.json"))
HEIGHT, WIDTH = 37, 85
HD = Pictures((1, 1), (512, 768), (1080, 1920), batch=4)


class _Watched:
    """An executable that notes the inputs of every run."""

    workspace_bytes_per_pixel: float | None = None

    def __init__(self, name: str, executable: Executable, seen: list[tuple[str, dict[str, np.ndarray]]]) -> None:
        self._name, self._executable, self._seen = name, executable, seen

    def run(self, inputs: Mapping[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        self._seen.append((self._name, dict(inputs)))
        return self._executable.run(inputs, outputs)


@pytest.mark.parametrize("name", BUNDLES)
def test_every_run_of_a_real_codec_lies_inside_its_profile(name: str) -> None:
    """With one size of pictures a profile leaves no room, but for proofs and the last band's rows."""
    seen: list[tuple[str, dict[str, np.ndarray]]] = []
    bundle = Bundle.open(ENGINES / name)
    codec = Codec(bundle, threads=1, backend="onnxruntime", limits=DEFAULT_LIMITS)
    watched = WrappedBackend(OnnxRuntimeCpu(1), lambda graph, executable: _Watched(graph, executable, seen))
    codec._graphs = GraphSet(bundle, [watched])
    picture = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for variant in bundle.manifest.variants:
        data = [codec.encode(picture, variant=variant, effort=effort) for effort in (1, 5)][1]  # other encoder graphs
        for stage in range(1, 1 + nicrt.info(data).stages):
            codec.decode(data, stage=stage)
    size = HEIGHT, WIDTH
    found = profiles(bundle, Pictures(size, size, size), encoding=True)
    assert {graph for graph, _ in seen} == set(found)
    for graph, inputs in seen:
        spec, profile = bundle.manifest.graphs[graph], found[graph]
        assert profile.covers(spec, {port: array.shape for port, array in inputs.items()}), graph
        for port, (least, _, most) in profile.values.items():
            assert all(low <= value <= high for low, value, high in zip(least, inputs[port], most, strict=True))
    widest = {graph: dict.fromkeys(found[graph].symbols, 0) for graph in found}
    for graph, inputs in seen:
        for port, spec_port in bundle.manifest.graphs[graph].inputs.items():
            for extent, dimension in zip(inputs[port].shape, spec_port.dims, strict=True):
                if str(dimension) in widest[graph]:
                    widest[graph][str(dimension)] = max(widest[graph][str(dimension)], extent)
    for graph, extents in widest.items():
        if not bundle.manifest.graphs[graph].exact:  # proofs widen those
            for symbol, extent in extents.items():
                assert extent in (0, found[graph].symbols[symbol][2]), (graph, symbol)


def test_a_profile_follows_alignment_and_strides() -> None:
    found = profiles(Bundle.open(ENGINES / "shallow"), HD)
    assert set(found) == {"hyper", "synthesis"}  # decoding runs no more
    assert found["synthesis"].symbols == {"n": (1, 4, 4), "h": (4, 32, 68), "w": (4, 48, 120)}
    assert found["hyper"].symbols["h"] == (1, 8, 17)
    shapes = found["synthesis"].shapes(Port("uint8", ["n", "16h", "16w", 3]))
    assert shapes == ((1, 64, 64, 3), (4, 512, 768, 3), (4, 1088, 1920, 3))


def test_layers_and_bands_have_their_own_sizes() -> None:
    found = profiles(Bundle.open(ENGINES / "compass"), HD)
    assert found["base_synthesis"].symbols["h"] == (1, 2, 5)  # a quarter of the size, in blocks of 64
    assert found["filter"].symbols["r"] == (16, 16, 16)
    assert found["filter"].symbols["c"] == (64, 768, 1920)
    assert found["crop"].values == {"size": ((1, 1), (512, 768), (1080, 1920))}
    assert found["show"].symbols["b"] == (1, 768, 1920)


def test_proof_vectors_fit_into_the_profiles_of_exact_graphs() -> None:
    bundle = Bundle.open(ENGINES / "flow")
    found = profiles(bundle, Pictures((16, 16), (16, 16), (16, 16)))
    for name, profile in found.items():
        for proof in bundle.manifest.graphs[name].proofs:
            assert all(profile.symbols[s][0] <= n <= profile.symbols[s][2] for s, n in proof.sizes.items())


def test_shapes_outside_a_profile() -> None:
    graph = Graph({"x": Port("float32", ["n", 3, "4h", "4w"])}, {"y": Port("float32", ["n", 3, "h", "w"])})
    profile = Profile({"n": (1, 2, 2), "h": (1, 2, 4), "w": (2, 2, 4)})
    assert profile.covers(graph, {"x": (2, 3, 16, 8)})
    for shape in [(3, 3, 16, 8), (1, 3, 20, 8), (1, 3, 16, 4), (1, 2, 16, 8), (3, 16, 8)]:
        assert not profile.covers(graph, {"x": shape})


@pytest.mark.parametrize("sizes", [((2, 1), (1, 1), (4, 4)), ((1, 1), (2, 9), (4, 4)), ((0, 1), (1, 1), (1, 1))])
def test_sizes_rise(sizes: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="rise"):
        Pictures(*sizes)


def test_graphs_without_a_batch_run_one_picture_at_a_time(tmp_path: Path) -> None:
    bundle = Bundle.open(synthetic.layered(tmp_path / "layered"))
    sizes = (1, 1), (32, 32), (64, 64)
    found = profiles(bundle, Pictures(*sizes, batch=4), encoding=True)
    assert found == profiles(bundle, Pictures(*sizes), encoding=True)
    assert found and all("n" not in profile.symbols for profile in found.values())


def test_bands_may_end_with_any_rows_that_the_alignment_leaves(tmp_path: Path) -> None:
    bundle = Bundle.open(synthetic.banded(tmp_path / "banded"))
    size = 40, 64  # in bands of 7 rows, and the 5 that are left; of other multiples of 8 another number is left
    assert profiles(bundle, Pictures(size, size, size))["ramp"].symbols["r"] == (1, 7, 7)

"""TensorRT: every shipped graph is parsed and built by the real builder, ahead of time and without a GPU.

Running an engine needs a GPU. Here a stand-in for the library's engine and context, which reads and writes at addresses
that it is given, shows that shapes, addresses and outputs reach each other.
"""

from __future__ import annotations

import ctypes
import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from native_graphs import onnx_graph

import nicrt
import synthetic
from nicrt.runtime.backends import GraphSet, tensorrt_library
from nicrt.runtime.backends.accuracy import check_accuracy, sample_inputs
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.backends.onnxruntime_tensorrt import OnnxRuntimeTensorRt, profile_options
from nicrt.runtime.backends.tensorrt import Engine, Engines
from nicrt.runtime.backends.tensorrt_build import MAX_LAYERS, build_engine, key_of
from nicrt.runtime.backends.tensorrt_engines import MAGIC, Key, find_engines, has_engines, read_engine, write_engine
from nicrt.runtime.backends.tensorrt_library import library
from nicrt.runtime.bundle import Bundle, StoredGraph
from nicrt.runtime.cli import main
from nicrt.runtime.errors import ImageError, InternalError, LimitError, UnsupportedError
from nicrt.runtime.manifest import Graph
from nicrt.runtime.profiles import Pictures, Profile, profiles

ENGINES = Path(__file__).resolve().parent.parent / "engines"
BUNDLES = sorted(file.parent.name for file in ENGINES.glob("*/manifest.json"))
GRAPHS = [(name, graph) for name in BUNDLES for graph in Bundle.open(ENGINES / name).manifest.graphs]
SMALL = Pictures((1, 1), (256, 256), (512, 512), batch=2)
KEY = Key(graph="a" * 64, library="tensorrt 1", target="a GPU", tf32=False)
PROFILE = Profile({"h": (1, 2, 3)})


@pytest.fixture(scope="module")
def used() -> tensorrt_library.Library:
    try:
        return library()
    except UnsupportedError as error:
        pytest.skip(str(error))


def _opened(bundle: str, name: str) -> tuple[StoredGraph, Profile]:
    opened = Bundle.open(ENGINES / bundle)
    return opened.graph(name), profiles(opened, SMALL, encoding=True)[name]


@pytest.mark.parametrize(("bundle", "name"), GRAPHS)
def test_every_shipped_graph_builds(used: tensorrt_library.Library, bundle: str, name: str) -> None:
    stored, profile = _opened(bundle, name)
    if not used.ahead_of_time and tensorrt_library.gpu_name() is None:
        pytest.skip("`tensorrt` builds on a GPU only")
    assert len(build_engine(stored, profile, used)) > 10_000


def test_exact_graphs_are_built_without_tf32(used: tensorrt_library.Library) -> None:
    stored, profile = _opened("shallow", "hyper")
    flags: list[bool] = []

    class Module:
        """The library, which notes the TF32 flag of every build."""

        def __getattr__(self, name: str) -> Any:
            return getattr(used.module, name)

        @staticmethod
        def Builder(log: Any) -> Any:  # noqa: N802
            builder = used.module.Builder(log)

            class Noting:
                def __getattr__(self, name: str) -> Any:
                    return getattr(builder, name)

                def build_serialized_network(self, network: Any, config: Any) -> Any:
                    flags.append(config.get_flag(used.module.BuilderFlag.TF32))
                    return b"engine"

            return Noting()

    noting = tensorrt_library.Library.__new__(tensorrt_library.Library)
    noting.__dict__.update(used.__dict__, module=Module())
    for exact in (True, False):
        changed = replace(stored, entry=msgspec.structs.replace(stored.entry, exact=exact))
        build_engine(changed, profile, noting)
        assert key_of(changed, used).tf32 is not exact
    assert flags == [False, True]


def test_a_tensor_that_cannot_be_counted_is_refused(used: tensorrt_library.Library) -> None:
    """Ports are small enough: it is a layer within that grows beyond 2^31 elements."""
    stored, profile = _opened("flow", "level0")
    symbols = {**profile.symbols, "n": (1, 1, 1), "h": (1, 1, 1500), "w": (1, 1, 1500)}
    with pytest.raises(LimitError, match=r"max-shapes"):
        build_engine(stored, Profile(symbols), used)


def test_a_broken_model_is_refused_with_a_reason(used: tensorrt_library.Library) -> None:
    stored, profile = _opened("slim", "fill_y1")
    with pytest.raises(UnsupportedError, match="cannot parse"):
        build_engine(replace(stored, onnx=lambda: b"nonsense"), profile, used)
    with pytest.raises(UnsupportedError, match="ports"):
        build_engine(replace(stored, entry=msgspec.structs.replace(stored.entry, outputs={})), profile, used)


def _sums(nodes: int, addend: int) -> tuple[StoredGraph, Profile]:
    """x [n] + a constant [addend], again and again."""
    inputs, outputs = {"x": synthetic.port("float32", "n")}, {"y": synthetic.port("float32", "n")}
    names = ["x", *(f"v{i}" for i in range(nodes - 1)), "y"]
    added = [onnx.helper.make_node("Add", [a, "c"], [b]) for a, b in pairwise(names)]
    data = synthetic.onnx_bytes(added, inputs, outputs, {"c": np.ones(addend, np.float32)})
    return onnx_graph(Graph(inputs=inputs, outputs=outputs), data), Profile({"n": (4, 4, 4)})


def test_networks_that_would_overrun_the_builder_s_stack_are_refused(used: tensorrt_library.Library) -> None:
    stored, profile = _sums(MAX_LAYERS + 1, 1)
    with pytest.raises(UnsupportedError, match="more than the 2500 that are safe"):
        build_engine(stored, profile, used)


def test_shapes_that_do_not_fit_are_refused_with_a_reason(used: tensorrt_library.Library) -> None:
    stored, profile = _sums(1, 5)
    with pytest.raises(UnsupportedError, match="finds no shapes in it"):
        build_engine(stored, profile, used)


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")  # where it is a no-op
def test_timings_are_kept(used: tensorrt_library.Library, tmp_path: Path) -> None:
    stored, profile = _opened("slim", "fill_y1")
    for _ in range(2):
        build_engine(stored, profile, used, tmp_path / "timings")
    assert [file.name for file in tmp_path.iterdir()] == ["timings"]


def test_the_command_builds_and_reports(
    used: tensorrt_library.Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", str(ENGINES / "shallow"), "-o", str(tmp_path), "--max-shapes", "640x320", "--batch", "2"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["usual"], result["largest"], result["library"]) == ("640x320", "640x320", str(used))
    assert [row["graph"] for row in result["graphs"]] == ["hyper", "synthesis"]
    files = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert all(files[row["file"]] > row["engine_bytes"] > 1e6 for row in result["graphs"])
    stored = Bundle.open(ENGINES / "shallow").graph("synthesis")
    ((path, profile),) = find_engines(tmp_path, "synthesis", key_of(stored, used))
    assert profile.symbols == {"n": (1, 2, 2), "h": (4, 20, 20), "w": (4, 40, 40)}
    assert len(read_engine(path, key_of(stored, used))) == result["graphs"][1]["engine_bytes"]
    assert main([*arguments, "--encoder"]) == 0
    graphs = Bundle.open(ENGINES / "shallow").manifest.graphs
    assert f"{len(graphs)} engines in" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == len(graphs)  # the same names as before
    assert main([*arguments, "--no-clobber"]) == ImageError.exit_code
    assert "it exists" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--max-shapes=8", "--batch=0", "--backend=abacus"])
def test_the_command_refuses_what_it_cannot_read(flag: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["build", "shallow", flag])
    assert ended.value.code == 2


def test_a_plan_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = write_engine(tmp_path, "synthesis", KEY, PROFILE, b"\nplan\n")
    assert list(find_engines(tmp_path, "synthesis", KEY)) == [(path, PROFILE)]
    assert read_engine(path, KEY) == b"\nplan\n"
    assert has_engines(tmp_path, {KEY.graph}) and not has_engines(tmp_path, {"b" * 64})
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("field", Key.__struct_fields__)
def test_a_stale_plan_is_never_loaded(tmp_path: Path, field: str) -> None:
    path = write_engine(tmp_path, "synthesis", KEY, PROFILE, b"engine")
    other = msgspec.structs.replace(KEY, **{field: True if field == "tf32" else "another"})
    with pytest.raises(UnsupportedError, match=rf"another {field}.*nicrt build"):
        list(find_engines(tmp_path, "synthesis", other))
    with pytest.raises(UnsupportedError, match=rf"stale.*{field}"):
        read_engine(path, other)


@pytest.mark.parametrize("damage", ["byte", "end", "magic", "header", "more"])
def test_a_damaged_plan_is_refused(tmp_path: Path, damage: str) -> None:
    path = write_engine(tmp_path, "synthesis", KEY, PROFILE, b"engine" * 100)
    data = path.read_bytes()
    path.write_bytes(
        {
            "byte": data[:-5] + b"x" + data[-4:],
            "end": data[:-1],
            "magic": data[1:],
            "header": data.replace(b'"tf32":false', b'"tf32":0'),
            "more": data + b"x",
        }[damage]
    )
    assert path.read_bytes() != data and data.startswith(MAGIC)
    with pytest.raises(UnsupportedError, match=r"not (the|an) engine"):
        read_engine(path, KEY)


def test_without_plans_the_reason_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"no engine is built for it: nicrt build"):
        list(find_engines(tmp_path / "nothing", "synthesis", KEY))


def test_without_a_gpu_auto_passes_on_and_an_explicit_wish_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_library, "gpu_name", lambda: None)
    monkeypatch.setenv("NICRT_ENGINES", str(tmp_path))
    bundle = Bundle.open(ENGINES / "shallow")
    file = bundle.manifest.graphs["synthesis"].onnx
    assert file is not None
    write_engine(tmp_path, "synthesis", msgspec.structs.replace(KEY, graph=file.sha256), PROFILE, b"engine")
    graphs = GraphSet.open(bundle, "auto", 1)
    graphs.get("synthesis")
    assert graphs.report()["synthesis"] in ("native", "onnxruntime") and not graphs.refusals
    with pytest.raises(UnsupportedError, match=r"GPU|not installed"):
        nicrt.load("shallow", backend="tensorrt")


@pytest.mark.parametrize(("gpu", "fits"), [("NVIDIA L4 (sm_89)", True), ("NVIDIA H200 (sm_90)", False)])
def test_tensorrt_rtx_knows_its_gpus(
    used: tensorrt_library.Library, monkeypatch: pytest.MonkeyPatch, gpu: str, fits: bool
) -> None:
    if not used.ahead_of_time:
        pytest.skip("of tensorrt_rtx")
    monkeypatch.setattr(tensorrt_library, "gpu_name", lambda: gpu)
    if fits:
        assert tensorrt_library.usable_gpu(used) == gpu
    else:
        with pytest.raises(UnsupportedError, match="sm_89"):
            tensorrt_library.usable_gpu(used)


class _Buffer:
    """A tensor in host memory, with the interface of one on the device."""

    def __init__(self, shape: tuple[int, ...], dtype: str, stream: object) -> None:
        self.array, self.shape = np.zeros(shape, dtype), shape
        self.pointer = self.array.ctypes.data

    def upload(self, array: np.ndarray) -> None:
        self.array[...] = array

    def download(self) -> np.ndarray:
        return self.array.copy()


class _Stream:
    handle = 7


class _Device:
    Buffer, Stream = _Buffer, _Stream


@dataclass
class _Engine:
    """An engine whose engine is an ONNX graph; its context computes with ONNX Runtime at the addresses it is told."""

    stored: StoredGraph

    def is_shape_inference_io(self, name: str) -> bool:
        graph = self.stored.entry
        return name == "size" and "picture" in graph.outputs and "rows" not in graph.inputs

    def create_execution_context(self) -> _Context:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine, self.shapes, self.addresses = engine, dict[str, tuple[int, ...]](), dict[str, int]()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert not self.engine.is_shape_inference_io(name)
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.addresses[name] = pointer
        return pointer != 0

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.stored.entry.inputs if name not in self.addresses]

    def _results(self) -> dict[str, np.ndarray]:
        graph = self.engine.stored.entry
        shapes = {name: self.shapes.get(name, tuple(port.dims)) for name, port in graph.inputs.items()}
        inputs = {n: self._at(n, graph.inputs[n].dtype, shape).copy() for n, shape in shapes.items()}
        outputs = list(graph.outputs)
        executable = OnnxRuntimeCpu(1).load(self.engine.stored)
        return dict(zip(outputs, executable.run(inputs, outputs), strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._results()[name].shape

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == _Stream.handle
        for name, result in self._results().items():
            self._at(name, str(result.dtype), result.shape)[...] = result
        return True

    def _at(self, name: str, dtype: str, shape: tuple[Any, ...]) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = (ctypes.c_char * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)


@pytest.mark.parametrize(("bundle", "name"), [("shallow", "synthesis"), ("flow", "spread2"), ("compass", "crop")])
def test_a_run_reaches_the_device_and_comes_back(bundle: str, name: str) -> None:
    stored, profile = _opened(bundle, name)
    assert all(isinstance(p.dims[0], str) or p.dims[0] < 9 for p in stored.entry.inputs.values())
    engine = Engine(stored.entry, profile, _Engine(stored), _Device, _Stream())
    engines = Engines([engine], lambda: "no reason given")
    inputs = sample_inputs(stored.entry, {s: low + 1 for s, (low, _, _) in profile.symbols.items()})
    outputs = list(stored.entry.outputs)[::-1]
    expected = OnnxRuntimeCpu(1).load(stored).run(inputs, outputs)
    for got, wanted in zip(engines.run(inputs, outputs), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    larger = sample_inputs(stored.entry, {s: high + 1 for s, (_, _, high) in profile.symbols.items()})
    with pytest.raises(LimitError, match=r"nicrt build with larger"):
        engines.run(larger, outputs)


def test_a_run_on_buffers_of_the_device() -> None:
    stored, profile = _opened("flow", "spread2")
    engines = Engines([Engine(stored.entry, profile, _Engine(stored), _Device, _Stream())], lambda: "no reason given")
    inputs = sample_inputs(stored.entry, {s: low + 1 for s, (low, _, _) in profile.symbols.items()})
    (expected,) = OnnxRuntimeCpu(1).load(stored).run(inputs, ["xb"])
    buffers = {name: _Buffer(array.shape, str(array.dtype), None) for name, array in inputs.items()}
    out = _Buffer(expected.shape, "uint8", None)
    run = engines.bind(buffers, {"xb": out})  # of two outputs
    assert engines.capturable and not out.array.any()
    for name, array in inputs.items():
        buffers[name].upload(array)
    for _ in range(2):
        out.array[...] = 0
        run()
        np.testing.assert_array_equal(out.array, expected)
    with pytest.raises(InternalError, match=r"not .*no reason given"):
        engines.bind(buffers, {"xb": _Buffer((1, 2), "uint8", None)})()


def test_shapes_cannot_be_read_from_the_device() -> None:
    stored, profile = _opened("compass", "crop")
    engines = Engines([Engine(stored.entry, profile, _Engine(stored), _Device, _Stream())], lambda: "")
    inputs = sample_inputs(stored.entry, {s: low for s, (low, _, _) in profile.symbols.items()})
    assert not engines.capturable
    with pytest.raises(InternalError, match="size from host memory"):
        engines.bind({name: _Buffer(array.shape, str(array.dtype), None) for name, array in inputs.items()}, {})


def test_the_gate_lets_rounding_pass_and_stops_more() -> None:
    stored, _ = _opened("shallow", "synthesis")
    reference = OnnxRuntimeCpu(1).load(stored)

    class Off:
        def __init__(self, by: int) -> None:
            self.by = by

        def run(self, inputs: Any, outputs: list[str]) -> list[np.ndarray]:
            (picture,) = reference.run(inputs, outputs)
            return [np.clip(picture.astype(int) + self.by, 0, 255).astype(np.uint8)]

    sizes = {"n": 2, "h": 4, "w": 4}
    assert [check_accuracy(stored.entry, Off(by), reference, sizes) for by in (0, 1)] == [0, 1]
    with pytest.raises(UnsupportedError, match="off by 2"):
        check_accuracy(stored.entry, Off(2), reference, sizes)


def test_options_of_onnx_runtimes_own_provider() -> None:
    stored, profile = _opened("compass", "crop")
    assert profile_options(stored.entry, profile) == {
        "trt_profile_min_shapes": "x:1x3x64x64,size:1x1",
        "trt_profile_opt_shapes": "x:2x3x256x256,size:256x256",
        "trt_profile_max_shapes": "x:2x3x512x512,size:512x512",
    }


def test_onnx_runtime_without_the_provider_says_so() -> None:
    import onnxruntime

    if "TensorrtExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has it")
    with pytest.raises(UnsupportedError, match="TensorrtExecutionProvider"):
        OnnxRuntimeTensorRt(1, {})

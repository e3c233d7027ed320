"""Decoding with tensors that stay on a device, on the host in the place of a GPU: the same code but for the kernels'
compiler. `NICRT_TEST_DEVICE=cuda` runs all of it on a GPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_api import with_header_bytes

import nicrt
import synthetic
from conftest import GOLDEN
from nicrt import _core
from nicrt.runtime.backends import Backend, GraphSet
from nicrt.runtime.backends.allowance import Allowance
from nicrt.runtime.backends.base import Array
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.bundle import StoredGraph
from nicrt.runtime.cli import main
from nicrt.runtime.device.decoder import StreamTensors
from nicrt.runtime.device.graphs import REPLAYABLE, GraphOptions, _BoundSession, operators, why_not_alone
from nicrt.runtime.device.layout import Step, symbol_limits
from nicrt.runtime.device.plan import Plan
from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.interpreter import Interpreter
from nicrt.runtime.pictures import from_array
from nicrt.runtime.plan import rounds
from nicrt.runtime.schedule import schedule

DEVICE = os.environ.get("NICRT_TEST_DEVICE", "host")
BUNDLES = sorted(path.parent.name for path in GOLDEN.glob("*/good.json"))
GOOD: dict[str, dict[str, str]] = {b: json.loads((GOLDEN / b / "good.json").read_text()) for b in BUNDLES}
BAD = json.loads((GOLDEN / "bad" / "bad.json").read_text())


@pytest.fixture(scope="module")
def decoder(codec: nicrt.Codec) -> nicrt.DeviceDecoder:
    return nicrt.DeviceDecoder(codec, DEVICE)


def symbols_sha256(streams: Sequence[StreamTensors], picture: int = 0) -> str:
    digest = hashlib.sha256()
    for stream in streams:
        digest.update(np.ascontiguousarray(stream.symbols[picture], dtype="<i4").tobytes())
    return digest.hexdigest()


def largest_difference(a: Array, b: Array) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("bundle", BUNDLES)
def test_golden_files(bundle: str) -> None:
    decoder = nicrt.DeviceDecoder(bundle, DEVICE)
    for name, sha256 in GOOD[bundle].items():
        data = (GOLDEN / bundle / f"{name}.nic").read_bytes()
        expected = np.asarray(Image.open(GOLDEN / bundle / f"{name}.png"))
        for _ in range(2):  # what made the plan, and what used it again
            picture = decoder.decode(data, strict=DEVICE == "host")
            assert picture.shape == expected.shape, name
            assert largest_difference(picture.numpy(), expected) <= 1, name
        assert symbols_sha256(decoder.streams([data])) == sha256, name


@pytest.mark.parametrize("bundle", ["flow", "compass"])
def test_every_stage(bundle: str) -> None:
    codec = nicrt.load(bundle, threads=1)
    decoder = nicrt.DeviceDecoder(codec, DEVICE)
    data = (GOLDEN / bundle / "harbour-steps.nic").read_bytes()
    for stage in range(1, nicrt.info(data).stages + 1):
        expected = codec.decode(data, stage=stage)
        assert largest_difference(decoder.decode(data, stage=stage).numpy(), expected) <= 1


def test_programs_of_layers_and_bands(tmp_path: Path, harbour: np.ndarray) -> None:
    """`each`, rows and columns of bands, table sets, tensors of one picture size after another."""
    pytest.importorskip("hypothesis")
    from test_program import encode_layers

    codec = nicrt.load(synthetic.layered(tmp_path / "layered"), threads=1)
    decoder = nicrt.DeviceDecoder(codec, DEVICE)
    for layers in ([], [(9, 33), (50, 21), (40, 31)], [(61, 7), (40, 31)]):
        data = encode_layers(codec, harbour[:40, :31], layers, floor=1, table_set=1)
        np.testing.assert_array_equal(decoder.decode(data).numpy(), codec.decode(data))
    others = [encode_layers(codec, harbour[i : i + 40, :31], [(61, 7), (40, 31)], floor=1) for i in (0, 30)]
    np.testing.assert_array_equal(decoder.decode_batch(others).numpy(), [codec.decode(data) for data in others])
    banded = nicrt.load(synthetic.banded(tmp_path / "banded"), threads=1)
    data = banded.encode(harbour[:100, :140], scales=[0.3, 0.5, 1.0])
    pictures = nicrt.DeviceDecoder(banded, DEVICE)
    for stage in (1, 2, 3):
        np.testing.assert_array_equal(pictures.decode(data, stage=stage).numpy(), banded.decode(data, stage=stage))
    with pytest.raises(nicrt.UnsupportedError, match="for 2 pictures"):  # it shows what depends on no symbol
        pictures.decode_batch([data, data])


@pytest.mark.parametrize("bundle", BUNDLES)
def test_batches(bundle: str, harbour: np.ndarray) -> None:
    codec = nicrt.load(bundle, threads=1)
    decoder = nicrt.DeviceDecoder(codec, DEVICE)
    crops = [harbour[8 * i : 8 * i + 65, 9 * i : 9 * i + 97] for i in range(3)]
    files = [codec.encode(crop, quality=40) for crop in crops]
    batch = decoder.decode_batch(files)
    assert batch.shape == (3, 65, 97, 3)
    streams = decoder.streams(files)
    for number, data in enumerate(files):
        assert largest_difference(batch.numpy()[number], codec.decode(data)) <= 1
        for stream, symbols in zip(streams, codec.symbols(data), strict=True):
            np.testing.assert_array_equal(stream.symbols[number], symbols)
    assert decoder.plans[0]["batch"] == 3


def test_batches_are_of_one_kind(decoder: nicrt.DeviceDecoder, codec: nicrt.Codec, harbour: np.ndarray) -> None:
    first, wider = (codec.encode(harbour[:64, :width], quality=40) for width in (64, 65))
    other = codec.encode(harbour[:64, :64], quality=60)
    for files in ([first, wider], [first, other], []):
        with pytest.raises(ValueError, match="batch"):
            decoder.decode_batch(files)


@pytest.mark.parametrize("name", BAD)
def test_golden_bad_files(decoder: nicrt.DeviceDecoder, name: str) -> None:
    data = (GOLDEN / "bad" / f"{name}.nic").read_bytes()
    with pytest.raises(getattr(nicrt, BAD[name]["error"])) as error:
        decoder.decode(data)
    assert type(error.value).__name__ == BAD[name]["error"]


def test_damage_gives_the_errors_of_the_cpu(
    decoder: nicrt.DeviceDecoder, codec: nicrt.Codec, small_file: bytes
) -> None:
    expected = decoder.decode(small_file).numpy()
    for bit in range(0, 8 * len(small_file), 37):
        damaged = bytearray(small_file)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(nicrt.NicrtError) as on_cpu:
            codec.decode(damaged)
        with pytest.raises(nicrt.NicrtError) as on_device:
            decoder.decode(damaged)
        assert type(on_cpu.value) is type(on_device.value)
    for size in range(0, len(small_file), 29):
        with pytest.raises(nicrt.TruncatedError):
            decoder.decode(small_file[:size])
    np.testing.assert_array_equal(decoder.decode(small_file).numpy(), expected)  # it goes on as if nothing had been


def test_damage_that_only_decoding_finds(decoder: nicrt.DeviceDecoder, codec: nicrt.Codec, small_file: bytes) -> None:
    """Checksums are right; another `step` gives other table indices, to which the streams do not fit."""
    end = nicrt.info(small_file).header_bytes - 4
    found = 0
    for offset in range(23, end):
        changed = with_header_bytes(small_file, offset, bytes([small_file[offset] ^ 2]))
        try:
            codec.decode(changed)
        except nicrt.NicrtError as error:
            with pytest.raises(type(error)):
                decoder.decode(changed)
            found += isinstance(error, nicrt.CorruptError)
        except ValueError:
            continue
    assert found


def test_a_symbol_that_an_exact_graph_is_not_exact_for(decoder: nicrt.DeviceDecoder, harbour: np.ndarray) -> None:
    codec, crop = nicrt.load("shallow", threads=1, backend="onnxruntime"), harbour[:70, :70]
    data = codec.encode(crop, quality=30)
    opened = codec.opened(data)
    symbols = codec.symbols(data)
    variant = codec.bundle.manifest.variants[opened.variant]
    for value, fits in ((127, True), (128, False), (-128, False), (30000, False)):
        symbols[0][3, 0, 1] = value
        interpreter = Interpreter(codec.bundle, variant.program, codec._graphs, 1)
        options = {"tile": 512, "symbols_per_lane": 512, "effort": 1, "given": [s.copy() for s in symbols]}
        if not fits:  # the encoder's own check stands in the way
            bounds = codec.bundle.manifest.graphs["hyper"].inputs["z"]
            wide, bounds.range = bounds.range, (-40000, 40000)
        try:
            streams = interpreter.encode(from_array(crop), opened.parameters, **options)  # type: ignore[arg-type]
        finally:
            if not fits:
                bounds.range = wide
        ids = bytes.fromhex(variant.symbol_id), bytes.fromhex(variant.picture_id)
        made = _core.write(*ids, 70, 70, 512, list(opened.parameters.values()), streams)
        if fits:
            assert largest_difference(decoder.decode(made).numpy(), codec.decode(made)) <= 1
            continue
        for decode in (codec.decode, decoder.decode):
            with pytest.raises(nicrt.CorruptError):
                decode(made)


def test_limits_of_symbols(codec: nicrt.Codec) -> None:
    program = codec.bundle.manifest.variants["shallow"].program
    values = {p.name: [p.default] for p in program.parameters}
    entries = schedule(list(rounds(program, values, (64, 64))), encoding=False, show=True)
    assert list(symbol_limits(entries, codec.bundle.manifest.graphs).values()) == [(-127, 127), (-32768, 32767)]


def test_ranges_that_exact_graphs_state_are_ranges() -> None:
    """The next graph is exact for the sum of symbols and offsets in its stated range, not in a wider one or in any."""
    manifest = nicrt.load("flow").bundle.manifest
    program = manifest.variants["flow"].program
    values = {p.name: [p.default] * (p.length or 1) for p in program.parameters}
    entries = schedule(list(rounds(program, values, (64, 64))), encoding=False, show=True)
    assert (-32768, 32767) in symbol_limits(entries, manifest.graphs).values()
    stated = manifest.graphs["plus_offset"].outputs["q"]
    for range_ in ((-(1 << 20), 1 << 20), None):
        stated.range = range_
        with pytest.raises(nicrt.UnsupportedError, match="only the CPU checks"):
            symbol_limits(entries, manifest.graphs)


def bt709(rgb: Array) -> tuple[Array, Array]:
    """Y [h, w] and CbCr [ceil(h / 2), ceil(w / 2), 2] in limited range, as floats; chroma of 2x2 means, the edges
    repeated.
    """
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    planes = np.stack([(b - y) / 1.8556, (r - y) / 1.5748], axis=-1)
    height, width = y.shape
    padded = np.pad(planes, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    means = padded.reshape(-(-height // 2), 2, -(-width // 2), 2, 2).mean(axis=(1, 3))
    return 16 + 219 * y, 128 + 224 * means


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (1, 1), (2, 1), (33, 40)])
def test_formats(decoder: nicrt.DeviceDecoder, codec: nicrt.Codec, harbour: np.ndarray, size: tuple[int, int]) -> None:
    height, width = size
    data = codec.encode(harbour[:height, :width], quality=80)
    rgb = decoder.decode(data).numpy()
    planar = decoder.decode(data, format="planar").numpy()
    np.testing.assert_array_equal(planar, rgb.transpose(2, 0, 1))
    nv12 = decoder.decode(data, format="nv12").numpy()
    row = width + width % 2
    assert nv12.shape == (height + (height + 1) // 2, row)
    y, chroma = bt709(rgb)
    assert np.abs(nv12[:height, :width] - y).max() <= 0.51
    assert np.abs(nv12[height:].reshape(chroma.shape) - chroma).max() <= 0.51
    with pytest.raises(ValueError, match="format"):
        decoder.decode(data, format="yuv444")  # type: ignore[arg-type]


def test_dlpack(decoder: nicrt.DeviceDecoder, small_file: bytes) -> None:
    torch = pytest.importorskip("torch")
    picture = decoder.decode(small_file)
    expected = picture.numpy()
    tensor = torch.from_dlpack(picture)
    assert tensor.shape == expected.shape and tensor.dtype == torch.uint8
    assert tensor.device.type == ("cpu" if DEVICE == "host" else "cuda")
    np.testing.assert_array_equal(tensor.cpu().numpy(), expected)
    decoder.decode_batch([small_file, small_file])
    del picture
    np.testing.assert_array_equal(tensor.cpu().numpy(), expected)  # the tensor owns it now
    if DEVICE == "host":
        again = decoder.decode(small_file)
        shared = np.from_dlpack(again)
        assert shared.ctypes.data == again.pointer
        np.testing.assert_array_equal(shared, expected)
        assert not hasattr(again, "__cuda_array_interface__")
    else:
        facts = decoder.decode(small_file).__cuda_array_interface__
        assert facts["shape"] == expected.shape and facts["typestr"] == "|u1"


def test_plans_are_kept_for_sizes_not_for_settings(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    decoder = nicrt.DeviceDecoder(codec, DEVICE, plans=2)
    first = codec.encode(harbour[:64, :64], quality=10)
    decoder.decode(first)
    (plan,) = decoder._plans.values()
    for quality in (20, 30, 35):  # other values of gain: uploaded, nothing made anew
        data = codec.encode(harbour[:64, :64], quality=quality)
        assert largest_difference(decoder.decode(data).numpy(), codec.decode(data)) <= 1
        assert list(decoder._plans.values()) == [plan]
    assert largest_difference(decoder.decode(first).numpy(), codec.decode(first)) <= 1
    for width in (65, 66, 64):
        decoder.decode(codec.encode(harbour[:64, :width], quality=10))
    assert [entry["size"] for entry in decoder.plans] == [(64, 66), (64, 64)]
    assert plan not in decoder._plans.values()


def test_a_plan_grows_with_its_files(codec: nicrt.Codec) -> None:
    """The first file of a size says little of how large the next will be."""
    decoder = nicrt.DeviceDecoder(codec, DEVICE)
    rng = np.random.default_rng(1)
    flat, noise = np.full((300, 300, 3), 90, np.uint8), rng.integers(0, 256, (300, 300, 3), np.uint8)
    for picture in (flat, noise, flat):
        data = codec.encode(picture, quality=100, parameters={"dz": 3, "skip": 10})  # else the encoder may change them
        assert largest_difference(decoder.decode(data).numpy(), codec.decode(data)) <= 1
    assert len(decoder.plans) == 1


def test_captured_work_is_replayed(codec: nicrt.Codec, small_file: bytes) -> None:
    captured, plain = (nicrt.DeviceDecoder(codec, DEVICE, capture=capture) for capture in (True, False))
    for _ in range(3):
        np.testing.assert_array_equal(captured.decode(small_file).numpy(), plain.decode(small_file).numpy())
    assert plain.plans[0]["captured"] == "no: not asked for"
    if DEVICE == "host":  # graphs of ONNX Runtime's CPU provider run at once and are in no capture
        assert captured.plans[0]["captured"] == "all: 2 graphs"


def test_a_replay_that_leaves_work_out_is_noticed(codec: nicrt.Codec, small_file: bytes) -> None:
    """Sessions that say that they can be captured, and run at once instead."""
    decoder = nicrt.DeviceDecoder(codec, "host")
    for name in ("hyper", "synthesis"):
        decoder._graphs.get(name).capturable = True  # type: ignore[attr-defined]
    for _ in range(2):
        np.testing.assert_array_equal(decoder.decode(small_file).numpy(), launched(codec, small_file))
    assert decoder.plans[0]["captured"] == "entropy: 2 graphs"


def test_a_capture_that_fails_is_done_without(
    codec: nicrt.Codec, small_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = nicrt.DeviceDecoder(codec, DEVICE)

    def refuse(plan: Plan, steps: Sequence[Step]) -> object:
        plan.layout.stream.begin_capture()
        plan.layout.stream.end_capture()
        raise nicrt.InternalError("no capture here")

    monkeypatch.setattr(Plan, "_graph_of", refuse)
    for _ in range(2):
        assert largest_difference(decoder.decode(small_file).numpy(), codec.decode(small_file)) <= 1
    assert decoder.plans[0]["captured"] == "no: no capture here"
    (plan,) = decoder._plans.values()
    plan._forget(np.zeros(plan.layout.shown.shape, np.uint8))
    plan._replace_by_graphs()
    symbols = [step.symbols.download()[0] for step in plan.layout.entropy]
    for found, expected in zip(symbols, codec.symbols(small_file), strict=True):
        np.testing.assert_array_equal(found, expected)


def launched(codec: nicrt.Codec, data: bytes) -> Array:
    return nicrt.DeviceDecoder(codec, "host", capture=False).decode(data).numpy()


def test_threads_with_a_decoder_each(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    files = [codec.encode(harbour[i : i + 50, : 60 + i], quality=30) for i in range(4)]
    expected = [codec.decode(data) for data in files]
    shared = nicrt.DeviceDecoder(codec, DEVICE)
    wrong: list[int] = []

    def work(decoder: nicrt.DeviceDecoder) -> None:
        for _ in range(3):
            for data, pixels in zip(files, expected, strict=True):
                wrong.append(largest_difference(decoder.decode(data).numpy(), pixels))

    decoders = [nicrt.DeviceDecoder(codec, DEVICE), nicrt.DeviceDecoder(codec, DEVICE), shared, shared]
    threads = [threading.Thread(target=work, args=(decoder,)) for decoder in decoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 4 * 3 * len(files) and max(wrong) <= 1


class _Refusing:
    """A device backend that some graph does not load on."""

    def __init__(self, backend: Backend, graph: str) -> None:
        self._backend, self._graph, self.name = backend, graph, backend.name

    def load(self, stored: StoredGraph) -> object:
        if stored.name == self._graph:
            raise UnsupportedError("not today")
        return self._backend.load(stored)

    def identity(self) -> str:
        return self._backend.identity()


@pytest.mark.parametrize("graph", ["hyper", "synthesis"])
def test_a_graph_that_falls_back_to_the_cpu_is_reported(codec: nicrt.Codec, small_file: bytes, graph: str) -> None:
    decoder = nicrt.DeviceDecoder(codec, DEVICE)
    device = decoder._graphs._backends[0]
    refusing = _Refusing(device, graph)
    decoder._graphs = GraphSet(codec.bundle, [refusing, OnnxRuntimeCpu(1)])  # type: ignore[list-item]
    for _ in range(2):
        assert largest_difference(decoder.decode(small_file).numpy(), codec.decode(small_file)) <= 1
    assert decoder.fallbacks == {graph: [f"{device.name}: not today"]}
    assert decoder.plans[0]["by_way_of_host"] == [f"graph {graph}"]
    with pytest.raises(nicrt.UnsupportedError, match="not today"):
        decoder.decode(small_file, strict=True)


class _Inexact(_Refusing):
    """A backend whose integers are wrong by one somewhere."""

    def load(self, stored: StoredGraph) -> object:
        executable = self._backend.load(stored)
        if stored.name != self._graph:
            return executable

        class Wrong:
            def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
                return [array + np.ones((), array.dtype) for array in executable.run(inputs, outputs)]

        return Wrong()

    def identity(self) -> str:
        return "a wrong device"


def test_an_exact_graph_that_is_not_exact_here_runs_on_the_cpu(codec: nicrt.Codec, small_file: bytes) -> None:
    decoder = nicrt.DeviceDecoder(codec, DEVICE)
    wrong = _Inexact(decoder._graphs._backends[0], "hyper")
    decoder._graphs = GraphSet(codec.bundle, [wrong, OnnxRuntimeCpu(1)])  # type: ignore[list-item]
    assert largest_difference(decoder.decode(small_file).numpy(), codec.decode(small_file)) <= 1
    assert "not exact on this device" in decoder.fallbacks["hyper"][0]


class _PlacedSession:
    """Says what a session of ONNX Runtime's CUDA provider says of its placement."""

    def __init__(self, memories: str, on_cpu: list[str]) -> None:
        self._memories = [SimpleNamespace(name=name) for name in memories.split()]
        nodes = [SimpleNamespace(op_type=name) for name in on_cpu]
        self._parts = [
            SimpleNamespace(ep_name="CUDAExecutionProvider", get_nodes=lambda: [SimpleNamespace(op_type="Conv")]),
            SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: nodes),
        ]

    def get_input_memory_infos(self) -> list[SimpleNamespace]:
        return self._memories

    def get_output_memory_infos(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="Cuda")]

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        return self._parts


def test_which_sessions_only_queue_work() -> None:
    assert why_not_alone(_PlacedSession("Cuda Cuda", []), b"Conv") is None
    assert why_not_alone(_PlacedSession("Cuda", ["Shape", "Concat"]), b"Conv") is None
    for session, model in (
        (_PlacedSession("Cuda", ["Pad"]), b"..MemcpyToHost.."),
        (_PlacedSession("Cuda Cpu", ["Pad"]), b"Pad"),
        (_PlacedSession("Cuda", ["Pad"]), None),
    ):
        assert "on the CPU: Pad" in str(why_not_alone(session, model))
    assert "later one" in str(why_not_alone(object(), b""))
    assert operators(_PlacedSession("Cuda", ["Shape"]), on_gpu=True) == {"Conv"} <= REPLAYABLE


@pytest.mark.parametrize("alone", [True, False])
def test_inputs_that_a_session_wants_on_the_host_are_bound_in_every_run(alone: bool) -> None:
    """ONNX Runtime copies such an input when it is bound, not when the session runs."""
    calls: list[str] = []
    binding = SimpleNamespace(
        bind_input=lambda port, *_: calls.append(f"bind {port}"), bind_output=lambda port, *_: calls.append(port)
    )
    session = SimpleNamespace(io_binding=lambda: binding, run_with_iobinding=lambda *_: calls.append("run"))
    stream = SimpleNamespace(synchronize=lambda: calls.append("wait"))
    device = SimpleNamespace(kind="cuda", index=0)
    buffer = SimpleNamespace(dtype="int32", shape=(1,), pointer=64)
    bound = _BoundSession(session, None, device, stream, Allowance(), alone=alone, capturable=False)  # type: ignore[arg-type]
    run = bound.bind({"x": buffer}, {"y": buffer})  # type: ignore[dict-item]
    assert calls == ["bind x", "y"]
    run()
    assert calls[2:] == (["run"] if alone else ["wait", "bind x", "run"])


def test_options_of_the_cuda_provider(codec: nicrt.Codec) -> None:
    graphs = codec.bundle.manifest.graphs
    options = GraphOptions(conv_search="heuristic", tf32=True)
    assert options.provider(graphs["hyper"]) == {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"}
    assert options.provider(graphs["synthesis"]) == {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "1"}


def test_limits(codec: nicrt.Codec, small_file: bytes) -> None:
    decoder = nicrt.DeviceDecoder(codec, DEVICE, limits=nicrt.Limits(memory_bytes=1 << 20))
    with pytest.raises(nicrt.LimitError, match="on the device"):
        decoder.decode(small_file)


def test_devices(codec: nicrt.Codec) -> None:
    for name in ("tpu", "cuda:", "cuda:x", "host:1", ""):
        with pytest.raises(ValueError, match="device"):
            nicrt.DeviceDecoder(codec, name)
    with pytest.raises(ValueError, match="plans"):
        nicrt.DeviceDecoder(codec, DEVICE, plans=0)
    with pytest.raises(ValueError, match="search"):
        nicrt.DeviceDecoder(codec, DEVICE, conv_search="thorough")
    try:
        nicrt.DeviceDecoder(codec)
    except nicrt.UnsupportedError as error:
        assert any(what in str(error) for what in ("nvcc", "nvidia-smi", "nicrt[gpu]"))  # what to do about it


def test_bench_on_a_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.json"
    arguments = ["bench", "shallow", "--size", "128x64", "--repeat", "3", "--batch", "4", "--threads", "1"]
    assert main([*arguments, "--backend", DEVICE, "--lanes", "parallel", "--json", str(out)]) == 0
    (run,) = json.loads(out.read_text())["runs"]
    assert list(run["steps"]) == [
        "parse", "copy", "entropy z", "graph hyper", "entropy y", "graph synthesis", "store"
    ]  # fmt: skip
    assert run["batch"]["files"] == 4 and run["device"]["name"] and run["device"]["plans"][0]["captured"]
    assert f"on {run['device']['name']}" in capsys.readouterr().out
    assert main(["bench", "--compare", str(out), str(out)]) == 0

"""What a bundle may take of a machine: memory and time of its graphs, whatever it claims. Each in a process of its own
whose peak of memory is measured, or in milliseconds."""

from __future__ import annotations

import math
import resource
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from native_graphs import onnx_graph
from onnx import TensorProto, helper, numpy_helper

import nicrt
import synthetic
from nicrt import _core
from nicrt.runtime import manifest
from nicrt.runtime.backends import GraphSet
from nicrt.runtime.backends.allowance import Allowance, OverLimitError
from nicrt.runtime.backends.onnxruntime_arena import Turns
from nicrt.runtime.backends.onnxruntime_cpu import MAX_FOLDED_BYTES, OnnxRuntimeCpu
from nicrt.runtime.backends.proving import prove
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.errors import LimitError, UnsupportedError
from nicrt.runtime.installed import SHIPPED
from nicrt.runtime.limits import Limits
from nicrt.runtime.manifest import Graph, Port, Proof
from nicrt.runtime.native_form import TransposedChain
from nicrt.runtime.proofs import shape_of

MIB = 1 << 20


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], rank: int = 1) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m", "o", "p"][:rank])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return model.SerializeToString()  # type: ignore[no-any-return]


def chain(operator: str, count: int, *more: str, **attributes: object) -> list[onnx.NodeProto]:
    """Nodes of which each takes the last one's result (twice without `more`)."""
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    return [helper.make_node(operator, [a, *(more or (a,))], [b], **attributes) for a, b in pairwise(names)]


INTS = np.int64
HUGE = 1 << 24
GROWING: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], int]] = {
    "Concat": (chain("Concat", 45, axis=0), {}, 1),
    "Tile": (chain("Tile", 8, "s"), {"s": np.array([256], INTS)}, 1),
    "Expand": ([helper.make_node("Expand", ["x", "s"], ["y"])], {"s": np.array([1 << 30, 1], INTS)}, 1),
    "Pad": (chain("Pad", 40, "s"), {"s": np.array([HUGE, HUGE], INTS)}, 1),
    "outer product": (
        [
            helper.make_node("Tile", ["x", "s"], ["a"]),
            helper.make_node("Reshape", ["a", "column"], ["b"]),
            helper.make_node("Mul", ["a", "b"], ["y"]),
        ],
        {"s": np.array([1 << 15], INTS), "column": np.array([-1, 1], INTS)},
        1,
    ),
    "MatMul": (
        [
            helper.make_node("Tile", ["x", "s"], ["a"]),
            helper.make_node("Reshape", ["a", "column"], ["b"]),
            helper.make_node("Reshape", ["a", "row"], ["c"]),
            helper.make_node("MatMul", ["b", "c"], ["y"]),
        ],
        {"s": np.array([1 << 15], INTS), "column": np.array([-1, 1], INTS), "row": np.array([1, -1], INTS)},
        1,
    ),
    "Gather": (
        [
            helper.make_node("Tile", ["x", "s"], ["a"]),
            helper.make_node("Reshape", ["a", "row"], ["b"]),
            helper.make_node("Gather", ["b", "i"], ["y"], axis=0),
        ],
        {"s": np.array([1 << 20], INTS), "row": np.array([1, -1], INTS), "i": np.zeros(4096, INTS)},
        1,
    ),
    "ConvTranspose": (
        chain("ConvTranspose", 3, "w", strides=[1 << 13, 1 << 13]),
        {"w": np.ones((1, 1, 2, 2), np.float32)},
        4,
    ),
    "ConstantOfShape": (
        [
            helper.make_node("Shape", ["x"], ["a"]),
            helper.make_node("Mul", ["a", "k"], ["b"]),
            helper.make_node("ConstantOfShape", ["b"], ["y"]),
        ],
        {"k": np.array([1 << 30], INTS)},
        1,
    ),
}


def entry(x: Port, y: Port) -> Graph:
    return Graph(inputs={"x": x}, outputs={"y": y})


def loaded(data: bytes, rank: int, allowance: Allowance) -> object:
    graph = entry(Port("float32", ["n", "m", "o", "p"][:rank]), Port("float32", ["q"]))
    return OnnxRuntimeCpu(1, allowance=allowance).load(onnx_graph(graph, _core.OnnxModel.read(data).write()))


def measured(call: Callable[[], object]) -> tuple[BaseException | None, int, float]:
    """What it raises, by how many bytes the process grew, seconds."""
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        call()
        error = None
    except Exception as raised:
        error = raised
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    return error, grown << 10, time.perf_counter() - start


@pytest.mark.parametrize("name", GROWING)
def test_graphs_that_grow_are_held_to_the_limit(name: str) -> None:
    nodes, constants, rank = GROWING[name]
    allowance = Allowance(Limits(memory_bytes=128 * MIB))

    def run() -> None:
        session = loaded(model_of(nodes, constants, rank), rank, allowance)
        session.run({"x": np.ones((1,) * rank, np.float32)}, ["y"])  # type: ignore[attr-defined]

    error, grown_bytes, seconds = measured(run)
    assert isinstance(error, OverLimitError), error
    assert "needs more than the limit of 128 MiB (--max-memory, Limits.memory_bytes)" in str(error)
    assert grown_bytes < 400 * MIB and seconds < 10


def test_an_arena_ends_with_its_session_and_is_no_other_s() -> None:
    """Sessions of different limits, in any order."""
    data = model_of(chain("Concat", 22, axis=0), {})  # 32 MiB in all
    sessions = {
        mebibytes: loaded(data, 1, Allowance(Limits(memory_bytes=mebibytes * MIB))) for mebibytes in (1, 64, 1, 64)
    }
    for _ in range(2):
        for mebibytes, session in sessions.items():
            error, _, _ = measured(lambda session=session: session.run({"x": np.ones(1, np.float32)}, ["y"]))
            assert isinstance(error, OverLimitError) if mebibytes == 1 else error is None
    resident = [int(Path("/proc/self/statm").read_text().split()[1])]
    for _ in range(12):
        loaded(data, 1, Allowance()).run({"x": np.ones(1, np.float32)}, ["y"])  # type: ignore[attr-defined]
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]))
    assert resident[-1] - resident[2] < 64 * MIB // resource.getpagesize()


def test_constants_are_folded_up_to_a_limit(tmp_path: Path) -> None:
    """Else 4 KiB of a model are 16 GiB by the time that it is loaded."""
    nodes, constants, value = [], {"s": np.array([MAX_FOLDED_BYTES // 4 + 1], INTS)}, "x"
    for i in range(6):  # more are refused by the reader
        constants[f"c{i}"] = np.full(1, i + 1, np.float32)
        nodes.append(helper.make_node("Expand", [f"c{i}", "s"], [f"e{i}"]))
        nodes.append(helper.make_node("Add", [value, f"e{i}"], [f"v{i}" if i < 5 else "y"]))
        value = f"v{i}"
    error, grown_bytes, _ = measured(lambda: loaded(model_of(nodes, constants), 1, Allowance()))
    assert error is None and grown_bytes < 64 * MIB


def test_what_constants_make_is_bounded_before_any_library_sees_it() -> None:
    nodes = chain("Concat", 45, axis=0)
    nodes[0].input[:] = ["c", "c"]
    with pytest.raises(UnsupportedError, match="makes more than 512 MiB of its constants alone"):
        _core.OnnxModel.read(model_of(nodes, {"c": np.ones(1, np.float32)}))
    with pytest.raises(UnsupportedError, match="more than 5000 nodes"):  # 20 000 took ONNX Runtime 9 s to load
        _core.OnnxModel.read(model_of(chain("Add", 5001), {}))


def test_loading_has_a_deadline() -> None:
    data = model_of(chain("Add", 5000), {})  # takes some tenths of a second
    error, _, seconds = measured(lambda: loaded(data, 2, Allowance(Limits(load_s=0.01))))
    assert isinstance(error, OverLimitError) and "(--max-load-time, Limits.load_s)" in str(error)
    assert seconds < 5
    assert measured(lambda: loaded(data, 1, Allowance()))[0] is None


def test_proving_has_a_deadline() -> None:
    """4900 operators on two million numbers each: more than a second on any machine."""
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("Exp", [f"v{i - 1}" if i else "f"], [f"v{i}"]) for i in range(4900)]
    nodes.append(helper.make_node("Cast", ["v4899"], ["y"], to=TensorProto.INT32))
    model = onnx.load_from_string(model_of(nodes, {}))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = TensorProto.INT32
    graph = entry(Port("int32", ["n"], range=(0, 1)), Port("int32", ["n"]))
    graph.proofs = [Proof(0, {"n": 1 << 21}, "0" * 64)]
    stored = onnx_graph(graph, model.SerializeToString())
    session = OnnxRuntimeCpu(1, allowance=Allowance()).load(stored)
    allowance = Allowance(Limits(load_s=0.2))
    with allowance.loading():
        error, _, seconds = measured(lambda: prove(stored, session, "a test", allowance))
    assert isinstance(error, OverLimitError) and "load and prove" in str(error)
    assert seconds < 2


def test_all_graphs_together_have_one_deadline(tmp_path: Path) -> None:
    bundle = Bundle.open(synthetic.layered(tmp_path / "layered"))
    graphs = GraphSet.open(bundle, "onnxruntime", 1, Limits(load_s=1e-6))
    with pytest.raises(LimitError, match="load and prove"):
        for name in bundle.manifest.graphs:
            graphs.get(name)
    codec = nicrt.load(str(tmp_path / "layered"), backend="onnxruntime", limits=nicrt.Limits(load_s=1e-6))
    with pytest.raises(nicrt.LimitError, match="load and prove"):
        codec.encode(np.zeros((16, 16, 3), np.uint8))


def test_a_claim_of_no_workspace_is_not_believed(tmp_path: Path) -> None:
    """A bundle whose picture graph makes 2^28 numbers and claims to need nothing."""
    code = f"""
        import sys
        from pathlib import Path
        import numpy as np
        import nicrt
        codec = nicrt.load(sys.argv[1], threads=1, backend="onnxruntime", limits=nicrt.Limits(memory_bytes={64 * MIB}))
        try:
            codec.decode(codec.encode(np.zeros((16, 16, 3), np.uint8)))
        except nicrt.LimitError as error:
            print(error)
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        assert int(peak.split()[1]) < {600 * MIB >> 10}, peak  # (what getrusage says has a large parent's peak in it)
    """
    graphs = {**synthetic.LAYERED_GRAPHS, "show_fine": wasteful(*synthetic.LAYERED_GRAPHS["show_fine"])}
    folder = synthetic.write_bundle(
        tmp_path / "b", "b", graphs, synthetic.layered_program(), {"floor": 4}, {"floor": 0}
    )
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)], capture_output=True, text=True, check=True
    )
    assert "--max-memory" in done.stdout


def wasteful(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Port],
    outputs: dict[str, Port],
    constants: dict[str, np.ndarray],
) -> synthetic.Parts:
    """The same result by a detour: the largest of 2^28 equal numbers is taken off, and the number itself added."""
    *before, last = nodes
    plain = helper.make_node(last.op_type, last.input, ["plain"])
    plain.attribute.extend(last.attribute)
    detour = [
        helper.make_node("Reshape", ["scaled", "flat"], ["a"]),
        helper.make_node("Gather", ["a", "first"], ["b"]),
        helper.make_node("Expand", ["b", "large"], ["c"]),
        helper.make_node("ReduceMax", ["c"], ["d"], keepdims=0),
        helper.make_node("Sub", ["b", "d"], ["e"]),
        helper.make_node("Cast", ["e"], ["nothing"], to=TensorProto.UINT8),
        helper.make_node("Add", ["plain", "nothing"], ["picture"]),
    ]
    more = {"flat": np.array([-1], INTS), "first": np.array(0, INTS), "large": np.array([1 << 14, 1 << 14], INTS)}
    return [*before, plain, *detour], inputs, outputs, {**constants, **more}


def test_runs_that_fail_beside_others_are_run_again_alone() -> None:
    """Four runs at a time in an arena that has room for one and a half."""
    turns, used, most, lock = Turns(), 0, 0, threading.Lock()

    def run() -> str:
        nonlocal used, most
        with lock:
            if used + 2 > 3:
                raise MemoryError("full")
            used += 2
            most = max(most, used)
        time.sleep(0.002)
        with lock:
            used -= 2
        return "done"

    results: list[str] = []

    def work() -> None:
        results.extend(turns.run(run, lambda error: isinstance(error, MemoryError)) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == ["done"] * 80 and most == 2


def test_a_run_that_fails_alone_is_not_run_again() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise MemoryError

    with pytest.raises(MemoryError):
        Turns().run(fail, lambda _: True)
    assert len(calls) == 1


def shallow_manifest() -> manifest.Manifest:
    return Bundle.open(SHIPPED / "shallow").manifest


def test_shipped_proofs_are_small() -> None:
    """A quarter of the elements that BUNDLE.md allows, section 3."""
    for file in SHIPPED.glob("*/manifest.json"):
        for graph in Bundle.open(file.parent).manifest.graphs.values():
            ports = [*graph.inputs.values(), *graph.outputs.values()]
            for proof in graph.proofs:
                assert 4 * sum(math.prod(shape_of(port, proof.sizes)) for port in ports) < 1 << 22


def _one_file(found: manifest.Manifest) -> None:
    found.graphs["again"] = msgspec.structs.replace(found.graphs["synthesis"])


def _many_steps(found: manifest.Manifest) -> None:
    stage = next(iter(found.variants.values())).program.stages[0]
    stage.steps.extend([step for step in stage.steps if isinstance(step, manifest.Run)] * 300)


def _large_proof(found: manifest.Manifest) -> None:
    found.graphs["hyper"].proofs[0].sizes["h"] = 1 << 24


def _many_products(found: manifest.Manifest) -> None:
    """Of few elements: large kernels cost a manifest nothing."""
    form = found.graphs["hyper"].native
    assert form is not None
    (network,) = form.operations
    form.tensors[network.hidden[0].weight].shape[2:] = [1 << 13, 1 << 13]


def _large_output(found: manifest.Manifest) -> None:
    found.graphs["hyper"].native = None
    output = next(iter(found.graphs["hyper"].outputs.values()))
    output.dims[1] = 1 << 22


def _heavy_views(found: manifest.Manifest) -> None:
    """Kernels of which the file has not as much."""
    form = found.graphs["synthesis"].native
    assert form is not None
    chain = next(operation for operation in form.operations if isinstance(operation, TransposedChain))
    form.tensors[chain.layers[0].weight].shape[2:] = [1 << 12, 1 << 12]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_heavy_views, r"native forms use \d+ bytes of weights"),
        (_one_file, r"two of its graphs are the file graphs/synthesis\.onnx"),
        (_many_steps, "steps in variant .*, over 512"),
        (_large_proof, r"graph 'hyper': a proof vector of \d+ elements or more, more than 4194304"),
        (_many_products, r"graph 'hyper': a proof vector of \d+ multiply-accumulates or more, more than"),
        (_large_output, r"graph 'hyper': a proof vector of \d+ elements"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_claims_beyond_any_codec_s_are_refused(
    change: Callable[[manifest.Manifest], None], reason: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(SHIPPED / "shallow", tmp_path / "shallow"))
    found = shallow_manifest()
    change(found)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(found))
    with pytest.raises(UnsupportedError, match=reason):
        Bundle.open(folder)


def test_a_proof_is_not_run_before_its_size_is_known_to_be_fine() -> None:
    found = shallow_manifest().graphs["hyper"]
    found.proofs[0].sizes["h"] = 1 << 24

    class Never:
        workspace_bytes_per_pixel = None

        def run(self, *_: object) -> list[np.ndarray]:
            raise AssertionError("it has run")

    with pytest.raises(UnsupportedError, match="a proof vector of"):
        prove(onnx_graph(found, b""), Never(), "a test of sizes")

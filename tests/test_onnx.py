"""The reader and writer of ONNX models: what bundles may not have is refused, what they have is written as it was read.

Models are taken apart here as protobuf, without the core, and put together again with one thing changed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from native_graphs import onnx_graph
from onnx import TensorProto, helper, numpy_helper

import nicrt
import synthetic
from conftest import ROOT
from nicrt import _core
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.backends.proving import prove
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.installed import SHIPPED
from nicrt.runtime.manifest import Graph, Manifest, Port

GRAPHS = sorted(SHIPPED.glob("*/graphs/*.onnx"))
SAMPLES = ("flow/graphs/spread1.onnx", "slim/graphs/split_indices.onnx", "compass/graphs/crop.onnx")

# Messages within messages, by the path of field numbers; all else that has a length is text or data.
MESSAGES = {(7,), (8,), (7, 1), (7, 5), (7, 11), (7, 12), (7, 1, 5), (7, 1, 5, 5)} | {
    (7, port, *rest) for port in (11, 12) for rest in ((2,), (2, 1), (2, 1, 2), (2, 1, 2, 1))
}
REPEATED = {(8,), (7, 1), (7, 5), (7, 11), (7, 12), (7, 1, 1), (7, 1, 2), (7, 1, 5)} | {
    *((7, 1, 5, n) for n in (7, 8, 9)), (7, 5, 1), (7, 1, 5, 5, 1), *((7, p, 2, 1, 2, 1) for p in (11, 12)),
}  # fmt: skip


def varint(value: int, spare: int = 0) -> bytes:
    """`spare`: bytes more than are needed."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(spare):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


@dataclass(frozen=True)
class Piece:
    """One field of a message. content: number, bytes, or the fields of a nested message."""

    path: tuple[int, ...]
    wire: int
    content: int | bytes | list[Piece]
    spare_key: int = 0
    spare_length: int = 0
    added: int = field(default=0)  # to the key

    def encode(self) -> bytes:
        key = varint((self.path[-1] << 3 | self.wire) + self.added, self.spare_key)
        if isinstance(self.content, int):
            return key + varint(self.content, self.spare_length)
        data = encode(self.content) if isinstance(self.content, list) else self.content
        return key + (data if self.wire == 5 else varint(len(data), self.spare_length) + data)


def encode(pieces: list[Piece]) -> bytes:
    return b"".join(piece.encode() for piece in pieces)


def take_apart(data: bytes, path: tuple[int, ...] = ()) -> list[Piece]:
    pieces, at = [], 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 0x80:
                return value

    while at < len(data):
        key = number()
        here, wire = (*path, key >> 3), key & 7
        if wire == 0:
            pieces.append(Piece(here, wire, number()))
            continue
        size = 4 if wire == 5 else number()
        content = data[at : at + size]
        at += size
        pieces.append(Piece(here, wire, take_apart(content, here) if here in MESSAGES else content))
    return pieces


Edit = Callable[[list[Piece], int], list[Piece]]


def edited(pieces: list[Piece], edit: Edit, wanted: Callable[[Piece], bool]) -> Iterator[tuple[Piece, list[Piece]]]:
    """Each wanted field, and the model with its message edited at its place."""
    for i, piece in enumerate(pieces):
        if wanted(piece):
            yield piece, edit(pieces, i)
        if isinstance(piece.content, list):
            for inner, content in edited(piece.content, edit, wanted):
                yield inner, [*pieces[:i], replace(piece, content=content), *pieces[i + 1 :]]


def changed(**changes: int) -> Edit:
    return lambda pieces, i: [*pieces[:i], replace(pieces[i], **changes), *pieces[i + 1 :]]  # type: ignore[arg-type]


def inserted(number: int, wire: int, content: int | bytes) -> Edit:
    return lambda pieces, i: [*pieces[: i + 1], Piece((*pieces[i].path[:-1], number), wire, content), *pieces[i + 1 :]]


EDITS: dict[str, tuple[Edit, Callable[[Piece], bool]]] = {
    "overlong key": (changed(spare_key=1), lambda p: True),
    "key of five bytes": (changed(added=1 << 32), lambda p: True),
    "overlong length or number": (changed(spare_length=1), lambda p: p.wire != 5),
    "another wire type": (changed(wire=3), lambda p: p.wire == 2),
    "the field twice": (lambda p, i: [*p[: i + 1], p[i], *p[i + 1 :]], lambda p: p.path not in REPEATED),
    "field 0": (inserted(0, 0, 0), lambda p: True),
    "field 0 with bytes": (inserted(0, 2, b"secret"), lambda p: True),
    "unknown field": (inserted(100, 2, b""), lambda p: True),
    "field above 2^29": (inserted(1 << 29, 0, 1), lambda p: True),
}


def sample(name: str) -> list[Piece]:
    data = (SHIPPED / name).read_bytes()
    pieces = take_apart(data)
    assert encode(pieces) == data
    return pieces


@pytest.mark.parametrize("name", EDITS)
def test_other_forms_are_refused_at_every_level(name: str) -> None:
    edit, wanted = EDITS[name]
    paths = set()
    for file in SAMPLES:
        for piece, model in edited(sample(file), edit, wanted):
            paths.add(piece.path)
            with pytest.raises(UnsupportedError):
                _core.OnnxModel.read(encode(model))
    assert {len(path) for path in paths} >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("int-min-div", "Div of integers"),
        ("overlong-tag-external", "malformed field in its TensorProto"),
        ("overlong-tag-loop", "malformed field in its GraphProto"),
    ],
)
def test_models_that_did_harm_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        _core.OnnxModel.read((ROOT / "tests" / "cases" / "models" / f"{name}.onnx").read_bytes())


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], dtype: int = TensorProto.FLOAT) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", dtype, None)
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return model.SerializeToString()  # type: ignore[no-any-return]


ABS = model_of([helper.make_node("Abs", ["x"], ["y"])], {})


def _ort_format(data: bytes, path: Path) -> bytes:
    """ONNX Runtime's own format of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return path.read_bytes()


def test_onnx_runtime_s_own_format_is_refused(tmp_path: Path) -> None:
    foreign = _ort_format(ABS, tmp_path / "model.ort")
    twin = b"\x12\x06abORTM" + ABS  # an honest model with a producer of this name
    assert onnx.load_from_string(twin).producer_name == "abORTM"
    assert foreign[4:8] == twin[4:8] == b"ORTM"
    for data in (foreign, twin):
        with pytest.raises(UnsupportedError):
            _core.OnnxModel.read(data)
    graph = Graph({"x": Port("float32", ["n"])}, {"y": Port("float32", ["n"])})
    OnnxRuntimeCpu(1).load(onnx_graph(graph, ABS))
    with pytest.raises(UnsupportedError, match="cannot load"):  # nor would ONNX Runtime take it from us
        OnnxRuntimeCpu(1).load(onnx_graph(graph, foreign))


@pytest.mark.parametrize("operator", ["Div", "Mod"])
@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT64])
def test_integers_are_divided_by_constants_only(operator: str, dtype: int) -> None:
    kind = helper.tensor_dtype_to_np_dtype(dtype)

    def divided(divisor: int | None) -> bytes:
        nodes = [helper.make_node("Cast", ["x"], ["a"], to=dtype), helper.make_node("Add", ["a", "c"], ["b"])]
        nodes.append(helper.make_node(operator, ["a", "b" if divisor is None else "c"], ["y"]))
        return model_of(nodes, {"c": np.array([1, 2 if divisor is None else divisor], kind)}, dtype)

    for divisor in (2, -2, np.iinfo(kind).min):
        _core.OnnxModel.read(divided(divisor))
    for divisor in (0, -1, None):
        with pytest.raises(UnsupportedError, match=f"a {operator} of integers"):
            _core.OnnxModel.read(divided(divisor))


@pytest.mark.parametrize("path", GRAPHS, ids=lambda p: f"{p.parent.parent.name}-{p.stem}")
def test_shipped_graphs_are_written_as_they_are(path: Path) -> None:
    data = path.read_bytes()
    model = _core.OnnxModel.read(data)
    written = model.write()
    assert written == data  # so that hashes of files and of what libraries get are the same
    onnx.checker.check_model(written)
    theirs = onnx.load_from_string(data)
    assert model.operators == {node.op_type for node in theirs.graph.node} <= set(_core.onnx_operators())
    assert [port.name for port in model.inputs] == [port.name for port in theirs.graph.input]
    for ours, node in zip(model.nodes, theirs.graph.node, strict=True):
        assert (ours.name, ours.operator) == (node.name, node.op_type)
        assert (ours.inputs, ours.outputs) == (list(node.input), list(node.output))
        assert ours.attributes == {a.name: helper.get_attribute_value(a) for a in node.attribute}
    for tensor, initializer in zip(model.initializers, theirs.graph.initializer, strict=True):
        assert (tensor.name, tensor.shape) == (initializer.name, list(initializer.dims))
        assert tensor.data.tobytes() == initializer.raw_data
        assert np.dtype(tensor.dtype) == helper.tensor_dtype_to_np_dtype(initializer.data_type)


def _with_notes(data: bytes) -> bytes:
    """The same model with all that says nothing about what it computes, and its fields in another order."""
    model = onnx.load_from_string(data)
    graph = model.graph
    for item in (model, graph, graph.node[0], graph.initializer[0], graph.input[0]):
        item.doc_string = "a note"
        item.metadata_props.add(key="k", value="v")
    graph.node[0].domain = "ai.onnx"
    model.producer_name, model.producer_version, model.domain, model.model_version = "maker", "1", "here", 3
    graph.value_info.add(name="t9", type=graph.input[0].type)
    return encode([replace(piece) for piece in reversed(take_apart(model.SerializeToString()))])


def test_notes_are_dropped_and_change_nothing() -> None:
    bundle = Bundle.open(SHIPPED / "slim")
    plain = bundle.graph_bytes("hyper_w48")
    noted = _with_notes(plain)
    assert len(noted) > len(plain) and _core.OnnxModel.read(noted).write() == plain
    written = replace(bundle.graph("hyper_w48"), onnx=_core.OnnxModel.read(noted).write)
    prove(written, OnnxRuntimeCpu(1).load(written), "a test of the writer")


def _bind_again(folder: Path) -> None:
    """List the files that are there."""
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    (folder / "manifest.json").write_bytes(synthetic.finished(manifest, folder))


def test_libraries_get_what_was_written_here(tmp_path: Path) -> None:
    folder = synthetic.layered(tmp_path / "layered")
    path = folder / "graphs" / "show.onnx"
    model = onnx.load_from_string(path.read_bytes())
    model.doc_string = "a note"
    path.write_bytes(model.SerializeToString())
    _bind_again(folder)
    assert b"a note" not in Bundle.open(folder).graph_bytes("show")
    shutil.copy(ROOT / "tests" / "cases" / "models" / "int-min-div.onnx", path)
    _bind_again(folder)
    with pytest.raises(nicrt.UnsupportedError, match=r"show\.onnx: the ONNX model has a Div"):
        Bundle.open(folder).graph_bytes("show")


def test_parts_outlive_their_model() -> None:
    data = (SHIPPED / "flow" / "graphs" / "pick2.onnx").read_bytes()
    tensors, nodes = _core.OnnxModel.read(data).initializers, _core.OnnxModel.read(bytes(bytearray(data))).nodes
    arrays = [tensor.data for tensor in tensors]
    del tensors
    assert sum(array.size for array in arrays) > 100_000 and sum(int(array.sum()) for array in arrays) > 0
    assert all(node.operator for node in nodes)


def test_the_documented_operators_are_those_that_are_read() -> None:
    text = (ROOT / "docs" / "BUNDLE.md").read_text().partition("and these operators:")[2].partition("\n\n")[0]
    source = (ROOT / "cpp_ext" / "src" / "onnx" / "operators.cpp").read_text()
    known = re.findall(r'^    \{"(\w+)", \d', source, re.MULTILINE)
    assert re.findall(r"`(\w+)`", text) == sorted(known) and len(known) > 50

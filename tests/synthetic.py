"""Small codec bundles made from hand-written graphs, to exercise the program language without any trained model.

`layered` uses all of it: two stages, the second one `each` over a list of sizes, table sets, an exact graph that makes
the table index and skips symbols, `effort`, parameters.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from nicrt import _core
from nicrt.runtime import manifest as m
from nicrt.runtime.native_form import NO_HASH
from nicrt.runtime.proofs import outputs_sha256, proof_inputs

TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "uint8": TensorProto.UINT8}


def laplace_table(scale: float, reach: int) -> np.ndarray:
    """12-bit frequencies of a two-sided geometric law on -reach..reach and the escape."""
    weight = np.exp(-np.abs(np.arange(-reach, reach + 1)) / scale)
    weight = np.append(weight / weight.sum() * 0.999, 0.001)
    frequency = np.maximum(1, np.floor(weight * (4096 - len(weight)))).astype(np.int64)
    frequency[reach] += 4096 - frequency.sum()
    return frequency.astype(np.uint16)


def table_arrays(name: str, scales: list[float], channel: list[list[int]] | None) -> dict[str, np.ndarray]:
    tables = [laplace_table(scale, min(100, math.ceil(6 * scale) + 1)) for scale in scales]
    arrays = {
        f"{name}.low": np.array([-(len(t) - 2) // 2 for t in tables], np.int16),
        f"{name}.shift": np.array([1 if scale > 10 else 0 for scale in scales], np.uint8),
        f"{name}.size": np.array([len(t) for t in tables], np.int32),
        f"{name}.frequency": np.concatenate(tables),
    }
    if channel is not None:
        arrays[f"{name}.channel"] = np.array(channel, np.int32)
    return arrays


def onnx_bytes(
    nodes: list[onnx.NodeProto], inputs: dict[str, m.Port], outputs: dict[str, m.Port], constants: dict[str, np.ndarray]
) -> bytes:
    def ports(of: dict[str, m.Port]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TYPES[p.dtype], list(p.dims)) for n, p in of.items()]

    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ports(inputs), ports(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def port(dtype: str, *dims: int | str, low: int | None = None, high: int | None = None) -> m.Port:
    return m.Port(dtype=dtype, dims=list(dims), range=None if low is None else (low, high))  # type: ignore[arg-type]


Parts = tuple[list[onnx.NodeProto], dict[str, m.Port], dict[str, m.Port], dict[str, np.ndarray]]


def graph_analysis(step: float, rounding: str = "Round") -> Parts:
    """@x [1,3,4h,4w] → y int32 [1,3,h,w]: block means in units of `step` grey levels."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["mean"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node(rounding, ["scaled"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["y"], to=TensorProto.INT32),
    ]
    inputs = {"x": port("float32", 1, 3, "4h", "4w")}
    outputs = {"y": port("int32", 1, 3, "h", "w")}
    return nodes, inputs, outputs, {"scale": np.float32(255 / step)}


def graph_means() -> Parts:
    """@x [1,3,4h,4w] → v float32 [1,3,h,w]: block means in grey levels."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["mean"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Mul", ["mean", "white"], ["v"]),
    ]
    inputs, outputs = {"x": port("float32", 1, 3, "4h", "4w")}, {"v": port("float32", 1, 3, "h", "w")}
    return nodes, inputs, outputs, {"white": np.float32(255)}


def graph_gain() -> Parts:
    """v [1,3,h,w] and gain [1] → y int32: v * gain / 64, rounded."""
    nodes = [
        helper.make_node("Cast", ["gain"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["v", "float"], ["gained"]),
        helper.make_node("Mul", ["gained", "unit"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["y"], to=TensorProto.INT32),
    ]
    inputs = {"v": port("float32", 1, 3, "h", "w"), "gain": port("int32", 1)}
    return nodes, inputs, {"y": port("int32", 1, 3, "h", "w")}, {"unit": np.float32(1 / 64)}


def graph_unscale() -> Parts:
    """y [1,3,h,w] and gain [1] → uint8 [1,4h,4w,3]: blocks of y * 64 / gain."""
    nodes = [
        helper.make_node("Cast", ["y"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["gain"], ["divisor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "unit"], ["scaled"]),
        helper.make_node("Reciprocal", ["divisor"], ["factor"]),
        helper.make_node("Mul", ["scaled", "factor"], ["levels"]),
        helper.make_node("ConvTranspose", ["levels", "ones"], ["wide"], kernel_shape=[4, 4], strides=[4, 4], group=3),
        helper.make_node("Clip", ["wide", "zero", "white"], ["clipped"]),
        helper.make_node("Transpose", ["clipped"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["nhwc"], ["picture"], to=TensorProto.UINT8),
    ]
    inputs = {"y": port("int32", 1, 3, "h", "w"), "gain": port("int32", 1)}
    ones = np.ones((3, 1, 4, 4), np.float32)
    constants = {"unit": np.float32(64), "ones": ones, "zero": np.float32(0), "white": np.float32(255)}
    return nodes, inputs, {"picture": port("uint8", 1, "4h", "4w", 3)}, constants


def gained_program() -> m.Program:
    """An analysis that reads no parameter, and a gain behind it that does."""
    stage = m.Stage(
        align=8,
        steps=[
            m.Run(graph="means", inputs={"x": "@x"}, outputs={"v": "v"}, enc=True),
            m.Run(graph="gain", inputs={"v": "v", "gain": "$gain"}, outputs={"y": "y"}, enc=True),
            m.Entropy(out="y", channels=3, stride=4, tables="base", by="channel"),
        ],
        show=m.Run(graph="unscale", inputs={"y": "y", "gain": "$gain"}, outputs={"picture": "shown"}),
    )
    return m.Program(parameters=[m.Parameter(name="gain", min=1, max=64, default=8)], stages=[stage])


def graph_index() -> Parts:
    """Exact: y → min(|y|, 3), and 64 (not coded) where that is below `floor`."""
    nodes = [
        helper.make_node("Abs", ["y"], ["magnitude"]),
        helper.make_node("Min", ["magnitude", "top"], ["clipped"]),
        helper.make_node("Less", ["clipped", "floor"], ["below"]),
        helper.make_node("Where", ["below", "skip", "clipped"], ["chosen"]),
        helper.make_node("Cast", ["chosen"], ["index"], to=TensorProto.UINT8),
    ]
    inputs = {"y": port("int32", 1, 3, "h", "w", low=-32768, high=32767), "floor": port("int32", 1, low=0, high=4)}
    outputs = {"index": port("uint8", 1, 3, "h", "w")}
    return nodes, inputs, outputs, {"top": np.int32(3), "skip": np.int32(64)}


def graph_show(step: float) -> Parts:
    """y [1,3,h,w] → uint8 [1,4h,4w,3]: blocks of the mean."""
    ones = np.ones((3, 1, 4, 4), np.float32)
    nodes = [
        helper.make_node("Cast", ["y"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("ConvTranspose", ["scaled", "ones"], ["wide"], kernel_shape=[4, 4], strides=[4, 4], group=3),
        helper.make_node("Clip", ["wide", "zero", "white"], ["clipped"]),
        helper.make_node("Transpose", ["clipped"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["nhwc"], ["picture"], to=TensorProto.UINT8),
    ]
    inputs = {"y": port("int32", 1, 3, "h", "w")}
    outputs = {"picture": port("uint8", 1, "4h", "4w", 3)}
    constants = {"scale": np.float32(step), "ones": ones, "zero": np.float32(0), "white": np.float32(255)}
    return nodes, inputs, outputs, constants


def graph_ramp() -> Parts:
    """size, rows, cols, weight → int32 [1, 3, rows, cols]: (row * weight + col + height) mod 251."""
    nodes = [
        helper.make_node("Unsqueeze", ["rows", "one"], ["down"]),
        helper.make_node("Mul", ["down", "weight"], ["weighted"]),
        helper.make_node("Add", ["weighted", "cols"], ["sum"]),
        helper.make_node("Gather", ["size", "zero"], ["height"]),
        helper.make_node("Add", ["sum", "height"], ["total"]),
        helper.make_node("Mod", ["total", "prime"], ["ramp"]),
        helper.make_node("Unsqueeze", ["ramp", "front"], ["planes"]),
        helper.make_node("Concat", ["planes", "planes", "planes"], ["picture"], axis=1),
    ]
    inputs = {
        "size": port("int32", 2),
        "rows": port("int32", "r"),
        "cols": port("int32", "c"),
        "weight": port("int32", 1),
    }
    outputs = {"picture": port("int32", 1, 3, "r", "c")}
    constants = {
        "one": np.array([1], np.int64),
        "zero": np.int64(0),
        "prime": np.int32(251),
        "front": np.array([0, 1], np.int64),
    }
    return nodes, inputs, outputs, constants


def graph_to_picture() -> Parts:
    """int32 [1, 3, r, c] → uint8 [1, r, c, 3]."""
    nodes = [
        helper.make_node("Transpose", ["planes"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["nhwc"], ["picture"], to=TensorProto.UINT8),
    ]
    return nodes, {"planes": port("int32", 1, 3, "r", "c")}, {"picture": port("uint8", 1, "r", "c", 3)}, {}


def banded_program(base: bool) -> m.Program:
    """One stage per layer that ignores its symbols and shows a ramp of rows and columns, made 7 rows at a time. `base`:
    a stage of the same for a list of one size before it."""
    inputs = {"size": "@size", "rows": "@rows", "cols": "@cols", "weight": "$weight[i]"}
    stage = m.Stage(
        align=8,
        each="layers",
        steps=[
            m.Run(graph="analysis", inputs={"x": "@x"}, outputs={"y": "y"}, enc=True),
            m.Entropy(out="y", channels=3, stride=4, tables="base", by="channel", set="sets"),
            m.Run(graph="ramp", inputs=inputs, outputs={"picture": "ramp"}, bands=7),
        ],
        show=m.Run(graph="to_picture", inputs={"planes": "ramp"}, outputs={"picture": "shown"}),
    )
    parameters = [
        m.Parameter(name="layers", min=1, max=1 << 20, default=1, scales=[0.3, 1.0]),
        m.Parameter(name="weight", min=0, max=1000, default=3, length=3),
        m.Parameter(name="sets", min=0, max=1, default=0, length=3),
    ]
    if not base:
        return m.Program(parameters=parameters, stages=[stage])
    one = m.Parameter(name="base", min=1, max=1 << 20, default=1, scales=[0.25], length=1)
    return m.Program(parameters=[one, *parameters], stages=[msgspec.structs.replace(stage, each="base"), stage])


def layered_program() -> m.Program:
    """Stage 1: y at the picture's size. Stage 2, per layer: u coded by channel, t coded by an index made of u."""

    def code(out: str, by: str, tables: str, table_set: str | None = None) -> m.Entropy:
        return m.Entropy(out=out, channels=3, stride=4, tables=tables, by=by, set=table_set)

    def run(graph: str, inputs: dict[str, str], outputs: dict[str, str], **options: object) -> m.Run:
        return m.Run(graph=graph, inputs=inputs, outputs=outputs, **options)  # type: ignore[arg-type]

    base = m.Stage(
        align=8,
        tile=32,
        steps=[
            run("analysis", {"x": "@x"}, {"y": "y"}, enc=True, effort={"1": "analysis_floor", "5": "analysis"}),
            code("y", "channel", "base", "set"),
        ],
        show=run("show", {"y": "y"}, {"picture": "shown"}),
    )
    layer = m.Stage(
        align=8,
        each="layers",
        steps=[
            run("coarse", {"x": "@x"}, {"y": "u"}, enc=True),
            code("u", "channel", "base"),
            run("index", {"y": "u", "floor": "$floor"}, {"index": "which"}),
            run("fine", {"x": "@x"}, {"y": "t"}, enc=True),
            code("t", "which", "layer"),
            run("show_fine", {"y": "t"}, {"picture": "pixels"}),
        ],
        show="pixels",
    )
    parameters = [
        m.Parameter(name="layers", min=1, max=1 << 20, default=1, scales=[0.5, 1.0]),
        m.Parameter(name="set", min=0, max=1, default=0),
        m.Parameter(name="floor", min=0, max=4, default=0),
    ]
    return m.Program(parameters=parameters, stages=[base, layer])


LAYERED_GRAPHS = {
    "analysis": graph_analysis(8),
    "analysis_floor": graph_analysis(8, "Floor"),
    "coarse": graph_analysis(64),
    "fine": graph_analysis(4),
    "index": graph_index(),
    "show": graph_show(8),
    "show_fine": graph_show(4),
}


def write_bundle(
    folder: Path,
    name: str,
    parts: dict[str, Parts],
    program: m.Program,
    worst: dict[str, int | list[int]],
    best: dict[str, int | list[int]],
) -> Path:
    """Write a bundle whose only variant is `program`; exact graphs get proofs from ONNX Runtime itself."""
    (folder / "graphs").mkdir(parents=True)
    graphs = {}
    for key, (nodes, inputs, outputs, constants) in parts.items():
        data = onnx_bytes(nodes, inputs, outputs, constants)
        (folder / "graphs" / f"{key}.onnx").write_bytes(data)
        graphs[key] = m.Graph(
            inputs=inputs,
            outputs=outputs,
            exact=key == "index",
            encoder="x" in inputs or "y" in outputs,
            onnx=m.File(f"graphs/{key}.onnx", NO_HASH),
        )
    if "index" in graphs:
        graphs["index"] = _with_proof(graphs["index"], folder)
    arrays = {
        **table_arrays("base", [0.5, 2.0, 12.0], [[0, 1, 2], [2, 1, 1]]),
        **table_arrays("layer", [0.6, 3.0, 8.0, 30.0], None),
    }
    (folder / "tables.safetensors").write_bytes(save(arrays))
    groups = sorted({key.rpartition(".")[0] for key in arrays})
    manifest = m.Manifest(
        bundle_format=m.BUNDLE_FORMAT,
        name=name,
        summary="hand-written graphs for tests",
        license="Apache-2.0",
        color="sRGB",
        graphs=graphs,
        tables=m.Tables(file="tables.safetensors", groups=dict.fromkeys(groups, NO_HASH)),
        variants={"only": m.Variant(symbol_id="0" * 16, picture_id="0" * 8, program=program)},
        quality=[
            m.QualityPoint(quality=0.0, variant="only", parameters=worst),
            m.QualityPoint(quality=100.0, variant="only", parameters=best),
        ],
    )
    (folder / "manifest.json").write_bytes(finished(manifest, folder))
    return folder


def finished(manifest: m.Manifest, folder: Path) -> bytes:
    """Its text, with the hashes and ids that follow from the files in the folder."""
    text = _core.finish_manifest(os.fspath(folder), msgspec.json.encode(manifest))
    return msgspec.json.format(text, indent=2) + b"\n"


def _with_proof(graph: m.Graph, folder: Path) -> m.Graph:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / graph.onnx.file)
    proofs = []
    for seed, sizes in ((1, {"h": 1, "w": 1}), (2, {"h": 3, "w": 5})):
        proof = m.Proof(seed=seed, sizes=sizes, sha256="0" * 64)
        outputs = dict(zip(graph.outputs, session.run(None, proof_inputs(graph, proof)), strict=True))
        proofs.append(msgspec.structs.replace(proof, sha256=outputs_sha256(graph, outputs)))
    return msgspec.structs.replace(graph, proofs=proofs)


def layered(folder: Path) -> Path:
    """Write the `layered` bundle into `folder`."""
    return write_bundle(folder, "layered", LAYERED_GRAPHS, layered_program(), {"floor": 4}, {"floor": 0})


def banded(folder: Path, base: bool = False) -> Path:
    """Write the `banded` bundle into `folder`."""
    graphs = {"analysis": graph_analysis(8), "ramp": graph_ramp(), "to_picture": graph_to_picture()}
    return write_bundle(folder, "banded", graphs, banded_program(base), {"weight": [1, 2, 3]}, {"weight": [5, 2, 9]})


def gained(folder: Path) -> Path:
    """Write the `gained` bundle into `folder`."""
    graphs = {"means": graph_means(), "gain": graph_gain(), "unscale": graph_unscale()}
    return write_bundle(folder, "gained", graphs, gained_program(), {"gain": 1}, {"gain": 64})

"""Every field of a manifest, its range and its default (BUNDLE.md sections 2, 3, 5, 8, 9 and 11)."""

from __future__ import annotations

from typing import Any

from .grammar import REQUIRED, Anything, Array, Either, Flag, Integer, Map, Number, Record, Tagged, Text

NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
HASH = r"[0-9a-f]{64}"
FILE_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
DTYPES = "float32|float16|int32|int64|uint8|uint16"

name, text, digest = Text(NAME), Text(), Text(HASH)
int32 = Integer(-(2**31), 2**31 - 1)
number = Number(-1e30, 1e30)
file_name = Text(f"{FILE_PART}(/{FILE_PART})?")


def record(required: dict[str, Any], optional: dict[str, tuple[Any, Any]] | None = None) -> Record:
    return Record({field: (shape, REQUIRED) for field, shape in required.items()} | (optional or {}))


def tagged(tag: str, **records: tuple[dict[str, Any], dict[str, tuple[Any, Any]]]) -> Tagged:
    return Tagged(tag, {key: record({tag: Text(key)} | needed, more) for key, (needed, more) in records.items()})


size = Integer(1, 1 << 24)
port = record(
    {"dtype": Text(DTYPES), "dims": Array(Either({int: size, str: Text(r"([1-9][0-9]{0,6})?[a-z]+")}), 0, 8)},
    {"range": (Array(int32, 2, 2), None)},
)
proof = record({"seed": Integer(0, 2**32 - 1), "sizes": Map("[a-z]+", size), "sha256": digest})
stored_file = record({"file": file_name, "sha256": digest})

# Native form
view = record({"dtype": Text("float32|float16|int32|int16|int8|uint8"), "shape": Array(size, 1, 4), "sha256": digest})
vector = Array(
    tagged(
        "kind",
        constant=({"tensor": name}, {}),
        row=({"tensor": name, "parameter": name}, {}),
        exp=({"parameter": name, "factor": number}, {"offset": (number, 0)}),
        interpolated_exp=({"tensor": name, "parameter": name, "unit": size}, {}),
    ),
    0,
    8,
)
term = record({"value": name}, {"scale": (vector, [])})
sum_fields = {"out": name, "terms": Array(term, 1, 64)}
offset = {"offset": (vector, [])}
geometry = {
    "stride": (Array(Integer(1, 256), 2, 2), [1, 1]),
    "pad": (Array(Integer(0, 256), 2, 2), [0, 0]),
}
norm = record({"beta": name, "gamma": name})
layer = record({"weight": name}, {"bias": (name, None), "slope": (number, 1), "norm": (norm, None)} | geometry)
layers = {"layers": Array(layer, 1, 64)}
picture = record({"low": number, "high": number}, {"dtype": (Text("uint8|uint16|float32"), "uint8")})
integer_layer = {"weight": name, "bias": name, "multiplier": name}
hidden = record(
    integer_layer | {"low": int32, "high": int32}, {"negative": (name, None), "row": (name, None)} | geometry
)
scales = record({"tensor": name, "low": int32, "high": int32, "limit": int32, "unit": number, "add": int32})
index = record(
    {"add": int32, "unit": number, "low": int32, "high": int32}
    | {"skip": name, "skipped": Integer(0, 255), "minus": name},
    {"scales": (scales, None)},
)
head = record({"out": name} | integer_layer, {"row": (name, None), "index": (index, None)} | geometry)
one = {"out": name, "value": name}
operation = tagged(
    "op",
    affine=(sum_fields, offset | {"slope": (number, 1)}),
    strided_chain=(sum_fields | layers, offset),
    transposed_chain=(sum_fields | layers, offset | {"picture": (picture, None)}),
    integer_network=({"value": name, "heads": Array(head, 1, 8)}, {"hidden": (Array(hidden, 0, 64), [])}),
    concatenate=({"out": name, "values": Array(name, 2, 64)}, {}),
    select_channels=(one | {"first": Integer(0, 16384), "count": Integer(1, 16384)}, {}),
    pad_channels=(one | {"count": Integer(1, 16384)}, {}),
    quantise=(one | {"low": int32, "high": int32}, {}),
    tanh=(one, {}),
    absolute=(one, {}),
    log_magnitude=(one | {"floor": Number(0, 1e6, above=True)}, {}),
)
native = record({"tensors": Map(NAME, view, 0, 1024), "operations": Array(operation, 1, 1024)})

cost = Number(0, 1e9)
ports = Map(NAME, port, 1)
graph = record(
    {"inputs": ports, "outputs": ports},
    {
        "onnx": (stored_file, None),
        "native": (native, None),
        "exact": (Flag(), False),
        "in_loop": (Flag(), False),
        "encoder": (Flag(), False),
        "halo": (Integer(0, 65536), None),
        "proofs": (Array(proof, 0, 32), []),
        "macs_per_pixel": (cost, None),
        "workspace_bytes_per_pixel": (cost, None),
    },
)

# Programs
parameter = record(
    {"name": name, "min": int32, "max": int32, "default": int32},
    {"length": (Integer(1, 4096), None), "scales": (Array(Number(0, 1, above=True)), None)},
)
tensors = Map(NAME, name)
run = record(
    {"op": Text("graph"), "graph": name, "in": Map(NAME, text), "out": tensors},
    {"enc": (Flag(), False), "effort": (Map("[1-9]", name), {}), "bands": (Integer(4, 65536), None)},
)
entropy = record(
    {"op": Text("entropy"), "out": name, "channels": Integer(1, 4096), "stride": Integer(1, 1024)}
    | {"tables": name, "by": name},
    {"set": (name, None)},
)
step = Tagged("op", {"graph": run, "entropy": entropy})
stage = record(
    {"align": Integer(1, 1024), "steps": Array(step), "show": Either({str: name, dict: run, list: Array(run, 1)})},
    {"each": (name, None), "tile": (Integer(0, 1 << 20), 0)},
)
program = record({"parameters": Array(parameter), "stages": Array(stage, 1, 64)})
variant = record({"symbol_id": Text("[0-9a-f]{16}"), "picture_id": Text("[0-9a-f]{8}"), "program": program})
point = record(
    {"quality": Number(0, 100), "variant": name},
    {"parameters": (Map(NAME, Either({int: int32, list: Array(int32)})), {})},
)
manifest = record(
    {
        "bundle_format": Integer(2, 2),
        "name": name,
        "summary": text,
        "license": text,
        "color": Text("sRGB"),
        "graphs": Map(NAME, graph, 0, 256),
        "tables": record({"file": file_name, "groups": Map(NAME, digest)}),
        "variants": Map(NAME, variant, 1, 64),
        "quality": Array(point, 1),
    },
    {
        "requires": (Array(name), []),
        "weights": (record({"file": file_name}), None),
        "card": (stored_file, None),
        "provenance": (Anything(32), {}),
    },
)

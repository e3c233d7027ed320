"""A bundle: everything that BUNDLE.md section 11 wants checked, and its graphs ready to run."""

from __future__ import annotations

import hashlib
import itertools
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import fields, onnx_rules, storage
from .coder import Table
from .errors import require
from .grammar import parse_json
from .identity import group_hash, ids, tensor_hash
from .native_rules import Checker, dim_of
from .native_run import Form
from .program_rules import ProgramChecker

FEATURES: set[str] = set()
PROOF_ELEMENTS = 1 << 22
PROOF_MACS = 2**36
CHANNEL_PLACES = 2**18
TABLE_ARRAYS = {"low": np.int16, "shift": np.uint8, "size": np.int32, "frequency": np.uint16}


class Bundle:
    """Reads manifest and tables and checks all that follows from them; other leaves when they are used, or by
    `check_leaves`. Raises UnsupportedError."""

    def __init__(self, path: Path) -> None:
        self.files = storage.Files(path)
        manifest = parse_json(self.files.read("manifest.json", storage.MANIFEST_BYTES))
        require(isinstance(manifest, dict), "the manifest is no object")
        require(manifest.get("bundle_format") == 2, f"bundle format {manifest.get('bundle_format')!r}")
        wanted = manifest.get("requires", [])
        require(
            isinstance(wanted, list) and all(isinstance(w, str) and w in FEATURES for w in wanted),
            f"requires {wanted!r}",
        )
        fields.manifest.check(manifest, "manifest")
        self.manifest: dict[str, Any] = manifest
        self.graphs = manifest["graphs"]
        self._check_files()
        self.tables = self._read_tables()
        for name, graph in self.graphs.items():
            _check_graph(name, graph)
        for name, variant in manifest["variants"].items():
            self._check_references(variant["program"])
            symbol_id, picture_id = ids(manifest, variant["program"])
            require(symbol_id == variant["symbol_id"], f"{name}: the symbol id is not that of its contents")
            require(picture_id == variant["picture_id"], f"{name}: the picture id is not that of its contents")
        self._check_quality()

    def _check_files(self) -> None:
        names = {self.manifest["tables"]["file"]}
        names |= {part["file"] for part in (self.manifest["weights"], self.manifest["card"]) if part}
        models = [graph["onnx"]["file"] for graph in self.graphs.values() if graph["onnx"]]
        require(len(set(models)) == len(models), "two graphs of one ONNX file")
        self.files.only(names | set(models))
        views = any(graph["native"] and graph["native"]["tensors"] for graph in self.graphs.values())
        require(not views or self.manifest["weights"], "native forms with tensors, and no weights")

    def _check_references(self, program: dict[str, Any]) -> None:
        ProgramChecker(self.manifest, self.tables, program).check()

    def _read_tables(self) -> dict[str, tuple[list[Table], np.ndarray | None]]:
        data = self.files.read(self.manifest["tables"]["file"], storage.TABLES_BYTES)
        arrays, _ = storage.safetensors(data)
        groups, places = {}, 0
        for name, expected in self.manifest["tables"]["groups"].items():
            group = _group(name, arrays)
            places += 0 if group[1] is None else group[1].size
            require(places <= CHANNEL_PLACES, "tables: more than 2^18 sets times channels in all")
            raw = [(table.low, table.shift, table.frequencies) for table in group[0]]
            require(group_hash(raw, group[1]) == expected, f"tables {name}: not those of the manifest")
            groups[name] = group
        return groups

    def _check_quality(self) -> None:
        points = self.manifest["quality"]
        for before, after in itertools.pairwise(points):
            require(before["quality"] < after["quality"], "quality: points that do not rise")
        for point in points:
            require(point["variant"] in self.manifest["variants"], f"quality: no variant {point['variant']!r}")
            parameters = {p["name"]: p for p in self.manifest["variants"][point["variant"]]["program"]["parameters"]}
            for name, value in point["parameters"].items():
                require(name in parameters and parameters[name]["scales"] is None, f"quality: no parameter {name!r}")
                p = parameters[name]
                numbers = value if isinstance(value, list) else [value]
                require(isinstance(value, list) == (p["length"] is not None), f"quality: {name} of a wrong type")
                require(p["length"] in (None, len(numbers)), f"quality: {name} of a wrong length")
                require(all(p["min"] <= v <= p["max"] for v in numbers), f"quality: {name} out of range")

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        if self.manifest["weights"] is None:
            return {}
        return storage.safetensors(self.files.read(self.manifest["weights"]["file"], storage.WEIGHTS_BYTES))[0]

    def form(self, name: str) -> Form:
        """The native form of a graph, its leaves verified."""
        graph = self.graphs[name]
        require(graph["native"], f"graph {name} has no native form")
        views = {}
        for tensor, view in graph["native"]["tensors"].items():
            require(tensor in self.weights, f"no stored tensor {tensor}")
            stored, shape = self.weights[tensor], view["shape"]
            fits = stored.ndim == len(shape) and all(a <= b for a, b in zip(shape, stored.shape, strict=True))
            require(
                fits and stored.dtype == view["dtype"], f"tensor {tensor}: a view larger than it, or of another type"
            )
            views[tensor] = stored[tuple(slice(0, size) for size in shape)]
            require(tensor_hash(views[tensor]) == view["sha256"], f"tensor {tensor}: not that of the manifest")
        Checker(graph, self.weights).check()
        return Form(graph, views)

    def check_leaves(self) -> None:
        """Every leaf that is stored, every form."""
        for name, graph in self.graphs.items():
            if graph["native"]:
                self.form(name)
            if graph["onnx"]:
                data = self._hashed(graph["onnx"], storage.ONNX_BYTES)
                onnx_rules.check(data, graph["inputs"], graph["outputs"])
        if self.manifest["card"]:
            self._hashed(self.manifest["card"], storage.CARD_BYTES)

    def _hashed(self, part: dict[str, str], limit: int) -> bytes:
        data = self.files.read(part["file"], limit)
        require(hashlib.sha256(data).hexdigest() == part["sha256"], f"{part['file']}: not that of the manifest")
        return data


def _group(name: str, arrays: dict[str, np.ndarray]) -> tuple[list[Table], np.ndarray | None]:
    parts = {}
    for part, dtype in TABLE_ARRAYS.items():
        array = arrays.get(f"{name}.{part}")
        require(
            array is not None and array.dtype == dtype and array.ndim == 1, f"tables {name}: {part} missing or wrong"
        )
        assert array is not None
        parts[part] = array
    sizes = parts["size"].tolist()
    require(len(sizes) == len(parts["low"]) == len(parts["shift"]) > 0, f"tables {name}: arrays of different lengths")
    require(all(2 <= size <= 256 for size in sizes), f"tables {name}: a size that is not 2 .. 256")
    require(sum(sizes) == len(parts["frequency"]), f"tables {name}: sizes that are not those of frequency")
    pieces = np.split(parts["frequency"], np.cumsum(sizes)[:-1])
    lows, shifts = parts["low"].tolist(), parts["shift"].tolist()
    tables = [Table(low, shift, piece) for low, shift, piece in zip(lows, shifts, pieces, strict=True)]
    channel = arrays.get(f"{name}.channel")
    if channel is not None:
        require(channel.dtype == np.int32 and channel.ndim == 2 and channel.size > 0, f"tables {name}: channel")
        require(channel.min() >= 0 and channel.max() < len(tables), f"tables {name}: a channel's table is not there")
    return tables, channel


def _check_graph(name: str, graph: dict[str, Any]) -> None:
    require(graph["onnx"] or graph["native"], f"graph {name} has no form")
    for port in [*graph["inputs"].values(), *graph["outputs"].values()]:
        places = [i for i, entry in enumerate(port["dims"]) if dim_of(entry)[1] == "n"]
        require(places in ([], [0]) and (not places or port["dims"][0] == "n"), f"graph {name}: n is not first")
        if port["range"] is not None:
            require(
                port["range"][0] <= port["range"][1] and "int" in port["dtype"], f"graph {name}: a range of nothing"
            )
    symbols = {dim_of(entry)[1] for port in graph["inputs"].values() for entry in port["dims"]} - {""}
    for proof in graph["proofs"]:
        require(set(proof["sizes"]) == symbols, f"graph {name}: a proof with other sizes than its inputs'")
    for proof in graph["proofs"]:
        ports = [port["dims"] for port in [*graph["inputs"].values(), *graph["outputs"].values()]]
        shapes = [[f * (proof["sizes"].get(s, 1) if s else 1) for f, s in map(dim_of, dims)] for dims in ports]
        require(sum(map(math.prod, shapes)) <= PROOF_ELEMENTS, f"graph {name}: a proof of more than 2^22 elements")
        require(_proof_macs(graph, proof) <= PROOF_MACS, f"graph {name}: a proof of more than 2^36 products")
    if graph["halo"] is not None:
        require(all(map(_is_spatial, graph["outputs"].values())), f"graph {name}: a halo, and no rows h and columns w")
    if graph["exact"]:
        require(not graph["encoder"], f"graph {name}: exact, and for the encoder")
        require(graph["proofs"], f"exact graph {name} has no proofs")
        for port in graph["inputs"].values():
            require("int" in port["dtype"] and port["range"], f"exact graph {name}: a float or unbounded input")


def _proof_macs(graph: dict[str, Any], proof: dict[str, Any]) -> int:
    """Of networks of integers whose names are there; others are refused with the form."""
    form, total = graph["native"] or {"operations": [], "tensors": {}}, 0
    for operation in form["operations"]:
        if operation["op"] != "integer_network" or operation["value"] not in graph["inputs"]:
            continue
        dims = [dim_of(entry) for entry in graph["inputs"][operation["value"]]["dims"]]
        places = math.prod(factor * proof["sizes"].get(symbol, 1) for factor, symbol in dims if symbol)
        for layer in operation["hidden"] + operation["heads"]:
            total += places * math.prod(form["tensors"].get(layer["weight"], {"shape": [0]})["shape"])
            places *= math.prod(layer["stride"]) if layer in operation["hidden"] else 1
    return total


def _is_spatial(port: dict[str, Any]) -> bool:
    found = [(factor, symbol) for factor, symbol in map(dim_of, port["dims"]) if symbol not in ("", "n")]
    return [symbol for _, symbol in found] == ["h", "w"] and found[0][0] == found[1][0]

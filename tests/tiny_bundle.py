"""A bundle that fits in a page: native forms with every operation, and one ONNX form. Made without nicrt, by the
independent reader's hashes, so that both readers can be given copies of it with one thing changed.

The codec is useless: pooled samples, two latents of side information, three of picture. `Tiny` holds it as plain
dictionaries and arrays; `bound` writes hashes, proofs and ids again after a change, `write` and `pack` store it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from independent_reader import fields, identity
from independent_reader.decoder import proof_sha256
from independent_reader.native_run import Form
from tiny_onnx import HONEST_NODES, onnx_model

CODES = {
    "float32": "F32",
    "float16": "F16",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint16": "U16",
    "uint8": "U8",
}
STEP = {"dtype": "int32", "dims": [1], "range": [-8, 8]}
SKIP = {"dtype": "int32", "dims": [1], "range": [0, 4]}
DZ = {"dtype": "int32", "dims": [1], "range": [0, 1]}


def port(dtype: str, *dims: int | str, span: tuple[int, int] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "dims": list(dims)} | ({"range": list(span)} if span else {})


Z = port("int32", "n", 2, "h", "w", span=(-7, 7))
LATENT = port("float32", "n", 3, "2h", "2w")
GROUP = port("float32", "n", 2, "h", "w")


def constant(tensor: str) -> dict[str, Any]:
    return {"kind": "constant", "tensor": tensor}


def exp(parameter: str, factor: float, **more: float) -> dict[str, Any]:
    return {"kind": "exp", "parameter": parameter, "factor": factor, **more}


def _analysis() -> list[dict[str, Any]]:
    return [
        {
            "op": "strided_chain",
            "out": "v",
            "terms": [{"value": "x", "scale": [constant("pool.scale")]}],
            "offset": [constant("pool.offset")],
            "layers": [
                {"weight": "pool.weight", "bias": "pool.bias", "stride": [4, 4], "slope": 0.25},
                {"weight": "mix.weight", "norm": {"beta": "gdn.beta", "gamma": "gdn.gamma"}, "pad": [1, 1]},
            ],
        },
        {"op": "absolute", "out": "size", "value": "v"},
        {"op": "log_magnitude", "out": "log", "value": "v", "floor": 0.5},
        {"op": "concatenate", "out": "both", "values": ["size", "log"]},
        {"op": "select_channels", "out": "two", "value": "both", "first": 2, "count": 2},
        {"op": "tanh", "out": "bounded", "value": "two"},
        {
            "op": "strided_chain",
            "out": "small",
            "terms": [{"value": "bounded"}],
            "layers": [
                {"weight": "half.weight", "stride": [2, 2]},
            ],
        },
        {
            "op": "affine",
            "out": "scaled",
            "terms": [{"value": "small", "scale": [{"kind": "row", "tensor": "gains", "parameter": "dz"}]}],
            "slope": 0.5,
        },
        {"op": "quantise", "out": "z", "value": "scaled", "low": -7, "high": 7},
    ]


def _hyper() -> list[dict[str, Any]]:
    index = {"add": 4, "unit": 0.125, "low": 0, "high": 3, "skip": "skip", "skipped": 255, "minus": "step"}
    index["scales"] = {"tensor": "scales", "low": 0, "high": 15, "limit": 4, "unit": 0.5, "add": 2}
    layer = {"stride": [2, 2], "pad": [1, 1]}
    return [
        {
            "op": "integer_network",
            "value": "z",
            "hidden": [
                {"weight": "h.weight", "bias": "h.bias", "multiplier": "h.multiplier", "negative": "h.negative"}
                | {"row": "dz", "low": -100, "high": 100}
            ],
            "heads": [
                {"out": "narrow", "weight": "i.weight", "bias": "i.bias", "multiplier": "i.multiplier", "index": index}
                | layer,
                {"out": "few", "weight": "i.weight", "bias": "i.bias", "multiplier": "i.multiplier"} | layer,
            ],
        },
        {"op": "pad_channels", "out": "index", "value": "narrow", "count": 3},
        {"op": "pad_channels", "out": "mean", "value": "few", "count": 3},
    ]


def _quantise() -> list[dict[str, Any]]:
    return [
        {
            "op": "affine",
            "out": "scaled",
            "terms": [
                {"value": "v", "scale": [exp("step", -0.125)]},
                {"value": "mean", "scale": [constant("minus"), exp("step", -0.125)]},
            ],
        },
        {"op": "quantise", "out": "y", "value": "scaled", "low": -100, "high": 100},
    ]


def _synthesis() -> list[dict[str, Any]]:
    gain = {"kind": "interpolated_exp", "tensor": "curve", "parameter": "step", "unit": 8}
    return [
        {
            "op": "transposed_chain",
            "out": "picture",
            "terms": [{"value": "y", "scale": [exp("step", 0.125, offset=0.25), gain]}, {"value": "mean"}],
            "layers": [
                {
                    "weight": "mix.weight",
                    "norm": {"beta": "gdn.beta", "gamma": "gdn.gamma"},
                    "pad": [1, 1],
                    "slope": 0.5,
                },
                {"weight": "up.weight", "bias": "up.bias", "stride": [4, 4]},
            ],
            "picture": {"low": 0, "high": 255},
        }
    ]


def _graphs() -> dict[str, Any]:
    """Name → graph, hashes left out."""
    return {
        "analysis": {
            "inputs": {"x": port("float32", "n", 3, "8h", "8w"), "dz": DZ},
            "outputs": {"v": LATENT, "z": Z},
            "native": {"operations": _analysis()},
            "encoder": True,
        },
        "hyper": {
            "inputs": {"z": Z, "step": STEP, "skip": SKIP, "dz": DZ},
            "outputs": {"index": port("uint8", "n", 3, "2h", "2w"), "mean": LATENT},
            "native": {"operations": _hyper()},
            "exact": True,
            "proofs": [{"seed": seed, "sizes": {"n": 1, "h": 2, "w": 3}, "sha256": "0" * 64} for seed in (2, 5)],
        },
        "quantise": {
            "inputs": {"v": LATENT, "mean": LATENT, "step": STEP},
            "outputs": {"y": port("int32", "n", 3, "2h", "2w")},
            "native": {"operations": _quantise()},
            "encoder": True,
        },
        "synthesis": {
            "inputs": {"y": port("int32", "n", 3, "2h", "2w"), "mean": LATENT, "step": STEP},
            "outputs": {"picture": port("uint8", "n", "8h", "8w", 3)},
            "native": {"operations": _synthesis()},
        },
        "deeper": {
            "inputs": {"v": LATENT, "k": port("int32", "n", 3, "2h", "2w")},
            "outputs": {"w": LATENT, "q": port("int32", "n", 3, "2h", "2w")},
            "onnx": {"file": "graphs/deeper.onnx", "sha256": "0" * 64},
            "encoder": True,
        },
    }


def _weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(16)

    def normal(*shape: int, scale: float = 0.3) -> np.ndarray:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    return {
        "pool.scale": np.array([2], np.float32),
        "pool.offset": np.array([-1, -1, -0.5], np.float32),
        "pool.weight": normal(3, 3, 4, 4, scale=0.1),
        "pool.bias": normal(3),
        "mix.weight": normal(3, 3, 3, 3),
        "gdn.beta": np.array([1, 1.5, 2], np.float32),
        "gdn.gamma": np.abs(normal(3, 3)).astype(np.float16),
        "half.weight": normal(2, 2, 2, 2),
        "gains": np.array([[4, 8], [2, 4]], np.float32),
        "h.weight": random.integers(-9, 10, (2, 2, 1, 1)).astype(np.int8),
        "h.bias": random.integers(-50, 50, (2, 2)).astype(np.int32),
        "h.multiplier": np.array([[0.5, 0.25], [0.75, 1]], np.float32),
        "h.negative": np.array([[0.125, 0.125], [0.25, 0.25]], np.float32),
        "i.weight": random.integers(-9, 10, (4, 5, 4, 4)).astype(np.int8),  # two of each are used: a view
        "i.bias": random.integers(-50, 50, (2,)).astype(np.int32),
        "i.multiplier": np.array([0.0625, 0.03125], np.float32),
        "scales": np.array([0, 1, 3, 6, 10, 15, 21, 24, 27, 30], np.int16),
        "minus": np.array([-1], np.float32),
        "curve": normal(3, 3, scale=0.1),
        "up.weight": normal(3, 3, 4, 4, scale=20),
        "up.bias": np.array([128.5, 128.5, 128.5], np.float32),
    }


VIEWS = {"i.weight": (2, 2, 4, 4)}
OF_GRAPHS = {
    "analysis": ("pool.", "mix.", "gdn.", "half.", "gains"),
    "hyper": ("h.", "i.", "scales"),
    "quantise": ("minus",),
    "synthesis": ("mix.", "gdn.", "curve", "up."),
}


def _tables() -> dict[str, np.ndarray]:
    """Group y: 4 tables; group z: 3 tables, 2 sets of 2 channels."""
    arrays = {}
    for group, count in (("y", 4), ("z", 3)):
        sizes = [4 + 2 * t for t in range(count)]
        frequencies = [np.full(size, 4096 // size) for size in sizes]
        for table in frequencies:
            table[0] += 4096 - table.sum()
        arrays[f"{group}.low"] = np.array([-(size // 2) for size in sizes], np.int16)
        arrays[f"{group}.shift"] = np.arange(count).astype(np.uint8)
        arrays[f"{group}.size"] = np.array(sizes, np.int32)
        arrays[f"{group}.frequency"] = np.concatenate(frequencies).astype(np.uint16)
    arrays["z.channel"] = np.array([[0, 1], [2, 1]], np.int32)
    return arrays


def _program() -> dict[str, Any]:
    def run(graph: str, inputs: str, outputs: str, **more: Any) -> dict[str, Any]:
        sources, targets = (dict(pair.split("=") for pair in text.split()) for text in (inputs, outputs))
        return {"op": "graph", "graph": graph, "in": sources, "out": targets, **more}

    steps = [
        run("analysis", "x=@x dz=$dz", "v=v z=z", enc=True),
        {"op": "entropy", "out": "z", "channels": 2, "stride": 8, "tables": "z", "by": "channel", "set": "dz"},
        run("hyper", "z=z step=$step skip=$skip dz=$dz", "index=index mean=mean"),
        run("quantise", "v=v mean=mean step=$step", "y=y", enc=True),
        run("deeper", "v=v k=y", "w=w q=y", enc=True),
        {"op": "entropy", "out": "y", "channels": 3, "stride": 4, "tables": "y", "by": "index"},
    ]
    return {
        "parameters": [
            {"name": "step", "min": -8, "max": 8, "default": 0},
            {"name": "skip", "min": 0, "max": 4, "default": 1},
            {"name": "dz", "min": 0, "max": 1, "default": 0},
        ],
        "stages": [
            {
                "align": 8,
                "steps": steps,
                "show": run("synthesis", "y=y mean=mean step=$step", "picture=picture"),
                "tile": 32,
            }
        ],
    }


@dataclass
class Tiny:
    """`onnx`: bytes of the only ONNX file. `other`: more files of a packed bundle."""

    manifest: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    onnx: bytes = b""
    card: bytes = b"# tiny\n"

    def copy(self) -> Tiny:
        return copy.deepcopy(self)

    def graph(self, name: str) -> Any:
        return self.manifest["graphs"][name]

    def operation(self, graph: str, number: int) -> Any:
        return self.graph(graph)["native"]["operations"][number]

    def bound(self, *, proofs: bool = False) -> Tiny:
        """Itself, with the hashes and ids of its present contents."""
        manifest = self.manifest
        for graph in manifest["graphs"].values():
            if "native" in graph:
                for name, view in graph["native"]["tensors"].items():
                    if name in self.weights and len(view["shape"]) == self.weights[name].ndim:
                        corner = self.weights[name][tuple(slice(0, edge) for edge in view["shape"])]
                        view["sha256"] = identity.tensor_hash(corner)
            if "onnx" in graph:
                graph["onnx"]["sha256"] = hashlib.sha256(self.onnx).hexdigest()
        if "card" in manifest:
            manifest["card"]["sha256"] = hashlib.sha256(self.card).hexdigest()
        for name in manifest["tables"]["groups"]:
            manifest["tables"]["groups"][name] = self._group_hash(name)
        if proofs:
            self._prove()
        self._write_ids()
        return self

    def _group_hash(self, name: str) -> str:
        pieces = np.split(self.tables[f"{name}.frequency"], np.cumsum(self.tables[f"{name}.size"])[:-1])
        numbers = zip(self.tables[f"{name}.low"].tolist(), self.tables[f"{name}.shift"].tolist(), pieces, strict=False)
        return identity.group_hash(list(numbers), self.tables.get(f"{name}.channel"))

    def _prove(self) -> None:
        for graph in self.manifest["graphs"].values():
            whole = copy.deepcopy(graph)
            fields.graph.check(whole, "graph")
            for proof in graph.get("proofs", []):
                views = {
                    name: self.weights[name][tuple(slice(0, edge) for edge in view["shape"])]
                    for name, view in graph["native"]["tensors"].items()
                }
                proof["sha256"] = proof_sha256(Form(whole, views), whole, proof)

    def _write_ids(self) -> None:
        """Where the manifest's fields allow it: of one that is wrong, nobody reads the ids."""
        whole = copy.deepcopy(self.manifest)
        try:
            fields.manifest.check(whole, "manifest")
            for name, variant in whole["variants"].items():
                symbol_id, picture_id = identity.ids(whole, variant["program"])
                self.manifest["variants"][name] |= {"symbol_id": symbol_id, "picture_id": picture_id}
        except Exception:
            return

    def files(self) -> dict[str, bytes]:
        """Without the manifest."""
        return {
            "tables.safetensors": safetensors(self.tables),
            "weights.safetensors": safetensors(self.weights),
            "graphs/deeper.onnx": self.onnx,
            "card.md": self.card,
        }

    def text(self) -> bytes:
        return json.dumps(self.manifest).encode()

    def write(self, folder: Path, text: bytes | None = None, **changed: bytes) -> Path:
        """As a folder. changed: contents of files by their name's first part."""
        for name, data in {"manifest.json": self.text() if text is None else text, **self.files()}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(changed.get(path.stem, data))
        return folder

    def pack(self, path: Path, **more: np.ndarray) -> Path:
        files = {name: np.frombuffer(data, np.uint8) for name, data in self.files().items()} | more
        path.write_bytes(safetensors(files, {"nicrt.manifest": self.text().decode()}))
        return path


def safetensors(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    place = 0
    for name, array in tensors.items():
        header[name] = {"dtype": CODES[array.dtype.name], "shape": list(array.shape)}
        header[name]["data_offsets"] = [place, place + array.nbytes]
        place += array.nbytes
    return with_header(json.dumps(header).encode(), b"".join(array.tobytes() for array in tensors.values()))


def with_header(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def tiny() -> Tiny:
    """The whole one, which both readers accept."""
    graphs, weights = _graphs(), _weights()
    for name, prefixes in OF_GRAPHS.items():
        graphs[name]["native"]["tensors"] = {
            tensor: {
                "dtype": array.dtype.name,
                "shape": list(VIEWS.get(tensor, array.shape)),
                "sha256": "0" * 64,
            }
            for tensor, array in weights.items()
            if tensor.startswith(prefixes)
        }
    manifest = {
        "bundle_format": 2,
        "name": "tiny",
        "summary": "for tests",
        "license": "Apache-2.0",
        "color": "sRGB",
        "graphs": graphs,
        "tables": {"file": "tables.safetensors", "groups": {"y": "", "z": ""}},
        "weights": {"file": "weights.safetensors"},
        "card": {"file": "card.md", "sha256": ""},
        "variants": {"tiny": {"symbol_id": "0" * 16, "picture_id": "0" * 8, "program": _program()}},
        "quality": [
            {"quality": 0, "variant": "tiny", "parameters": {"step": 8}},
            {"quality": 100, "variant": "tiny", "parameters": {"step": -8}},
        ],
        "provenance": {"made": "by hand"},
    }
    unshared = json.loads(json.dumps(manifest))  # so that a change in one place is one
    return Tiny(unshared, weights, _tables(), onnx_model(HONEST_NODES)).bound(proofs=True)

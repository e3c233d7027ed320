"""Decodes a `.nic` file with a bundle: streams and graphs in the program's order (BUNDLE.md section 8)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .bundle import Bundle
from .coder import decode_stream
from .container import NicFile, Tile
from .errors import UnsupportedError, WrongBundleError, intact, require
from .identity import shown_by
from .native_rules import dim_of
from .native_run import Form

Array = np.ndarray


def variant_of(bundle: Bundle, file: NicFile) -> str:
    """The variant whose symbol id the file has; one with its picture id too, where there are several."""
    variants = bundle.manifest["variants"]
    same = [name for name, variant in variants.items() if variant["symbol_id"] == file.symbol_id]
    if not same:
        raise WrongBundleError(f"symbol id {file.symbol_id} is none of the bundle's")
    return next((name for name in same if variants[name]["picture_id"] == file.picture_id), same[0])


class Decoder:
    def __init__(self, bundle: Bundle, file: NicFile) -> None:
        self.bundle, self.file = bundle, file
        self.program = bundle.manifest["variants"][variant_of(bundle, file)]["program"]
        self.forms: dict[str, Form] = {}
        self.symbols: list[Array] = []
        self.parameters = self._parameters()

    def _parameters(self) -> dict[str, list[int]]:
        declared = self.program["parameters"]
        intact(len(declared) == len(self.file.parameters), "parameters that are not those of the program")
        values = {}
        for p, numbers in zip(declared, self.file.parameters, strict=True):
            count = len(numbers)
            if p["scales"] is not None:
                wanted = count % 2 == 0 and p["length"] in (None, count // 2)
            else:
                wanted = count == (p["length"] or 1)
            intact(wanted and all(p["min"] <= v <= p["max"] for v in numbers), f"parameter {p['name']}: not allowed")
            values[p["name"]] = numbers
        return values

    def decode(self) -> Array:
        """uint8 [height, width, 3]"""
        rounds = list(self._rounds())
        intact(len(rounds) == len(self.file.stages), "stages that are not those of the program")
        size = (self.file.height, self.file.width)
        intact(rounds and rounds[-1][2] == size, "a last stage of another size than the picture's")
        scope: dict[str, Array] = {}
        for (stage, number, round_size), streams in zip(rounds, self.file.stages, strict=True):
            self._round(stage, number, round_size, streams, scope)
        runs, shown = shown_by(rounds[-1][0])
        for run in runs:
            scope.update(self._run(run, rounds[-1][0], rounds[-1][1], size, scope))
        picture = scope[shown]
        require(picture.dtype == np.uint8 and picture.shape[3] == 3, "a picture that is not uint8 RGB")
        return picture[0, : size[0], : size[1]]

    def _rounds(self) -> Any:
        """(stage, number of the round, its picture's height and width)"""
        for stage in self.program["stages"]:
            if stage["each"] is None:
                yield stage, 0, (self.file.height, self.file.width)
                continue
            numbers = self.parameters[stage["each"]]
            for i in range(len(numbers) // 2):
                yield stage, i, (numbers[2 * i], numbers[2 * i + 1])

    def _round(
        self, stage: Any, number: int, size: tuple[int, int], streams: list[list[Tile]], scope: dict[str, Array]
    ) -> None:
        entropy = [step for step in stage["steps"] if step["op"] == "entropy"]
        intact(len(entropy) == len(streams), "streams that are not those of the stage")
        left = iter(streams)
        for step in stage["steps"]:
            if step["op"] == "entropy":
                scope[step["out"]] = self._stream(step, stage, size, next(left), scope)
                self.symbols.append(scope[step["out"]])
            elif not step["enc"]:
                scope.update(self._run(step, stage, number, size, scope))

    def _padded(self, stage: Any, size: tuple[int, int]) -> tuple[int, int]:
        return (-(-size[0] // stage["align"]) * stage["align"], -(-size[1] // stage["align"]) * stage["align"])

    def _stream(
        self, step: Any, stage: Any, size: tuple[int, int], tiles: list[Tile], scope: dict[str, Array]
    ) -> Array:
        height, width = (edge // step["stride"] for edge in self._padded(stage, size))
        shape = (step["channels"], height, width)
        tables, channel = self.bundle.tables[step["tables"]]
        if step["by"] == "channel":
            assert channel is not None
            sets = self.parameters[step["set"]] if step["set"] else [0]
            names = channel[np.array(sets), np.arange(step["channels"])]
            index = np.broadcast_to(names[:, None, None], shape)
        else:
            index = scope[step["by"]][0].astype(int)
        intact(self.file.tile_size % step["stride"] == 0, "tile_size is no multiple of a stride")
        return decode_stream(tiles, tables, index, self.file.tile_size // step["stride"])[None]

    def _run(
        self, run: Any, stage: Any, number: int, size: tuple[int, int], scope: dict[str, Array]
    ) -> dict[str, Array]:
        name = run["graph"]
        graph = self.bundle.graphs[name]
        if graph["native"] is None:
            raise UnsupportedError(f"graph {name} has no native form")
        if name not in self.forms:
            self.forms[name] = self.bundle.form(name)
        height, width = self._padded(stage, size)
        parts = []
        for top in range(0, height, run["bands"] or height):
            rows = np.arange(top, min(top + (run["bands"] or height), height), dtype=np.int32)
            inputs = {}
            for port, source in run["in"].items():
                inputs[port] = self._source(source, number, size, rows, width, scope)
                self._within(graph, port, inputs[port])
            parts.append(self.forms[name].run(inputs))
        joined = {
            port: parts[0][port] if len(parts) == 1 else np.concatenate([p[port] for p in parts], 2)
            for port in run["out"]
        }
        return {tensor: joined[port] for port, tensor in run["out"].items()}

    def _within(self, graph: Any, port: str, value: Array) -> None:
        limits = graph["inputs"][port]["range"]
        if graph["exact"]:
            intact(value.min() >= limits[0] and value.max() <= limits[1], f"values beyond the range of {port}")

    def _source(
        self, source: str, number: int, size: tuple[int, int], rows: Array, width: int, scope: dict[str, Array]
    ) -> Array:
        if source == "@size":
            return np.array(size, np.int32)
        if source in ("@rows", "@cols"):
            return rows if source == "@rows" else np.arange(width, dtype=np.int32)
        if source.startswith("$"):
            values = self.parameters[source[1:].removesuffix("[i]")]
            if source.endswith("[i]"):
                intact(number < len(values), f"more rounds than {source} has elements")
                values = [values[number]]
            return np.array(values, np.int32)
        return scope[source]


def proof_sha256(form: Form, graph: dict[str, Any], proof: dict[str, Any]) -> str:
    """What the native form of an exact graph gives for a proof's inputs (section 10)."""
    inputs = {}
    for p, (port, declared) in enumerate(graph["inputs"].items()):
        shape = [factor * (proof["sizes"][symbol] if symbol else 1) for factor, symbol in map(dim_of, declared["dims"])]
        low, high = declared["range"]
        with np.errstate(over="ignore"):
            start = np.uint64(proof["seed"] << 32) + np.uint64(p << 28)
            u = _splitmix64(start + np.arange(int(np.prod(shape)), dtype=np.uint64))
        if proof["seed"] % 2:
            values = np.where(u % np.uint64(2) == 1, high, low)
        else:
            values = low + (u % np.uint64(high - low + 1)).astype(np.int64)
        inputs[port] = values.astype(declared["dtype"]).reshape(shape)
    results = form.run(inputs)
    digest = hashlib.sha256()
    for port, declared in graph["outputs"].items():
        if "int" in declared["dtype"]:
            digest.update(np.ascontiguousarray(results[port]).astype("<i4").tobytes())
    return digest.hexdigest()


def _splitmix64(x: Array) -> Array:
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return x ^ x >> np.uint64(31)

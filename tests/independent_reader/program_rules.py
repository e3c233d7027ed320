"""What a program must be before anything runs (BUNDLE.md sections 8 and 11)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .coder import Table
from .errors import require
from .identity import shown_by
from .native_rules import dim_of

MAX_STEPS = 512
PICTURES = ("uint8", "uint16", "float32")


@dataclass(frozen=True)
class Known:
    """What is known of a tensor of the scope. exact: it may be an index. outside: a graph outside the symbol id had a
    part in it."""

    dtype: str
    shape: tuple[int, ...]
    exact: bool = False
    outside: bool = False


Scope = dict[str, Known]


def round_sizes(parameter: dict[str, Any], height: int, width: int) -> list[tuple[int, int]]:
    """An encoder's default sizes of the rounds."""
    scales = parameter["scales"] or [1.0] * (parameter["length"] or 2)
    return [(max(1, round(height * s)), max(1, round(width * s))) for s in scales]


class ProgramChecker:
    def __init__(self, manifest: dict[str, Any], tables: dict[str, tuple[list[Table], Any]], program: dict[str, Any]):
        self.graphs, self.tables, self.program = manifest["graphs"], tables, program
        self.parameters = {p["name"]: p for p in program["parameters"]}

    def check(self) -> None:
        names = [p["name"] for p in self.program["parameters"]]
        require(len(names) == len(set(names)), "two parameters of one name")
        for p in self.program["parameters"]:
            require(p["min"] <= p["default"] <= p["max"], f"parameter {p['name']}: its default is out of range")
            rounds = p["length"] is None or p["scales"] is None or len(p["scales"]) == p["length"]
            require(rounds, f"parameter {p['name']}: default sizes for other rounds")
        steps = sum(len(stage["steps"]) + len(shown_by(stage)[0]) for stage in self.program["stages"])
        require(steps <= MAX_STEPS, f"more than {MAX_STEPS} steps")
        for stage in self.program["stages"]:
            self._stage(stage)
        encodes = any(step.get("enc") for stage in self.program["stages"] for step in stage["steps"])
        for size in [(1, 1), (64, 96), (257, 2050)]:
            for encoding in [False, True] if encodes else [False]:
                self._walk(size, encoding)

    def _stage(self, stage: dict[str, Any]) -> None:
        if stage["each"] is not None:
            p = self.parameters.get(stage["each"])
            require(p is not None and p["scales"] is not None, f"each {stage['each']!r} is no parameter with sizes")
        for step in stage["steps"]:
            if step["op"] == "graph":
                self._run(step, stage)
            else:
                self._entropy(step, stage)
        runs, _ = shown_by(stage)
        for run in runs:
            self._run(run, stage)
            require(not run["enc"], "what shows a stage runs when decoding")
        require(not runs or len(runs[-1]["out"]) == 1, "what shows a stage has one output")

    def _run(self, run: dict[str, Any], stage: dict[str, Any]) -> None:
        require(run["graph"] in self.graphs, f"no graph {run['graph']!r}")
        graph = self.graphs[run["graph"]]
        require(set(run["in"]) == set(graph["inputs"]), f"{run['graph']}: other inputs than its ports")
        require(set(run["out"]) <= set(graph["outputs"]), f"{run['graph']}: outputs that it does not have")
        require(len(set(run["out"].values())) == len(run["out"]), f"{run['graph']}: two outputs of one name")
        require(run["enc"] or not graph["encoder"], f"{run['graph']}: an encoder graph in a decoder's step")
        require(run["enc"] or not run["effort"], f"{run['graph']}: effort in a decoder's step")
        for name in run["effort"].values():
            require(name in self.graphs, f"no graph {name!r}")
            other = self.graphs[name]
            same = (other["inputs"], other["outputs"]) == (graph["inputs"], graph["outputs"])
            require(same, f"{name}: other ports than {run['graph']}")
        for port, source in run["in"].items():
            if source.startswith("$"):
                self._parameter(source, graph["inputs"][port], stage)
            elif source.startswith("@"):
                require(source in ("@x", "@size", "@rows", "@cols"), f"no source {source!r}")
                require(run["enc"] or source != "@x", "@x is for encoders")

    def _parameter(self, source: str, port: dict[str, Any], stage: dict[str, Any]) -> None:
        match = re.fullmatch(r"\$([^\[]+)(\[i\])?", source)
        p = self.parameters.get(match[1]) if match else None
        require(match is not None and p is not None and p["scales"] is None, f"no source {source!r}")
        assert match and p
        require(match[2] is None or (p["length"] and stage["each"]), f"{source}: an element of no list, or in no round")
        length = 1 if match[2] or p["length"] is None else p["length"]
        require(port["dtype"] == "int32" and port["dims"] == [length], f"{source}: a port of another type")
        inside = port["range"] is None or (port["range"][0] <= p["min"] and p["max"] <= port["range"][1])
        require(inside, f"{source}: beyond the range of its port")

    def _entropy(self, step: dict[str, Any], stage: dict[str, Any]) -> None:
        require(stage["align"] % step["stride"] == 0, "align is no multiple of a stride")
        require(stage["tile"] % step["stride"] == 0, "tile is no multiple of a stride")
        require(step["tables"] in self.tables, f"no tables {step['tables']!r}")
        tables, channel = self.tables[step["tables"]]
        if step["by"] != "channel":
            require(channel is None and step["set"] is None, "an index tensor and tables by channel")
            require(len(tables) <= 64, "more than 64 tables for an index tensor")
            return
        require(channel is not None and channel.shape[1] == step["channels"], "tables of other channels")
        last = 0
        if step["set"] is not None:
            p = self.parameters.get(step["set"])
            require(p is not None and p["scales"] is None, f"no parameter {step['set']!r}")
            assert p is not None
            require(p["length"] in (None, step["channels"]) and p["min"] >= 0, f"{step['set']}: picks no set")
            last = p["max"]
        require(last < len(channel), "a set of tables that is not there")

    def _walk(self, size: tuple[int, int], encoding: bool) -> None:
        """All stages and rounds, with sizes, as encoder or decoder."""
        scope: Scope = {}
        for stage in self.program["stages"]:
            if stage["each"] is None:
                self._round(stage, scope, size, encoding)
                continue
            sizes = round_sizes(self.parameters[stage["each"]], *size)
            for round_size in sizes:
                self._round(stage, scope, round_size, encoding)
            self._settles(stage, scope, sizes[-1] if sizes else size, encoding)

    def _settles(self, stage: dict[str, Any], scope: Scope, size: tuple[int, int], encoding: bool) -> None:
        """More rounds of one size end in one state of the scope."""
        scope = dict(scope)
        for _ in range(len(scope) + 2):
            before = dict(scope)
            self._round(stage, scope, size, encoding)
            if scope == before:
                return
        require(False, "rounds do not settle")

    def _round(self, stage: dict[str, Any], scope: Scope, size: tuple[int, int], encoding: bool) -> None:
        padded = tuple(-(-edge // stage["align"]) * stage["align"] for edge in size)
        for step in stage["steps"]:
            if step["op"] == "entropy":
                self._stream(step, scope, padded, encoding)
            elif encoding or not step["enc"]:
                scope.update(self._outputs(step, scope, size, padded))
        shown_scope = dict(scope)
        runs, shown = shown_by(stage)
        for run in runs:
            shown_scope.update(self._outputs(run, shown_scope, size, padded))
        require(shown in shown_scope, f"nothing to show: {shown!r}")
        known = shown_scope[shown]
        picture = known.dtype in PICTURES and len(known.shape) == 4 and known.shape[0] == 1 and known.shape[3] in (1, 3)
        require(picture and known.shape[1:3] in (size, padded), f"{shown} is no picture")

    def _stream(self, step: dict[str, Any], scope: Scope, padded: tuple[int, ...], encoding: bool) -> None:
        shape = (1, step["channels"], *(edge // step["stride"] for edge in padded))
        if step["by"] != "channel":
            require(step["by"] in scope, f"no index tensor {step['by']!r}")
            index = scope[step["by"]]
            require((index.dtype, index.shape) == ("uint8", shape), f"{step['by']}: indices of another type or shape")
            require(index.exact, f"{step['by']}: indices that are not exact")
        if encoding:
            require(step["out"] in scope, f"nothing to code: {step['out']!r}")
            coded = scope[step["out"]]
            require((coded.dtype, coded.shape) == ("int32", shape), f"{step['out']}: symbols of another type or shape")
        scope[step["out"]] = Known("int32", shape, True)

    def _outputs(self, run: dict[str, Any], scope: Scope, size: tuple[int, int], padded: tuple[int, ...]) -> Scope:
        graph = self.graphs[run["graph"]]
        sources = {port: self._source(run["in"][port], scope, padded, run["bands"]) for port in graph["inputs"]}
        bound: dict[str, int] = {}
        for port, known in sources.items():
            if known is not None:
                self._bind(run["graph"], graph["inputs"][port], known, bound)
        exact = graph["exact"] and all(known is None or known.exact for known in sources.values())
        outside = any(known is not None and known.outside for known in sources.values())
        require(
            not (run["enc"] and outside), f"{run['graph']}: an encoder reads what a graph outside the symbol id made"
        )
        outside = outside or not (graph["exact"] or graph["in_loop"] or run["enc"])
        free = [
            d
            for out in graph["outputs"].values()
            for _, d in map(dim_of, out["dims"])
            if d and d not in bound | {"n": 1}
        ]
        free = list(dict.fromkeys(free))
        if free:
            require(len(free) == 2 and "@size" in run["in"].values(), f"{run['graph']}: sizes that nothing gives")
            bound |= dict(zip(free, size, strict=True))
        results = {}
        for port, name in run["out"].items():
            out = graph["outputs"][port]
            shape = [factor * (bound.get(symbol, 1) if symbol else 1) for factor, symbol in map(dim_of, out["dims"])]
            if run["bands"] is not None and len(shape) > 2:
                shape[2] = shape[2] // min(run["bands"], padded[0]) * padded[0]
            results[name] = Known(out["dtype"], tuple(shape), exact and "int" in out["dtype"], outside)
        return results

    def _source(self, source: str, scope: Scope, padded: tuple[int, ...], bands: int | None) -> Known | None:
        """None for a parameter, which `_parameter` has checked."""
        if source.startswith("$"):
            return None
        if source.startswith("@"):
            rows = min(bands or padded[0], padded[0])
            shapes = {"@x": (1, 3, *padded), "@size": (2,), "@rows": (rows,), "@cols": (padded[1],)}
            return Known("float32" if source == "@x" else "int32", shapes[source], source != "@x")
        require(source in scope, f"no tensor {source!r}")
        return scope[source]

    def _bind(self, graph: str, port: dict[str, Any], known: Known, bound: dict[str, int]) -> None:
        require(port["dtype"] == known.dtype, f"{graph}: an input of another type than its port")
        require(len(port["dims"]) == len(known.shape), f"{graph}: an input with other dimensions than its port")
        for entry, edge in zip(port["dims"], known.shape, strict=True):
            factor, symbol = dim_of(entry)
            fits = (
                edge == factor
                if not symbol
                else edge % factor == 0 and bound.setdefault(symbol, edge // factor) == edge // factor
            )
            require(fits, f"{graph}: an input of another size than its port")

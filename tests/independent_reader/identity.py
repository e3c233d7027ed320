"""Leaf hashes, hashes of graphs, symbol ids and picture ids (BUNDLE.md sections 4 and 7)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from . import fields
from .grammar import canonical_text

SHORT = {"f4": "float32", "f2": "float16", "i4": "int32", "i2": "int16", "i1": "int8", "u1": "uint8"}


def tensor_hash(tensor: np.ndarray) -> str:
    """Leaf of a view, already cut to its shape."""
    kind = f"{SHORT[tensor.dtype.str[1:]]} {'x'.join(map(str, tensor.shape))}\n"
    return hashlib.sha256(b"nicrt tensor 2\n" + kind.encode() + np.ascontiguousarray(tensor).tobytes()).hexdigest()


def group_hash(tables: list[tuple[int, int, np.ndarray]], channel: np.ndarray | None) -> str:
    """tables: (low, shift, frequencies with the escape last)."""
    shape = str(len(tables)) if channel is None else f"{channel.shape[0]}x{channel.shape[1]}"
    digest = hashlib.sha256(f"nicrt tables 2\n{shape}\n".encode())
    for t in range(len(tables)) if channel is None else channel.ravel().tolist():
        low, shift, frequencies = tables[t]
        digest.update(np.array([low], "<i2").tobytes() + np.array([shift, len(frequencies)], "<u2").tobytes())
        digest.update(frequencies.astype("<u2").tobytes())
    return digest.hexdigest()


def graph_hash(graph: dict[str, Any]) -> str:
    whole = fields.graph.canonical(graph)
    part = {key: whole[key] for key in ("inputs", "outputs")}
    part |= {key: graph[key] for key in ("exact", "in_loop", "halo")}
    if graph["onnx"] is not None:
        part["onnx"] = graph["onnx"]["sha256"]
    if graph["native"] is not None:
        part["native"] = whole["native"]
    return hashlib.sha256(b"nicrt graph 2\n" + canonical_text(part)).hexdigest()


def shown_by(stage: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """(the graph steps that show a stage, the tensor that is shown)."""
    show = stage["show"]
    if isinstance(show, str):
        return [], show
    runs = show if isinstance(show, list) else [show]
    return runs, next(iter(runs[-1]["out"].values()), "")


def ids(manifest: dict[str, Any], program: dict[str, Any]) -> tuple[str, str]:
    """(symbol id, picture id)"""
    graphs, groups = manifest["graphs"], manifest["tables"]["groups"]

    def run(step: dict[str, Any]) -> list[Any]:
        return [graph_hash(graphs[step["graph"]]), step["in"], step["out"], step["bands"]]

    symbol_stages, picture_stages = [], []
    for stage in program["stages"]:
        in_symbols: list[Any] = []
        others: list[Any] = []
        for step in stage["steps"]:
            if step["op"] == "entropy":
                items = [step["out"], step["channels"], step["stride"], groups[step["tables"]], step["by"], step["set"]]
                in_symbols.append(items)
            elif not step["enc"]:
                graph = graphs[step["graph"]]
                (in_symbols if graph["exact"] or graph["in_loop"] else others).append(run(step))
        runs, shown = shown_by(stage)
        symbol_stages.append({"each": stage["each"], "align": stage["align"], "steps": in_symbols})
        picture_stages.append({"steps": others, "show": [run(step) for step in runs], "shown": shown})
    parameters = [[p["name"], p["length"], p["scales"] is not None] for p in program["parameters"]]
    symbols = canonical_text({"parameters": parameters, "stages": symbol_stages})
    pictures = canonical_text({"color": manifest["color"], "stages": picture_stages})
    return (
        hashlib.sha256(b"nicrt symbol id 2\n" + symbols).hexdigest()[:16],
        hashlib.sha256(b"nicrt picture id 2\n" + pictures).hexdigest()[:8],
    )

"""Graphs in native form, made from operations and arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import native_reference
import numpy as np

from nicrt import _core
from nicrt.runtime.bundle import StoredGraph
from nicrt.runtime.manifest import File, Graph, Port, Proof, factored
from nicrt.runtime.native_form import NO_HASH, NativeForm, Operation, View

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


def form_of(operations: Sequence[Operation], arrays: Arrays) -> NativeForm:
    views = {
        name: View(dtype=array.dtype.name, shape=list(array.shape), sha256=NO_HASH) for name, array in arrays.items()
    }
    return NativeForm(tensors=views, operations=list(operations))


def check(name: str, graph: Graph) -> None:
    """Raises UnsupportedError for what no bundle may have, but for proofs."""
    if graph.exact:
        symbols = {symbol for port in graph.inputs.values() for _, symbol in map(factored, port.dims)} - {""}
        graph = msgspec.structs.replace(graph, proofs=[Proof(0, dict.fromkeys(symbols, 1), NO_HASH)])
    _core.check_graph(name, msgspec.json.encode(graph))


def native_graph(
    operations: Sequence[Operation],
    arrays: Arrays,
    inputs: dict[str, Port],
    outputs: dict[str, Port],
    *,
    exact: bool = False,
    onnx: bytes | None = None,
) -> StoredGraph:
    """A valid graph of these operations."""
    graph = Graph(inputs=inputs, outputs=outputs, exact=exact, native=form_of(operations, arrays))
    if onnx is not None:
        graph.onnx = File(file="g.onnx", sha256=hashlib.sha256(onnx).hexdigest())
    check("g", graph)
    return StoredGraph("g", graph, onnx=lambda: onnx or b"", weights=lambda: arrays)


def onnx_graph(graph: Graph, data: bytes) -> StoredGraph:
    """A graph of ONNX alone."""
    file = File(file="g.onnx", sha256=hashlib.sha256(data).hexdigest())
    entry = msgspec.structs.replace(graph, onnx=file, native=None)
    return StoredGraph("g", entry, onnx=lambda: data, weights=dict)


def expected(stored: StoredGraph, inputs: Arrays) -> Arrays:
    """What docs/BUNDLE.md says that a graph gives, by port."""
    assert stored.entry.native is not None
    return native_reference.run(stored.entry.native, stored.weights(), inputs, list(stored.entry.outputs))

"""Our own kernels on the CPU, for native forms of one operation: a chain of transposed convolutions that makes a
picture, or a network of integers (cpp_ext/src/backends)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from nicrt import _core

from ..bundle import StoredGraph
from ..errors import InternalError, UnsupportedError
from ..manifest import Graph
from .base import Array, OtherKindError
from .onnxruntime_library import has_onnxruntime


class _NativeGraph:
    def __init__(self, core: _core.NativeGraph, ports: list[str], threads: int) -> None:
        self._core, self._ports, self._threads = core, ports, threads
        self.workspace_bytes_per_pixel = core.workspace_bytes_per_pixel

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        arrays = {name: np.ascontiguousarray(inputs[name]) for name in self._ports}
        try:
            return self._core.run(arrays, outputs, self._threads)
        except ValueError as error:  # the caller has checked the inputs against the graph's ports
            raise InternalError(f"the native backend failed: {error}") from error


class NativeCpu:
    """threads: of one graph; results do not depend on them. arithmetic, isa: of chains and of networks of integers,
    "best" or one of `_core.arithmetics()` and `_core.integer_isas()`."""

    name = "native"

    def __init__(self, threads: int, arithmetic: str = "best", isa: str = "best") -> None:
        self._threads, self._arithmetic, self._isa = threads, arithmetic, isa

    def load(self, stored: StoredGraph) -> _NativeGraph:
        if stored.entry.native is None:
            raise OtherKindError("it has no native form")
        weights = stored.weights()  # raises BadPartError: no other form makes up for it
        try:
            core = _core.NativeGraph(
                _kernels_entry(stored.entry), weights, self._arithmetic, self._isa, has_onnxruntime()
            )
        except UnsupportedError as error:
            raise OtherKindError(str(error)) from None
        return _NativeGraph(core, list(stored.entry.inputs), self._threads)

    def identity(self) -> str:
        best = f"{_core.arithmetics()[-1]} {_core.integer_isas()[-1]}"
        return f"native {_core.build_id} {best} {self._arithmetic} {self._isa}"


def _kernels_entry(graph: Graph) -> bytes:
    """What kernels are made from: whether a graph is exact is for proofs to say."""
    return msgspec.json.encode(msgspec.structs.replace(graph, exact=False, proofs=[]))

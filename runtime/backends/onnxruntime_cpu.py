"""ONNX Runtime on the CPU."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import InternalError, LimitError, NicrtError, UnsupportedError, one_line
from ..manifest import Graph
from .base import Array
from .onnxruntime_library import import_onnxruntime

OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate memory", "BFCArena")
OPTIMIZATION_LEVELS = ("disabled", "basic", "extended", "layout", "all")


class Session:
    workspace_bytes_per_pixel: float | None = None

    def __init__(self, session: object) -> None:
        self._session = session

    def providers(self) -> list[str]:
        """ONNX Runtime's names of what runs it, in its order of preference."""
        return list(self._session.get_providers())  # type: ignore[attr-defined]

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        try:
            return self._session.run(outputs, dict(inputs))  # type: ignore[attr-defined,no-any-return]
        except Exception as error:  # ONNX Runtime raises many unrelated types
            raise failure(error) from error


class OnnxRuntimeCpu:
    """threads: of one graph. optimization: one of OPTIMIZATION_LEVELS; symbols are the same at each, which the tests
    show.
    """

    name = "onnxruntime"

    def __init__(self, threads: int, optimization: str = "all") -> None:
        onnxruntime = import_onnxruntime()
        self._library = onnxruntime
        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = {
            "disabled": levels.ORT_DISABLE_ALL,
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "layout": levels.ORT_ENABLE_LAYOUT,
            "all": levels.ORT_ENABLE_ALL,
        }[optimization]
        # never its own format, which the same bytes could be in as well
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # spinning threads steal the core from the entropy coder, and from other jobs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options = options
        self._optimization = optimization

    def load(self, graph: Graph, data: bytes) -> Session:
        providers = self._providers(graph)
        try:
            session = self._library.InferenceSession(data, self._options, providers=providers)
        except Exception as error:
            raise UnsupportedError(f"ONNX Runtime cannot load it: {one_line(error)}") from error
        inputs, outputs = ({port.name for port in ports} for ports in (session.get_inputs(), session.get_outputs()))
        if inputs != set(graph.inputs) or outputs != set(graph.outputs):
            raise UnsupportedError("the ports of the ONNX model are not those of the manifest")
        return Session(session)

    def _providers(self, graph: Graph) -> list[Any]:
        return ["CPUExecutionProvider"]

    def identity(self) -> str:
        return f"onnxruntime {self._library.__version__} cpu {self._optimization} {processor()}"


@lru_cache(1)
def processor() -> str:
    """Model and features of the processor: a library picks its kernels by them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    keep = ("model name", "flags", "Features", "CPU part")
    return "; ".join(dict.fromkeys(line for line in lines if line.startswith(keep)))


def failure(error: Exception) -> NicrtError:
    """What a failed run is for the caller. ONNX Runtime says in words alone that memory ran out."""
    text = one_line(error)
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return LimitError("not enough memory on this machine for ONNX Runtime to run a graph of this picture")
    return InternalError(f"ONNX Runtime failed: {text}")

"""ONNX Runtime on the CPU."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from ..bundle import StoredGraph
from ..errors import InternalError, LimitError, NicrtError, UnsupportedError, one_line
from .allowance import Allowance, stopped_after
from .base import Array, OtherKindError
from .onnxruntime_arena import FULL, Turns, own_arena
from .onnxruntime_library import import_onnxruntime

TOO_LARGE = ("would require more than", "Integer overflow")  # for any arena
OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate memory", "BFCArena")
MAX_FOLDED_BYTES = 16 << 20
"""Of one constant that ONNX Runtime computes when it loads a model. All together are bounded by what the core lets a
model have (`kMaxFoldedBytes`), which counts this much where it knows no size."""
_FOLDING_LIMIT = "optimization.constant_folding_max_output_size_in_bytes"
STORED_BYTES_FACTOR = 8  # of memory for a model's own bytes: int8 becomes float32, and is packed once more
_SPARE_BYTES = 16 << 20  # of what is taken in blocks
OPTIMIZATION_LEVELS = ("disabled", "basic", "extended", "layout", "all")


class Session:
    """session: an onnxruntime.InferenceSession. run_options: makes onnxruntime.RunOptions."""

    workspace_bytes_per_pixel: float | None = None

    def __init__(self, session: object, allowance: Allowance, run_options: Callable[[], Any]) -> None:
        self._session = session
        self._allowance = allowance
        self._run_options = run_options
        self._turns = Turns()

    def providers(self) -> list[str]:
        """ONNX Runtime's names of what runs it, in its order of preference."""
        return list(self._session.get_providers())  # type: ignore[attr-defined]

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        return self._run(inputs, outputs, None)

    def run_within(self, seconds: float, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        """The same, but OverLimitError after so many seconds, as soon as the operator that is running has ended."""
        options = self._run_options()
        with stopped_after(seconds, lambda: setattr(options, "terminate", True)) as late:
            try:
                return self._run(inputs, outputs, options)
            except InternalError:
                if late.is_set():
                    raise self._allowance.too_long() from None
                raise

    def _run(self, inputs: Mapping[str, Array], outputs: list[str], options: Any) -> list[Array]:
        session: Any = self._session
        try:
            return self._turns.run(lambda: session.run(outputs, dict(inputs), options), lambda e: FULL in str(e))
        except Exception as error:  # ONNX Runtime raises many unrelated types
            raise failure(error, self._allowance) from error


class OnnxRuntimeCpu:
    """threads: of one graph. optimization: one of OPTIMIZATION_LEVELS; symbols are the same at each, which the tests
    show. The library is imported when the first graph is loaded: a bundle whose graphs run elsewhere needs none.
    allowance: of the bundle whose graphs are loaded.
    """

    name = "onnxruntime"

    def __init__(self, threads: int, optimization: str = "all", allowance: Allowance | None = None) -> None:
        self._threads = threads
        self._optimization = optimization
        self._allowance = allowance or Allowance()

    @cached_property
    def _library(self) -> Any:
        return import_onnxruntime()

    @cached_property
    def _options(self) -> Any:
        levels = self._library.GraphOptimizationLevel
        options = self._library.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = {
            "disabled": levels.ORT_DISABLE_ALL,
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "layout": levels.ORT_ENABLE_LAYOUT,
            "all": levels.ORT_ENABLE_ALL,
        }[self._optimization]
        # never its own format, which the same bytes could be in as well
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.add_session_config_entry(_FOLDING_LIMIT, str(MAX_FOLDED_BYTES))
        # spinning threads steal the core from the entropy coder, and from other jobs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    def load(self, stored: StoredGraph) -> Session:
        graph = stored.entry
        if graph.onnx is None:
            raise OtherKindError("it has no ONNX form")
        session = self._open(stored.onnx(), self._providers(stored))
        inputs, outputs = ({port.name for port in ports} for ports in (session.get_inputs(), session.get_outputs()))
        if inputs != set(graph.inputs) or outputs != set(graph.outputs):
            raise UnsupportedError("the ports of the ONNX model are not those of the manifest")
        return Session(session, self._allowance, self._library.RunOptions)

    def _open(self, data: bytes, providers: list[Any]) -> Any:
        """An InferenceSession within the allowance."""
        arena_bytes = self._allowance.memory_bytes + STORED_BYTES_FACTOR * len(data) + _SPARE_BYTES
        with own_arena(self._library, self._options, arena_bytes):
            self._cancel(False)  # before the clock runs: a late one would take back what the clock has called for
            with stopped_after(self._allowance.left_s(), lambda: self._cancel(True)) as late:
                try:
                    return self._library.InferenceSession(data, self._options, providers=providers)
                except Exception as error:
                    if late.is_set():
                        raise self._allowance.too_long() from None
                    if any(words in str(error) for words in OUT_OF_MEMORY):
                        raise failure(error, self._allowance) from error
                    raise UnsupportedError(f"ONNX Runtime cannot load it: {one_line(error)}") from error

    def _cancel(self, wanted: bool) -> None:
        """Have ONNX Runtime give up what it loads, at the end of the step that it is in."""
        if hasattr(self._options, "set_load_cancellation_flag"):  # not in old versions
            self._options.set_load_cancellation_flag(wanted)

    def _providers(self, stored: StoredGraph) -> list[Any]:
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


def failure(error: Exception, allowance: Allowance) -> NicrtError:
    """What a failed run is for the caller. ONNX Runtime says in words alone that memory ran out."""
    text = one_line(error)
    if any(words in str(error) for words in (FULL, *TOO_LARGE)):
        return allowance.too_large()
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return LimitError("not enough memory on this machine for ONNX Runtime to run a graph of this picture")
    return InternalError(f"ONNX Runtime failed: {text}")

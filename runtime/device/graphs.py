"""A bundle's graphs on a device's buffers, by ONNX Runtime's IO binding."""

from __future__ import annotations

import ctypes
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ..backends.allowance import Allowance
from ..backends.base import Executable
from ..backends.onnxruntime_cpu import OnnxRuntimeCpu, Session, failure
from ..bundle import StoredGraph
from ..errors import UnsupportedError
from ..manifest import Graph
from ..whole_files import scratch_folder
from .devices import CUDA, Device
from .options import CONV_SEARCHES

if TYPE_CHECKING:
    from nicrt._device_host import Buffer, Queue

CUDA_PROVIDER = "CUDAExecutionProvider"
CAPTURING = threading.Lock()
"""Held while a stream is captured, and while a session is made: that waits for the whole device, which CUDA refuses as
long as any stream is captured."""
REPLAYABLE = frozenset([
    "Abs", "Add", "Cast", "Clip", "Conv", "ConvTranspose", "DepthToSpace", "Div", "Exp", "Floor", "Gather",
    "LeakyRelu", "Less", "MatMul", "Max", "Min", "Mul", "Neg", "Pow", "Relu", "Reshape", "Round", "Slice", "Sqrt",
    "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
])  # fmt: skip
"""Operators whose work on a GPU can be captured. Others (Concat, Split) bring small arrays by page-locked memory that a
callback on the stream frees, which a replay would free again (microsoft/onnxruntime, pull request 32081); FusedConv
clears its output on the default stream, where no capture sees it."""


@runtime_checkable
class DeviceExecutable(Executable, Protocol):
    """A graph that also runs on buffers of a device."""

    capturable: bool
    """Whether its work only queues on the stream, so that a captured graph can hold it."""

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[[], None]:
        """What runs the graph on these buffers (by port; they must stay), on the decoder's queue. All of the outputs
        need not be asked for. Raises InternalError when it fails, LimitError for want of memory.
        """
        ...


@dataclass(frozen=True)
class GraphOptions:
    """How the CUDA provider runs graphs. conv_search: one of CONV_SEARCHES, ONNX Runtime's `cudnn_conv_algo_search`,
    for float graphs and for exact ones. tf32: whether float graphs may round their products' factors to 10 bits;
    exact graphs never do. mixed: let operators that the provider does not have run on the CPU, with copies between.
    """

    conv_search: str = "exhaustive"
    exact_conv_search: str = "default"
    tf32: bool = False
    mixed: bool = False

    def __post_init__(self) -> None:
        for search in (self.conv_search, self.exact_conv_search):
            if search not in CONV_SEARCHES:
                raise ValueError(f"a search is one of {', '.join(CONV_SEARCHES)}, not {search!r}")

    def provider(self, graph: Graph) -> dict[str, str]:
        """ONNX Runtime's options for a graph."""
        search = self.exact_conv_search if graph.exact else self.conv_search
        return {"cudnn_conv_algo_search": search.upper(), "use_tf32": str(int(self.tf32 and not graph.exact))}


class _BoundSession(Session):
    """alone: all of its work only queues on the stream."""

    def __init__(
        self,
        session: Any,
        run_options: Any,
        device: Device,
        queue: Queue,
        allowance: Allowance,
        *,
        alone: bool,
        capturable: bool,
    ) -> None:
        super().__init__(session, allowance, lambda: run_options)
        self._bound_options = run_options
        self._device = device
        self._queue = queue
        self._alone = alone
        self.capturable = capturable

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[[], None]:
        session: Any = self._session
        binding = session.io_binding()
        self._bind(binding.bind_input, inputs)
        self._bind(binding.bind_output, outputs)

        def run() -> None:
            if not self._alone:  # it copies what it wants on the host when that is bound: it has to be there
                self._queue.synchronize()
                self._bind(binding.bind_input, inputs)
            try:
                session.run_with_iobinding(binding, self._bound_options)
            except Exception as error:  # ONNX Runtime raises many unrelated types
                raise failure(error, self._allowance) from error

        return run

    def _bind(self, bind: Callable[..., None], buffers: Mapping[str, Buffer]) -> None:
        kind = "cuda" if self._device.kind == CUDA else "cpu"
        for port, buffer in buffers.items():
            bind(port, kind, self._device.index, np.dtype(buffer.dtype), buffer.shape, buffer.pointer)


class OnnxRuntimeDevice(OnnxRuntimeCpu):
    """ONNX Runtime with its work on `queue`: the CUDA provider, or for the host device the CPU's."""

    def __init__(
        self, device: Device, queue: Queue, options: GraphOptions, threads: int, allowance: Allowance | None = None
    ) -> None:
        super().__init__(threads, allowance=allowance)
        self._device = device
        self._on_gpu = device.kind == CUDA
        self._queue = queue
        self._provider_options = options
        if not self._on_gpu:
            return
        self.name = "onnxruntime-cuda" + "-mixed" * options.mixed
        if hasattr(self._library, "preload_dlls"):  # finds CUDA and cuDNN among the installed wheels
            self._library.preload_dlls()
        if CUDA_PROVIDER not in self._library.get_available_providers():
            raise UnsupportedError(
                "ONNX Runtime has no CUDA provider here: pip uninstall onnxruntime, then pip install 'nicrt[gpu]' (or "
                "onnxruntime-gpu)"
            )
        self._cudnn = cudnn_version()
        self._options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")

    def load(self, stored: StoredGraph) -> _BoundSession:
        """Raises UnsupportedError also when some of it would run on the CPU, unless `mixed`."""
        if not self._on_gpu:
            return self._bound(super().load(stored), alone=True, capturable=False)
        if self._cudnn is None:  # ONNX Runtime starts without it, and fails when a convolution runs
            raise UnsupportedError("there is no cuDNN 9: pip install nvidia-cudnn-cu13 (-cu12 for CUDA 12)")
        with scratch_folder(Path(tempfile.gettempdir())) as folder, CAPTURING:
            optimised = folder / "optimised.onnx"
            self._options.optimized_model_filepath = str(optimised)
            session = super().load(stored)
            if CUDA_PROVIDER not in session.providers():
                raise UnsupportedError("ONNX Runtime could not start its CUDA provider: are CUDA and cuDNN installed?")
            reason = why_not_alone(session._session, optimised.read_bytes() if optimised.exists() else None)
        if reason is not None and not self._provider_options.mixed:
            raise UnsupportedError(reason)
        alone = reason is None
        return self._bound(session, alone=alone, capturable=alone and operators(session._session, True) <= REPLAYABLE)

    def _bound(self, session: Session, *, alone: bool, capturable: bool) -> _BoundSession:
        run_options = self._library.RunOptions()
        if self._on_gpu and alone:  # the stream keeps the order; the decoder waits once, at the end
            run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return _BoundSession(
            session._session,
            run_options,
            self._device,
            self._queue,
            self._allowance,
            alone=alone,
            capturable=capturable,
        )

    def _providers(self, stored: StoredGraph) -> list[Any]:
        if not self._on_gpu:
            return super()._providers(stored)
        own = {"device_id": str(self._device.index), "user_compute_stream": str(self._queue.handle)}
        return [(CUDA_PROVIDER, {**own, **self._provider_options.provider(stored.entry)}), "CPUExecutionProvider"]

    def identity(self) -> str:
        if not self._on_gpu:
            return super().identity()
        versions = f"{self._library.__version__} cuDNN {self._cudnn}"
        return f"onnxruntime {versions} {self._device.name} {self._provider_options}"


def cudnn_version() -> int | None:
    """91002 for 9.10.2; None where ONNX Runtime would not find it either."""
    try:
        library = ctypes.CDLL("cudnn64_9.dll" if sys.platform == "win32" else "libcudnn.so.9")
    except OSError:
        return None
    return int(library.cudnnGetVersion())


def why_not_alone(session: Any, optimised: bytes | None) -> str | None:
    """Why a session of the CUDA provider is more than work on a stream; None where it is nothing else.

    Operators on the CPU alone do no harm: ONNX Runtime puts there what computes shapes, which are fixed. Copies between
    the two do: those that stand in the optimised model as nodes of their own, and those of inputs and outputs that it
    wants in the CPU's memory.
    """
    try:
        memories = [*session.get_input_memory_infos(), *session.get_output_memory_infos()]
        on_cpu = operators(session, on_gpu=False)
    except AttributeError:
        return "this ONNX Runtime does not say where its operators run: install a later one"
    copies = optimised is None or b"MemcpyToHost" in optimised or b"MemcpyFromHost" in optimised
    if copies or any(memory.name != "Cuda" for memory in memories):
        return f"ONNX Runtime runs some of its operators on the CPU: {', '.join(sorted(on_cpu)) or 'copies'}"
    return None


def operators(session: Any, on_gpu: bool) -> set[str]:
    """Types of the operators that run on the GPU, or on the CPU."""
    parts = session.get_provider_graph_assignment_info()
    return {node.op_type for part in parts if (part.ep_name == CUDA_PROVIDER) == on_gpu for node in part.get_nodes()}

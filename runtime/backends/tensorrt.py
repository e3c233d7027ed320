"""TensorRT on an NVIDIA GPU: runs the engines that `nicrt build` made, and never builds any itself.

Building has been done and tested with `tensorrt_rtx` on machines without a GPU. **Running has not**: what is in this
file follows the library's documentation and has been tested against a stand-in for its objects only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import StoredGraph
from ..errors import InternalError, LimitError, UnsupportedError
from ..manifest import Graph
from ..profiles import Profile, Shape
from .accuracy import check_against_cpu
from .base import Array
from .tensorrt_build import key_of
from .tensorrt_engines import engines_folder, find_engines, read_engine
from .tensorrt_library import library, usable_gpu


class Engine:
    """One engine on the device, with its execution context. loaded: TensorRT's ICudaEngine. device: the module of CUDA
    buffers."""

    def __init__(self, graph: Graph, profile: Profile, loaded: Any, device: Any, queue: Any) -> None:
        self._graph = graph
        self._profile = profile
        self._context = loaded.create_execution_context()
        if self._context is None:
            raise UnsupportedError("TensorRT has no memory for it on this GPU")
        self._device = device
        self._queue = queue
        # Inputs that are shapes are read from host memory when the run is queued.
        self.on_host = {name for name in graph.inputs if loaded.is_shape_inference_io(name)}

    def covers(self, shapes: Mapping[str, Shape]) -> bool:
        return self._profile.covers(self._graph, shapes)

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        """Upload, run, download."""
        held: dict[str, Any] = {}  # addresses stay good until the queue is done
        for name, port in self._graph.inputs.items():
            array = np.ascontiguousarray(inputs[name])
            if name in self.on_host:
                held[name] = array
                continue
            held[name] = self._device.Buffer(array.shape, port.dtype, self._queue)
            held[name].upload(array)
        results = self._start(held, {})
        return [results[name].download() for name in outputs]

    def bind(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Callable[[], None]:
        """What queues a run on buffers of the device, by port."""
        spare: dict[str, Any] = {}  # outputs that nobody asked for need a place too

        def queue() -> None:
            spare.update(self._start(inputs, {**spare, **outputs}))

        return queue

    def _start(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Queue a run; the buffers of all outputs, made where they are missing."""
        for name, tensor in inputs.items():
            if name in self.on_host:
                self._address(name, tensor.ctypes.data)
                continue
            if not self._context.set_input_shape(name, tensor.shape):
                raise InternalError(f"TensorRT refuses the shape {tensor.shape} of {name!r}")
            self._address(name, tensor.pointer)
        missing = self._context.infer_shapes()
        if missing:
            raise InternalError(f"TensorRT cannot tell the shapes behind {', '.join(missing)}")
        results = dict(outputs)
        for name, port in self._graph.outputs.items():
            shape = tuple(self._context.get_tensor_shape(name))
            if name not in results:
                results[name] = self._device.Buffer(shape, port.dtype, self._queue)
            if tuple(results[name].shape) != shape:
                raise InternalError(f"TensorRT makes {shape} of {name!r}, not {results[name].shape}")
            self._address(name, results[name].pointer)
        if not self._context.execute_async_v3(self._queue.handle):
            raise InternalError("TensorRT could not queue the run")
        return results

    def _address(self, name: str, pointer: int) -> None:
        if not self._context.set_tensor_address(name, pointer):
            raise InternalError(f"TensorRT refuses the address of {name!r}")


class Engines:
    """All engines of one graph; a run takes the first that its shapes lie inside. One run at a time."""

    workspace_bytes_per_pixel: float | None = None

    def __init__(self, engines: list[Engine], errors: Callable[[], str]) -> None:
        self._engines = engines
        self._errors = errors
        self._lock = threading.Lock()
        self.capturable = not engines[0].on_host

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        engine = self._engine(inputs)
        with self._lock, self._explained():
            return engine.run(inputs, outputs)

    def bind(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Callable[[], None]:
        """What queues a run on buffers of the device (by port; they must stay), on the queue that the backend was made
        with."""
        engine = self._engine(inputs)
        if engine.on_host:
            raise InternalError(f"TensorRT takes {', '.join(sorted(engine.on_host))} from host memory")
        start = engine.bind(inputs, outputs)

        def explained() -> None:
            with self._lock, self._explained():
                start()

        return explained

    def _engine(self, inputs: Mapping[str, Any]) -> Engine:
        shapes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
        engine = next((engine for engine in self._engines if engine.covers(shapes)), None)
        if engine is None:
            listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise LimitError(
                f"no TensorRT engine is built for {listed}: nicrt build with larger --max-shapes or --batch"
            )
        return engine

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Adds what the library complained about."""
        try:
            yield
        except InternalError as error:
            raise InternalError(f"{error} ({self._errors()})") from error


class TensorRt:
    """folder: where the engines are. queue: of the device, on which everything runs. Raises UnsupportedError without
    the library or a usable GPU."""

    name = "tensorrt"

    def __init__(self, folder: Path | None = None, queue: Any = None) -> None:
        self._folder = folder or engines_folder()
        self._library = library()
        self._gpu = usable_gpu(self._library)
        self._device = import_module("nicrt._device_cuda")
        self._queue = queue or self._device.Queue()
        self._runtime = self._library.module.Runtime(self._library.log)

    def load(self, stored: StoredGraph) -> Engines:
        """The graph's engines, largest first. A float graph has to pass the gate; exact ones are proven by who asks."""
        graph, key = stored.entry, key_of(stored, self._library)
        found = list(find_engines(self._folder, stored.name, key))
        found.sort(key=lambda entry: sum(most for _, _, most in entry[1].symbols.values()), reverse=True)
        engines = [
            Engine(graph, profile, self._loaded(read_engine(path, key)), self._device, self._queue)
            for path, profile in found
        ]
        executable = Engines(engines, self._library.errors)
        if not graph.exact:
            check_against_cpu(stored, executable, found[0][1])
        return executable

    def _loaded(self, engine: bytes) -> Any:
        loaded = self._runtime.deserialize_cuda_engine(engine)
        if loaded is None:
            raise UnsupportedError(f"TensorRT cannot load its engine: {self._library.errors()}")
        return loaded

    def identity(self) -> str:
        return f"{self._library} {self._gpu}"

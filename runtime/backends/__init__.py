"""Graph backends: who runs a bundle's graphs, in which order of preference, and how an exact graph earns its place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from nicrt import _core

from ..bundle import Bundle
from ..errors import UnsupportedError
from ..limits import DEFAULT_LIMITS, Limits
from .allowance import Allowance
from .base import Backend, Executable
from .onnxruntime_library import has_onnxruntime
from .proving import prove

AUTO = "auto"


def _native(bundle: Bundle, threads: int, allowance: Allowance) -> _core.NativeBackend:
    return _core.NativeBackend(beside_onnxruntime=has_onnxruntime())


def _onnxruntime(bundle: Bundle, threads: int, allowance: Allowance) -> Backend:
    from .onnxruntime_cpu import OnnxRuntimeCpu

    return OnnxRuntimeCpu(threads, allowance=allowance)


def _tensorrt(bundle: Bundle, threads: int, allowance: Allowance) -> Backend:
    from .tensorrt import TensorRt

    return TensorRt()


def _onnxruntime_tensorrt(bundle: Bundle, threads: int, allowance: Allowance) -> Backend:
    from ..profiles import DEFAULT_PICTURES, profiles
    from .onnxruntime_tensorrt import OnnxRuntimeTensorRt

    found = profiles(bundle, DEFAULT_PICTURES, encoding=True)
    return OnnxRuntimeTensorRt(threads, found, allowance)


# Each is tried for each graph; what cannot load it or fails its proofs is passed over.
_BACKENDS: dict[str, Callable[[Bundle, int, Allowance], Backend | _core.NativeBackend]] = {
    "native": _native,
    "onnxruntime": _onnxruntime,
    "tensorrt": _tensorrt,
    "onnxruntime-tensorrt": _onnxruntime_tensorrt,
}
_PREFERRED = ("native", "onnxruntime")  # by "auto", behind what `_built` finds
_GENERAL = "onnxruntime"  # also runs what a chosen backend passes on


def backend_names() -> list[str]:
    """Names that `load` takes as `backend`; "auto" tries them in order."""
    return [AUTO, *_BACKENDS]


def _built(bundle: Bundle, threads: int, allowance: Allowance) -> list[Backend]:
    """TensorRT, where engines of this bundle have been built and a GPU can run them."""
    from .tensorrt_engines import engines_folder, has_engines

    try:
        if has_engines(engines_folder(), bundle.manifest.onnx_hashes):
            return [_tensorrt(bundle, threads, allowance)]
    except UnsupportedError:
        pass
    return []


class _Callbacks:
    """A backend of Python, as the core calls it."""

    def __init__(self, backend: Backend, bundle: Bundle, allowance: Allowance) -> None:
        self.name, self.identity = backend.name, backend.identity
        self._backend, self._bundle, self._allowance = backend, bundle, allowance

    def load(self, name: str) -> Executable:
        """The graph, ready to run. Raises as `Backend.load` does, LimitError when loading and proving it takes more
        than it may."""
        with self._allowance.loading():
            stored = self._bundle.graph(name)
            executable = self._backend.load(stored)
            if stored.entry.exact:
                prove(stored, executable, self._backend.identity(), self._allowance)
            return executable


class GraphSet:
    """The graphs of one bundle, loaded when first run. Safe to use from many threads. engine: what runs programs with
    them; threads: of its coder and kernels."""

    def __init__(
        self,
        bundle: Bundle,
        backends: Sequence[Backend | _core.NativeBackend],
        allowance: Allowance | None = None,
        threads: int = 1,
    ) -> None:
        self.allowance = allowance or Allowance()
        self.engine = _core.Engine(
            bundle.core,
            [b if isinstance(b, _core.NativeBackend) else _Callbacks(b, bundle, self.allowance) for b in backends],
            threads=threads,
            memory_bytes=self.allowance.memory_bytes,
            load_seconds=self.allowance.load_s,
        )

    @classmethod
    def open(cls, bundle: Bundle, backend: str, threads: int, limits: Limits = DEFAULT_LIMITS) -> GraphSet:
        """backend: "auto" or a name of `backend_names()`. Raises ValueError for another name."""
        allowance = Allowance(limits)
        if backend != AUTO and backend not in _BACKENDS:
            raise ValueError(f"unknown backend {backend!r}; there are: {', '.join(backend_names())}")
        names = _PREFERRED if backend == AUTO else dict.fromkeys([backend, _GENERAL])
        backends = [_BACKENDS[name](bundle, threads, allowance) for name in names]
        built = _built(bundle, threads, allowance) if backend == AUTO else []
        return cls(bundle, [*built, *backends], allowance, threads)

    def get(self, name: str) -> Executable:
        """What a backend of Python's has loaded of the graph; None where the core runs it. Raises UnsupportedError when
        no backend can be trusted with it, LimitError when loading and proving it takes more than it may.
        """
        executable: Executable = self.engine.graph(name)
        return executable

    def workspace(self, name: str) -> float:
        """Bytes per pixel that the graph needs besides its inputs and outputs, on the backend that runs it. Raises as
        `get` does.
        """
        return self.engine.workspace(name)

    @property
    def refusals(self) -> dict[str, list[str]]:
        """Graph → why preferred backends were passed over, for the graphs loaded so far."""
        return {graph: reasons for graph, _, reasons, _, _ in self.engine.report() if reasons}

    def fallbacks_of(self, names: Collection[str]) -> dict[str, list[str]]:
        """Those of these graphs that a less preferred backend runs → why. Loads them: what runs a graph, and not what
        was run before, decides. Raises as `get` does.
        """
        for name in names:
            self.get(name)
        refusals = self.refusals
        return {name: refusals[name] for name in names if name in refusals}

    def report(self) -> dict[str, str]:
        """Graph → backend that runs it, for the graphs loaded so far."""
        return {graph: backend for graph, backend, *_ in self.engine.report()}


__all__ = ["AUTO", "Backend", "Executable", "GraphSet", "backend_names"]

"""Graph backends: who runs a bundle's graphs, in which order of preference, and how an exact graph earns its place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from ..bundle import BadPartError, Bundle
from ..errors import UnsupportedError
from ..limits import DEFAULT_LIMITS, Limits
from .allowance import Allowance
from .base import Backend, Executable, OtherKindError
from .proving import prove

AUTO = "auto"


def _native(bundle: Bundle, threads: int, allowance: Allowance) -> Backend:
    from .native import NativeCpu

    return NativeCpu(threads)


def _onnxruntime(bundle: Bundle, threads: int, allowance: Allowance) -> Backend:
    from .onnxruntime_cpu import OnnxRuntimeCpu

    return OnnxRuntimeCpu(threads, allowance=allowance)


def _tensorrt(bundle: Bundle, threads: int, allowance: Allowance) -> Backend:
    from .tensorrt import TensorRt

    return TensorRt()


def _onnxruntime_tensorrt(bundle: Bundle, threads: int, allowance: Allowance) -> Backend:
    from ..profiles import DEFAULT_PICTURES, profiles
    from .onnxruntime_tensorrt import OnnxRuntimeTensorRt

    found = profiles(bundle.manifest, DEFAULT_PICTURES, encoding=True)
    return OnnxRuntimeTensorRt(threads, found, allowance)


# Each is tried for each graph; what cannot load it or fails its proofs is passed over.
_BACKENDS: dict[str, Callable[[Bundle, int, Allowance], Backend]] = {
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
    """TensorRT, where plans of this bundle have been built and a GPU can run them."""
    from .tensorrt_plans import has_plans, plans_folder

    try:
        if has_plans(plans_folder(), bundle.manifest.onnx_hashes):
            return [_tensorrt(bundle, threads, allowance)]
    except UnsupportedError:
        pass
    return []


class GraphSet:
    """The graphs of one bundle, loaded when first run. Safe to use from many threads."""

    def __init__(self, bundle: Bundle, backends: list[Backend], allowance: Allowance | None = None) -> None:
        self.allowance = allowance or Allowance()
        self._bundle = bundle
        self._backends = backends
        self._loaded: dict[str, tuple[Executable, str]] = {}
        self._locks = {name: threading.Lock() for name in bundle.manifest.graphs}
        self.refusals: dict[str, list[str]] = {}

    @classmethod
    def open(cls, bundle: Bundle, backend: str, threads: int, limits: Limits = DEFAULT_LIMITS) -> GraphSet:
        """backend: "auto" or a name of `backend_names()`. Raises ValueError for another name."""
        allowance = Allowance(limits)
        if backend != AUTO and backend not in _BACKENDS:
            raise ValueError(f"unknown backend {backend!r}; there are: {', '.join(backend_names())}")
        names = _PREFERRED if backend == AUTO else dict.fromkeys([backend, _GENERAL])
        backends = [_BACKENDS[name](bundle, threads, allowance) for name in names]
        built = _built(bundle, threads, allowance) if backend == AUTO else []
        return cls(bundle, [*built, *backends], allowance)

    def get(self, name: str) -> Executable:
        """The graph, ready to run. Raises UnsupportedError when no backend can be trusted with it, LimitError when
        loading and proving it takes more than it may.
        """
        with self._locks[name]:
            if name not in self._loaded:
                with self.allowance.loading():
                    self._loaded[name] = self._load(name)
            return self._loaded[name][0]

    def workspace(self, name: str) -> float:
        """Bytes per pixel that the graph needs besides its inputs and outputs, on the backend that runs it. Raises as
        `get` does.
        """
        own = self.get(name).workspace_bytes_per_pixel
        return own if own is not None else self._bundle.manifest.graphs[name].workspace_bytes_per_pixel or 0.0

    def fallbacks_of(self, names: Collection[str]) -> dict[str, list[str]]:
        """Those of these graphs that a less preferred backend runs → why. Loads them: what runs a graph, and not what
        was run before, decides. Raises as `get` does.
        """
        for name in names:
            self.get(name)
        return {name: self.refusals[name] for name in names if name in self.refusals}

    def report(self) -> dict[str, str]:
        """Graph → backend that runs it, for the graphs loaded so far."""
        return {name: backend for name, (_, backend) in self._loaded.items()}

    def _load(self, name: str) -> tuple[Executable, str]:
        stored = self._bundle.graph(name)
        refusals, others = [], []
        for backend in self._backends:
            try:
                executable = backend.load(stored)
                if stored.entry.exact:
                    prove(stored, executable, backend.identity(), self.allowance)
            except BadPartError:  # no other form makes up for it
                raise
            except OtherKindError as error:
                others.append(f"{backend.name}: {error}")
                continue
            except UnsupportedError as error:
                refusals.append(f"{backend.name}: {error}")
                continue
            if refusals:
                self.refusals[name] = refusals
            return executable, backend.name
        raise UnsupportedError(f"no backend can run graph {name!r} of this bundle: {'; '.join([*others, *refusals])}")


__all__ = ["AUTO", "Backend", "Executable", "GraphSet", "backend_names"]

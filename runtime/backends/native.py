"""Our own kernels on the CPU, for graphs that are a chain of transposed convolutions (`chain_graph`).

On a processor with AVX512_BF16 the first layer's products are of bfloat16 values, added in float32; the pixels stay
within one grey level of float32's. Exact graphs are refused: they are for libraries that multiply in float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nicrt import _core

from ..errors import InternalError, LimitError, UnsupportedError
from ..manifest import Graph, Port
from ..onnx_graph import OnnxGraph, read_graph
from .base import Array, OtherKindError
from .chain_graph import Affine, Integers, affine, identity, prologue, recognise

SLOW = "scalar"  # arithmetic for tests only: any library is faster


class _ChainGraph:
    """Layers are packed once. The part before them, which depends on small inputs, is evaluated in every run."""

    def __init__(self, graph: Graph, onnx: OnnxGraph, arithmetic: str, threads: int) -> None:
        self._threads = threads
        self._output = onnx.outputs[0]
        self._tensors = {name: _tensor(name, port) for name, port in graph.inputs.items() if _is_tensor(port)}
        small = {
            name: np.zeros(_fixed(port), port.dtype) for name, port in graph.inputs.items() if not _is_tensor(port)
        }
        picture = recognise(onnx, {**self._tensors, **small})
        layers = [(la.weights, la.bias, la.strides, la.pads, la.slope) for la in picture.layers]
        self._chain = _core.Chain(layers, arithmetic)
        assert picture.limits is not None  # recognise sees to it
        self._low, self._high = picture.limits
        self._prologue = prologue(onnx, picture.latents)

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        small = {name: array for name, array in inputs.items() if name not in self._tensors}
        try:
            latents = affine(self._prologue, {**self._tensors, **small})
            terms = [(np.ascontiguousarray(inputs[name]), scale) for name, scale in latents.scales.items()]
            picture = self._chain.run(terms, latents.offset, self._low, self._high, self._threads)
        except LimitError:
            raise
        except Exception as error:  # the interpreter has checked the inputs against the graph's ports
            raise InternalError(f"the native backend failed: {error}") from error
        assert outputs == [self._output]
        return [picture]


class NativeCpu:
    """threads: of one graph; the pixels do not depend on them. arithmetic: "best" or one of `_core.arithmetics()`."""

    name = "native"

    def __init__(self, threads: int, arithmetic: str = "best") -> None:
        self._threads = threads
        self._arithmetic = _core.arithmetics()[-1] if arithmetic == "best" else arithmetic
        self._chosen = arithmetic != "best"

    def load(self, graph: Graph, data: bytes) -> _ChainGraph:
        if graph.exact:
            raise OtherKindError("it is exact, and the native kernels are not")
        if self._arithmetic == SLOW and not self._chosen:
            raise OtherKindError("this processor has no AVX2")
        try:
            return _ChainGraph(graph, read_graph(data), self._arithmetic, self._threads)
        except UnsupportedError as error:
            raise OtherKindError(str(error)) from None

    def identity(self) -> str:
        return f"native {self._arithmetic}"


def _is_tensor(port: Port) -> bool:
    return len(port.dims) == 4 and any(isinstance(extent, str) for extent in port.dims[2:])


def _tensor(name: str, port: Port) -> Integers | Affine:
    batch, channels = port.dims[:2]
    if batch != 1 or not isinstance(channels, int) or port.dtype not in ("int32", "float32"):
        raise UnsupportedError(f"port {name!r} is not int32 or float32 [1, channels, h, w]")
    return Integers(name, channels) if port.dtype == "int32" else identity(name, channels)


def _fixed(port: Port) -> list[int]:
    extents = [extent for extent in port.dims if isinstance(extent, int)]
    if len(extents) != len(port.dims) or np.prod(extents, dtype=float) > 1 << 20:
        raise UnsupportedError("an input that is neither a tensor of places nor small")
    return extents

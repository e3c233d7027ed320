"""Our own kernels on the CPU, for two kinds of graphs.

A chain of transposed convolutions (`chain_graph`): on a processor with AVX512_BF16 the products of its large layers are
of bfloat16 values, added in float32; the pixels stay within one grey level of float32's (with GDN, on Kodak, but for
one value in 200 million). An exact graph that is a network of integers (`integer_graph`) is computed in integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nicrt import _core

from ..errors import InternalError, LimitError, UnsupportedError
from ..manifest import BATCH, Graph, Port
from ..onnx_graph import OnnxGraph, read_graph
from .base import Array, OtherKindError
from .chain_graph import CHAIN_OPERATORS, Affine, Integers, affine, identity, prologue, recognise
from .integer_graph import NETWORK_OPERATORS, Rescale, Rule
from .integer_graph import recognise as recognise_integers
from .layers import Floats
from .vectors import OPERATORS

KNOWN_OPERATORS = CHAIN_OPERATORS | NETWORK_OPERATORS | set(OPERATORS)
SLOW = "scalar"  # arithmetic for tests only: any library is faster
SLOW_NORMED = "avx2"  # takes 1.0 to 1.9 times ONNX Runtime's time for a chain with GDN, AVX-512 0.6 to 1.0
BFLOAT16, FLOAT32 = "avx512_bf16", "avx512"
MAX_BFLOAT16_OFFSET = 16
"""Latents that lie around larger constants are multiplied in float32: bfloat16 would round away what they differ by,
and its weights what bias takes off again. At 110 pixels were off by 2 grey levels, at 300 by 255."""
NORMED_WORKSPACE_BYTES_PER_PIXEL = 16.0  # of a tile 512 wide; less of wider ones


class _ChainGraph:
    """Layers are packed once. The part before them, which depends on small inputs, is evaluated in every run."""

    workspace_bytes_per_pixel = 1.0  # a few rows of each layer, whatever the height

    def __init__(self, graph: Graph, onnx: OnnxGraph, arithmetic: str, threads: int) -> None:
        self._threads = threads
        self._tensors = {name: _tensor(name, port) for name, port in graph.inputs.items() if _is_tensor(port)}
        small = {
            name: np.zeros(_fixed(port), port.dtype) for name, port in graph.inputs.items() if not _is_tensor(port)
        }
        picture = recognise(onnx, {**self._tensors, **small})
        (self._output,) = onnx.outputs
        self._prologue = prologue(onnx, picture.latents)
        if arithmetic == BFLOAT16:
            offset = affine(self._prologue, {**self._tensors, **small}).offset
            arithmetic = FLOAT32 if np.abs(offset).max(initial=0) > MAX_BFLOAT16_OFFSET else arithmetic
        layers = [(la.weights, la.bias, la.strides, la.pads, la.slope, la.norm) for la in picture.layers]
        self._chain = _core.Chain(layers, arithmetic)
        assert picture.limits is not None  # recognise sees to it
        self._low, self._high = picture.limits
        self.normed = any(layer.norm is not None for layer in picture.layers)
        if self.normed:
            self.workspace_bytes_per_pixel = NORMED_WORKSPACE_BYTES_PER_PIXEL

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        small = {name: array for name, array in inputs.items() if name not in self._tensors}
        try:
            latents = affine(self._prologue, {**self._tensors, **small})
            terms = [(np.ascontiguousarray(inputs[name]), scale) for name, scale in latents.scales.items()]
            picture = self._pictures(terms, latents.offset)
        except (LimitError, MemoryError):
            raise
        except Exception as error:  # the interpreter has checked the inputs against the graph's ports
            raise InternalError(f"the native backend failed: {error}") from error
        assert outputs == [self._output]
        return [picture]

    def _pictures(self, terms: list[tuple[Array, Floats]], offset: Floats) -> Array:
        """One picture after the other: the kernels' threads share the places of one."""
        pictures = [
            self._chain.run([(t[i : i + 1], s) for t, s in terms], offset, self._low, self._high, self._threads)
            for i in range(len(terms[0][0]))
        ]
        return pictures[0] if len(pictures) == 1 else np.concatenate(pictures)


class _IntegerGraph:
    """Weights are packed once. What depends on small inputs is evaluated when they change."""

    def __init__(self, graph: Graph, onnx: OnnxGraph, isa: str, threads: int) -> None:
        self._threads = threads
        # the manifest counts float tensors, of which bytes, or pairs of them, take a quarter to a half
        self.workspace_bytes_per_pixel = 0.5 * (graph.workspace_bytes_per_pixel or 0.0)
        self._outputs = onnx.outputs
        tensors = [name for name, port in graph.inputs.items() if _is_tensor(port)]
        if len(tensors) != 1 or graph.inputs[tensors[0]].dtype != "int32":
            raise UnsupportedError("not a graph of one int32 tensor")
        (self._tensor,) = tensors
        bounds = graph.inputs[self._tensor].range
        assert bounds is not None  # required of exact graphs
        small = {name: np.zeros(_fixed(port), port.dtype) for name, port in graph.inputs.items() if name not in tensors}
        self._parts = recognise_integers(onnx, self._tensor, small, onnx.outputs)
        hidden = [(la.weights, la.strides, la.pads, la.limits) for la in self._parts.hidden]
        self._network = _core.IntegerNetwork(hidden, [(la.weights, la.pads) for la in self._parts.heads], bounds, isa)
        self._last: tuple[bytes, tuple[list[Rescale], list[Rule | None]]] | None = None

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        try:
            rescales, rules = self._vectors({n: array for n, array in inputs.items() if n != self._tensor})
            tensor = np.ascontiguousarray(inputs[self._tensor])
            results = self._network.run(tensor, rescales, rules, self._threads)
        except (LimitError, MemoryError):
            raise
        except Exception as error:
            raise InternalError(f"the native backend failed: {error}") from error
        made = dict(zip(self._outputs, results, strict=True))
        return [made[name] for name in outputs]

    def _vectors(self, small: dict[str, Array]) -> tuple[list[Rescale], list[Rule | None]]:
        key = b"".join(array.tobytes() for array in small.values())
        last = self._last  # one reference, whatever other threads put there
        if last is None or last[0] != key:
            self._last = last = key, self._parts.vectors(small)
        return last[1]


class NativeCpu:
    """threads: of one graph; results do not depend on them. arithmetic, isa: of the two kinds of graphs, "best" or one
    of `_core.arithmetics()` and `_core.integer_isas()`."""

    name = "native"

    def __init__(self, threads: int, arithmetic: str = "best", isa: str = "best") -> None:
        self._threads = threads
        self._chosen = {arithmetic, isa} != {"best"}
        self._arithmetic = _core.arithmetics()[-1] if arithmetic == "best" else arithmetic
        self._isa = _core.integer_isas()[-1] if isa == "best" else isa

    def load(self, graph: Graph, data: bytes) -> _ChainGraph | _IntegerGraph:
        if (self._isa if graph.exact else self._arithmetic) == SLOW and not self._chosen:
            raise OtherKindError("this processor has no AVX2")
        try:
            onnx = read_graph(data, KNOWN_OPERATORS)
            if graph.exact:
                return _IntegerGraph(graph, onnx, self._isa, self._threads)
            chain = _ChainGraph(graph, onnx, self._arithmetic, self._threads)
        except UnsupportedError as error:
            raise OtherKindError(str(error)) from None
        if chain.normed and self._arithmetic == SLOW_NORMED and not self._chosen:
            raise OtherKindError("this processor has no AVX-512")
        return chain

    def identity(self) -> str:
        build = Path(_core.__file__).stat()  # another build proves itself again
        return f"native {build.st_mtime_ns} {build.st_size} {self._arithmetic} {self._isa}"


def _is_tensor(port: Port) -> bool:
    return len(port.dims) == 4 and any(isinstance(extent, str) for extent in port.dims[2:])


def _tensor(name: str, port: Port) -> Integers | Affine:
    batch, channels = port.dims[:2]
    if batch not in (1, BATCH) or not isinstance(channels, int) or port.dtype not in ("int32", "float32"):
        raise UnsupportedError(f"port {name!r} is not int32 or float32 [n, channels, h, w]")
    return Integers(name, channels) if port.dtype == "int32" else identity(name, channels)


def _fixed(port: Port) -> list[int]:
    extents = [extent for extent in port.dims if isinstance(extent, int)]
    if len(extents) != len(port.dims) or np.prod(extents, dtype=float) > 1 << 20:
        raise UnsupportedError("an input that is neither a tensor of places nor small")
    return extents

"""Our own kernels on the CPU, for native forms of one operation: a chain of transposed convolutions that makes a
picture, or a network of integers.

Of a chain, on a processor with AVX512_BF16, the products of its large layers are of bfloat16 values, added in float32;
the pixels stay within one grey level of float32's (with GDN, on Kodak, but for one value in 200 million).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from nicrt import _core

from ..bundle import BadPartError, StoredGraph
from ..errors import InternalError, LimitError, UnsupportedError
from ..manifest import Graph
from ..native_form import Head, IntegerLayer, IntegerNetwork, Layer, Picture, TransposedChain
from ..native_vectors import Floats, Parameters, index_rule, rescale, vector
from .base import Array, OtherKindError
from .onnxruntime_library import has_onnxruntime

SLOW = "scalar"  # arithmetic for tests: ONNX Runtime is faster
SLOW_NORMED = "avx2"  # takes 1.0 to 1.9 times ONNX Runtime's time for a chain with GDN, AVX-512 0.6 to 1.0
BFLOAT16, FLOAT32 = "avx512_bf16", "avx512"
MAX_BFLOAT16_OFFSET = 16
"""Latents that lie around larger constants are multiplied in float32: bfloat16 would round away what they differ by,
and its weights what bias takes off again. At 110 pixels were off by 2 grey levels, at 300 by 255."""
NORMED_WORKSPACE_BYTES_PER_PIXEL = 16.0  # of a tile 512 wide; less of wider ones
MAX_BIAS = 1 << 30  # of integers

Made = TypeVar("Made")


class _PerParameters(Generic[Made]):
    """What a graph's parameters decide, kept until they change."""

    def __init__(self, graph: Graph, make: Callable[[Parameters], Made]) -> None:
        parameters = {name: port for name, port in graph.inputs.items() if port.dims == [1]}
        self._names = list(parameters)
        self._make = make
        self._last: tuple[dict[str, int], Made] | None = None
        ranges = {name: port.range or (0, 0) for name, port in parameters.items()}
        self.ends = [make({name: ends[end] for name, ends in ranges.items()}) for end in (0, 1)]
        """For the least and for the largest parameters: numbers beyond what the kernels take show here."""

    def of(self, inputs: Mapping[str, Array]) -> Made:
        parameters = {name: int(inputs[name][0]) for name in self._names}
        last = self._last  # one reference, whatever other threads put there
        if last is None or last[0] != parameters:
            self._last = last = parameters, self._make(parameters)
        return last[1]


class _ChainGraph:
    """Layers are packed once; the vectors of the sum in front of them depend on parameters."""

    workspace_bytes_per_pixel = 1.0  # a few rows of each layer, whatever the height

    def __init__(self, stored: StoredGraph, chain: TransposedChain, arithmetic: str, threads: int) -> None:
        if chain.picture is None or chain.picture.dtype != "uint8":
            raise UnsupportedError("a chain that does not make a picture of uint8")
        arrays = {name: _widened(array) for name, array in stored.weights().items()}
        channels = len(arrays[chain.layers[0].weight])

        def vectors(parameters: Parameters) -> tuple[list[Floats], Floats]:
            scales = [vector(term.scale, channels, arrays, parameters, without=1.0) for term in chain.terms]
            return scales, vector(chain.offset, channels, arrays, parameters, without=0.0)

        self._threads = threads
        self._vectors = _PerParameters(stored.entry, vectors)
        self._terms = [term.value for term in chain.terms]
        self._picture: Picture = chain.picture
        offsets = [offset for _, offset in self._vectors.ends]
        if arithmetic == BFLOAT16 and not np.abs(offsets).max() <= MAX_BFLOAT16_OFFSET:
            arithmetic = FLOAT32
        self._chain = _core.Chain([_chain_layer(layer, arrays) for layer in chain.layers], arithmetic)
        if any(layer.norm is not None for layer in chain.layers):
            self.workspace_bytes_per_pixel = NORMED_WORKSPACE_BYTES_PER_PIXEL

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        try:
            scales, offset = self._vectors.of(inputs)
            tensors = [np.ascontiguousarray(inputs[name]) for name in self._terms]
            return [self._pictures(tensors, scales, offset) for _ in outputs]
        except (LimitError, MemoryError):
            raise
        except Exception as error:  # the interpreter has checked the inputs against the graph's ports
            raise InternalError(f"the native backend failed: {error}") from error

    def _pictures(self, tensors: list[Array], scales: list[Floats], offset: Floats) -> Array:
        """One picture after the other: the kernels' threads share the places of one. A tensor of one picture is that
        of all."""
        low, high, threads = self._picture.low, self._picture.high, self._threads
        pictures = []
        for i in range(max(map(len, tensors))):
            terms = [
                _core.ChainTerm(tensor=tensor if len(tensor) == 1 else tensor[i : i + 1], scale=scale)
                for tensor, scale in zip(tensors, scales, strict=True)
            ]
            pictures.append(self._chain.run(terms, offset, low, high, threads))
        return pictures[0] if len(pictures) == 1 else np.concatenate(pictures)


def _widened(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _chain_layer(layer: Layer, arrays: Mapping[str, Array]) -> _core.ChainLayer:
    weights = arrays[layer.weight]
    return _core.ChainLayer(
        weights=weights,
        bias=np.zeros(weights.shape[1], np.float32) if layer.bias is None else arrays[layer.bias],
        stride=layer.stride,
        pad=layer.pad,
        slope=layer.slope,
        beta=None if layer.norm is None else arrays[layer.norm.beta],
        gamma=None if layer.norm is None else arrays[layer.norm.gamma],
    )


class _IntegerGraph:
    """Weights are packed once. What depends on parameters is evaluated when they change."""

    def __init__(self, stored: StoredGraph, network: IntegerNetwork, isa: str, threads: int) -> None:
        graph, arrays = stored.entry, stored.weights()
        layers: list[IntegerLayer | Head] = [*network.hidden, *network.heads]
        _check_numbers(layers, arrays)

        def vectors(parameters: Parameters) -> tuple[list[_core.Rescale], list[_core.IndexRule | None]]:
            rules = [None if h.index is None else index_rule(h.index, arrays, parameters) for h in network.heads]
            return [rescale(layer, arrays, parameters) for layer in layers], rules

        self._threads = threads
        # the manifest counts float tensors, of which bytes, or pairs of them, take a quarter to a half
        self.workspace_bytes_per_pixel = 0.5 * (graph.workspace_bytes_per_pixel or 0.0)
        self._value = network.value
        self._outputs = [head.out for head in network.heads]
        self._vectors = _PerParameters(graph, vectors)
        input_range = graph.inputs[network.value].range
        assert input_range is not None  # the validator asks for it
        self._network = _core.IntegerNetwork(
            [_network_layer(layer, arrays) for layer in network.hidden],
            [_network_head(head, arrays) for head in network.heads],
            input_range,
            isa,
        )

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        try:
            rescales, rules = self._vectors.of(inputs)
            tensor = np.ascontiguousarray(inputs[self._value])
            results = self._network.run(tensor, rescales, rules, self._threads)
        except (LimitError, MemoryError):
            raise
        except Exception as error:
            raise InternalError(f"the native backend failed: {error}") from error
        made = dict(zip(self._outputs, results, strict=True))
        return [made[name] for name in outputs]


def _network_layer(layer: IntegerLayer, arrays: Mapping[str, Array]) -> _core.NetworkLayer:
    return _core.NetworkLayer(
        weights=arrays[layer.weight], stride=layer.stride, pad=layer.pad, low=layer.low, high=layer.high
    )


def _network_head(head: Head, arrays: Mapping[str, Array]) -> _core.NetworkHead:
    if head.stride != (1, 1):
        raise UnsupportedError(f"head {head.out!r} has a stride")
    return _core.NetworkHead(weights=arrays[head.weight], pad=head.pad)


def _check_numbers(layers: list[IntegerLayer | Head], arrays: Mapping[str, Array]) -> None:
    """Biases and multipliers of all rows, whichever of them a file asks for."""
    for layer in layers:
        if np.abs(arrays[layer.bias].astype(np.int64)).max() > MAX_BIAS:
            raise UnsupportedError(f"biases {layer.bias!r} beyond 2^30")
        negative = layer.negative if isinstance(layer, IntegerLayer) else None
        for name in filter(None, (layer.multiplier, negative)):
            if not np.isfinite(arrays[name]).all():
                raise UnsupportedError(f"tensor {name!r} has values that are not numbers")


class NativeCpu:
    """threads: of one graph; results do not depend on them. arithmetic, isa: of chains and of networks of integers,
    "best" or one of `_core.arithmetics()` and `_core.integer_isas()`."""

    name = "native"

    def __init__(self, threads: int, arithmetic: str = "best", isa: str = "best") -> None:
        self._threads = threads
        self._chosen = {arithmetic, isa} != {"best"}
        self._arithmetic = _core.arithmetics()[-1] if arithmetic == "best" else arithmetic
        self._isa = _core.integer_isas()[-1] if isa == "best" else isa

    def load(self, stored: StoredGraph) -> _ChainGraph | _IntegerGraph:
        form = stored.entry.native
        if form is None:
            raise OtherKindError("it has no native form")
        try:
            match form.operations:
                case [TransposedChain() as chain]:
                    self._check_fast(stored, self._arithmetic, normed=any(layer.norm for layer in chain.layers))
                    return _ChainGraph(stored, chain, self._arithmetic, self._threads)
                case [IntegerNetwork() as network]:
                    self._check_fast(stored, self._isa, normed=False)
                    return _IntegerGraph(stored, network, self._isa, self._threads)
        except BadPartError:
            raise
        except (UnsupportedError, ValueError) as error:  # ValueError: numbers beyond what the kernels take
            raise OtherKindError(str(error)) from None
        raise OtherKindError("its native form is not one operation that there is a kernel for")

    def _check_fast(self, stored: StoredGraph, arithmetic: str, *, normed: bool) -> None:
        """Leave to ONNX Runtime what it does faster, where it is there."""
        if self._chosen or stored.entry.onnx is None or not has_onnxruntime():
            return
        if arithmetic == SLOW:
            raise OtherKindError("this processor has no AVX2")
        if normed and arithmetic == SLOW_NORMED:
            raise OtherKindError("this processor has no AVX-512")

    def identity(self) -> str:
        build = Path(_core.__file__).stat()  # another build proves itself again
        return f"native {build.st_mtime_ns} {build.st_size} {self._arithmetic} {self._isa}"

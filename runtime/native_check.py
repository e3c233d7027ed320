"""Checks of a graph's native form that its schema cannot say: names, types, channels and sizes fit, and give the ports.

Every value is followed from the input ports to the outputs with its type, channels and places; so what runs the
operations need not look again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import UnsupportedError
from .manifest import BATCH, DIMENSION, INTEGERS, Graph, Port
from .native_form import (
    Absolute,
    Affine,
    Concatenate,
    Factor,
    Head,
    IntegerLayer,
    IntegerNetwork,
    InterpolatedExponential,
    Layer,
    LogMagnitude,
    Operation,
    PadChannels,
    Quantise,
    Row,
    ScaleTable,
    SelectChannels,
    SingleOperation,
    StridedChain,
    Tanh,
    Term,
    TransposedChain,
    View,
)

VALUES = ("float32", "int32", "uint8")
FLOAT_WEIGHTS = ("float32", "float16")
MAX_SUM = 2**31 - 1
MAX_EXTENT, MAX_FACTOR = 1 << 24, 9_999_999  # of a port's dimension, which no value goes beyond
# Within these, index rules are exact in float32, so that no backend can round them in a way of its own.
MAX_OFFSET, MAX_PLACE = 1 << 16, 1 << 24
MIN_INDEX_UNIT, MIN_SCALE_UNIT = 2.0**-8, 2.0**-24


@dataclass(frozen=True)
class Value:
    """[batch, channels, rows, columns] of a type; places are multiples of the ports' symbols. picture: channels last.
    exact: made of integers alone. bound: largest magnitude of an integer, where it is known."""

    batch: int | str
    dtype: str
    channels: int
    places: tuple[tuple[Fraction, str], tuple[Fraction, str]]
    picture: bool = False
    exact: bool = False
    bound: int | None = None

    def scaled(self, factors: Sequence[Fraction]) -> Value:
        (rows, row), (columns, column) = self.places
        return replace(self, places=((rows * factors[0], row), (columns * factors[1], column)))


class _Check:
    def __init__(self, name: str, graph: Graph) -> None:
        assert graph.native is not None
        self.name, self.graph, self.form = name, graph, graph.native
        self.parameters: dict[str, Port] = {}
        self.values: dict[str, Value] = {}
        for port_name, port in graph.inputs.items():
            if port.dtype == "int32" and port.dims == [1]:
                self.parameters[port_name] = port
            else:
                self.values[port_name] = self._input(port_name, port)

    def refuse(self, message: str) -> UnsupportedError:
        return UnsupportedError(f"the bundle is not valid: the native form of graph {self.name!r}: {message}")

    def run(self) -> None:
        used: set[str] = set()
        for operation in self.form.operations:
            for out, value in self._outputs(operation, used):
                if value.channels > MAX_EXTENT:
                    raise self.refuse(f"{out!r} has more channels than any port may have")
                if out in self.values or out in self.parameters:
                    raise self.refuse(f"{out!r} is written twice")
                self.values[out] = value
        for port_name, port in self.graph.outputs.items():
            self._check_output(port_name, port)
        unused = set(self.form.tensors) - used
        if unused:
            raise self.refuse(f"nothing uses tensor {min(unused)!r}")

    def _input(self, name: str, port: Port) -> Value:
        places = _places(port.dims[2:])
        if len(port.dims) != 4 or port.dims[0] not in (1, BATCH) or not isinstance(port.dims[1], int) or not places:
            raise self.refuse(f"input {name!r} is neither a parameter nor a tensor of places")
        if port.dtype not in VALUES:
            raise self.refuse(f"input {name!r} is {port.dtype}, not {' or '.join(VALUES)}")
        bound = None if port.range is None else max(abs(port.range[0]), abs(port.range[1]))
        return Value(port.dims[0], port.dtype, port.dims[1], places, exact=port.dtype in INTEGERS, bound=bound)

    def _check_output(self, name: str, port: Port) -> None:
        value = self.values.get(name)
        if value is None or name in self.graph.inputs:
            raise self.refuse(f"no operation makes output {name!r}")
        dims = port.dims[1:3] if value.picture else port.dims[2:]
        channels = port.dims[-1] if value.picture else port.dims[1] if len(port.dims) == 4 else None
        if len(port.dims) != 4 or _places(dims) != value.places or channels != value.channels:
            raise self.refuse(f"output {name!r} has other channels or places than its port")
        if port.dims[0] != value.batch:
            raise self.refuse(f"output {name!r} is of {value.batch} pictures, its port of {port.dims[0]}")
        if port.dtype != value.dtype:
            raise self.refuse(f"output {name!r} is {value.dtype}, its port {port.dtype}")
        if self.graph.exact and port.dtype in INTEGERS and not value.exact:
            raise self.refuse(f"output {name!r} of an exact graph is made of floats")

    def _outputs(self, operation: Operation, used: set[str]) -> list[tuple[str, Value]]:
        if isinstance(operation, IntegerNetwork):
            return self._network(operation, used)
        return [(operation.out, self._output(operation, used))]

    def _output(self, operation: SingleOperation, used: set[str]) -> Value:
        match operation:
            case Affine():
                return self._sum(operation.terms, operation.offset, used)
            case StridedChain() | TransposedChain():
                return self._chain(operation, used)
            case Concatenate():
                return self._joined([self.value(name) for name in operation.values])
            case SelectChannels():
                value = self.value(operation.value)
                if operation.first + operation.count > value.channels:
                    raise self.refuse(f"{operation.out!r} selects channels that {operation.value!r} does not have")
                return replace(value, channels=operation.count)
            case PadChannels():
                value = self.value(operation.value)
                if operation.count < value.channels:
                    raise self.refuse(f"{operation.out!r} has fewer channels than {operation.value!r}")
                return replace(value, channels=operation.count)
            case Quantise():
                if not -(1 << 24) <= operation.low <= operation.high <= 1 << 24:
                    raise self.refuse(f"{operation.out!r} is clipped to a range that is none, or beyond 2^24")
                return replace(self._float(operation.value), dtype="int32", bound=None)
            case Tanh() | Absolute() | LogMagnitude():
                return self._float(operation.value)

    def value(self, name: str) -> Value:
        """A tensor of places."""
        if name not in self.values or self.values[name].picture:
            raise self.refuse(f"{name!r} is no value that is made before it is used")
        return self.values[name]

    def _float(self, name: str) -> Value:
        value = self.value(name)
        if value.dtype != "float32":
            raise self.refuse(f"{name!r} is {value.dtype} where float32 belongs")
        return replace(value, exact=False)

    def _joined(self, values: Sequence[Value]) -> Value:
        first = values[0]
        kinds = {(value.batch, value.dtype, value.places) for value in values}
        if len(kinds) != 1:
            raise self.refuse("a concatenation of values of different types or sizes")
        exact = all(value.exact for value in values)
        return replace(first, channels=sum(value.channels for value in values), exact=exact, bound=None)

    def view(self, name: str, dtypes: Sequence[str], dimensions: int, used: set[str]) -> View:
        """A stored tensor of one of these types."""
        view = self.form.tensors.get(name)
        if view is None or view.dtype not in dtypes or len(view.shape) != dimensions:
            raise self.refuse(f"tensor {name!r} is not there, or not {' or '.join(dtypes)} of {dimensions} dimensions")
        used.add(name)
        return view

    def parameter(self, name: str) -> tuple[int, int]:
        """The range of a parameter."""
        port = self.parameters.get(name)
        if port is None or port.range is None:
            raise self.refuse(f"{name!r} is not a parameter with a range")
        return port.range

    def _factors(self, factors: Sequence[Factor], channels: int, used: set[str]) -> None:
        for factor in factors:
            if isinstance(factor, Row | InterpolatedExponential):
                view = self.view(factor.tensor, FLOAT_WEIGHTS, 2, used)
                if view.shape[1] not in (1, channels):
                    raise self.refuse(f"tensor {factor.tensor!r} is not of {channels} channels")
                low, high = self.parameter(factor.parameter)
                if isinstance(factor, Row) and not 0 <= low <= high < view.shape[0]:
                    raise self.refuse(f"parameter {factor.parameter!r} may ask for a row that is not there")
            elif hasattr(factor, "tensor"):
                if self.view(factor.tensor, FLOAT_WEIGHTS, 1, used).shape[0] not in (1, channels):
                    raise self.refuse(f"tensor {factor.tensor!r} is not of {channels} channels")
            else:
                self.parameter(factor.parameter)

    def _sum(self, terms: Sequence[Term], offset: Sequence[Factor], used: set[str]) -> Value:
        values = [self.value(term.value) for term in terms]
        first = values[0]
        for value in values:
            if (value.channels, value.places) != (first.channels, first.places):
                raise self.refuse("a sum of values of different sizes")
            if value.dtype not in ("float32", "int32"):
                raise self.refuse(f"a sum of {value.dtype}")
        for term in terms:
            self._factors(term.scale, first.channels, used)
        self._factors(offset, first.channels, used)
        batch = BATCH if any(value.batch == BATCH for value in values) else 1
        return Value(batch, "float32", first.channels, first.places)

    def _chain(self, chain: StridedChain | TransposedChain, used: set[str]) -> Value:
        value = self._sum(chain.terms, chain.offset, used)
        transposed = isinstance(chain, TransposedChain)
        for layer in chain.layers:
            value = self._layer(layer, value, used, transposed=transposed)
        if isinstance(chain, StridedChain) or chain.picture is None:
            return value
        most = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}[chain.picture.dtype]
        if not 0 <= chain.picture.low <= chain.picture.high <= most:
            raise self.refuse(f"{chain.out!r} is clipped beyond the range of its type")
        return replace(value, dtype=chain.picture.dtype, picture=True)

    def _layer(self, layer: Layer, value: Value, used: set[str], *, transposed: bool) -> Value:
        shape = self.view(layer.weight, FLOAT_WEIGHTS, 4, used).shape
        inputs, outputs = shape[:2] if transposed else shape[1::-1]
        if inputs != value.channels:
            raise self.refuse(f"weights {layer.weight!r} are not for {value.channels} channels")
        if layer.bias is not None and self.view(layer.bias, FLOAT_WEIGHTS, 1, used).shape != [outputs]:
            raise self.refuse(f"bias {layer.bias!r} is not of {outputs} channels")
        if layer.norm is not None:
            of = inputs if transposed else outputs
            beta = self.view(layer.norm.beta, FLOAT_WEIGHTS, 1, used).shape
            if [*beta, *self.view(layer.norm.gamma, FLOAT_WEIGHTS, 2, used).shape] != [of, of, of]:
                raise self.refuse(f"normalisation {layer.norm.beta!r} is not of {of} channels")
        if transposed:
            return self._stretched(replace(value, channels=outputs), layer.stride)
        result = replace(value, channels=outputs).scaled([1 / Fraction(stride) for stride in layer.stride])
        if any(factor.denominator != 1 for factor, _ in result.places):
            raise self.refuse(f"a stride of weights {layer.weight!r} does not divide their input")
        return result

    def _network(self, network: IntegerNetwork, used: set[str]) -> list[tuple[str, Value]]:
        value = self.value(network.value)
        if value.dtype != "int32" or value.bound is None or network.value not in self.graph.inputs:
            raise self.refuse(f"{network.value!r} is not an int32 input with a range")
        for layer in network.hidden:
            if layer.low > layer.high:
                raise self.refuse(f"layer {layer.weight!r} is clipped to a range that is none")
            value = self._integer_layer(layer, value, used)
            value = replace(value, bound=max(abs(layer.low), abs(layer.high)))
        return [(head.out, self._head(head, value, used)) for head in network.heads]

    def _integer_layer(self, layer: IntegerLayer | Head, value: Value, used: set[str]) -> Value:
        inputs, outputs = self.view(layer.weight, ("int8",), 4, used).shape[:2]
        if inputs != value.channels:
            raise self.refuse(f"weights {layer.weight!r} are not for {value.channels} channels")
        negative = layer.negative if isinstance(layer, IntegerLayer) else None
        named = [(layer.bias, "int32"), (layer.multiplier, "float32"), *([(negative, "float32")] if negative else [])]
        for name, dtype in named:
            shape = self.view(name, (dtype,), 1 if layer.row is None else 2, used).shape
            if shape[-1] != outputs:
                raise self.refuse(f"tensor {name!r} is not of {outputs} channels")
            if layer.row is not None:
                low, high = self.parameter(layer.row)
                if not 0 <= low <= high < shape[0]:
                    raise self.refuse(f"parameter {layer.row!r} may ask for a row that is not there")
        return self._stretched(replace(value, channels=outputs), layer.stride)

    def _stretched(self, value: Value, stride: Sequence[int]) -> Value:
        result = value.scaled([Fraction(factor) for factor in stride])
        if any(factor > MAX_FACTOR for factor, _ in result.places):
            raise self.refuse("a value has more places than any port may have")
        return result

    def _head(self, head: Head, value: Value, used: set[str]) -> Value:
        result = replace(self._integer_layer(head, value, used), bound=None)
        if head.index is None:
            return replace(result, dtype="float32", exact=False)
        rule = head.index
        self.parameter(rule.skip)
        if max(abs(rule.add), *(abs(end) for end in self.parameter(rule.minus))) > MAX_OFFSET:
            raise self.refuse(f"indices {head.out!r} are shifted by more than {MAX_OFFSET}")
        if not _is_power_of_two(rule.unit, MIN_INDEX_UNIT):
            raise self.refuse(f"indices {head.out!r} have unit {rule.unit}, not a power of two up to 1")
        if not 0 <= rule.low <= rule.high <= 255:
            raise self.refuse(f"indices {head.out!r} are clipped beyond 0..255")
        if rule.scales is not None:
            count = self.view(rule.scales.tensor, ("int16",), 1, used).shape[0]
            if not _within(rule.scales, count):
                raise self.refuse(f"scales of {head.out!r} ask for a place that is not there")
        return replace(result, dtype="uint8")


def _within(scales: ScaleTable, count: int) -> bool:
    """Whether every place that a table is asked for is one of its `count`."""
    coarse = [math.floor(c * scales.unit) + scales.add for c in (max(scales.low, scales.limit), scales.high)]
    fine = [scales.low, min(scales.high, scales.limit - 1)]
    places = (fine if scales.low < scales.limit else []) + (coarse if scales.high >= scales.limit else [])
    exact = (
        _is_power_of_two(scales.unit, MIN_SCALE_UNIT)
        and max(scales.high, abs(scales.limit), abs(scales.add)) <= MAX_PLACE
    )
    return exact and 0 <= scales.low <= scales.high and 0 <= min(places) <= max(places) < count


def _is_power_of_two(value: float, least: float) -> bool:
    """From `least` to 1."""
    return least <= value <= 1 and math.frexp(value)[0] == 0.5


def _places(dims: Sequence[int | str]) -> tuple[tuple[Fraction, str], tuple[Fraction, str]] | None:
    """Rows and columns as multiples of two symbols."""
    matches = [DIMENSION.match(dim) if isinstance(dim, str) else None for dim in dims]
    if len(matches) != 2 or matches[0] is None or matches[1] is None:
        return None
    rows, columns = ((Fraction(int(match[1] or 1)), match[2]) for match in matches if match is not None)
    return rows, columns


def check_native(name: str, graph: Graph) -> None:
    """Raises UnsupportedError for the first thing in a graph's native form that does not hold."""
    _Check(name, graph).run()


def check_sums(name: str, graph: Graph, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """What takes the weights to tell, which `check_native` does without: that no sum of a network of integers leaves
    int32, whatever its input within its range. arrays: what the graph's native form uses. Raises UnsupportedError."""
    assert graph.native is not None
    for operation in graph.native.operations:
        if not isinstance(operation, IntegerNetwork):
            continue
        bounds = graph.inputs[operation.value].range
        assert bounds is not None, "check_native asks for it"
        layers: list[IntegerLayer | Head] = [*operation.hidden, *operation.heads]
        for layer in layers:
            reach = max(abs(bounds[0]), abs(bounds[1]))
            weights = np.abs(arrays[layer.weight].astype(np.int16)).sum(axis=(0, 2, 3), dtype=np.int64)
            sums = weights * reach + np.abs(arrays[layer.bias].astype(np.int64))
            if sums.max() > MAX_SUM:
                raise UnsupportedError(
                    f"the bundle is not valid: the native form of graph {name!r}: sums of weights {layer.weight!r} may "
                    "leave 32 bits"
                )
            if isinstance(layer, IntegerLayer):
                bounds = layer.low, layer.high

"""A small reader of ONNX models: nodes, attributes and initialisers of one graph, into plain Python and numpy.

It reads what backends of our own need and raises UnsupportedError for the rest. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import UnsupportedError
from .onnx_check import check_onnx, fields, messages, varint

Array = npt.NDArray[Any]
Attribute = int | float | bytes | list[int]

DTYPES: dict[int, str] = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 10: "float16"}
"""TensorProto.DataType of the element types that bundles use."""

_MODEL_GRAPH, _MODEL_OPSET, _OPSET_VERSION = 7, 8, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_F, _ATTRIBUTE_I, _ATTRIBUTE_S, _ATTRIBUTE_INTS = 1, 2, 3, 4, 8
_ATTRIBUTE_TYPE = 20  # which of the fields below holds the value
_TYPE_FLOAT, _TYPE_INT, _TYPE_STRING, _TYPE_INTS = 1, 2, 3, 7
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_VALUE_NAME = 1
MAX_RANK, MAX_EXTENT = 8, 1 << 31


@dataclass
class Node:
    """`inputs` and `outputs` are names of values; an input that is left out is ""."""

    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Attribute] = field(default_factory=dict)


@dataclass
class OnnxGraph:
    """Nodes in the file's order, which is one in which they can run."""

    opset: int
    nodes: list[Node]
    constants: dict[str, Array]
    inputs: list[str]
    outputs: list[str]


def read_graph(data: bytes, known: Set[str] | None = None) -> OnnxGraph:
    """The graph of an ONNX model. Raises UnsupportedError for one that `check_onnx` refuses, that holds what this does
    not read, or, before all of it is read, operators that are not `known`.
    """
    operators = check_onnx(data)
    if known is not None and not operators <= known:
        raise UnsupportedError(f"it has operators that are not known here: {', '.join(sorted(operators - known))}")
    model = memoryview(data)
    (graph,) = messages(model, _MODEL_GRAPH)
    versions = [_number(opset, _OPSET_VERSION) for opset in messages(model, _MODEL_OPSET)]
    if len(versions) != 1:
        raise UnsupportedError("the ONNX model is of more than one operator set")
    constants = dict(_tensor(tensor) for tensor in messages(graph, _GRAPH_INITIALIZER))
    inputs = [_text(value, _VALUE_NAME) for value in messages(graph, _GRAPH_INPUT)]
    return OnnxGraph(
        opset=versions[0],
        nodes=[_node(node) for node in messages(graph, _GRAPH_NODE)],
        constants=constants,
        inputs=[name for name in inputs if name not in constants],
        outputs=[_text(value, _VALUE_NAME) for value in messages(graph, _GRAPH_OUTPUT)],
    )


def _node(data: memoryview) -> Node:
    node = Node(operator=_text(data, _NODE_OPERATOR))
    for number, value in fields(data):
        if isinstance(value, memoryview):
            if number == _NODE_INPUT:
                node.inputs.append(_decoded(value))
            elif number == _NODE_OUTPUT:
                node.outputs.append(_decoded(value))
            elif number == _NODE_ATTRIBUTE:
                name = _text(value, _ATTRIBUTE_NAME)
                node.attributes[name] = _attribute(value)
    return node


def _attribute(data: memoryview) -> Attribute:
    kind = _number(data, _ATTRIBUTE_TYPE)
    if kind == _TYPE_INT:
        return _number(data, _ATTRIBUTE_I)
    if kind == _TYPE_INTS:
        return list(_numbers(data, _ATTRIBUTE_INTS))
    for number, value in fields(data):
        if kind == _TYPE_FLOAT and number == _ATTRIBUTE_F and isinstance(value, bytes) and len(value) == 4:
            return float(struct.unpack("<f", value)[0])
        if kind == _TYPE_STRING and number == _ATTRIBUTE_S and isinstance(value, memoryview):
            return bytes(value)
    raise UnsupportedError("the ONNX model has an attribute that is not a number, numbers or text")


def _tensor(data: memoryview) -> tuple[str, Array]:
    shape = list(_numbers(data, _TENSOR_DIMS))
    dtype = DTYPES.get(_number(data, _TENSOR_TYPE))
    raw = [value for value in messages(data, _TENSOR_RAW)]
    sane = len(shape) <= MAX_RANK and all(0 <= extent <= MAX_EXTENT for extent in shape)
    if dtype is None or len(raw) != 1 or not sane:
        raise UnsupportedError("the ONNX model has an initialiser of an unusual type or encoding")
    if math.prod(shape) * np.dtype(dtype).itemsize != len(raw[0]):
        raise UnsupportedError("the ONNX model has an initialiser whose bytes do not fit its shape")
    return _text(data, _TENSOR_NAME), np.frombuffer(raw[0], np.dtype(dtype).newbyteorder("<")).reshape(shape)


def _decoded(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")


def _text(data: memoryview, wanted: int) -> str:
    """The last of the fields with this number, as protobuf has it; "" where there is none."""
    return _decoded(([memoryview(b""), *messages(data, wanted)])[-1])


def _number(data: memoryview, wanted: int) -> int:
    return ([0, *_numbers(data, wanted)])[-1]


def _numbers(data: memoryview, wanted: int) -> Iterator[int]:
    """Every int64 of a field, one by one or packed."""
    for number, value in fields(data):
        if number != wanted:
            continue
        if isinstance(value, int):
            yield _signed(value)
        elif isinstance(value, memoryview):
            at = 0
            while at < len(value):
                item, at = varint(value, at)
                yield _signed(item)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value

"""The graph of an ONNX model as nodes and numpy arrays, for backends of our own. What a model may hold, and its wire
format, are the core's (cpp_ext/include/nicrt/onnx.hpp).
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .errors import UnsupportedError

if TYPE_CHECKING:
    from nicrt._core import OnnxModel, OnnxNode, OnnxTensor

Array = npt.NDArray[Any]
Attribute = int | float | bytes | list[int]

DTYPES: dict[int, str] = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 10: "float16"}
"""TensorProto.DataType of the element types that the native backend computes with."""


@dataclass
class Node:
    """`inputs` and `outputs` are names of values; an input that is left out is ""."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Attribute]


@dataclass
class OnnxGraph:
    """Nodes in the file's order, which is one in which they can run."""

    nodes: list[Node]
    constants: dict[str, Array]
    inputs: list[str]
    outputs: list[str]


def read_model(data: bytes) -> OnnxModel:
    """The model, whose `write` gives the bytes that a library may be given. Raises UnsupportedError for what a bundle
    may not have."""
    if not hasattr(_core, "OnnxModel"):
        raise UnsupportedError("this build of nicrt reads no ONNX models: build it with NICRT_ONNX=ON")
    return _core.OnnxModel.read(data)


def read_graph(data: bytes, known: Set[str] | None = None) -> OnnxGraph:
    """The graph of an ONNX model. Raises UnsupportedError for a model that a bundle may not have, that has something
    not provided for here, or operators that are not `known`."""
    model = read_model(data)
    if known is not None and not model.operators <= known:
        unknown = ", ".join(sorted(model.operators - known))
        raise UnsupportedError(f"it has operators that are not known here: {unknown}")
    return OnnxGraph(
        nodes=[_node(node) for node in model.nodes],
        constants={tensor.name: _array(tensor) for tensor in model.initializers},
        inputs=[port.name for port in model.inputs],
        outputs=[port.name for port in model.outputs],
    )


def _node(node: OnnxNode) -> Node:
    attributes: dict[str, Attribute] = {}
    for name, value in node.attributes.items():
        if not isinstance(value, int | float | bytes) and not _is_ints(value):
            raise UnsupportedError("the ONNX model has an attribute that is not a number, integers or text")
        attributes[name] = value  # type: ignore[assignment]
    return Node(node.operator, node.inputs, node.outputs, attributes)


def _is_ints(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, int) for item in value)


def _array(tensor: OnnxTensor) -> Array:
    if tensor.dtype not in DTYPES.values():
        raise UnsupportedError(f"the ONNX model has an initializer of {tensor.dtype}, which is not provided for here")
    stored = tensor.data.view(np.dtype(tensor.dtype).newbyteorder("<"))
    return np.require(stored, requirements="A").reshape(tensor.shape)

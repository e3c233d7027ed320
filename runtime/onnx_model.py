"""ONNX models as a bundle has them. What one may hold, and its wire format, are the core's
(cpp_ext/include/nicrt/onnx.hpp).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nicrt import _core

from .errors import UnsupportedError
from .manifest import Graph, Port

if TYPE_CHECKING:
    from nicrt._core import OnnxModel, OnnxPort


def read_model(data: bytes) -> OnnxModel:
    """The model, whose `write` gives the bytes that a library may be given. Raises UnsupportedError for what a bundle
    may not have."""
    if not hasattr(_core, "OnnxModel"):
        raise UnsupportedError("this build of nicrt reads no ONNX models: build it with NICRT_ONNX=ON")
    return _core.OnnxModel.read(data)


def check_ports(model: OnnxModel, graph: Graph) -> None:
    """Raises UnsupportedError unless inputs and outputs have the names, types and dimensions of the graph's ports."""
    for made, ports in ((model.inputs, graph.inputs), (model.outputs, graph.outputs)):
        _check_side(made, ports)


def _check_side(made: Sequence[OnnxPort], ports: Mapping[str, Port]) -> None:
    if sorted(port.name for port in made) != sorted(ports):
        raise UnsupportedError("the ports of the ONNX model are not those of the manifest")
    for port in made:
        if port.dtype != ports[port.name].dtype or port.dims != ports[port.name].dims:
            raise UnsupportedError(f"port {port.name!r} of the ONNX model is not that of the manifest")

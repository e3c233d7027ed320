"""PyTorch module → ONNX bytes: the dynamo exporter, then a normal form, so that one model always gives the
same bytes.

The normal form has no metadata, doc strings or value_info; nodes and tensors are named after their place;
the ports have the manifest's names and dimensions; weights are stored in the smallest type that holds them
without loss.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from nicrt.runtime.manifest import Port, factored

from .tensors import narrowed

OPSET = 20
IR_VERSION = 9  # the one that came with opset 20
EXAMPLE_SIZE = 3  # of a free dimension while tracing; 0 and 1 are special to the tracer
INT8_OFFSET = 128

_TORCH_TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
}
_ONNX_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
}


def export_module(
    module: nn.Module,
    inputs: Mapping[str, Port],
    outputs: Mapping[str, Port],
    int8_weights: Collection[str] = (),
) -> bytes:
    """Trace `module`, whose forward takes the inputs and returns the outputs in order. `int8_weights`:
    initialisers (state-dict names) that hold integers in -127 .. 127, stored as uint8."""
    model = _trace(module.eval(), inputs, list(outputs))
    return normal_form(model, inputs, outputs, int8_weights)


def _trace(module: nn.Module, inputs: Mapping[str, Port], outputs: Sequence[str]) -> onnx.ModelProto:
    symbols = {symbol for port in inputs.values() for _, symbol in map(factored, port.dims)} - {""}
    free = {symbol: torch.export.Dim(symbol, min=1) for symbol in sorted(symbols)}
    examples, shapes = [], []
    for port in inputs.values():
        size, dynamic = [], {}
        for axis, dimension in enumerate(port.dims):
            factor, symbol = factored(dimension)
            size.append(factor * EXAMPLE_SIZE if symbol else factor)
            if symbol:
                dynamic[axis] = factor * free[symbol] if factor > 1 else free[symbol]
        examples.append(torch.zeros(size, dtype=_TORCH_TYPES[port.dtype]))
        shapes.append(dynamic)
    with _quiet():
        program = torch.onnx.export(
            module,
            tuple(examples),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=(tuple(shapes),) if _is_variadic(module) else tuple(shapes),
            verbose=False,
        )
    assert program is not None, "the dynamo exporter returns a program"
    return program.model_proto


def _is_variadic(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints, warns and logs about things that are settled here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def normal_form(
    model: onnx.ModelProto,
    inputs: Mapping[str, Port],
    outputs: Mapping[str, Port],
    int8_weights: Collection[str] = (),
) -> bytes:
    """The same graph in the form that does not depend on how it was made."""
    if model.functions:
        raise ValueError("the exported model has functions; the normal form has none")
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            initializers[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        else:
            nodes.append(node)
    missing = set(int8_weights) - set(initializers)
    if missing:
        raise ValueError(f"the exported model has no initialisers {sorted(missing)}")
    used = [name for node in nodes for name in node.input if name in initializers]
    names = _names(nodes, list(dict.fromkeys(used)), [*inputs, *outputs])
    tensors: list[TensorProto] = []
    decode: list[onnx.NodeProto] = []
    for name in dict.fromkeys(used):
        _store(names[name], initializers[name], name in int8_weights, tensors, decode)
    if int8_weights:
        tensors.append(numpy_helper.from_array(np.array(INT8_OFFSET, np.float32), "int8_offset"))
    graph = helper.make_graph(
        [*decode, *(_renamed(node, names, number) for number, node in enumerate(nodes))],
        "graph",
        [_value(name, port) for name, port in inputs.items()],
        [_value(name, port) for name, port in outputs.items()],
        tensors,
    )
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(result, full_check=True)
    return bytes(result.SerializeToString(deterministic=True))


def _names(nodes: Sequence[onnx.NodeProto], initializers: Sequence[str], ports: Collection[str]) -> dict[str, str]:
    """Old → new tensor names: ports keep theirs, initialisers are numbered in order of use, the rest in order
    of making."""
    names = {port: port for port in ports}
    names |= {name: f"w{number}" for number, name in enumerate(initializers)}
    for node in nodes:
        for name in node.output:
            names.setdefault(name, f"t{len(names)}" if name else "")
    return names


def _renamed(node: onnx.NodeProto, names: Mapping[str, str], number: int) -> onnx.NodeProto:
    result = onnx.NodeProto()
    result.op_type = node.op_type
    result.name = f"n{number}"
    result.input.extend(names[name] if name else "" for name in node.input)
    result.output.extend(names[name] for name in node.output)
    for attribute in sorted(node.attribute, key=lambda a: a.name):
        copy = result.attribute.add()
        copy.CopyFrom(attribute)
        copy.ClearField("doc_string")
    return result


def _value(name: str, port: Port) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _ONNX_TYPES[port.dtype], list(port.dims))


def _store(
    name: str,
    values: npt.NDArray[np.generic],
    int8: bool,
    tensors: list[TensorProto],
    decode: list[onnx.NodeProto],
) -> None:
    """Append an initialiser, and the nodes that widen it to float32, which every runtime folds when it loads
    the graph."""
    if int8:
        if not (np.rint(values) == values).all() or np.abs(values).max() >= INT8_OFFSET:
            raise ValueError(f"initialiser {name} does not hold int8 values")
        tensors.append(numpy_helper.from_array((values + INT8_OFFSET).astype(np.uint8), f"{name}_u8"))
        decode.append(helper.make_node("Cast", [f"{name}_u8"], [f"{name}_f"], f"{name}_cast", to=TensorProto.FLOAT))
        decode.append(helper.make_node("Sub", [f"{name}_f", "int8_offset"], [name], f"{name}_sub"))
        return
    stored = narrowed(values)
    if stored is values:
        tensors.append(numpy_helper.from_array(values, name))
        return
    tensors.append(numpy_helper.from_array(stored, f"{name}_f16"))
    decode.append(helper.make_node("Cast", [f"{name}_f16"], [name], f"{name}_cast", to=TensorProto.FLOAT))


def operators(data: bytes) -> list[str]:
    """The operators of an ONNX model, sorted."""
    return sorted({node.op_type for node in onnx.load_from_string(data).graph.node})


def _at_sizes(data: bytes, sizes: Mapping[str, int]) -> tuple[onnx.ModelProto, dict[str, onnx.TypeProto.Tensor]]:
    """The model and the types of all its tensors, with the free dimensions set to `sizes`."""
    model = onnx.load_from_string(data)
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            factor, symbol = factored(dim.dim_param)
            if symbol in sizes:  # an output's may depend on an input's values
                dim.dim_value = factor * sizes[symbol]
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    return model, {value.name: value.type.tensor_type for value in values}


def _shape(tensor: onnx.TypeProto.Tensor) -> list[int]:
    return [d.dim_value for d in tensor.shape.dim]


def macs(data: bytes, sizes: Mapping[str, int]) -> int:
    """Multiply-accumulates of the convolutions and matrix products, with the free dimensions set to `sizes`."""
    model, types = _at_sizes(data, sizes)
    shapes = {name: _shape(tensor) for name, tensor in types.items()}
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type == "ConvTranspose":
            total += int(np.prod(shapes[node.input[0]])) * int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("MatMul", "Gemm"):
            total += int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][-1]
    return total


def workspace_bytes(data: bytes, sizes: Mapping[str, int]) -> int:
    """Most bytes that tensors between the ports take at once, with the free dimensions set to `sizes`: every tensor has
    memory of its own from the node that makes it to the last one that reads it, and a transposed convolution has its
    columns besides (kernel size times outputs per input, as libraries make them before they add them up). What
    depends on weights alone is made once, when a graph is loaded, and is not counted."""
    model, types = _at_sizes(data, sizes)
    nodes, ports = model.graph.node, {value.name for value in [*model.graph.input, *model.graph.output]}
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    constants = {"", *shapes}
    last_use = {name: number for number, node in enumerate(nodes) for name in node.input}
    live: dict[str, int] = {}
    most = 0
    for number, node in enumerate(nodes):
        if constants.issuperset(node.input):
            constants.update(node.output)
        for name in node.output:
            shapes[name] = _shape(types[name])
            if name not in constants and name not in ports:
                item = helper.tensor_dtype_to_np_dtype(types[name].elem_type).itemsize
                live[name] = item * math.prod(shapes[name])
        columns = 0
        if node.op_type == "ConvTranspose":
            kernel, places = shapes[node.input[1]], _shape(types[node.input[0]])[2:]
            columns = np.dtype(np.float32).itemsize * math.prod([*kernel[1:], *places])
        most = max(most, sum(live.values()) + columns)
        live = {name: size for name, size in live.items() if last_use.get(name, -1) > number}
    return most

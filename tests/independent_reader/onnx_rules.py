"""What an ONNX form must be (BUNDLE.md section 6): a small reader of protobuf and what it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .errors import require

# Field numbers of onnx.proto that are used below; every other number of these messages is refused or left alone there.
MODEL_IR, MODEL_GRAPH, MODEL_OPSET, MODEL_FUNCTIONS = 1, 7, 8, 25
NODE_INPUT, NODE_OUTPUT, NODE_OP, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 4, 5, 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12
ATTRIBUTE_INT, ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 3, 5, 6, 11
TENSOR_DIMS, TENSOR_TYPE, TENSOR_INT32, TENSOR_INT64, TENSOR_NAME, TENSOR_RAW = 1, 2, 5, 7, 8, 9
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14
INTEGERS = {2: ("<u1", 1), 3: ("<i1", 1), 4: ("<u2", 2), 5: ("<i2", 2), 6: ("<i4", 4), 7: ("<i8", 8)}
FLOAT, INT64, BOOL = 1, 7, 9
DTYPES = {"float32": 1, "uint8": 2, "uint16": 4, "int32": 6, "int64": 7, "float16": 10}

OPSETS, IR_VERSIONS = range(13, 21), range(7, 11)

Message = dict[int, list[Any]]


def varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        require(place < len(data), "onnx: ends too early")
        byte = data[place]
        place += 1
        value |= (byte & 127) << 7 * i
        if byte < 128:
            require(not (byte == 0 and i > 0) and value < 2**64, "onnx: a varint in a longer form")
            return value, place
    require(False, "onnx: a varint of more than ten bytes")
    raise AssertionError


def message(data: bytes) -> Message:
    """field number → its values, integers or bytes, in their order."""
    found: Message = {}
    place = 0
    while place < len(data):
        key, place = varint(data, place)
        number, wire = key >> 3, key & 7
        require(0 < number < 1 << 29 and wire in (0, 1, 2, 5), "onnx: a key that is none")
        if wire == 0:
            value: Any
            value, place = varint(data, place)
        else:
            size = {1: 8, 5: 4}.get(wire)
            if size is None:
                size, place = varint(data, place)
            require(place + size <= len(data), "onnx: ends too early")
            value, place = data[place : place + size], place + size
        found.setdefault(number, []).append(value)
    return found


def text(values: list[Any] | None) -> str:
    return values[-1].decode("utf-8", "replace") if values and isinstance(values[-1], bytes) else ""


def numbers(values: list[Any]) -> Iterator[int]:
    """Repeated integers, packed or not, signed."""
    for value in values:
        place = 0
        while isinstance(value, bytes) and place < len(value):
            number, place = varint(value, place)
            yield number - (number >> 63 << 64)
        if isinstance(value, int):
            yield value - (value >> 63 << 64)


def check(data: bytes, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    model = message(data)
    require(model.get(MODEL_IR, [0])[-1] in IR_VERSIONS, "onnx: an IR version that bundles may not have")
    require(MODEL_FUNCTIONS not in model, "onnx: functions")
    opsets = [message(entry) for entry in model.get(MODEL_OPSET, [])]
    for opset in opsets:
        require(text(opset.get(1)) in ("", "ai.onnx"), "onnx: another operator set")
        require(opset.get(2, [0])[-1] in OPSETS, "onnx: a version of the operators that bundles may not have")
    require(len(opsets) == 1 and len(model.get(MODEL_GRAPH, [])) == 1, "onnx: not one opset and one graph")
    graph = message(model[MODEL_GRAPH][0])
    constants = _constants(graph)
    nodes = [message(node) for node in graph.get(GRAPH_NODE, [])]
    for node in nodes:
        _check_node(node)
        if text(node.get(NODE_OP)) == "Constant":
            for entry in node.get(NODE_ATTRIBUTE, []):
                attribute = message(entry)
                for tensor in attribute.get(ATTRIBUTE_TENSOR, []):
                    constants[text(node.get(NODE_OUTPUT))] = _values(message(tensor))
                if text(attribute.get(1)) == "value_int":
                    constants[text(node.get(NODE_OUTPUT))] = list(numbers(attribute.get(ATTRIBUTE_INT, [0])))
    for entries, ports in ((graph.get(GRAPH_INPUT, []), inputs), (graph.get(GRAPH_OUTPUT, []), outputs)):
        _check_ports([message(entry) for entry in entries], ports)
    _check_division(graph, nodes, constants)


def _constants(graph: Message) -> dict[str, list[int] | None]:
    found = {}
    for entry in graph.get(GRAPH_INITIALIZER, []):
        tensor = message(entry)
        found[text(tensor.get(TENSOR_NAME))] = _values(tensor)
    return found


def _values(tensor: Message) -> list[int] | None:
    """Values of a tensor of integers; None of another."""
    require(TENSOR_EXTERNAL not in tensor and tensor.get(TENSOR_LOCATION, [0]) == [0], "onnx: external data")
    kind = tensor.get(TENSOR_TYPE, [0])[-1]
    if kind not in INTEGERS:
        return None
    dtype, size = INTEGERS[kind]
    if TENSOR_RAW in tensor:
        raw = tensor[TENSOR_RAW][-1]
        return [int.from_bytes(raw[i : i + size], "little", signed="i" in dtype) for i in range(0, len(raw), size)]
    return list(numbers(tensor.get(TENSOR_INT32, []) + tensor.get(TENSOR_INT64, [])))


def _check_node(node: Message) -> None:
    require(text(node.get(NODE_DOMAIN)) in ("", "ai.onnx"), "onnx: a custom operator")
    for entry in node.get(NODE_ATTRIBUTE, []):
        attribute = message(entry)
        require(ATTRIBUTE_GRAPH not in attribute and ATTRIBUTE_GRAPHS not in attribute, "onnx: a subgraph")
        for tensor in attribute.get(ATTRIBUTE_TENSOR, []):
            _values(message(tensor))


def _check_ports(entries: list[Message], ports: dict[str, Any]) -> None:
    names = [text(entry.get(1)) for entry in entries]
    require(sorted(names) == sorted(ports), "onnx: inputs or outputs are not the ports")
    for entry, port in zip(entries, (ports[name] for name in names), strict=True):
        require(len(entry.get(2, [])) == 1, "onnx: a port without a type")
        tensor_type = message(message(entry[2][0]).get(1, [b""])[-1])
        require(tensor_type.get(1) == [DTYPES[port["dtype"]]], "onnx: a port of another type")
        shape = message(tensor_type.get(2, [b""])[-1]).get(1, [])
        require(len(shape) == len(port["dims"]), "onnx: a port with other dimensions")
        for dim, wanted in zip(map(message, shape), port["dims"], strict=True):
            same = dim.get(1) == [wanted] and 2 not in dim if isinstance(wanted, int) else text(dim.get(2)) == wanted
            require(same, "onnx: a port of another size")


def _check_division(graph: Message, nodes: list[Message], constants: dict[str, list[int] | None]) -> None:
    types = _types(graph, nodes)
    makers = {text([name]): node for node in nodes for name in node.get(NODE_OUTPUT, [])}
    for node in nodes:
        operands = [text([name]) for name in node.get(NODE_INPUT, [])]
        if text(node.get(NODE_OP)) not in ("Div", "Mod") or not any(types.get(name) in INTEGERS for name in operands):
            continue
        values = constants.get(operands[1])
        maker = makers.get(operands[1], {})
        if values is None and text(maker.get(NODE_OP)) == "Max":
            known = [constants.get(text([name])) for name in maker.get(NODE_INPUT, [])]
            values = next((v for v in known if v and min(v) >= 1), None)
        require(values and not {0, -1} & set(values), "onnx: an integer division by what may be 0 or -1")


def _types(graph: Message, nodes: list[Message]) -> dict[str, int]:
    """name → element type, as far as divisions need it."""
    types = {}
    for entry in map(message, graph.get(GRAPH_INPUT, [])):
        types[text(entry.get(1))] = message(message(entry[2][0]).get(1, [b""])[-1]).get(1, [0])[-1]
    for tensor in map(message, graph.get(GRAPH_INITIALIZER, [])):
        types[text(tensor.get(TENSOR_NAME))] = tensor.get(TENSOR_TYPE, [0])[-1]
    for node in nodes:
        op, names = text(node.get(NODE_OP)), [text([name]) for name in node.get(NODE_INPUT, [])]
        attributes = {text(a.get(1)): a for a in map(message, node.get(NODE_ATTRIBUTE, []))}
        kind = types.get(names[1 if op == "Where" else 0], 0) if names else 0
        if op == "Cast":
            kind = attributes["to"].get(ATTRIBUTE_INT, [0])[-1]
        elif op in ("Constant", "ConstantOfShape"):
            tensors = [message(t) for a in attributes.values() for t in a.get(ATTRIBUTE_TENSOR, [])]
            integers = any(name.startswith("value_int") for name in attributes)
            kind = tensors[0].get(TENSOR_TYPE, [0])[-1] if tensors else INT64 if integers else FLOAT
        elif op in ("Shape", "Size", "ArgMax", "ArgMin", "NonZero"):
            kind = INT64
        elif op in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Not"):
            kind = BOOL
        types |= {text([name]): kind for name in node.get(NODE_OUTPUT, [])}
    return types

"""What an ONNX file of a bundle may hold, checked before any library parses it for real.

Bundles are untrusted input. This reads just enough of the protobuf wire format (field numbers of onnx.proto, which are
frozen) to list operators, and refuses external data, custom domains, functions and control flow. `onnx_graph` reads
more with the same walker.
"""

from __future__ import annotations

from collections.abc import Iterator

from .errors import UnsupportedError

ALLOWED_OPERATORS = frozenset(
    """
    Abs Add And AveragePool Cast Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose DepthToSpace
    DequantizeLinear Div Equal Erf Exp Expand Flatten Floor Gather Gemm Greater GreaterOrEqual Identity LeakyRelu
    Less LessOrEqual Log MatMul Max Min Mod Mul Neg Not Or Pad Pow QLinearConv QuantizeLinear Range Reciprocal
    ReduceMax ReduceMean ReduceSum Relu Reshape Round Shape Sigmoid Sign Size Slice Softmax Softplus SpaceToDepth
    Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze Where Xor
    """.split()  # noqa: SIM905 - sixty quoted lines would be no clearer
)
ALLOWED_DOMAINS = frozenset({"", "ai.onnx"})
MAX_NODES = 20_000

_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = 5, 6, 11, 22
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


def varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise UnsupportedError("not an ONNX model: a number runs past the end")


def fields(data: memoryview) -> Iterator[tuple[int, memoryview | int | bytes]]:
    """(number, value) of each field of one message: a number as int, text and messages as memoryview, and what has a
    fixed width (4 or 8 bytes) as bytes, which cannot be mistaken for text.
    """
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = varint(data, at)
            yield key >> 3, value
            continue
        if wire not in (1, 2, 5):
            raise UnsupportedError("not an ONNX model: unknown wire type")
        size, at = varint(data, at) if wire == 2 else (8 if wire == 1 else 4, at)
        if size > len(data) - at:
            raise UnsupportedError("not an ONNX model: a field runs past the end")
        content = data[at : at + size]
        yield key >> 3, content if wire == 2 else bytes(content)
        at += size


def messages(data: memoryview, number: int) -> Iterator[memoryview]:
    for field, value in fields(data):
        if field == number and isinstance(value, memoryview):
            yield value


def _check_tensor(tensor: memoryview) -> None:
    for field, value in fields(tensor):
        if field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value != 0):
            raise UnsupportedError("the ONNX model refers to external data")


def _check_node(node: memoryview) -> str:
    """The operator's name."""
    operator = domain = ""
    for field, value in fields(node):
        if field == _NODE_OP_TYPE and isinstance(value, memoryview):
            operator = bytes(value).decode("utf-8", "replace")
        elif field == _NODE_DOMAIN and isinstance(value, memoryview):
            domain = bytes(value).decode("utf-8", "replace")
        elif field == _NODE_ATTRIBUTE and isinstance(value, memoryview):
            _check_attribute(value)
    if domain not in ALLOWED_DOMAINS or operator not in ALLOWED_OPERATORS:
        raise UnsupportedError(f"the ONNX model uses operator {domain}:{operator}, which bundles may not")
    return operator


def _check_attribute(attribute: memoryview) -> None:
    for field, value in fields(attribute):
        if field in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE):
            raise UnsupportedError("the ONNX model has a nested graph or sparse tensor, which bundles may not")
        if field == _ATTRIBUTE_TENSOR and isinstance(value, memoryview):
            _check_tensor(value)


def check_onnx(data: bytes) -> set[str]:
    """The operators of an ONNX model. Raises UnsupportedError for what is none, or holds what bundles may not."""
    graphs = 0
    nodes = 0
    operators: set[str] = set()
    for field, value in fields(memoryview(data)):
        if field in (_MODEL_FUNCTIONS, _MODEL_TRAINING):
            raise UnsupportedError("the ONNX model has functions or training data, which bundles may not")
        if field != _MODEL_GRAPH or not isinstance(value, memoryview):
            continue
        graphs += 1
        if any(True for _ in messages(value, _GRAPH_SPARSE)):
            raise UnsupportedError("the ONNX model has a sparse initializer, which bundles may not")
        for tensor in messages(value, _GRAPH_INITIALIZER):
            _check_tensor(tensor)
        for node in messages(value, _GRAPH_NODE):
            nodes += 1
            operators.add(_check_node(node))
    if graphs != 1 or not 0 < nodes <= MAX_NODES:
        raise UnsupportedError(f"not an ONNX model of a bundle: {graphs} graphs, {nodes} nodes")
    return operators

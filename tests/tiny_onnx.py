"""A writer of protobuf, enough for a small ONNX model."""

from __future__ import annotations

import struct


def proto_field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def onnx_port(name: str, kind: int, dims: list[int | str]) -> bytes:
    shape = b"".join(proto_field(1, proto_field(1, d) if isinstance(d, int) else proto_field(2, d)) for d in dims)
    return proto_field(1, name) + proto_field(2, proto_field(1, proto_field(1, kind) + proto_field(2, shape)))


def onnx_model(
    nodes: list[tuple[str, str, str]],
    *,
    divisor: int = 3,
    opset: int = 20,
    domain: str = "",
    extra_node: bytes = b"",
    extra_tensor: bytes = b"",
    extra_model: bytes = b"",
) -> bytes:
    """nodes: (operator, inputs, output). Ports: those of the graph `deeper`; `three`: int32 [1] of `divisor`."""
    dims: list[int | str] = ["n", 3, "2h", "2w"]
    graph = b""
    for operator, inputs, output in nodes:
        node = (
            b"".join(proto_field(1, name) for name in inputs.split())
            + proto_field(2, output)
            + proto_field(4, operator)
        )
        graph += proto_field(1, node + (proto_field(7, domain) if domain else b"") + extra_node)
    tensor = (
        proto_field(1, 1) + proto_field(2, 6) + proto_field(8, "three") + proto_field(9, struct.pack("<i", divisor))
    )
    graph += proto_field(2, "deeper") + proto_field(5, tensor + extra_tensor)
    graph += proto_field(11, onnx_port("v", 1, dims)) + proto_field(11, onnx_port("k", 6, dims))
    graph += proto_field(12, onnx_port("w", 1, dims)) + proto_field(12, onnx_port("q", 6, dims))
    return (
        proto_field(1, 10)
        + proto_field(7, graph)
        + proto_field(8, proto_field(1, "") + proto_field(2, opset))
        + extra_model
    )


HONEST_NODES = [("Abs", "v", "w"), ("Div", "k three", "q")]

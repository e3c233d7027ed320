"""Runs a native form (BUNDLE.md section 5): NumPy, float32 for floats, float64 for exact sums of integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray


class Form:
    """One graph's native form with the views that it uses."""

    def __init__(self, graph: dict[str, Any], views: Mapping[str, Array]) -> None:
        self.graph = graph
        self.tensors = {n: t.astype(np.float32) if t.dtype == np.float16 else t for n, t in views.items()}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Input port → array, to output port → array."""
        self.values = dict(inputs)
        for operation in self.graph["native"]["operations"]:
            result = getattr(self, operation["op"])(operation)
            self.values.update(result if isinstance(result, dict) else {operation["out"]: result})
        return {name: self.values[name] for name in self.graph["outputs"]}

    def parameter(self, name: str) -> int:
        return int(self.values[name][0])

    def vector(self, factors: list[dict[str, Any]], empty: float) -> Array:
        """float32 [channels or 1, 1, 1]"""
        product = np.full(1, empty if not factors else 1, np.float32)
        for factor in factors:
            product = product * self.factor(factor).astype(np.float32)
        return product[:, None, None]

    def factor(self, factor: dict[str, Any]) -> Array:
        if factor["kind"] == "constant":
            return self.tensors[factor["tensor"]]
        p = self.parameter(factor["parameter"])
        if factor["kind"] == "row":
            return self.tensors[factor["tensor"]][p]
        if factor["kind"] == "exp":
            return np.exp(np.array([factor["factor"] * p + factor["offset"]], np.float64))
        rows = self.tensors[factor["tensor"]].astype(np.float64)
        weights = np.maximum(0, 1 - np.abs(p / factor["unit"] - np.arange(len(rows))))
        return np.exp(weights @ rows)

    def sum(self, operation: dict[str, Any]) -> Array:
        total = self.vector(operation["offset"], 0)
        for term in operation["terms"]:
            total = total + self.vector(term["scale"], 1) * self.values[term["value"]].astype(np.float32)
        return total

    def affine(self, operation: dict[str, Any]) -> Array:
        return _sloped(self.sum(operation), operation["slope"])

    def strided_chain(self, operation: dict[str, Any]) -> Array:
        x = self.sum(operation)
        for layer in operation["layers"]:
            x = strided(x, self.tensors[layer["weight"]], layer["stride"], layer["pad"])
            x = _sloped(x + self.bias(layer), layer["slope"])
            if layer["norm"]:
                x = x / self.norm(layer["norm"], x)
        return x

    def transposed_chain(self, operation: dict[str, Any]) -> Array:
        x = self.sum(operation)
        for layer in operation["layers"]:
            if layer["norm"]:
                x = x * self.norm(layer["norm"], x)
            x = transposed(x, self.tensors[layer["weight"]], layer["stride"], layer["pad"])
            x = _sloped(x + self.bias(layer), layer["slope"])
        if picture := operation["picture"]:
            x = np.clip(x, np.float32(picture["low"]), np.float32(picture["high"]))
            x = np.ascontiguousarray(x.astype(picture["dtype"]).transpose(0, 2, 3, 1))
        return x

    def bias(self, layer: dict[str, Any]) -> Array:
        return self.tensors[layer["bias"]][:, None, None] if layer["bias"] else np.zeros((1, 1, 1), np.float32)

    def norm(self, norm: dict[str, Any], x: Array) -> Array:
        """float32 of x's shape: what a GDN divides by."""
        mixed = np.einsum("ck,nkhw->nchw", self.tensors[norm["gamma"]], x * x, optimize=True)
        return np.sqrt(self.tensors[norm["beta"]][:, None, None] + mixed)

    def integer_network(self, operation: dict[str, Any]) -> dict[str, Array]:
        x = self.values[operation["value"]].astype(np.float64)
        for layer in operation["hidden"]:
            sums = self.integer_sums(layer, x)
            scaled = sums * self.picked(layer, "multiplier")
            if layer["negative"]:
                scaled = np.maximum(scaled, sums * self.picked(layer, "negative"))
            x = np.clip(np.rint(scaled), layer["low"], layer["high"]).astype(np.float64)
        return {head["out"]: self.head(head, x) for head in operation["heads"]}

    def integer_sums(self, layer: dict[str, Any], x: Array) -> Array:
        """float32(sum + bias)"""
        sums = transposed(x, self.tensors[layer["weight"]].astype(np.float64), layer["stride"], layer["pad"])
        return (sums + self.picked(layer, "bias")).astype(np.float32)

    def picked(self, layer: dict[str, Any], name: str) -> Array:
        tensor = self.tensors[layer[name]]
        return (tensor if layer["row"] is None else tensor[self.parameter(layer["row"])])[:, None, None]

    def head(self, head: dict[str, Any], x: Array) -> Array:
        values = self.integer_sums(head, x) * self.picked(head, "multiplier")
        return values if head["index"] is None else self.indices(head["index"], np.rint(values).astype(np.float64))

    def indices(self, rule: dict[str, Any], v: Array) -> Array:
        if scales := rule["scales"]:
            c = np.clip(v, scales["low"], scales["high"])
            place = np.where(c < scales["limit"], c, np.floor(c * scales["unit"]) + scales["add"])
            v = self.tensors[scales["tensor"]][place.astype(np.int64)].astype(np.float64)
        index = np.floor((v + rule["add"] - self.parameter(rule["minus"])) * rule["unit"])
        index = np.clip(index, rule["low"], rule["high"])
        return np.where(index < self.parameter(rule["skip"]), rule["skipped"], index).astype(np.uint8)

    def concatenate(self, operation: dict[str, Any]) -> Array:
        return np.concatenate([self.values[name] for name in operation["values"]], axis=1)

    def select_channels(self, operation: dict[str, Any]) -> Array:
        return self.values[operation["value"]][:, operation["first"] : operation["first"] + operation["count"]]

    def pad_channels(self, operation: dict[str, Any]) -> Array:
        x = self.values[operation["value"]]
        return np.pad(x, ((0, 0), (0, operation["count"] - x.shape[1]), (0, 0), (0, 0)))

    def quantise(self, operation: dict[str, Any]) -> Array:
        rounded = np.rint(self.values[operation["value"]].astype(np.float64))
        return np.clip(rounded, operation["low"], operation["high"]).astype(np.int32)

    def tanh(self, operation: dict[str, Any]) -> Array:
        return np.tanh(self.values[operation["value"]])

    def absolute(self, operation: dict[str, Any]) -> Array:
        return np.abs(self.values[operation["value"]])

    def log_magnitude(self, operation: dict[str, Any]) -> Array:
        return np.log(np.abs(self.values[operation["value"]]) + np.float32(operation["floor"]))


def _sloped(x: Array, slope: float) -> Array:
    return x if slope == 1 else np.where(x < 0, x * np.float32(slope), x)


def strided(x: Array, weight: Array, stride: list[int], pad: list[int]) -> Array:
    """x [n, in, h, w], weight [out, in, K, K] → [n, out, h / stride, w / stride]"""
    n, _, h, w = x.shape
    out, _, rows, columns = weight.shape
    (sy, sx), (py, px) = stride, pad
    padded = np.pad(x, ((0, 0), (0, 0), (py, max(0, rows + h - sy - py)), (px, max(0, columns + w - sx - px))))
    y = np.zeros((n, out, h // sy, w // sx), x.dtype)
    for a in range(rows):
        for b in range(columns):
            taken = padded[:, :, a : a + h - sy + 1 : sy, b : b + w - sx + 1 : sx]
            y += np.einsum("oc,nchw->nohw", weight[:, :, a, b], taken, optimize=True)
    return y


def transposed(x: Array, weight: Array, stride: list[int], pad: list[int]) -> Array:
    """x [n, in, h, w], weight [in, out, K, K] → [n, out, h * stride, w * stride]"""
    n, _, h, w = x.shape
    _, out, rows, columns = weight.shape
    (sy, sx), (py, px) = stride, pad
    whole = np.zeros((n, out, max((h - 1) * sy + rows, py + h * sy), max((w - 1) * sx + columns, px + w * sx)), x.dtype)
    products = np.tensordot(weight, x, axes=(0, 1))  # [out, rows, columns, n, h, w]
    for a in range(rows):
        for b in range(columns):
            whole[:, :, a : a + (h - 1) * sy + 1 : sy, b : b + (w - 1) * sx + 1 : sx] += products[:, a, b].swapaxes(
                0, 1
            )
    return whole[:, :, py : py + h * sy, px : px + w * sx]

"""Native forms of graphs in NumPy, slowly, straight from docs/BUNDLE.md, section 5, to hold others against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nicrt.runtime import native_form as n

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]


def run(form: n.NativeForm, tensors: Arrays, inputs: Arrays, outputs: Sequence[str]) -> dict[str, Array]:
    """Input ports by name → the outputs. float16 tensors are widened here."""
    machine = _Machine(tensors, inputs)
    for operation in form.operations:
        machine.run(operation)
    return {name: machine.values[name] for name in outputs}


def strided(x: Array, weight: Array, stride: Sequence[int], pad: Sequence[int]) -> Array:
    """x [n, in, h, w], weight [out, in, rows, columns] → sums in the wider type of both, [n, out, h / s, w / s]."""
    (down, right), (rows, columns) = stride, weight.shape[2:]
    height, width = x.shape[2] // down, x.shape[3] // right
    assert (height * down, width * right) == x.shape[2:], "a stride divides its input"
    padded = np.pad(x, ((0, 0), (0, 0), (pad[0], rows), (pad[1], columns)))
    result = np.zeros((len(x), len(weight), height, width), np.result_type(x, weight))
    for a in range(rows):
        for b in range(columns):
            places = padded[:, :, a : a + height * down : down, b : b + width * right : right]
            result += np.einsum("oc,nchw->nohw", weight[:, :, a, b], places[:, :, :height, :width])
    return result


def transposed(x: Array, weight: Array, stride: Sequence[int], pad: Sequence[int]) -> Array:
    """x [n, in, h, w], weight [in, out, rows, columns] → sums in the wider type of both, [n, out, h s, w s]."""
    (down, right), (rows, columns) = stride, weight.shape[2:]
    height, width = x.shape[2:]
    shape = (len(x), weight.shape[1], height * down + rows + pad[0], width * right + columns + pad[1])
    whole = np.zeros(shape, np.result_type(x, weight))
    for a in range(rows):
        for b in range(columns):
            added = np.einsum("co,nchw->nohw", weight[:, :, a, b], x)
            whole[:, :, a : a + height * down : down, b : b + width * right : right] += added
    return whole[:, :, pad[0] : pad[0] + height * down, pad[1] : pad[1] + width * right]


def bent(x: Array, slope: float) -> Array:
    return np.where(x < 0, x * np.float32(slope), x)


class _Machine:
    def __init__(self, tensors: Arrays, inputs: Arrays) -> None:
        self.tensors = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in tensors.items()}
        self.values = dict(inputs)

    def number(self, parameter: str) -> int:
        (value,) = self.values[parameter]
        return int(value)

    def run(self, operation: n.Operation) -> None:
        if isinstance(operation, n.IntegerNetwork):
            self.values |= self.integers(operation)
        else:
            assert operation.out not in self.values, "a value is written once"
            self.values[operation.out] = self.result(operation)

    def result(self, op: n.Operation) -> Array:
        match op:
            case n.Affine():
                return bent(self.sum(op.terms, op.offset), op.slope)
            case n.StridedChain() | n.TransposedChain():
                return self.chain(op)
            case n.Concatenate():
                return np.concatenate([self.values[name] for name in op.values], 1)
            case n.SelectChannels():
                return self.values[op.value][:, op.first : op.first + op.count]
            case n.PadChannels():
                value = self.values[op.value]
                return np.pad(value, ((0, 0), (0, op.count - value.shape[1]), (0, 0), (0, 0)))
            case n.Quantise():
                return np.rint(self.values[op.value]).clip(op.low, op.high).astype(np.int32)
            case n.Tanh():
                return np.tanh(self.values[op.value])
            case n.Absolute():
                return np.abs(self.values[op.value])
            case n.LogMagnitude():
                return np.log(np.abs(self.values[op.value]) + np.float32(op.floor))
        raise AssertionError(f"no operation {op}")

    def vector(self, factors: Sequence[n.Factor]) -> Array:
        """float32 [channels or 1, 1, 1]."""
        product = np.ones(1, np.float32)
        for factor in factors:
            product = product * self.factor(factor).astype(np.float32)
        return product[:, None, None]

    def factor(self, factor: n.Factor) -> Array:
        match factor:
            case n.Constant():
                return self.tensors[factor.tensor]
            case n.Row():
                return self.tensors[factor.tensor][self.number(factor.parameter)]
            case n.Exponential():
                return np.exp(np.array([factor.factor * self.number(factor.parameter) + factor.offset]))
            case n.InterpolatedExponential():
                rows = self.tensors[factor.tensor].astype(np.float64)
                distance = np.abs(self.number(factor.parameter) / factor.unit - np.arange(len(rows)))
                return np.exp(np.maximum(0, 1 - distance) @ rows)

    def sum(self, terms: Sequence[n.Term], offset: Sequence[n.Factor]) -> Array:
        parts = [self.values[t.value].astype(np.float32) * self.vector(t.scale) for t in terms]
        total = self.vector(offset) if offset else np.zeros(1, np.float32)
        for part in parts:
            total = total + part
        return total

    def chain(self, op: n.StridedChain | n.TransposedChain) -> Array:
        x = self.sum(op.terms, op.offset)
        for layer in op.layers:
            upwards = isinstance(op, n.TransposedChain)
            norm = layer.norm
            x = x * self.norm(norm, x) if norm is not None and upwards else x
            x = (transposed if upwards else strided)(x, self.tensors[layer.weight], layer.stride, layer.pad)
            x = x if layer.bias is None else x + self.tensors[layer.bias][:, None, None]
            x = bent(x, layer.slope)
            x = x / self.norm(norm, x) if norm is not None and not upwards else x
        if isinstance(op, n.StridedChain) or op.picture is None:
            return x
        clipped = x.clip(op.picture.low, op.picture.high)
        return clipped.astype(op.picture.dtype).transpose(0, 2, 3, 1)

    def norm(self, norm: n.Normalisation, x: Array) -> Array:
        beta, gamma = self.tensors[norm.beta], self.tensors[norm.gamma]
        return np.sqrt(beta[:, None, None] + np.einsum("ck,nkhw->nchw", gamma, x * x))

    def integers(self, network: n.IntegerNetwork) -> dict[str, Array]:
        x = self.values[network.value].astype(np.int64)
        for layer in network.hidden:
            x = np.rint(self.products(layer, x)).clip(layer.low, layer.high).astype(np.int64)
        return {head.out: self.head(head, x) for head in network.heads}

    def products(self, layer: n.IntegerLayer | n.Head, x: Array) -> Array:
        def of(name: str) -> Array:
            tensor = self.tensors[name]
            return (tensor if layer.row is None else tensor[self.number(layer.row)])[:, None, None]

        sums = transposed(x, self.tensors[layer.weight].astype(np.int64), layer.stride, layer.pad) + of(layer.bias)
        assert np.abs(sums).max(initial=0) < 1 << 31
        result = sums.astype(np.float32) * of(layer.multiplier)
        if isinstance(layer, n.IntegerLayer) and layer.negative is not None:
            result = np.maximum(result, sums.astype(np.float32) * of(layer.negative))
        return result

    def head(self, head: n.Head, x: Array) -> Array:
        products = self.products(head, x)
        rule = head.index
        if rule is None:
            return products
        v = np.rint(products).astype(np.int64)
        if rule.scales is not None:
            c = v.clip(rule.scales.low, rule.scales.high)
            coarse = np.floor(c * rule.scales.unit).astype(np.int64) + rule.scales.add
            v = self.tensors[rule.scales.tensor][np.where(c < rule.scales.limit, c, coarse)].astype(np.int64)
        index = np.floor((v + rule.add - self.number(rule.minus)) * rule.unit).clip(rule.low, rule.high)
        return np.where(index < self.number(rule.skip), rule.skipped, index).astype(np.uint8)

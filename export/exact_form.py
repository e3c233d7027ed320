"""The description of a lowered hyper synthesis: one `integer_network` from z to table indices and means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.native_form import Head, IndexRule, IntegerLayer, IntegerNetwork, ScaleTable

from .described import Description
from .exact import NOT_CODED, SCALE_BREAK, SCALE_SHIFT, ExactLayer, ExactNetwork
from .exact_one_layer import OneLayerNetwork
from .models.entropy import SCALE_COUNT, STEPS_PER_INDEX
from .native_torch import NativeModule

INPUTS, INDEX, MEAN = ("z", "step", "skip", "dz"), "index", "mean"
INDEX_RULE = IndexRule(
    add=STEPS_PER_INDEX // 2,  # makes the floor a rounding
    unit=1 / STEPS_PER_INDEX,
    low=0,
    high=SCALE_COUNT - 1,
    skip="skip",
    skipped=NOT_CODED,
    minus="step",
)
"""From eighths of a table step to an index."""


def describe(described: Description, name: str, network: ExactNetwork | OneLayerNetwork) -> IntegerNetwork:
    """Add the network to a description: from z int32 [n, c, h, w], step (eighths), skip and dz int32 [1] to index uint8
    and, if there are means, mean float32. Its tensors are stored under `name`."""
    operation = integer_network(described, name, network, coded=True)
    described.add(operation)
    return operation


def integer_network(
    described: Description, name: str, network: ExactNetwork | OneLayerNetwork, *, coded: bool
) -> IntegerNetwork:
    """The operation, its tensors stored. Without `coded` the head "index" gives eighths of a table step, float32, not
    rounded."""
    tensors = _Tensors(described, name)
    rule = INDEX_RULE if coded else None
    if isinstance(network, OneLayerNetwork):
        half = len(network.rows[0].bias) // 2
        heads = [(MEAN, [_half(row, slice(half)) for row in network.rows], None)]
        heads.append((INDEX, [_half(row, slice(half, None)) for row in network.rows], rule))
        return IntegerNetwork("z", [tensors.head(out, rows, index, row="dz") for out, rows, index in heads])
    if rule is not None and network.scale_table is not None:
        rule = _with_scales(rule, described.tensor(f"{name}.scales", network.scale_table))
    heads = [(INDEX, [network.index], rule)]
    if network.mean is not None:
        heads.insert(0, (MEAN, [network.mean], None))
    hidden = [tensors.hidden("0", network.first, row="dz")]
    hidden += [tensors.hidden(str(number), [layer]) for number, layer in enumerate(network.hidden, 1)]
    return IntegerNetwork("z", [tensors.head(out, rows, index) for out, rows, index in heads], hidden)


def exact_module(network: ExactNetwork | OneLayerNetwork) -> NativeModule:
    """The network in PyTorch: z, step, skip, dz → index, mean (if there is one)."""
    described = Description()
    operation = describe(described, "network", network)
    outputs = sorted(head.out for head in operation.heads)
    return NativeModule(described.form(), described.arrays, INPUTS, outputs)


class _Tensors:
    """Stores layers of a network under its name."""

    def __init__(self, described: Description, name: str) -> None:
        self._described, self._name = described, name

    def hidden(self, key: str, rows: Sequence[ExactLayer], row: str | None = None) -> IntegerLayer:
        """`rows`: one, or one per value of the parameter `row`."""
        layer = rows[0]
        negative = None
        if layer.slope:
            negative = self._vector(f"{key}.negative", [one.negative_multiplier for one in rows], row)
        return IntegerLayer(
            *self._shared(key, rows, row),
            low=layer.bottom,
            high=layer.top,
            negative=negative,
            stride=(layer.stride, layer.stride),
            pad=(layer.padding, layer.padding),
            row=row,
        )

    def head(self, out: str, rows: Sequence[ExactLayer], index: IndexRule | None, row: str | None = None) -> Head:
        stride, pad = rows[0].stride, rows[0].padding
        return Head(out, *self._shared(out, rows, row), (stride, stride), (pad, pad), row, index)

    def _shared(self, key: str, rows: Sequence[ExactLayer], row: str | None) -> tuple[str, str, str]:
        weight = self._described.tensor(f"{self._name}.{key}.weight", _transposed(rows[0]))
        bias = self._vector(f"{key}.bias", [layer.bias for layer in rows], row)
        return weight, bias, self._vector(f"{key}.multiplier", [layer.multiplier for layer in rows], row)

    def _vector(self, key: str, values: Sequence[npt.NDArray[Any]], row: str | None) -> str:
        return self._described.tensor(f"{self._name}.{key}", values[0] if row is None else np.stack(values))


def _with_scales(rule: IndexRule, tensor: str) -> IndexRule:
    """For a network that gives scales: `tensor` has their eighths."""
    table = ScaleTable(
        tensor,
        low=0,
        high=(SCALE_BREAK << SCALE_SHIFT) - 1,
        limit=SCALE_BREAK,
        unit=1 / (1 << SCALE_SHIFT),
        add=SCALE_BREAK - (SCALE_BREAK >> SCALE_SHIFT),
    )
    return IndexRule(rule.add, rule.unit, rule.low, rule.high, rule.skip, rule.skipped, rule.minus, table)


def _half(layer: ExactLayer, channels: slice) -> ExactLayer:
    """Some output channels of a transposed convolution."""
    return ExactLayer(
        layer.name,
        layer.weight[:, channels],
        layer.bias[channels],
        layer.multiplier[channels],
        layer.stride,
        layer.padding,
        layer.output_padding,
        layer.transposed,
        layer.activation,
    )


def _transposed(layer: ExactLayer) -> npt.NDArray[np.int8]:
    """The weights as those of a transposed convolution, [in, out, k, k]: a convolution of stride 1 is one, with its
    taps turned round."""
    kernel = layer.weight.shape[2]
    if kernel + layer.output_padding - 2 * layer.padding != layer.stride:
        raise UnsupportedError(f"{layer.name}: what gives other than `stride` times its inputs has no exact form")
    if layer.transposed:
        return layer.weight
    return layer.weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]

"""Exact lowering of the JPEG-like hyper synthesis: one transposed convolution from z to means and indices, in integers
as `exact` describes. Each z step has a row of biases and multipliers for the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from nicrt.runtime.errors import UnsupportedError

from .exact import MAX_SUM, ExactLayer, FloatLayer, largest_sums, lower_layer, shares
from .exact_reference import index_of as integer_index_of
from .exact_reference import layer_sums, scaled_sums
from .models.entropy import STEPS_PER_INDEX, Z_STEPS, JpegLikeHyperSynthesis, z_step


@dataclass(frozen=True)
class OneLayerNetwork:
    """`rows`: the layer as it is for each z step. The first half of its outputs are means, the second half eighths of
    a table step."""

    rows: tuple[ExactLayer, ...]
    input_bound: int

    def summary(self) -> str:
        """How far the sums are from where they would stop being exact, for a person."""
        largest = max(float(shares(row, self.input_bound).max()) for row in self.rows)
        return f"exact: largest sum as a share of 2^24: {largest:.2f}"


def lower_one_layer(model: JpegLikeHyperSynthesis, z_limit: int) -> OneLayerNetwork:
    """Refuses a layer whose sums could leave the integers that float32 holds, at the worst of the 16 output phases."""
    layer = FloatLayer.of("layer", model.layer)
    half = len(layer.bias) // 2
    bias = layer.bias + np.repeat([0.0, model.OFFSET / model.SLOPE], half)
    scale = np.repeat([1.0, 1 / (STEPS_PER_INDEX * model.SLOPE)], half)
    rows = tuple(
        lower_layer(replace(layer, bias=bias), z_step(dz), scale, input_bound=z_limit, activation=False)
        for dz in range(Z_STEPS)
    )
    reach = max((largest_sums(row, z_limit) * row.multiplier.astype(np.float64))[half:].max() for row in rows)
    if reach >= MAX_SUM // 4:
        raise UnsupportedError(f"layer: its eighths can reach {reach:.0f}, beyond the integers that float32 holds")
    return OneLayerNetwork(rows, z_limit)


def one_layer_reference(
    network: OneLayerNetwork, z: npt.NDArray[np.int32], step: int, skip: int, dz: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """What every backend must compute, as `exact_reference.reference`."""
    row = network.rows[dz]
    mean, eighths = np.split(scaled_sums(row, layer_sums(row, z[0].astype(np.int64))), 2)
    index = integer_index_of(np.rint(eighths).astype(np.int64), step, skip)
    return index, cast(npt.NDArray[np.float32], mean[None])

"""What an exact network computes, with integers and numpy: for proofs and tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .exact import NOT_CODED, SCALE_BREAK, SCALE_SHIFT, ExactLayer, ExactNetwork, Integers
from .models.entropy import SCALE_COUNT, STEPS_PER_INDEX


def layer_sums(layer: ExactLayer, x: Integers) -> Integers:
    """The layer's integer sums: int64 [in, h, w] → int64 [out, h', w']. Products are done in float64, exact
    below 2^53."""
    weight = layer.weight.astype(np.float64)
    channels, height, width = x.shape
    stride, kernel = layer.stride, weight.shape[2]
    if not layer.transposed:
        padded = np.pad(x, ((0, 0), (layer.padding,) * 2, (layer.padding,) * 2)).astype(np.float64)
        places = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))
        product = np.tensordot(weight, places, ((1, 2, 3), (0, 3, 4)))
        return np.asarray(product.astype(np.int64) + layer.bias[:, None, None])
    places = x.reshape(channels, -1).astype(np.float64)
    full = np.zeros((weight.shape[1], (height - 1) * stride + kernel, (width - 1) * stride + kernel), np.int64)
    for row in range(kernel):
        for column in range(kernel):
            tap = (weight[:, :, row, column].T @ places).astype(np.int64).reshape(-1, height, width)
            full[:, row : row + height * stride : stride, column : column + width * stride : stride] += tap
    out_height = (height - 1) * stride + kernel - 2 * layer.padding + layer.output_padding
    out_width = (width - 1) * stride + kernel - 2 * layer.padding + layer.output_padding
    full = np.pad(full, ((0, 0), (0, layer.output_padding), (0, layer.output_padding)))
    cut = full[:, layer.padding :, layer.padding :][:, :out_height, :out_width]
    return np.asarray(cut + layer.bias[:, None, None], np.int64)


def scaled_sums(layer: ExactLayer, sums: Integers) -> npt.NDArray[np.float32]:
    """One float32 multiplication, rounded once, as IEEE 754 defines it."""
    multiplier = np.where(sums < 0, layer.negative_multiplier[:, None, None], layer.multiplier[:, None, None])
    chosen = multiplier if layer.slope else layer.multiplier[:, None, None]
    return np.asarray(sums.astype(np.float32) * chosen, np.float32)


def _table_eighths(table: npt.NDArray[np.int16], values: Integers) -> Integers:
    scale = np.clip(values, 0, (SCALE_BREAK << SCALE_SHIFT) - 1)
    coarse = SCALE_BREAK + ((scale - SCALE_BREAK) >> SCALE_SHIFT)
    return np.asarray(table[np.where(scale < SCALE_BREAK, scale, coarse)], np.int64)


def index_of(eighths: Integers, step: int | npt.NDArray[np.int32], skip: int) -> npt.NDArray[np.uint8]:
    """Eighths of a table step [m, h, w], `step` one for all or [m, 1, 1] → index uint8 [1, m, h, w]."""
    index = np.clip((eighths - step + STEPS_PER_INDEX // 2) >> 3, 0, SCALE_COUNT - 1)
    return np.where(index < skip, NOT_CODED, index).astype(np.uint8)[None]


def reference(
    network: ExactNetwork, z: npt.NDArray[np.int32], step: int, skip: int, dz: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]:
    """What every backend must compute: z int32 [1, c, h, w] → index uint8 and mean float32 [1, m, 4h, 4w] (None where
    the network has no means)."""
    eighths, means = sums(network, z, dz)
    coded = index_of(eighths, step, skip)
    return coded, None if means is None else scaled_sums(network.mean, means)[None]


def sums(network: ExactNetwork, z: npt.NDArray[np.int32], dz: int) -> tuple[Integers, Integers | None]:
    """z int32 [1, c, h, w] → eighths of a table step, before a file's step, and sums of means, int64 [m, 4h, 4w]."""
    x = z[0].astype(np.int64)
    for layer in (network.first[dz], *network.hidden):
        x = np.clip(np.rint(scaled_sums(layer, layer_sums(layer, x))), layer.bottom, layer.top).astype(np.int64)
    eighths = np.rint(scaled_sums(network.index, layer_sums(network.index, x))).astype(np.int64)
    if network.scale_table is not None:
        eighths = _table_eighths(network.scale_table, eighths)
    return eighths, None if network.mean is None else layer_sums(network.mean, x)

"""Symbols lessened, to come down to a target from a little beyond it.

A symbol that moves by one towards 0 saves bits and adds error, and both follow from its table before anything is
decoded: a table falls from one symbol to the next as a Laplacian does. The order is that of bits for error: first come
symbols that the codec did not expect, on which its quantiser spends more than they are worth. Only a file's last stream
is thinned: no other stream hangs on it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nicrt import _core

REACH = 15
"""Symbols beyond it stay."""
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Odd: places times it lie in an order that has nothing to do with where they are in the picture."""
FASTEST_FALL, SLOWEST_FALL = 20.0, 0.01
"""Between which the reciprocal of a distribution's scale, in quantisation steps, is believed."""

Floats = npt.NDArray[np.float64]


def order_of(
    symbols: npt.NDArray[np.int32], codebook: _core.Codebook, index: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.intp], Floats, Floats]:
    """Places of symbols [channels, height, width] in the order in which they are to be lessened, the bits that each
    saves, and the error that it is expected to add. index: table of each symbol, or of each channel."""
    flat, tables = symbols.ravel(), index if index.ndim == 3 else index[:, None, None]
    places = np.flatnonzero((flat != 0) & (np.abs(flat) <= REACH))
    table = np.broadcast_to(tables, symbols.shape).ravel()[places].astype(np.int64)
    kinds = (2 * REACH + 1) * table + REACH + flat[places]
    saved, lost = (values.ravel() for values in _bits_and_errors(codebook))
    ranks = np.empty(saved.size, np.int64)
    ranks[np.argsort(-saved / lost, kind="stable")] = np.arange(saved.size)
    order = np.lexsort((places.astype(np.uint64) * SPREAD, ranks[kinds]))
    order = order[saved[kinds[order]] > 0]
    return places[order], saved[kinds[order]], lost[kinds[order]]


def _bits_and_errors(codebook: _core.Codebook) -> tuple[Floats, Floats]:
    """[tables, symbols from -REACH]: what a symbol saves when it moves towards 0, and the error that this is expected
    to add. A value that was rounded to s lies at s - 1/2 + t with t in 0..1, so that (value - s + 1)^2 - (value - s)^2
    = 2 t; and the mean of t is b - 1 / (exp(1 / b) - 1) in a distribution of the scale b."""
    lengths = codebook.code_lengths(REACH).astype(np.float64)
    nearer = np.arange(2 * REACH + 1) - np.sign(np.arange(-REACH, REACH + 1))
    falls = np.log(2) * (lengths[:, [REACH - 2, REACH + 2]] - lengths[:, [REACH - 1, REACH + 1]]).mean(1, keepdims=True)
    falls = np.clip(falls, SLOWEST_FALL, FASTEST_FALL)  # 1 / b
    saved = lengths - lengths[:, nearer]
    return saved, np.broadcast_to(2 * (1 / falls - 1 / np.expm1(falls)), saved.shape)

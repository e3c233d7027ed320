"""A small picture that behaves like a large one: some parts of it, as smooth and as busy as all of it.

How rate and PSNR change with the quality is much the same on a part of a picture as on all of it, where the part has
the same share of smooth and of busy regions. A search looks there first, at a fraction of the cost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .pictures import Rgb

SHARE = 6
"""A sample has at most this part of the picture's pixels: a sixth."""
EDGES, LEAST_PARTS, MOST_PARTS = (128, 64), (3, 4), 16
"""Edges in pixels of the square parts, the least number of each that make a sample, and the most."""
CELL = 32
"""Edge in pixels of the squares whose busyness is compared; parts begin at multiples of it."""
DARKEST = 1e-6
"""Added to busyness before its logarithm: a fifteenth of a grey level."""

Floats = npt.NDArray[np.float32]


def sample_of(picture: Rgb) -> Rgb | None:
    """float32 [height, width, 3] → a picture of its parts side by side, or None for one that is too small."""
    for edge, least in zip(EDGES, LEAST_PARTS, strict=True):
        parts = min(MOST_PARTS, picture.shape[0] * picture.shape[1] // (SHARE * edge**2))
        if parts >= least and min(picture.shape[:2]) >= edge:
            places = _places(_busyness(picture), edge // CELL, parts)
            cut = [picture[row : row + edge, column : column + edge] for row, column in CELL * places]
            return np.concatenate(cut, axis=1)
    return None


def _places(busyness: Floats, side: int, parts: int) -> npt.NDArray[np.intp]:
    """Rows and columns of squares of side x side cells, chosen one by one so that the distribution of busyness among
    their cells comes to be that of all: int [parts, 2]."""
    windows = np.lib.stride_tricks.sliding_window_view(busyness, (side, side))
    candidates = windows.reshape(windows.shape[0] * windows.shape[1], side * side)
    chosen, cells = list[int](), np.empty(0, np.float32)
    for _ in range(parts):
        together = np.sort(np.concatenate([np.broadcast_to(cells, (len(candidates), len(cells))), candidates], 1), 1)
        wanted = np.quantile(busyness, (np.arange(together.shape[1]) + 0.5) / together.shape[1])
        chosen.append(int(np.abs(together - wanted).sum(axis=1).argmin()))
        cells = np.concatenate([cells, candidates[chosen[-1]]])
    return np.stack(np.divmod(chosen, windows.shape[1]), axis=1)


def _busyness(picture: Rgb) -> Floats:
    """Of every whole cell, [rows, columns]: logarithm of the mean squared difference of neighbours."""
    rows, columns = picture.shape[0] // CELL, picture.shape[1] // CELL
    green = picture[: rows * CELL, : columns * CELL, 1]
    squares = np.zeros_like(green)
    squares[1:] += np.square(np.diff(green, axis=0))
    squares[:, 1:] += np.square(np.diff(green, axis=1))
    return np.asarray(np.log(squares.reshape(rows, CELL, columns, CELL).mean(axis=(1, 3)) + DARKEST), np.float32)

"""Training pictures: random crops of the photographs in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from nicrt.export.refusals import about
from nicrt.runtime.limits import DEFAULT_LIMITS
from nicrt.runtime.pictures import load_picture, rounded

SUFFIXES = (".avif", ".jpeg", ".jpg", ".png", ".webp")
BLOCKS = 160
LEAST_SIDE = 256
"""Of a photograph in pixels, and the largest of a crop."""


class Photos:
    """The photographs of a folder and its subfolders that are large enough. They are decoded when first drawn, and
    kept."""

    def __init__(self, folder: Path) -> None:
        """Raises ValueError where there is none."""
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        self.files = [file for file in files if _least_side(file) >= LEAST_SIDE]
        if not self.files:
            raise ValueError(f"{folder}: no picture of at least {LEAST_SIDE} x {LEAST_SIDE} pixels")
        self._load = lru_cache(maxsize=None)(_pixels)

    def crops(self, random: np.random.Generator, count: int, side: int) -> Tensor:
        """Random crops, half of them mirrored: float32 [count, 3, side, side] in [0, 1]."""
        photos = (random.integers(len(self.files)) for _ in range(count))
        return torch.cat([self.crop(photo, random, side) for photo in photos])

    def crop(self, number: int, random: np.random.Generator, side: int) -> Tensor:
        """A random crop of the photograph with this number, as in `crops`: float32 [1, 3, side, side]."""
        photo = self._load(self.files[number])
        top, left = (random.integers(length - side + 1) for length in photo.shape[:2])
        crop = photo[top : top + side, left : left + side]
        crop = crop[:, ::-1] if random.integers(2) else crop
        return torch.from_numpy(crop.copy())[None].permute(0, 3, 1, 2) / 255

    def blocks(self, side: int) -> Iterator[Tensor]:
        """Small crops, BLOCKS for every photograph, the same at every call: float32 [BLOCKS, 3, side, side] in
        [-0.5, 0.5]."""
        random = np.random.default_rng(0)
        for _ in self.files:
            yield self.crops(random, BLOCKS, side) - 0.5


def _least_side(file: Path) -> int:
    with _opened(file) as picture:
        return min(picture.size)


def _pixels(file: Path) -> npt.NDArray[np.uint8]:
    with about(file):
        return rounded(load_picture(file.read_bytes(), DEFAULT_LIMITS.pixels).pixels)


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Raises ValueError with the name of a file that is no picture."""
    try:
        with Image.open(file) as picture:
            yield picture
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{file}: not a picture that can be read") from error

"""What a bundle's files give against the codec where it was trained, on a few pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from nicrt.runtime.bench import photograph
from nicrt.runtime.loading import load

from .bundle import BundleSource, Framework

RATE_TOLERANCE, PSNR_TOLERANCE_DB = 0.02, 0.1
FIXED_BYTES = 64  # of a file, about, that a framework's rate does not have: header, streams' own, coder states
SIDE = 512  # of the middle of a picture that is compared, at most, pixels
MOST_PICTURES = 4
_ALIGN = 64

Pixels = npt.NDArray[np.uint8]


@dataclass
class _Sum:
    """Over pictures: pixels, bits, and squared error of 8-bit values."""

    pixels: int = 0
    bits: float = 0.0
    error: float = 0.0

    def add(self, picture: Pixels, bits: float, decoded: npt.NDArray[np.float64]) -> None:
        self.pixels += picture.shape[0] * picture.shape[1]
        self.bits += bits
        self.error += float(np.sum((decoded - picture) ** 2))

    @property
    def bpp(self) -> float:
        return self.bits / self.pixels

    @property
    def psnr(self) -> float:
        return 10 * math.log10(255**2 / max(self.error / (3 * self.pixels), 1e-10))


def compared(source: BundleSource, folder: Path, pictures: Sequence[npt.NDArray[np.float32]]) -> str:
    """One line that compares the bundle in `folder` with its framework on `pictures`, float32 [h, w, 3] in [0, 1], or
    on a made one; it begins with "warning" where rates differ by more than RATE_TOLERANCE (and what a file has
    anyway) or PSNR by more than PSNR_TOLERANCE_DB, and says so where nothing can be compared."""
    framework = source.framework
    if framework is None:
        return "not compared with its framework: this family's bundle codes otherwise than its model"
    program = source.programs.get(framework.variant)
    if program is None or not program.encodes:
        return "not compared with its framework: the bundle lacks the encoder, or the variant to compare"
    crops = [_middle(np.rint(picture * 255).astype(np.uint8)) for picture in pictures[:MOST_PICTURES]]
    where = f"{len(crops)} calibration picture{'s' * (len(crops) > 1)}" if crops else "a made picture"
    return _line(framework, folder, crops or [photograph(SIDE, SIDE)], where)


def _line(framework: Framework, folder: Path, crops: Sequence[Pixels], where: str) -> str:
    codec = load(folder)
    theirs, ours = _Sum(), _Sum()
    for crop in crops:
        bits, reconstruction = framework.evaluate(_padded(crop))
        height, width = crop.shape[:2]
        shown = reconstruction.clamp(0, 1).mul(255).round()[0, :, :height, :width].permute(1, 2, 0)
        theirs.add(crop, bits, shown.double().numpy())
        data = codec.encode(crop, variant=framework.variant, parameters=framework.parameters)
        ours.add(crop, 8.0 * len(data), codec.decode(data).astype(np.float64))
    rate, decibels = ours.bpp / theirs.bpp - 1 if theirs.bpp else math.inf, ours.psnr - theirs.psnr
    fixed = 8 * FIXED_BYTES * len(crops) / max(theirs.bits, 1.0)
    close = -RATE_TOLERANCE <= rate <= RATE_TOLERANCE + fixed and abs(decibels) <= PSNR_TOLERANCE_DB  # NaN is not
    return (
        f"{'' if close else 'warning: '}on {where} {framework.name} gives {theirs.bpp:.3f} bpp and {theirs.psnr:.2f} "
        f"dB, the bundle's files {ours.bpp:.3f} bpp ({rate:+.1%}) and {ours.psnr:.2f} dB ({decibels:+.2f})"
    )


def _middle(picture: Pixels) -> Pixels:
    """The middle of a picture, at most SIDE x SIDE, of sides that need no padding where it is large enough."""
    height, width = (min(side, SIDE) // _ALIGN * _ALIGN or side for side in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def _padded(picture: Pixels) -> torch.Tensor:
    x = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]
    return F.pad(x, (0, -x.shape[3] % _ALIGN, 0, -x.shape[2] % _ALIGN), mode="replicate")

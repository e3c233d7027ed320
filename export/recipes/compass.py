"""Recipe of COMPASS (Park, Lee, Kim, ICCV 2023) on a trained base codec, which stays as it is.

First the local implicit filter alone learns to enlarge what the base makes (L1, as in the paper). Then filter and
residual codec train together on two layers of random factors, up to those that one layer may have.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nicrt.export.models.compass import Compass, pad

from .data import Photos
from .loop import Batch, Log, Recipe
from .losses import MIDDLE, project_gdn, psnr, rate_distortion, squared_error

CROP, BATCH = 256, 8
FACTORS = (1.2, 3.0)  # of the sides of neighbouring layers
LEAST_SIDE = 24
FILTER_ALONE, LAYERS, INTEGERS = range(3)
LAYERS_FROM, INTEGERS_FROM = 0.15, 0.6
"""Shares of a run without trained layers: before, the filter alone; from then on, the residual codec's hyper synthesis
trains with the weights that it is lowered to."""
PREDICTION_WEIGHT = 0.1  # of the predictions' errors, beside those of the reconstructions


class CompassRecipe(Recipe):
    """`base`: a mean-scale checkpoint's tensors, and those of a COMPASS checkpoint, if any, to start from."""

    rates: Mapping[str, float] = {"base.": 0.0}
    fixed_shapes = False

    def __init__(self, photos: Photos, base: Mapping[str, Tensor] | None) -> None:
        self.family, self.photos = "compass", photos
        self.model = Compass()
        layers = {name: t for name, t in (base or {}).items() if name.startswith(("residual.", "liff."))}
        codec = {name.removeprefix("base."): t for name, t in (base or {}).items() if name not in layers}
        if not codec:
            raise ValueError("the layers are trained on a base codec: give its checkpoint (--base)")
        self.model.base.load_state_dict(codec)
        self.started = bool(layers)
        if layers:
            self.model.load_state_dict(layers | {f"base.{name}": tensor for name, tensor in codec.items()})
        else:
            start(self.model, codec)

    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        fine = self.photos.crops(random, BATCH, CROP)
        middle = _smaller(fine, random.uniform(*FACTORS))
        return {"fine": fine, "middle": middle, "coarse": _smaller(middle, random.uniform(*FACTORS))}

    def phase(self, progress: float) -> int:
        if self.started or progress >= INTEGERS_FROM:
            return INTEGERS
        return LAYERS if progress >= LAYERS_FROM else FILTER_ALONE

    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        coarse, middle, fine = (batch[name] for name in ("coarse", "middle", "fine"))
        with torch.no_grad():
            below = self.model.base(pad(coarse))[0][:, :, : coarse.shape[2], : coarse.shape[3]]
        if phase == FILTER_ALONE:
            prediction = self.model.liff(below.clamp(0, 1), tuple(middle.shape[2:]))
            return (prediction - middle).abs().mean(), {"psnr": psnr(squared_error(prediction, middle))}
        total, log = torch.zeros((), device=fine.device), {}
        for name, x in (("middle", middle), ("fine", fine)):
            below, bits, prediction = self.model(below, x, phase == INTEGERS)
            bpp, error, missed = bits / x[0, 0].numel(), squared_error(below, x), squared_error(prediction, x)
            total = total + rate_distortion(bpp, error + PREDICTION_WEIGHT * missed, MIDDLE).mean()
            log |= {f"bpp {name}": bpp, f"psnr {name}": psnr(error), f"predicted {name}": psnr(missed)}
        return total, log

    def project(self) -> None:
        project_gdn(self.model.residual)

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return super().weights({name: tensor for name, tensor in state.items() if not name.startswith("base.")})


def _smaller(x: Tensor, factor: float) -> Tensor:
    side = max(LEAST_SIDE, round(x.shape[-1] / factor))
    return F.interpolate(x, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)


@torch.no_grad()
def start(model: Compass, codec: Mapping[str, Tensor]) -> None:
    """The residual codec starts as the base's, but for the hyper synthesis, whose layers are others; the filter starts
    close to bicubic interpolation alone."""
    shared = {name: tensor for name, tensor in codec.items() if not name.startswith("h_s.")}
    model.residual.load_state_dict(shared, strict=False)
    last = model.liff.mlp[-1]
    nn.init.normal_(last.weight, 0, 1e-3)
    nn.init.zeros_(last.bias)

"""Recipe of the mean-scale hyperprior with GDN, at one trade-off."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from nicrt.export.models.mean_scale import MeanScale

from .data import Photos
from .loop import Batch, Log, Recipe
from .losses import MIDDLE, project_gdn, psnr, rate_distortion, squared_error

CROP, BATCH = 256, 8


class MeanScaleRecipe(Recipe):
    """Everything is trained."""

    def __init__(self, photos: Photos, base: Mapping[str, Tensor] | None) -> None:
        self.family, self.photos = "mean-scale", photos
        self.model = MeanScale()
        if base is None:
            self.model.prior.start()
        else:
            self.model.load_state_dict(base)

    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        return {"x": self.photos.crops(random, BATCH, CROP)}

    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        x = batch["x"]
        picture, bits = self.model(x)
        bpp, error = bits / x[0, 0].numel(), squared_error(picture, x)
        return rate_distortion(bpp, error, MIDDLE).mean(), {"bpp": bpp, "psnr": psnr(error)}

    def project(self) -> None:
        project_gdn(self.model)

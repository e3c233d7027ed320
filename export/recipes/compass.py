"""Recipe of COMPASS (Park, Lee, Kim, ICCV 2023) on a trained base codec, which stays as it is.

First the local implicit filter alone learns to enlarge what the base makes (L1, as in the paper), then the residual
codec alone to code what bicubic interpolation leaves over, which it starts as a Karhunen-Loeve transform of: the filter
takes as long as all else in a step. Then both train together. All see two layers of random factors, up to those that
one layer may have, and quantisation steps of their own, which both layers and the base share. A trained filter without
a trained residual codec stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nicrt.export.compass import BEST_STEP, WORST_STEP
from nicrt.export.models.compass import Compass, pad

from .data import Photos
from .loop import Batch, Log, Recipe
from .losses import balanced, project_gdn, psnr, rate_distortion, squared_error
from .mean_scale import RATES, START_BATCHES, start, steps, weights

CROP, BATCH = 256, 2
FACTORS = (1.2, 3.0)  # of the sides of neighbouring layers
LEAST_SIDE = 24
FILTER, EVERYTHING = 1, 2  # what of it a run may start with trained
FILTER_ALONE, CODEC_ALONE, TOGETHER = range(3)
CODEC_FROM, TOGETHER_FROM = 0.15, 0.6
"""Shares of a run without trained layers. Together, the residual codec's hyper synthesis trains with the weights that
it is lowered to."""
PREDICTION_WEIGHT = 0.1  # of the predictions' errors, beside those of the reconstructions


class CompassRecipe(Recipe):
    """`base`: a mean-scale checkpoint's tensors, and those of a COMPASS checkpoint, if any, to start from."""

    learning_rate = 1e-3
    rates: Mapping[str, float] = {
        "base.": 0.0,
        "liff.": 0.3,
        **{f"residual.{name}": rate for name, rate in RATES.items()},
    }
    fixed_shapes = False

    def __init__(self, photos: Photos, base: Mapping[str, Tensor] | None) -> None:
        self.family, self.photos = "compass", photos
        self.model = Compass()
        layers = {name: t for name, t in (base or {}).items() if name.startswith(("residual.", "liff."))}
        codec = {name.removeprefix("base."): t for name, t in (base or {}).items() if name not in layers}
        if not codec:
            raise ValueError("the layers are trained on a base codec: give its checkpoint (--base)")
        self.model.base.load_state_dict(codec)
        given = {name.split(".")[0] for name in layers}
        self.started = EVERYTHING if "residual" in given else FILTER if given else 0
        self.model.load_state_dict(layers, strict=False)
        if self.started < FILTER:
            nn.init.normal_(self.model.liff.mlp[-1].weight, 0, 1e-3)  # close to bicubic interpolation alone
            nn.init.zeros_(self.model.liff.mlp[-1].bias)
        if self.started < EVERYTHING:
            start(self.model.residual, torch.cat(list(self._left_over())))

    def factor(self, name: str) -> float:
        return 0.0 if self.started == FILTER and name.startswith("liff.") else super().factor(name)

    def _left_over(self) -> Iterator[Tensor]:
        """What the layers' residual codec will see, less its offset: float32 [BATCH, 3, CROP, CROP]."""
        random = np.random.default_rng(0)
        for _ in range(START_BATCHES):
            batch = self._layers(random)
            with torch.no_grad():
                below = self._base(batch["middle"], 1.0).clamp(0, 1)
            yield batch["fine"] - self.model.predict(below, (CROP, CROP), implicit=False)

    def _base(self, x: Tensor, step: Tensor | float) -> Tensor:
        return self.model.base(pad(x), step=step)[0][:, :, : x.shape[2], : x.shape[3]]

    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        return self._layers(random) | {"step": steps(random, BATCH, (BEST_STEP, WORST_STEP))}

    def _layers(self, random: np.random.Generator) -> Batch:
        fine = self.photos.crops(random, BATCH, CROP)
        middle = _smaller(fine, random.uniform(*FACTORS))
        return {"fine": fine, "middle": middle, "coarse": _smaller(middle, random.uniform(*FACTORS))}

    def phase(self, progress: float) -> int:
        if self.started == EVERYTHING or progress >= TOGETHER_FROM:
            return TOGETHER
        return CODEC_ALONE if self.started or progress >= CODEC_FROM else FILTER_ALONE

    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        coarse, middle, fine, step = (batch[name] for name in ("coarse", "middle", "fine", "step"))
        with torch.no_grad():
            below = self._base(coarse, step)
        if phase == FILTER_ALONE:
            prediction = self.model.liff(below.clamp(0, 1), tuple(middle.shape[2:]))
            return (prediction - middle).abs().mean(), {"psnr": psnr(squared_error(prediction, middle))}
        total, log, weight = torch.zeros((), device=fine.device), {}, weights(step)
        for name, x in (("middle", middle), ("fine", fine)):
            below, bits, prediction = self.model(below, x, phase == TOGETHER, phase == TOGETHER, step)
            bpp, error, missed = bits / x[0, 0].numel(), squared_error(below, x), squared_error(prediction, x)
            loss = rate_distortion(bpp, error + PREDICTION_WEIGHT * missed, weight)
            total = total + balanced(loss, weight).mean()
            log |= {f"bpp {name}": bpp, f"psnr {name}": psnr(error), f"predicted {name}": psnr(missed)}
        return total, log

    def project(self) -> None:
        project_gdn(self.model.residual)

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return super().weights({name: tensor for name, tensor in state.items() if not name.startswith("base.")})


def _smaller(x: Tensor, factor: float) -> Tensor:
    side = max(LEAST_SIDE, round(x.shape[-1] / factor))
    return F.interpolate(x, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)

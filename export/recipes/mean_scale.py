"""Recipe of the mean-scale hyperprior with GDN. Every picture is coded with a quantisation step of its own, at the
trade-off that this step suits: one set of weights serves all steps of the bundle. Without a base the transforms start
as a cascade of Karhunen-Loeve transforms and its inverse."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nicrt.export.mean_scale import BEST_STEP, WORST_STEP
from nicrt.export.models.entropy import LOG_SCALE_STEP, STEPS_PER_INDEX
from nicrt.export.models.gdn import GDN
from nicrt.export.models.mean_scale import MeanScale

from .data import Photos
from .loop import Batch, Log, Recipe
from .losses import MIDDLE, balanced, project_gdn, psnr, rate_distortion, squared_error
from .transforms import SMALL, STEP, almost_identity, descend, fit, karhunen_loeve, moments

CROP, BATCH = 256, 4
CASCADE = ((2, 12), (2, 48), (2, 128), (2, 192))  # sides of blocks and channels
OFFSET = 0.5  # of what is transformed
START_BATCHES, START_RATE = 40, 1e-3
RATES = {"g_a": 0.5, "g_s.0.": 0.1, "g_s": 0.5, "prior": 3.0}


class MeanScaleRecipe(Recipe):
    """Everything is trained."""

    learning_rate = 1e-3
    rates: Mapping[str, float] = RATES

    def __init__(self, photos: Photos, base: Mapping[str, Tensor] | None) -> None:
        self.family, self.photos = "mean-scale", photos
        self.model = MeanScale()
        if base is None:
            random = np.random.default_rng(0)
            start(self.model, torch.cat([photos.crops(random, BATCH, CROP) - OFFSET for _ in range(START_BATCHES)]))
        else:
            self.model.load_state_dict(base)

    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        return {"x": self.photos.crops(random, BATCH, CROP), "step": steps(random, BATCH, (BEST_STEP, WORST_STEP))}

    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        x, step = batch["x"], batch["step"]
        picture, bits = self.model(x, step=step)
        bpp, error = bits / x[0, 0].numel(), squared_error(picture, x)
        weight = weights(step)
        loss = balanced(rate_distortion(bpp, error, weight), weight).mean()
        return loss, {"bpp": bpp, "psnr": psnr(error)}

    def project(self) -> None:
        project_gdn(self.model)


def steps(random: np.random.Generator, batch: int, eighths: tuple[int, int]) -> Tensor:
    """Quantisation steps for pictures, from a bundle's range in eighths of a table step: float32 [batch, 1, 1, 1]."""
    drawn = random.uniform(*eighths, batch)
    return torch.from_numpy(np.exp(drawn * LOG_SCALE_STEP / STEPS_PER_INDEX)).float()[:, None, None, None]


def weights(step: Tensor) -> Tensor:
    """Of the squared error at these steps, with the square of which it grows: [batch]."""
    return MIDDLE / step.flatten().square()


@torch.no_grad()
def start(codec: MeanScale, x: Tensor) -> None:
    """The leading channels become a cascade of Karhunen-Loeve transforms of 2x2 blocks for pictures - OFFSET like these
    (float32 [n, 3, 64h, 64w]), and its inverse. GDN begins as almost the identity; channels for which blocks have no
    directions left begin as small noise, which the layers after them hardly see. The hyperprior is fitted to what the
    transform gives."""
    analysis, synthesis = (
        [layer for layer in part if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        for part in (codec.g_a, reversed(codec.g_s))
    )
    for into, back, basis in zip(analysis, synthesis, karhunen_loeve(moments(x.split(BATCH)), CASCADE), strict=True):
        outputs, inputs = basis.shape[:2]
        into.weight.normal_(0, SMALL)
        into.weight[outputs:, :inputs].normal_(0, 0.5 / into.weight[0, :inputs].numel() ** 0.5)
        back.weight.normal_(0, SMALL)
        back.weight[outputs:, :inputs].normal_(0, 10 * SMALL)
        last = into is analysis[-1]
        into.weight[:outputs, :inputs, 2:4, 2:4] = basis / (STEP if last else 1)
        back.weight[:outputs, :inputs, 2:4, 2:4] = basis * (STEP if last else 1)
        nn.init.zeros_(into.bias)
        nn.init.zeros_(back.bias)
    analysis[0].bias.copy_(-OFFSET * analysis[0].weight.sum((1, 2, 3)))
    synthesis[0].bias.fill_(OFFSET)
    for norm in (*codec.g_a, *codec.g_s):
        if isinstance(norm, GDN):
            almost_identity(norm)
    latents = torch.cat([codec.g_a(batch + OFFSET) for batch in x.split(BATCH)])
    fit(codec.prior, torch.cat([codec.h_a(batch) for batch in latents.split(BATCH)]))
    hyperprior = [*codec.h_a.parameters(), *codec.h_s.parameters(), *codec.prior.parameters()]
    descend(hyperprior, lambda some: codec.cost(some)[1], latents, START_RATE)

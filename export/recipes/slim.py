"""Recipe of the slimmable family (Yang, Herranz et al., CVPR 2021). Every step trains all widths, each at its own
trade-off. Those of the narrower widths start at that of the widest and fall (the paper's λ-scheduling), so that early
on the shared weights learn to serve the widest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nicrt.export.models.slim import WIDTHS, Slim

from .data import Photos
from .loop import Batch, Log, Recipe
from .losses import LAMBDAS, balanced, project_gdn, psnr, rate_distortion, squared_error

CROP, BATCH = 256, 8
TARGETS = np.array(LAMBDAS[: len(WIDTHS)])
SCHEDULED_UNTIL = 0.5  # of a run without a base: then every width is at its own trade-off


class SlimRecipe(Recipe):
    """`scalable`: fine-tune a base for the widest latents in five streams as well."""

    def __init__(self, family: str, photos: Photos, base: Mapping[str, Tensor] | None, scalable: bool) -> None:
        self.family, self.photos, self.scalable, self.started = family, photos, scalable, base is not None
        self.model = Slim()
        if base is not None:
            self.model.load_state_dict(base)
        elif scalable:
            raise ValueError("the fine-tune for streams needs a trained base")
        else:
            start(self.model)

    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        along = 1.0 if self.started else min(1.0, progress / SCHEDULED_UNTIL)
        weights = TARGETS[-1] * (TARGETS / TARGETS[-1]) ** along
        return {"x": self.photos.crops(random, BATCH, CROP), "weights": torch.from_numpy(weights).float()}

    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        x, weights = batch["x"], batch["weights"]
        coded = [self.model(x, number) for number in range(len(WIDTHS))]
        if self.scalable:
            coded += zip(*self.model.scalable(x), strict=True)
        losses, log = [], {}
        for number, (picture, bits) in enumerate(coded):
            weight, width = weights[number % len(WIDTHS)], WIDTHS[number % len(WIDTHS)]
            bpp, error = bits / x[0, 0].numel(), squared_error(picture, x)
            losses.append(balanced(rate_distortion(bpp, error, weight), weight).mean())
            kind = "w" if number < len(WIDTHS) else "s"
            log |= {f"bpp {kind}{width}": bpp, f"psnr {kind}{width}": psnr(error)}
        return torch.stack(losses).sum(), log

    def project(self) -> None:
        project_gdn(self.model)


@torch.no_grad()
def start(model: Slim) -> None:
    """PyTorch's own start for the weights, flat priors."""
    for layer in (*model.enc, *model.dec):
        nn.init.kaiming_uniform_(layer.weight, a=5**0.5)
    for prior in model.prior:
        prior.start()

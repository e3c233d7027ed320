"""Recipe of the normalising flow. Pictures are quantised with random steps, the trade-off following the step, so that
one set of weights serves all rates; rates are of noisy latents, pictures of rounded ones. What z0 alone, and z0 with
z1, show counts too: files may end there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nicrt.export.models.flow import COUPLINGS, WIDTHS, Flow
from nicrt.export.models.side_information import has_side

from .data import Photos
from .loop import Batch, Log, Recipe
from .losses import balanced, psnr, rate_distortion, squared_error

CROP, BATCH = 128, 16
LOG2_STEPS = (-1.0, 3.0)
WEIGHT = 0.20
"""Trade-off at step 1; it falls with the square of the step, as the squared error of rounding grows."""
PARTIAL = 0.1  # weight of a partial picture's error


class FlowRecipe(Recipe):
    """Everything is trained."""

    learning_rate = 5e-4

    def __init__(self, photos: Photos, base: Mapping[str, Tensor] | None) -> None:
        self.family, self.photos = "flow", photos
        self.model = Flow(side=has_side(base or {}))
        if base is None:
            start(self.model)
        else:
            self.model.load_state_dict(base)

    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        steps = 2.0 ** random.uniform(*LOG2_STEPS, size=(BATCH, 1, 1, 1))
        return {"x": self.photos.crops(random, BATCH, CROP), "step": torch.from_numpy(steps).float()}

    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        x, step = batch["x"], batch["step"]
        shown, bits = self.model(x, step)
        bpp = torch.stack(bits) / x[0, 0].numel()
        *partial, whole = (squared_error(picture, x) for picture in shown)
        weight = WEIGHT / step.flatten().square()
        loss = balanced(rate_distortion(bpp.sum(0), whole + PARTIAL * sum(partial), weight), weight)
        log = {"bpp": bpp.sum(0), "psnr": psnr(whole)}
        log |= {f"z{level} bpp": rate for level, rate in enumerate(bpp)}
        log |= {f"to z{level} psnr": psnr(error) for level, error in enumerate(partial)}
        return loss.mean(), log


@torch.no_grad()
def start(model: Flow, seed: int = 7) -> None:
    """Couplings that do nothing between random permutations, conditional distributions of mean 0 and scale 1."""
    random = torch.Generator().manual_seed(seed)
    for level, width in enumerate(WIDTHS):
        orders = torch.stack([torch.randperm(width, generator=random) for _ in range(COUPLINGS)])
        getattr(model, f"perm{level}").copy_(orders)
    for network in (*(coupling for level in model.t for coupling in level), *model.phi):
        nn.init.zeros_(network.out.weight)
        nn.init.zeros_(network.out.bias)
    model.prior.start()

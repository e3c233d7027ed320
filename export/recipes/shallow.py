"""Recipes of the shallow-decoder family with the linear analysis and with the deep one on top of it.

Without a base the linear analysis and the synthesis start as the Karhunen-Loeve transform of 16x16 blocks and its
inverse, the gains at the steps that the eight trade-offs ask for. A deep analysis starts at 0 on top of the linear one;
one picture in LINEAR_EVERY is coded by the linear one alone, so that both stay matched to the one decoder.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nicrt.export.models.shallow import LATENTS, LEAKY_SLOPE, Shallow

from .data import Photos
from .loop import Batch, Log, Recipe
from .losses import LAMBDAS, MIDDLE, balanced, psnr, rate_distortion, squared_error
from .transforms import BLOCK, STEP, karhunen_loeve, moments

CROP, BATCH = 256, 8
LINEAR_EVERY = 2
INTEGERS_FROM = 0.6  # of a run without a base: then the hyper synthesis trains with the weights that it is lowered to


class ShallowRecipe(Recipe):
    """Everything is trained."""

    learning_rate = 5e-4
    rates: Mapping[str, float] = {"synthesis.0": 0.03, "synthesis.1": 0.3, "linear": 0.1, "log_": 0.5}

    def __init__(self, family: str, photos: Photos, base: Mapping[str, Tensor] | None, deep: bool) -> None:
        self.family, self.photos, self.started = family, photos, base is not None
        self.model = Shallow(deep=deep)
        if base is None:
            start(self.model, photos)
        else:
            load(self.model, base)

    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        quality = torch.from_numpy(random.permutation(np.arange(BATCH) % len(LAMBDAS)))
        weight = torch.tensor(LAMBDAS)[quality]
        return {"x": self.photos.crops(random, BATCH, CROP), "quality": quality, "weight": weight}

    def phase(self, progress: float) -> int:
        return int(self.started or progress >= INTEGERS_FROM)

    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        x, weight = batch["x"], batch["weight"]
        linear = torch.arange(len(x), device=x.device) % LINEAR_EVERY == 0
        deep = (~linear).view(-1, 1, 1, 1)
        picture, bits = self.model(x, batch["quality"], deep, phase == 1)
        bpp, error = bits / x[0, 0].numel(), squared_error(picture, x)
        loss = balanced(rate_distortion(bpp, error, weight), weight)
        log = {"bpp": bpp, "psnr": psnr(error)}
        if self.model.deep is not None:
            log |= {"linear": loss[::LINEAR_EVERY]}
        return loss.mean(), log


def load(model: Shallow, base: Mapping[str, Tensor]) -> None:
    """The base's weights, with a deep analysis or without. Raises ValueError for other models' weights."""
    missing, _ = model.load_state_dict(base, strict=False)
    lacking = [name for name in missing if not name.startswith("deep.")]
    if lacking:
        raise ValueError(f"the base is not of this family: it lacks {lacking[0]}")


@torch.no_grad()
def start(model: Shallow, photos: Photos) -> None:
    """Analysis and synthesis become the Karhunen-Loeve transform and its inverse, exactly: each of the 12 pixels of a
    2x2 block is a pair of hidden channels of opposite sign, whose leaky ReLUs add up to a line."""
    (basis,) = karhunen_loeve(moments(photos.blocks(BLOCK)), [(BLOCK, LATENTS)])
    model.linear.weight.zero_()[:, :, 8:24, 8:24] = basis / STEP
    nn.init.zeros_(model.linear.bias)
    first, second = model.synthesis
    first.weight.normal_(0, 1e-4)
    second.weight.normal_(0, 1e-3)
    for layer in (first, second):
        nn.init.zeros_(layer.bias)
    pixels = [(color, row, column) for color in range(3) for row in range(2) for column in range(2)]
    for number, (color, row, column) in enumerate(pixels):
        for hidden, sign in ((number, 1), (number + len(pixels), -1)):
            first.weight[:, hidden, 3:11, 3:11] += sign * STEP * basis[:, color, row::2, column::2]
            second.weight[hidden, color, 2 + row, 2 + column] += sign / (1 + LEAKY_SLOPE)
    gains = 0.5 * torch.log(torch.tensor(LAMBDAS) / MIDDLE)[:, None].expand(-1, LATENTS)
    model.log_gain.copy_(gains)
    model.log_inv.copy_(-gains)
    model.prior.start()

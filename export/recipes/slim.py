"""Recipe of the slimmable family (Yang, Herranz et al., CVPR 2021). Every step trains all widths, each at its own
trade-off, from a cascade of Karhunen-Loeve transforms, which serves them all from the start. The paper's λ-scheduling
(all begin at the trade-off of the widest) gains nothing on that: after 350 steps 1% more rate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from nicrt.export.models.side_information import has_side
from nicrt.export.models.slim import WIDTHS, Slim

from .data import Photos
from .loop import Batch, Log, Recipe
from .losses import LAMBDAS, MIDDLE, balanced, project_gdn, psnr, rate_distortion, squared_error
from .transforms import BLOCK, SMALL, STEP, almost_identity, fit, karhunen_loeve, moments

CROP, BATCH = 128, 8
TARGETS = LAMBDAS[: len(WIDTHS)]
CASCADE = ((4, 48), (2, 192), (2, 192))  # sides of blocks and channels
FIT_BATCHES = 12


class SlimRecipe(Recipe):
    """`scalable`: fine-tune a base for the widest latents in five streams as well."""

    learning_rate = 1e-3
    rates: Mapping[str, float] = {
        "dec.0.weight": 0.1,
        "enc.2.weight": 1.0,
        "gdn": 0.3,
        "igdn": 0.3,
        "prior": 3.0,
        "side": 1.0,
        "": 0.5,  # all others
    }

    def __init__(self, family: str, photos: Photos, base: Mapping[str, Tensor] | None, scalable: bool) -> None:
        self.family, self.photos, self.scalable, self.started = family, photos, scalable, base is not None
        self.model = Slim(side=has_side(base or {}))
        if base is not None:
            self.model.load_state_dict(base)
        elif scalable:
            raise ValueError("the fine-tune for streams needs a trained base")
        else:
            start(self.model, photos)

    def factor(self, name: str) -> float:
        if name.endswith("gamma"):  # of squares: those of latents are in the thousands
            return 0.002 if name.startswith(("gdn.2", "igdn.0")) else 0.05
        return super().factor(name)

    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        return {"x": self.photos.crops(random, BATCH, CROP)}

    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        x = batch["x"]
        coded = [self.model(x, number) for number in range(len(WIDTHS))]
        if self.scalable:
            coded += zip(*self.model.scalable(x), strict=True)
        losses, log = [], {}
        for number, (picture, bits) in enumerate(coded):
            weight, width = TARGETS[number % len(WIDTHS)], WIDTHS[number % len(WIDTHS)]
            bpp, error = bits / x[0, 0].numel(), squared_error(picture, x)
            losses.append(balanced(rate_distortion(bpp, error, weight), weight).mean())
            kind = "w" if number < len(WIDTHS) else "s"
            log |= {f"bpp {kind}{width}": bpp, f"psnr {kind}{width}": psnr(error)}
        return torch.stack(losses).sum(), log

    def project(self) -> None:
        project_gdn(self.model)


@torch.no_grad()
def start(model: Slim, photos: Photos) -> None:
    """The leading channels become a cascade of Karhunen-Loeve transforms of blocks and its inverse: 4x4 pixels, then
    twice 2x2 of what came before, the strongest directions first, so that the channels of every width are the best
    for it. The last GDN and its inverse hold the widths' quantisation steps, the others begin as almost the identity.
    Further channels of the outer layers, for which a block has no directions left, begin as small noise."""
    first, second, third = karhunen_loeve(moments(photos.blocks(BLOCK)), CASCADE)
    for layer in (*model.enc, *model.dec):
        layer.weight.normal_(0, SMALL)
        for bias in layer.bias:
            bias.zero_()
    complete = len(first)
    for outer, noise in ((model.enc[0].weight, 0.03), (model.dec[2].weight, 0.01)):
        outer[complete:].normal_(0, noise)
        outer[:complete, :, 4:8, 4:8] = first
    model.dec[1].weight[:, complete:].normal_(0, 10 * SMALL)
    for inner in (model.enc[1].weight, model.dec[1].weight):
        inner[:, :complete, 2:4, 2:4] = second
    model.enc[2].weight[:, :, 2:4, 2:4] = third / STEP
    model.dec[0].weight[:, :, 2:4, 2:4] = third * STEP
    for number, target in enumerate(TARGETS):
        for norms in (*model.gdn, *model.igdn):
            almost_identity(norms[number])
        for norm in (model.gdn[-1][number], model.igdn[0][number]):
            norm.beta.fill_(MIDDLE / target)
            norm.gamma.zero_()
    random = np.random.default_rng(0)
    for number, prior in enumerate(model.prior):
        pictures = [photos.crops(random, BATCH, CROP) for _ in range(FIT_BATCHES)]
        fit(prior, torch.cat([model.analyse(x, number)[:, :, 1:-1, 1:-1] for x in pictures]))

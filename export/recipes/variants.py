"""Recipes of shallow codecs with another synthesis or hyper synthesis, on a trained checkpoint of family `shallow`: a
few minutes on one CPU core.

New parts have a start of closed form, then they are trained, and what has to follow them:

- `shallow-jpeg`: a synthesis that hardly overlaps cannot invert the base's lapped analysis. Both start as one
  orthonormal transform of 16x16 blocks, the nearest to the middle of the base's analysis, which began as the
  Karhunen-Loeve transform of such blocks: analysis by the basis, synthesis by its transpose. All is trained.
- `shallow-residual`: the linear way is the base's synthesis with its leaky ReLU made linear; the synthesis is
  trained.
- `shallow-jpeg-hyper`: least squares from hyper latents to what the base's hyper synthesis makes of them; the
  hyperprior is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nicrt.export.models.entropy import SCALE_COUNT, JpegLikeHyperSynthesis
from nicrt.export.models.shallow import (
    LEAKY_SLOPE,
    QUALITIES,
    JpegLikeSynthesis,
    ResidualSynthesis,
    Shallow,
    TwoLayerSynthesis,
)
from nicrt.export.shallow import KINDS

from .data import Photos
from .shallow import ShallowRecipe, load

FIT_BATCHES, FIT_BATCH, FIT_CROP = 32, 4, 192
RIDGE = 2e-3  # of the least squares
TRAINED = {
    "shallow-jpeg": ("",),
    "shallow-residual": ("synthesis.", "log_inv"),
    "shallow-jpeg-hyper": ("hyper_", "prior."),
}
"""Family → what is trained, by the beginnings of its names."""


class VariantRecipe(ShallowRecipe):
    """A family of TRAINED. A checkpoint of the family itself is a base as well: then it is trained on."""

    rates: Mapping[str, float] = {**ShallowRecipe.rates, "synthesis.1": 0.03, "synthesis.2": 0.3}

    def __init__(self, family: str, photos: Photos, base: Mapping[str, Tensor] | None) -> None:
        if base is None:
            raise ValueError(f"{family} is trained on a checkpoint of family shallow (--base)")
        self.family, self.photos, self.started = family, photos, True
        self.model = start(family, base, photos)

    def factor(self, name: str) -> float:
        return super().factor(name) if name.startswith(TRAINED[self.family]) else 0.0


def start(family: str, base: Mapping[str, Tensor], photos: Photos) -> Shallow:
    """The family's model with the base's weights where they fit, and where not the start that the module names."""
    model, teacher = Shallow(**KINDS[family]), Shallow()
    own = model.state_dict()
    if own.keys() == base.keys() and all(own[name].shape == tensor.shape for name, tensor in base.items()):
        model.load_state_dict(base)
        return model
    load(teacher, base)
    fits = {name: tensor for name, tensor in base.items() if name in own and own[name].shape == tensor.shape}
    model.load_state_dict(fits, strict=False)
    with torch.no_grad():
        if isinstance(model.synthesis, JpegLikeSynthesis):
            start_block_transform(model)
        if isinstance(model.synthesis, ResidualSynthesis):
            start_residual(model.synthesis, teacher.synthesis)
        if isinstance(model.hyper_synthesis, JpegLikeHyperSynthesis):
            fit_hyper_synthesis(model.hyper_synthesis, teacher, photos)
    return model


def start_block_transform(model: Shallow) -> None:
    """Analysis and synthesis become an orthonormal transform of 16x16 blocks and its inverse. The analysis keeps the
    scale of each channel, so that gains and hyperprior still fit."""
    middle = model.linear.weight[:, :, 8:24, 8:24].flatten(1)
    scale = middle.norm(dim=1, keepdim=True)
    left, _, right = torch.linalg.svd(middle / scale, full_matrices=False)
    basis = left @ right
    block = model.linear.weight.shape[0], 3, 16, 16
    model.linear.weight.zero_()[:, :, 8:24, 8:24] = (basis * scale).reshape(block)
    model.linear.bias.zero_()
    layer = model.synthesis[0]
    layer.weight.zero_()[:, :, 1:17, 1:17] = (basis / scale).reshape(block)
    layer.bias.zero_()
    model.log_inv.copy_(-model.log_gain)


def start_residual(synthesis: ResidualSynthesis, base: TwoLayerSynthesis) -> None:
    """The base's 24 channels are 12 pairs of opposite sign. A pair's leaky ReLUs, without their even part, are (1 +
    slope) / 2 times their inputs: that goes through the linear way, and training finds use for the bent one."""
    bent, around, last = synthesis
    first, second = base
    (up, down), (up_bias, down_bias) = first.weight.chunk(2, 1), first.bias.chunk(2)
    half = (1 + LEAKY_SLOPE) / 2
    around.weight.copy_(half * (up - down))
    around.bias.copy_(half * (up_bias - down_bias))
    plus, minus = second.weight.chunk(2)
    last.weight.copy_((plus - minus) / 2)
    last.bias.copy_(second.bias)
    bent.weight.normal_(0, 1e-4)
    bent.bias.zero_()


def _least_squares(pairs: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """(inputs [n, i], outputs [n, o]), ... → weight float32 [i, o] and bias [o] of the best affine map."""
    gram, cross = torch.zeros(0), torch.zeros(0)
    for inputs, outputs in pairs:
        x = F.pad(inputs.double(), (0, 1), value=1.0)
        gram = gram + x.T @ x if len(gram) else x.T @ x
        cross = cross + x.T @ outputs.double() if len(cross) else x.T @ outputs.double()
    # rare inputs would get weights so large that 8 bits hold nothing else
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    solution = torch.linalg.solve(gram + ridge, cross).float()
    return solution[:-1], solution[-1]


def _blocks(picture: Tensor, size: int) -> Tensor:
    """[b, c, size h, size w] → [b h w, c size size]."""
    return F.unfold(picture, size, stride=size).transpose(1, 2).flatten(0, 1)


def fit_hyper_synthesis(hyper: JpegLikeHyperSynthesis, teacher: Shallow, photos: Photos) -> None:
    """Hyper latents → what the teacher's hyper synthesis makes of them, by least squares."""
    random = np.random.default_rng(0)

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(FIT_BATCHES):
            x = photos.crops(random, FIT_BATCH, FIT_CROP)
            z = torch.round(teacher.analyse(x, number % QUALITIES)[1])
            mean, index = teacher.hyper_synthesis(z)
            raw = (index.clamp(0, SCALE_COUNT - 1) - hyper.OFFSET) / hyper.SLOPE
            yield _blocks(z, 1), _blocks(torch.cat([mean, raw], 1), 4)

    weight, bias = _least_squares(pairs())
    hyper.layer.weight.zero_()[:, :, 1:5, 1:5] = weight.reshape(len(weight), -1, 4, 4)
    hyper.layer.bias.copy_(bias.reshape(-1, 16).mean(1))

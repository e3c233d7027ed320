"""Shallow codecs with another synthesis or hyper synthesis, from a trained checkpoint, in a few minutes on one
CPU core:

    python -m nicrt.export.recipes.shallow_variants FAMILY --base CKPT --data DIR --out CKPT

New parts have a start of closed form, then Adam trains them, and what has to follow them:

- `shallow-jpeg`: a synthesis that hardly overlaps cannot invert the base's lapped analysis. Both start as one
  orthonormal transform of 16x16 blocks, the nearest to the middle of the base's analysis, which began as the
  Karhunen-Loeve transform of such blocks: analysis by the basis, synthesis by its transpose. All is trained.
- `shallow-residual`: the linear way is the base's synthesis with its leaky ReLU made linear; the synthesis is
  trained.
- `shallow-jpeg-hyper`: least squares from hyper latents to what the base's hyper synthesis makes of them; the
  hyperprior is trained.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nicrt.export.models.entropy import SCALE_COUNT, JpegLikeHyperSynthesis, gaussian_bits
from nicrt.export.models.shallow import (
    LEAKY_SLOPE,
    QUALITIES,
    JpegLikeSynthesis,
    ResidualSynthesis,
    Shallow,
    TwoLayerSynthesis,
)
from nicrt.export.shallow import KINDS

CROP, BATCH = 192, 4
PHOTOS = 200  # of the folder, chosen once
FIT_BATCHES, RIDGE = 32, 2e-3  # of the least squares
LEARNING_RATE, DECAY = 5e-4, 0.995  # peak of Adam's cosine schedule; of the averaged weights, per step
RATES = {"synthesis.0": 0.03, "synthesis.1": 0.03, "synthesis.2": 0.3, "linear": 0.1, "log_": 0.5}
"""Factors on the learning rate by name, for weights that are small because their inputs are large."""
TRAINED = {
    "shallow-jpeg": ("",),
    "shallow-residual": ("synthesis.", "log_inv"),
    "shallow-jpeg-hyper": ("hyper_", "prior."),
}
"""Family → what is trained, by the beginnings of its names."""
LAMBDAS = torch.tensor([0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800])
"""Weight of the squared error (8-bit units) against the rate, of the eight gains."""


def crops(folder: Path, seed: int = 0) -> Iterator[Tensor]:
    """Batches of random crops of the pictures in a folder, float32 [BATCH, 3, CROP, CROP] in [0, 1], without end."""
    random = np.random.default_rng(seed)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".avif", ".png", ".jpg", ".webp"))
    random.shuffle(files)
    photos = [np.asarray(Image.open(file).convert("RGB")) for file in files[:PHOTOS]]
    photos = [photo for photo in photos if min(photo.shape[:2]) >= CROP]

    def crop() -> np.ndarray:
        photo = photos[random.integers(len(photos))]
        y, x = (random.integers(side - CROP + 1) for side in photo.shape[:2])
        return photo[y : y + CROP, x : x + CROP]

    while True:
        batch = np.stack([crop() for _ in range(BATCH)])
        yield torch.from_numpy(batch.transpose(0, 3, 1, 2) / np.float32(255))


def start(family: str, base: dict[str, Tensor], data: Iterator[Tensor]) -> Shallow:
    """The family's model with the base's weights where they fit, and where not the start that the module names."""
    model, teacher = Shallow(**KINDS[family]), Shallow()
    teacher.load_state_dict(base)
    own = model.state_dict()
    fits = {name: tensor for name, tensor in base.items() if name in own and own[name].shape == tensor.shape}
    model.load_state_dict(fits, strict=False)
    with torch.no_grad():
        if isinstance(model.synthesis, JpegLikeSynthesis):
            start_block_transform(model)
        if isinstance(model.synthesis, ResidualSynthesis):
            start_residual(model.synthesis, teacher.synthesis)
        if isinstance(model.hyper_synthesis, JpegLikeHyperSynthesis):
            fit_hyper_synthesis(model.hyper_synthesis, teacher, data)
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


def fit_hyper_synthesis(hyper: JpegLikeHyperSynthesis, teacher: Shallow, data: Iterator[Tensor]) -> None:
    """Hyper latents → what the teacher's hyper synthesis makes of them, by least squares."""

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for number, x in zip(range(FIT_BATCHES), data, strict=False):
            z = torch.round(teacher.analyse(x, number % QUALITIES)[1])
            mean, index = teacher.hyper_synthesis(z)
            raw = (index.clamp(0, SCALE_COUNT - 1) - hyper.OFFSET) / hyper.SLOPE
            yield _blocks(z, 1), _blocks(torch.cat([mean, raw], 1), 4)

    weight, bias = _least_squares(pairs())
    hyper.layer.weight.zero_()[:, :, 1:5, 1:5] = weight.reshape(len(weight), -1, 4, 4)
    hyper.layer.bias.copy_(bias.reshape(-1, 16).mean(1))


def _through(x: Tensor, value: Tensor) -> Tensor:
    """`value` with the gradient of `x`."""
    return x + (value - x).detach()


def _noisy(x: Tensor) -> Tensor:
    return x + torch.rand_like(x) - 0.5


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def loss_of(model: Shallow, x: Tensor, quality: int) -> Tensor:
    """Rate and weighted squared error of a batch, where what is trained changes them: noise stands for rounding in the
    rate, rounding itself with a straight-through gradient makes the picture."""
    v, z = model.analyse(x, quality)
    mean, index = model.hyper_synthesis(_through(z, torch.round(z)))
    residual, loss, weight = v - mean, torch.zeros(()), float(LAMBDAS[quality])
    if _is_trained(model.hyper_synthesis):
        index = _through(index, index.clamp(0, SCALE_COUNT - 1))
        noisy_z = _noisy(z).transpose(0, 1).flatten(1)[None, :, :, None]
        bits = model.prior.bits(noisy_z).sum() + gaussian_bits(_noisy(residual), index).sum()
        loss = loss + bits / (x.numel() / 3)
    if _is_trained(model.synthesis):
        symbols = _through(residual, torch.round(residual))
        loss = loss + weight * 255**2 * F.mse_loss(model.synthesise(symbols + mean, quality), x)
    return math.sqrt(0.013 / weight) * loss


def train(model: Shallow, trained: tuple[str, ...], data: Iterator[Tensor], steps: int) -> None:
    """Adam with a cosine schedule; the model gets the average of the weights."""
    model.requires_grad_(False)
    named = {name: p.requires_grad_() for name, p in model.named_parameters() if name.startswith(trained)}
    factors = [next((f for start, f in RATES.items() if name.startswith(start)), 1.0) for name in named]
    parameters = list(named.values())
    optimiser = torch.optim.Adam([{"params": [p]} for p in parameters])
    average = [p.detach().clone() for p in parameters]
    losses: list[float] = []
    for step in range(steps):
        rate = LEARNING_RATE * min(1.0, (step + 1) / 50) * (0.01 + 0.495 * (1 + math.cos(math.pi * step / steps)))
        for group, factor in zip(optimiser.param_groups, factors, strict=True):
            group["lr"] = rate * factor
        quality = int(torch.randint(QUALITIES, ()))
        loss = loss_of(model, next(data), quality)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        for mean, p in zip(average, parameters, strict=True):
            mean.lerp_(p.detach(), 1 - min(DECAY, (1 + step) / (10 + step)))
        losses.append(loss.item())
        if len(losses) == 50:
            print(f"step {step + 1} of {steps}: loss {sum(losses) / 50:.4f}", flush=True)
            losses.clear()
    with torch.no_grad():
        for mean, p in zip(average, parameters, strict=True):
            p.copy_(mean)


def save(model: Shallow, out: Path) -> None:
    """Weights of convolutions as fp16, all else fp32, as in the other checkpoints."""
    half = ("linear.weight", "synthesis.", "hyper_")
    state = {
        name: (t.half() if t.ndim == 4 and name.startswith(half) else t.float()).contiguous()
        for name, t in model.state_dict().items()
    }
    save_file(state, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("family", choices=sorted(TRAINED))
    parser.add_argument("--base", type=Path, required=True, help="checkpoint of family `shallow`")
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    base = {name: tensor.float() for name, tensor in load_file(options.base).items()}
    data = crops(options.data)
    model = start(options.family, base, data)
    train(model, TRAINED[options.family], data, options.steps)
    save(model, options.out)


if __name__ == "__main__":
    main()

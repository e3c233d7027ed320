"""Starts of closed form: the Karhunen-Loeve transform of blocks of photographs, whole or as a cascade of convolutions,
and distributions fitted to what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from nicrt.export.models.entropy import FactorizedPrior
from nicrt.export.models.gdn import GDN

COLORS, BLOCK = 3, 16  # side of the blocks
STEP = 0.175
"""Quantisation step at the middle trade-off for an orthonormal transform of pixels in [0, 1], from the slope of the
rate there."""
SMALL = 1e-4  # weights that the start leaves free: not 0, so that they tell channels apart
GAMMA = 1e-3
FIT_STEPS, FIT_BATCH, FIT_RATE = 300, 16, 0.03


def moments(batches: Iterable[Tensor]) -> Tensor:
    """Second moments of the blocks of pictures, float32 [n, 3, 16h, 16w]: float64 [3, 16, 16, 3, 16, 16]."""
    size = COLORS * BLOCK * BLOCK
    sums = torch.zeros(size, size, dtype=torch.float64)
    for batch in batches:
        blocks = batch.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK).permute(0, 2, 3, 1, 4, 5).reshape(-1, size)
        sums += blocks.double().T @ blocks.double()
    return sums.reshape(COLORS, BLOCK, BLOCK, COLORS, BLOCK, BLOCK)


def karhunen_loeve(moments: Tensor, layers: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """A cascade of orthonormal transforms of blocks: layer (side, channels) gives the principal directions of side x
    side blocks of what the layer before it gives, the strongest first: float32 [channels, inputs, side, side].
    `moments` [c, h, w, c, h, w] are those of what goes in."""
    for side, channels in layers:
        inputs, height, width = moments.shape[:3]
        split = (inputs, height // side, side, width // side, side)
        parts = moments.reshape(*split, *split)
        own = torch.einsum("aibjcdiejf->abcdef", parts)
        size = inputs * side * side
        _, directions = torch.linalg.eigh(own.reshape(size, size))
        basis = directions.flip(1)[:, :channels].T.reshape(channels, inputs, side, side)
        moments = torch.einsum("kabc,aibjcdpeqf,ldef->kijlpq", basis, parts, basis)
        yield basis.float()


@torch.no_grad()
def almost_identity(norm: GDN) -> None:
    """A GDN or its inverse that hardly does anything yet."""
    norm.beta.fill_(1)
    norm.gamma.copy_(GAMMA * torch.eye(len(norm.beta)))


def fit(prior: FactorizedPrior, latents: Tensor) -> None:
    """The distributions of trained latents, float32 [n, channels, h, w], by gradient descent from a flat start."""
    prior.start()
    descend(list(prior.parameters()), prior.trained_bits, latents, FIT_RATE)


def descend(
    parameters: list[nn.Parameter], bits: Callable[[Tensor], Tensor], latents: Tensor, learning_rate: float
) -> None:
    """Fewer bits for random choices among latents [n, channels, h, w], by a short run of Adam."""
    optimiser = torch.optim.Adam(parameters, learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, FIT_STEPS)
    with torch.enable_grad():
        for _ in range(FIT_STEPS):
            optimiser.zero_grad()
            bits(latents[torch.randint(len(latents), (FIT_BATCH,))]).mean().backward()
            optimiser.step()
            schedule.step()

"""Recipes of side information for trained slimmable and flow codecs (`models.side_information`): their transforms stay
as they are, and pictures are quantised with random steps. One crop of each photograph is analysed, when it is first
drawn: the analysis takes many times as long as all else."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from nicrt.export.flow import Z0_OFFSETS
from nicrt.export.flow_modules import Z0_STEPS, z0_steps
from nicrt.export.models.flow import Z0, Flow
from nicrt.export.models.slim import WIDTHS, Slim
from nicrt.export.slim import RANGES

from .data import Photos
from .loop import Batch, Log, Recipe
from .losses import LAMBDAS, balanced
from .mean_scale import steps

CROP, BATCH = 256, 8
START_CROPS = 64
SLIM_STEPS = min(finest for *_, finest in RANGES), max(coarsest for _, _, coarsest, _ in RANGES)
"""Quantisation steps that files of the bundle have, from the finest to the coarsest."""


class _SideRecipe(Recipe):
    """What both have in common: what is trained, and on which latents."""

    learning_rate = 5e-3

    def __init__(self, family: str, photos: Photos, base: Mapping[str, Tensor] | None, model: nn.Module) -> None:
        """Raises ValueError without a base, or for another model's."""
        self.family, self.photos, self.model = family, photos, model
        if base is None:
            raise ValueError(f"{family} is trained on a codec: give its checkpoint (--base)")
        missing, _ = model.load_state_dict(base, strict=False)
        lacking = [name for name in missing if not name.startswith("side.")]
        if lacking:
            raise ValueError(f"the base is not of this family: it lacks {lacking[0]}")
        self.started = not missing
        self._latents = lru_cache(maxsize=None)(self._of_photo)

    def factor(self, name: str) -> float:
        if not name.startswith("side."):
            return 0.0
        return 2.0 if ".prior." in name else 1.0

    @abstractmethod
    def analyse(self, x: Tensor) -> dict[str, Tensor]:
        """A picture's latents, by name."""

    @torch.no_grad()
    def _of_photo(self, number: int) -> dict[str, Tensor]:
        x = self.photos.crop(number, np.random.default_rng(number), CROP)
        return {name: y.cpu() for name, y in self.analyse(x.to(next(self.model.parameters()).device)).items()}

    def latents(self, random: np.random.Generator, count: int) -> Batch:
        """Those of random photographs."""
        drawn = [self._latents(int(number)) for number in random.integers(len(self.photos.files), size=count)]
        return {name: torch.cat([some[name] for some in drawn]) for name in drawn[0]}


def _rates(bits: Tensor, side_bits: Tensor) -> tuple[Tensor, Tensor]:
    """Bits of latents [b, c, h, w] and of side information [b] of crops → bpp of both, and of the latter [b]."""
    side_bpp = side_bits / CROP**2
    return bits.sum((1, 2, 3)) / CROP**2 + side_bpp, side_bpp


class SlimSideRecipe(_SideRecipe):
    """Side information for each width."""

    def __init__(self, photos: Photos, base: Mapping[str, Tensor] | None) -> None:
        self.slim = Slim(side=True)
        super().__init__("slim-side", photos, base, self.slim)
        if not self.started:
            some = self.latents(np.random.default_rng(0), START_CROPS)
            for side, y in zip(self.slim.side, some.values(), strict=True):
                side.start(y)

    def analyse(self, x: Tensor) -> dict[str, Tensor]:
        return {f"w{width}": self.slim.analyse(x, number) for number, width in enumerate(WIDTHS)}

    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        return self.latents(random, BATCH) | {"step": steps(random, BATCH, SLIM_STEPS)}

    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        losses, log = [], {}
        for number, width in enumerate(WIDTHS):
            bpp, side_bpp = _rates(*self.slim.cost(batch[f"w{width}"], number, batch["step"])[1:])
            losses.append(balanced(bpp, LAMBDAS[number]).mean())
            log |= {f"bpp w{width}": bpp, f"side w{width}": side_bpp}
        return torch.stack(losses).sum(), log


class FlowSideRecipe(_SideRecipe):
    """Side information for z0."""

    def __init__(self, photos: Photos, base: Mapping[str, Tensor] | None) -> None:
        self.flow = Flow(side=True)
        super().__init__("flow-side", photos, base, self.flow)
        if not self.started:
            self.flow.side.start(self.latents(np.random.default_rng(0), START_CROPS)["z0"])

    def analyse(self, x: Tensor) -> dict[str, Tensor]:
        return {"z0": self.flow.analyse(x)[0]}

    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        offsets = torch.tensor([Z0_OFFSETS.get(channel, 0) for channel in range(Z0)])
        sets = random.uniform(-min(Z0_OFFSETS.values()), Z0_STEPS - 1, BATCH)
        return self.latents(random, BATCH) | {"step": torch.cat([z0_steps(float(d0) + offsets) for d0 in sets])}

    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        """Rates at coarse steps are lower, and count more."""
        z0, step = batch["z0"], batch["step"]
        bpp, side_bpp = _rates(*self.flow.side.cost(z0, step, integers=True)[1:])
        return (bpp * step.mean((1, 2, 3)).sqrt()).mean(), {"bpp": bpp, "side": side_bpp}

"""Gradient descent on one picture's side information, then stochastic Gumbel annealing of all its latents (Yang, Bamler
& Mandt, NeurIPS 2020), with the schedule, the rate control and the weighted distortions of code editing (Gao et al.,
NeurIPS 2022)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nicrt.runtime.bundle import Bundle
from nicrt.runtime.iterative import Edit, Goal
from nicrt.runtime.target import mse_of

from .distortion import ms_ssim, squared_error
from .program import Outcome, SoftProgram

LEARNING_RATE, SHORT_LEARNING_RATE = 5e-3, 1e-2
SHORT = 200  # steps up to which the faster rate is used: on a Kodak crop it gains 0.2% of rate more there
TEMPERATURE = 0.5
WARM_SHARE, FALL = 0.35, 2.0  # 0.5 exp(-0.001 (k - 700)) of 2000 steps, in shares of any number of them
ABOVE, BELOW = 4.0, 0.25  # weight of what a target bounds, far above and far below it
FAR = 0.05  # relative distance from a target at which those weights are reached; between them an exponential
CHECK_EVERY = 25
SIDE_STEPS, SIDE_LEARNING_RATE = 60, 0.1  # 200 steps gain as much
SEED = 0
_EDGE = 1e-5  # atanh is infinite at 1


@dataclass(frozen=True)
class _Score:
    """What a rounded state is worth. rate: bits per pixel. mse: plain, grey levels squared. distortion: the goal's."""

    rate: float
    mse: float
    distortion: float

    def key(self, slope: float, edit: Edit) -> tuple[float, float]:
        """Smaller is better: what meets the target first, then what it leaves free."""
        if edit.bpp is not None:
            return max(0.0, self.rate - edit.bpp), self.distortion
        if edit.psnr is not None:
            return max(0.0, self.mse - mse_of(edit.psnr)), self.rate
        return 0.0, self.rate + slope * self.distortion


@dataclass(frozen=True)
class _State:
    """The symbols of every stream, and what they are worth. key: smaller is better; of equals the earlier one stays."""

    symbols: list[npt.NDArray[np.int32]]
    score: _Score
    key: tuple[float, float]


_key = attrgetter("key")


def edit(
    bundle: Bundle,
    variant: str,
    values: dict[str, list[int]],
    picture: npt.NDArray[np.float32],
    goal: Goal,
    steps: int,
    threads: int,
) -> list[npt.NDArray[np.int32]]:
    """The symbols of every stream, int32 [channels, height, width], that serve the goal best: never worse than those of
    a single pass. picture: float32 [height, width, 3] in [0, 1]. steps: of annealing; with 0 only the side information
    is improved. The same arguments give the same symbols on the same machine."""
    with _threads(threads):
        return _Annealing(SoftProgram(bundle, variant, values, picture), picture, goal, steps).run()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Annealing:
    def __init__(self, program: SoftProgram, picture: npt.NDArray[np.float32], goal: Goal, steps: int) -> None:
        self.program = program
        self.slope, self.edit = goal.slope, goal.edit
        self.steps = steps
        self.original = torch.tensor(picture) * 255
        self.pixels = picture.shape[0] * picture.shape[1]
        self.weights = None if self.edit.weights is None else torch.tensor(self.edit.weights)
        self.generator = torch.Generator().manual_seed(SEED)
        self.bias = self.error_bias = 1.0  # rate and error of the rounded state as shares of the relaxed one's
        with torch.no_grad():
            first = program.run(torch.round)
            # bits per pixel of the file besides the symbols' code lengths
            self.overhead = max(0.0, goal.single_pass_bpp - float(first.bits) / self.pixels)
            # what 1 - MS-SSIM is multiplied by: the single pass has as much of it as of squared error
            self.structure_scale = 0.0
            if self.edit.ms_ssim_weight:
                error = squared_error(first.picture, self.original, self.weights)
                self.structure_scale = float(error / (1 - ms_ssim(first.picture, self.original)).clamp_min(1e-6))

    def run(self) -> list[npt.NDArray[np.int32]]:
        best = self._check()
        descend(self.program)
        best = min(best, self._check(), key=_key)
        learning_rate = SHORT_LEARNING_RATE if self.steps <= SHORT else LEARNING_RATE
        optimiser = torch.optim.Adam(list(self.program.leaves.values()), lr=learning_rate)
        for step in range(self.steps):
            temperature = temperature_at(step, self.steps)
            outcome = self.program.run(lambda latents, t=temperature: self._sample(latents, t))
            rate = outcome.bits / self.pixels + self.overhead
            optimiser.zero_grad()
            self._loss(outcome, rate).backward()
            optimiser.step()
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == self.steps:
                state = self._check()
                self.bias = state.score.rate / float(rate.detach())
                mse = float(squared_error(outcome.picture.detach(), self.original, None))
                self.error_bias = state.score.mse / max(mse, 1e-6)
                best = min(best, state, key=_key)
        return best.symbols

    def _loss(self, outcome: Outcome, rate: Tensor) -> Tensor:
        rate_weight = distortion_weight = 1.0
        if self.edit.bpp is not None:
            rate_weight = weight_at(float(rate.detach()) * self.bias / self.edit.bpp)
        if self.edit.psnr is not None:
            mse = float(squared_error(outcome.picture.detach(), self.original, None))
            distortion_weight = weight_at(mse * self.error_bias / mse_of(self.edit.psnr))
        return rate_weight * rate + distortion_weight * self.slope * self._distortion(outcome.picture)

    def _distortion(self, picture: Tensor) -> Tensor:
        error = squared_error(picture, self.original, self.weights)
        share = self.edit.ms_ssim_weight
        if not share:
            return error
        return (1 - share) * error + share * self.structure_scale * (1 - ms_ssim(picture, self.original))

    def _check(self) -> _State:
        """The rounded state."""
        with torch.no_grad():
            outcome = self.program.run(torch.round)
            mse = float(squared_error(outcome.picture, self.original, None))
            rate = float(outcome.bits) / self.pixels + self.overhead
            score = _Score(rate, mse, float(self._distortion(outcome.picture)))
        symbols = [s[0].to(torch.int32).numpy() for s in outcome.symbols]
        return _State(symbols, score, score.key(self.slope, self.edit))

    def _sample(self, latents: Tensor, temperature: float) -> Tensor:
        """A relaxed draw between the integers below and above, likelier for the nearer one."""
        below = latents.detach().floor()
        share = (latents - below).clamp(_EDGE, 1 - _EDGE)
        logits = (torch.atanh(share) - torch.atanh(1 - share)) / temperature
        uniform = torch.rand(latents.shape, generator=self.generator).clamp(1e-7, 1 - 1e-7)
        return below + torch.sigmoid((logits + torch.logit(uniform)) / temperature)


def descend(program: SoftProgram) -> None:
    """Lower the bits of all streams by the side information alone. The other latents stay what they are, so the picture
    changes only by what rounding and symbols that are no longer coded do."""
    side = program.side_information
    if not side:
        return
    optimiser = torch.optim.Adam(side, lr=SIDE_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, SIDE_STEPS)
    for _ in range(SIDE_STEPS):
        for leaf, gradient in zip(side, torch.autograd.grad(program.rounded_bits(), side), strict=True):
            leaf.grad = gradient
        optimiser.step()
        schedule.step()


def temperature_at(step: int, steps: int) -> float:
    """0.5, falling exponentially after the warm share of all steps."""
    return TEMPERATURE * math.exp(-FALL * max(0.0, step / steps - WARM_SHARE))


def weight_at(share: float) -> float:
    """Weight of what a target bounds when it is `share` of the target: BELOW .. ABOVE, 1 at the target."""
    weight = math.exp(math.log(ABOVE) * (share - 1) / FAR) if share < 1 + FAR else ABOVE
    return max(BELOW, weight)

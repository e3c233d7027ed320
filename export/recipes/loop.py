"""The training loop of all recipes: Adam on a cosine schedule over steps or minutes, averaged weights, checkpoints that
any machine can go on from.

Each step draws its pictures and its noise from a generator seeded with (seed, step), so a checkpoint needs no
generator's state, and a run on one CPU thread that was interrupted gives the weights of one that was not. On a GPU the
step is captured as a CUDA graph and replayed, where a recipe's shapes allow it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from nicrt.export.cli import FACTS
from nicrt.runtime.errors import ImageError
from nicrt.runtime.whole_files import write_file

from .data import Photos

Batch = dict[str, Tensor]
Log = dict[str, Tensor]

WARM_UP_STEPS, WARM_UP_SHARE = 100, 0.02  # of the learning rate: whichever is over first
LEAST_RATE = 0.01  # of the peak, at the end
GRADIENT_NORM = 1.0  # of each tensor
DECAY = 0.999  # of the averaged weights, per step
EAGER_STEPS = 3  # before capture, so that libraries have chosen their algorithms
FIRST_LAPS, AVERAGED_LAPS, PAUSE = 3, 30, 10.0
REPORT_S, SAVE_S = 20.0, 300.0


class Recipe(ABC):
    """What is trained, on what, and for which loss."""

    family: str
    model: nn.Module
    photos: Photos
    started: int = False
    """Whether (or how much of it) the run began with trained weights; what prepares them is then left out."""
    learning_rate = 3e-4
    rates: Mapping[str, float] = {}
    """Factors on the learning rate by the beginnings of names, for weights that are small because their inputs are
    large; a factor of 0 freezes."""
    fixed_shapes = True
    """Whether all steps of a phase are the same computation, which can then be captured."""

    @abstractmethod
    def draw(self, random: np.random.Generator, progress: float) -> Batch:
        """What a step sees, on the CPU. `progress`: share of the schedule, 0 .. 1."""

    @abstractmethod
    def loss(self, batch: Batch, phase: int) -> tuple[Tensor, Log]:
        """A number, and what to report: `bpp` and `psnr` of each picture, and what else is worth it."""

    def phase(self, progress: float) -> int:
        """Number of the computation that `loss` does from here on."""
        return 0

    def factor(self, name: str) -> float:
        """On the learning rate of a parameter."""
        return next((factor for start, factor in self.rates.items() if name.startswith(start)), 1.0)

    def project(self) -> None:  # noqa: B027
        """Bring parameters back into their range after a step; most have none."""

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The model's state → tensors of the checkpoint that the export takes: weights of convolutions as float16."""
        return {name: tensor.half() if tensor.ndim == 4 else tensor for name, tensor in state.items()}


@dataclass(frozen=True)
class Schedule:
    """How far training is. From `begin`, a share of the whole, what is left goes over `length` steps or seconds."""

    unit: str  # "steps" or "seconds"
    length: float
    used: float = 0.0
    begin: float = 0.0

    @property
    def progress(self) -> float:
        return self.begin + (1 - self.begin) * min(1.0, self.used / self.length)

    def after_step(self) -> Schedule:
        return replace(self, used=self.used + 1) if self.unit == "steps" else self

    def spent(self, seconds: float) -> Schedule:
        return replace(self, used=self.used + seconds) if self.unit == "seconds" else self

    def changed(self, unit: str, length: float) -> Schedule:
        """What is left, over another length."""
        return Schedule(unit, length, begin=self.progress)

    def learning_rate(self, step: int) -> float:
        """As a share of the peak."""
        warm = min(1.0, max((step + 1) / WARM_UP_STEPS, self.progress / WARM_UP_SHARE))
        return warm * (LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * self.progress)))


@dataclass
class State:
    """What a run goes on from besides tensors. `seconds`: of loading, training and saving, without pauses."""

    schedule: Schedule
    seed: int = 0
    step: int = 0
    seconds: float = 0.0


class Trainer:
    """A recipe's weights, their average and the optimiser on a device. `clock`: that of the run, started before it
    loaded anything."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        state: State,
        provenance: Mapping[str, Any],
        clock: Clock | None = None,
    ) -> None:
        self.recipe, self.device, self.state, self.provenance = recipe, device, state, provenance
        self.clock = clock or Clock()
        recipe.model.to(device, memory_format=torch.channels_last)
        for name, parameter in recipe.model.named_parameters():
            parameter.requires_grad_(recipe.factor(name) > 0)
        self.trained = {name: p for name, p in recipe.model.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.trained.items()}
        graphs = device.type == "cuda"
        self.factors = sorted({recipe.factor(name) for name in self.trained})
        groups = [
            {
                "params": [p for name, p in self.trained.items() if recipe.factor(name) == factor],
                "lr": torch.tensor(0.0, device=device),  # a tensor: captured steps read the rate from where it lies
            }
            for factor in self.factors
        ]
        self.optimiser = torch.optim.Adam(groups, lr=recipe.learning_rate, fused=True, capturable=graphs)
        self._captured = _Captured(self._compute) if graphs and recipe.fixed_shapes else None
        # on a CPU that has it, a step of the deep shallow codec takes 0.40 s with it, 0.55 s in float32
        self._bfloat16 = graphs or torch.cpu.get_capabilities().get("avx512_bf16", False)
        torch.backends.cudnn.benchmark = recipe.fixed_shapes
        torch.set_float32_matmul_precision("high")

    def step(self) -> Log:
        """One step; the state is one step further, its time not spent yet."""
        state, recipe = self.state, self.recipe
        progress = state.schedule.progress
        with self.clock.counted():  # it may have to load photographs first
            batch = recipe.draw(np.random.default_rng((state.seed, state.step)), progress)
        torch.manual_seed((state.seed << 32) + state.step)
        rate = recipe.learning_rate * state.schedule.learning_rate(state.step)
        for factor, group in zip(self.factors, self.optimiser.param_groups, strict=True):
            group["lr"].fill_(rate * factor)
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        log = (self._captured or self._compute)(batch, recipe.phase(progress))
        weight = 1 - min(DECAY, (1 + state.step) / (10 + state.step))
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.trained.values()], weight)
        state.step += 1
        state.schedule = state.schedule.after_step()
        return log

    def _compute(self, batch: Batch, phase: int) -> Log:
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16, cache_enabled=False):
            loss, log = self.recipe.loss(batch, phase)
        loss.backward()
        norm = _clip([p.grad for p in self.trained.values() if p.grad is not None])
        self.optimiser.step()
        with torch.no_grad():
            self.recipe.project()
        return {name: value.detach().float().mean() for name, value in {"loss": loss, "norm": norm, **log}.items()}

    def averaged(self) -> dict[str, Tensor]:
        """The model's state with averaged weights, on the CPU."""
        state = self.recipe.model.state_dict() | self.average
        return {name: tensor.detach().cpu() for name, tensor in state.items()}

    def spent(self, seconds: float) -> None:
        """These seconds of the run are over."""
        self.state.seconds += seconds
        self.state.schedule = self.state.schedule.spent(seconds)

    def save(self, out: Path) -> None:
        """The checkpoint for the export to `out`, and what to go on from beside it."""
        facts = {
            **self.provenance,
            "steps": self.state.step,
            "minutes": round(self.state.seconds / 60, 1),
            "share_of_schedule": round(self.state.schedule.progress, 3),
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.recipe.weights(self.averaged()).items()}
        _write(out, save(tensors, metadata={FACTS: json.dumps(facts)}))
        everything = {
            "family": self.recipe.family,
            "started": self.recipe.started,
            "state": json.dumps(asdict(self.state)),
            "provenance": dict(self.provenance),
            "model": self.recipe.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        file = io.BytesIO()
        torch.save(everything, file)
        _write(resume_file(out), file.getvalue())

    def load(self, saved: Mapping[str, Any]) -> None:
        """Weights, average and optimiser of a file that `save` wrote on any device."""
        self.recipe.model.load_state_dict(saved["model"])
        for name, tensor in self.average.items():
            tensor.copy_(saved["average"][name])
        rates = [group["lr"] for group in self.optimiser.param_groups]
        capturable = self.device.type == "cuda"
        self.optimiser.load_state_dict(saved["optimiser"])
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group.update(lr=rate, capturable=capturable)
        for parameter, moments in self.optimiser.state.items():
            for name in ("exp_avg", "exp_avg_sq"):  # in memory as the weights are
                moments[name] = torch.empty_like(parameter).copy_(moments[name])


def _clip(gradients: list[Tensor]) -> Tensor:
    """Gradients of tensors are shortened to GRADIENT_NORM, each on its own: those of a GDN's gamma, whose inputs are
    squares, are thousands of times longer than the others, which would be left next to nothing. → norm of all."""
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, list((GRADIENT_NORM / norms.clamp_min(GRADIENT_NORM)).unbind()))
    return norms.norm()


class _Captured:
    """Replays a step as a CUDA graph. The first steps of a phase run as they are, on the stream of the capture."""

    def __init__(self, compute: Callable[[Batch, int], Log]) -> None:
        self._compute, self._stream = compute, torch.cuda.Stream()
        self._phase, self._eager, self._graph = -1, 0, None
        self._batch: Batch = {}
        self._log: Log = {}

    def __call__(self, batch: Batch, phase: int) -> Log:
        if phase != self._phase:
            self._phase, self._eager, self._graph, self._batch = phase, EAGER_STEPS, None, batch
        for name, tensor in batch.items():
            self._batch[name].copy_(tensor)
        if self._eager:
            self._eager -= 1
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                log = self._compute(self._batch, phase)
            torch.cuda.current_stream().wait_stream(self._stream)
            return log
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._log = self._compute(self._batch, phase)
        self._graph.replay()
        return {name: value.clone() for name, value in self._log.items()}


def train(trainer: Trainer, out: Path, report: Callable[[str], None] = print) -> signal.Signals | None:
    """Go on until the schedule is over, or until SIGTERM or an interrupt, which is returned: either way all is saved.
    The first checkpoint is written after the first step, so that what cannot be written shows at once; the schedule
    keeps the time that it took for the last one."""
    state, clock, sums, reported, saved = trainer.state, trainer.clock, _Sums(), 0.0, math.inf
    with _signals() as asked:
        trainer.spent(clock.whole())  # loading
        while state.schedule.progress < 1 and not asked:
            sums.add(trainer.step())
            took = clock.lap()
            trainer.spent(took)
            reported, saved = reported + took, saved + took
            if reported > REPORT_S or state.schedule.progress >= 1:
                report(sums.line(trainer))
                sums, reported = _Sums(), 0.0
            if saved > SAVE_S and state.schedule.progress < 1:
                trainer.save(out)
                took = clock.whole()
                trainer.spent(2 * took if saved == math.inf else took)
                saved = 0.0
        trainer.save(out)
    return signal.Signals(asked[0]) if asked else None


class Clock:
    """Seconds of a run, without pauses: the computation of a step that takes PAUSE times the average had one, and
    counts as average. Loading and saving count as long as they take."""

    def __init__(self) -> None:
        self._average, self._last, self._laps, self._counted = 0.0, time.monotonic(), 0, 0.0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """What runs in it counts, however long it takes."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._counted += time.monotonic() - start

    def whole(self) -> float:
        """Seconds since the last lap, all of which count; the next one begins."""
        now = time.monotonic()
        took, self._last, self._counted = now - self._last, now, 0.0
        return took

    def lap(self) -> float:
        """Seconds of a step since the last lap; the next one begins."""
        counted = self._counted
        took = self.whole() - counted
        if self._laps >= FIRST_LAPS and took > PAUSE * self._average:
            return counted + self._average
        self._laps += 1
        self._average += (took - self._average) / min(self._laps, AVERAGED_LAPS)
        return counted + took


class _Sums:
    """Means of what steps log."""

    def __init__(self) -> None:
        self._sums: Log = {}
        self._count = 0

    def add(self, log: Log) -> None:
        self._count += 1
        for name, value in log.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def line(self, trainer: Trainer) -> str:
        """Raises FloatingPointError where training has diverged: what was saved last stays."""
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        if not math.isfinite(means["loss"]):
            raise FloatingPointError(f"step {trainer.state.step}: the loss is {means['loss']}")
        state = trainer.state
        rate = trainer.recipe.learning_rate * state.schedule.learning_rate(state.step)
        values = " ".join(f"{name} {value:.4f}" for name, value in means.items())
        return f"{state.schedule.progress:6.1%} {state.seconds:.0f} s step {state.step} lr {rate:.2e} {values}"


def resume_file(out: Path) -> Path:
    """Beside the checkpoint `out`: what `--resume` takes."""
    return out.with_name(f"{out.stem}.resume.pt")


def _write(file: Path, data: bytes) -> None:
    try:
        write_file(file, data)
    except OSError as error:
        raise ImageError(f"{file}: cannot write it: {error.strerror or error}") from error


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that SIGTERM and SIGINT fill: a step in progress is finished first."""
    asked: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, _: asked.append(number)) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

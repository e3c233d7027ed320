"""`python -m nicrt.export.recipes FAMILY --data DIR (--minutes N | --steps N) --out CKPT`."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from nicrt.export import unpickle
from nicrt.export.checkpoints import read_safetensors
from nicrt.runtime.errors import NicrtError, one_line

from .data import Photos
from .families import RECIPES
from .loop import Clock, Schedule, State, Trainer, resume_file, train

EXIT_SIGNAL = 128
"""With a signal's number added: the exit code of a run that it ended."""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m nicrt.export.recipes",
        description="Train a checkpoint that `nicrt export --checkpoint` takes. SIGTERM and an interrupt end a run "
        "early: all is saved, and --resume goes on; exit codes are 143 and 130 then.",
    )
    result.add_argument("family", choices=sorted(RECIPES))
    result.add_argument("--data", type=Path, required=True, help="folder of photographs")
    length = result.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=_positive(float),
        help="length of the run, loading and checkpoints included; with --resume, of what is left of it",
    )
    length.add_argument("--steps", type=_positive(int), help="the same in steps")
    result.add_argument("--resume", type=Path, help="go on from what an earlier run left beside its --out (.resume.pt)")
    result.add_argument(
        "--base", type=Path, nargs="+", default=[], help="checkpoints to start from, or whose codec to build on"
    )
    result.add_argument("--out", type=Path, required=True, help="checkpoint to write, safetensors")
    result.add_argument("--seed", type=int, default=0)
    return result


def _positive(kind: type[float]) -> Callable[[str], float]:
    """For argparse: a finite number above 0."""

    def read(text: str) -> float:
        number = kind(text)
        if not 0 < number < math.inf:
            raise argparse.ArgumentTypeError(f"{text}: a number above 0 is needed")
        return number

    read.__name__ = kind.__name__  # argparse says "invalid int value" by it
    return read


def main(arguments: Sequence[str] | None = None) -> int:
    clock = Clock()
    options = parser().parse_args(arguments)
    if options.minutes is None and options.steps is None and options.resume is None:
        raise SystemExit("a run needs --minutes or --steps")
    if options.resume and options.base:
        raise SystemExit("--resume has its weights: it goes with no --base")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    try:
        ended_by = train(_trainer(options, device, clock), options.out, lambda line: print(line, flush=True))
    except (OSError, ValueError, ArithmeticError, NicrtError) as error:
        raise SystemExit(f"{options.family}: {error}") from None
    except KeyboardInterrupt:  # while loading: there is nothing to save yet
        return EXIT_SIGNAL + signal.SIGINT
    print(f"wrote {options.out}, and {resume_file(options.out)} to go on from", flush=True)
    return 0 if ended_by is None else EXIT_SIGNAL + ended_by


def _trainer(options: argparse.Namespace, device: torch.device, clock: Clock) -> Trainer:
    if options.resume is None and not options.base:
        return _started(options, device, clock)
    try:
        return (_started if options.resume is None else _resumed)(options, device, clock)
    except (RuntimeError, LookupError) as error:  # of names and shapes
        files = ", ".join(map(str, options.base or [options.resume]))
        raise ValueError(f"{files}: the tensors do not fit this recipe ({one_line(error)})") from error


def _started(options: argparse.Namespace, device: torch.device, clock: Clock) -> Trainer:
    base, digests = {}, []
    for file in options.base:
        data = file.read_bytes()
        digests.append(hashlib.sha256(data).hexdigest())
        tensors = read_safetensors(data)
        base |= {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    recipe = RECIPES[options.family](Photos(options.data), base or None)
    facts = {
        "training": f"recipe {options.family}: Adam, exponential moving average of the weights, cosine schedule",
        "training_data": f"random crops of {len(recipe.photos.files)} photographs",
        "hardware": _hardware(device),
        **({"started_from_sha256": digests} if digests else {}),
    }
    return Trainer(recipe, device, State(Schedule(*_length(options)), options.seed), facts, clock)


def _resumed(options: argparse.Namespace, device: torch.device, clock: Clock) -> Trainer:
    """With weights, state and provenance of the earlier run."""
    saved = unpickle.load(options.resume.read_bytes())
    if not isinstance(saved, dict) or not {"family", "state", "model", "optimiser"} <= set(saved):
        raise ValueError(f"{options.resume} is not what a recipe left to go on from")
    if saved["family"] != options.family:
        raise ValueError(f"{options.resume} is of {saved['family']}")
    recipe = RECIPES[options.family](Photos(options.data), saved["model"])
    recipe.started = saved["started"]
    facts = json.loads(saved["state"])
    state = State(**facts | {"schedule": Schedule(**facts["schedule"])})
    unit, length = _length(options)
    if length is not None:
        state.schedule = state.schedule.changed(unit, length)
    origin, hardware = saved["provenance"], _hardware(device)
    if hardware not in origin["hardware"]:
        origin["hardware"] += f", then {hardware}"
    trainer = Trainer(recipe, device, state, origin, clock)
    trainer.load(saved)
    return trainer


def _length(options: argparse.Namespace) -> tuple[str, float | None]:
    return ("steps", options.steps) if options.minutes is None else ("seconds", 60 * options.minutes)


def _hardware(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m nicrt.export.recipes FAMILY --data DIR (--minutes N | --steps N) --out CKPT`."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load

from .data import Photos
from .families import RECIPES
from .loop import Schedule, State, Trainer, resume_file, train


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m nicrt.export.recipes",
        description="Train a checkpoint that `nicrt export --checkpoint` takes. SIGTERM and an interrupt end a run "
        "early: all is saved, and --resume goes on.",
    )
    result.add_argument("family", choices=sorted(RECIPES))
    result.add_argument("--data", type=Path, required=True, help="folder of photographs")
    length = result.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="length of the run; with --resume, of what is left of it")
    length.add_argument("--steps", type=int, help="the same in steps")
    result.add_argument("--resume", type=Path, help="go on from what an earlier run left beside its --out (.resume.pt)")
    result.add_argument(
        "--base", type=Path, nargs="+", default=[], help="checkpoints to start from, or whose codec to build on"
    )
    result.add_argument("--out", type=Path, required=True, help="checkpoint to write, safetensors")
    result.add_argument("--seed", type=int, default=0)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.minutes is None and options.steps is None and options.resume is None:
        raise SystemExit("a run needs --minutes or --steps")
    if options.resume and options.base:
        raise SystemExit("--resume has its weights: it goes with no --base")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    try:
        trainer = (_started if options.resume is None else _resumed)(options, device)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: of names and shapes that do not fit
        raise SystemExit(f"{options.family}: {error}") from None
    train(trainer, options.out, lambda line: print(line, flush=True))
    print(f"wrote {options.out}, and {resume_file(options.out)} to go on from", flush=True)
    return 0


def _started(options: argparse.Namespace, device: torch.device) -> Trainer:
    base, digests = {}, []
    for file in options.base:
        data = file.read_bytes()
        digests.append(hashlib.sha256(data).hexdigest())
        base |= {name: t.float() if t.is_floating_point() else t for name, t in load(data).items()}
    recipe = RECIPES[options.family](Photos(options.data), base or None)
    facts = {
        "training": f"recipe {options.family}: Adam, exponential moving average of the weights, cosine schedule",
        "training_data": f"random crops of {len(recipe.photos.files)} photographs",
        "hardware": _hardware(device),
        **({"started_from_sha256": digests} if digests else {}),
    }
    return Trainer(recipe, device, State(Schedule(*_length(options)), options.seed), facts)


def _resumed(options: argparse.Namespace, device: torch.device) -> Trainer:
    """With weights, state and provenance of the earlier run."""
    saved = torch.load(options.resume, map_location="cpu", weights_only=True)
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
    trainer = Trainer(recipe, device, state, origin)
    trainer.load(saved)
    return trainer


def _length(options: argparse.Namespace) -> tuple[str, float | None]:
    return ("steps", options.steps) if options.minutes is None else ("seconds", 60 * options.minutes)


def _hardware(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    raise SystemExit(main())

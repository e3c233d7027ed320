"""Re-encoding fifteen times with the same parameters, the flow bundle beside the shallow one:

    python benchmarks/generations.py --kodak DIR --weights DIR

Two chains per codec, on crops of Kodak pictures: *8-bit*, real files made with `like` from each other's decoded
pictures, and *float*, the PyTorch model fed with its own reconstruction, neither rounded to 8 bits nor clipped (ideal
code lengths). Nothing is skipped. Means over the crops, PSNR against the first original. Writes
results/generations.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file

import nicrt
from nicrt.export.flow import UNIT_STEP, Z0_STEPS
from nicrt.export.layers import GAIN_UNIT
from nicrt.export.models.entropy import LOG_SCALE_STEP, STEPS_PER_INDEX
from nicrt.export.models.flow import Flow
from nicrt.export.models.shallow import Shallow
from nicrt.runtime.evaluate import psnr

GENERATIONS = 15
CROPS = {"kodim03": (160, 128), "kodim08": (256, 256), "kodim23": (128, 256)}  # top, left
SIZE = 192
RESULTS = Path(__file__).parent / "results" / "generations.json"
Pixels = npt.NDArray[np.uint8]
Rate = tuple[float, float]  # bits per pixel, PSNR in dB
Step = Callable[[torch.Tensor], tuple[float, torch.Tensor]]  # picture [1, 3, h, w] → bits, reconstruction


def eight_bit_chain(codec: nicrt.Codec, original: Pixels, parameters: dict[str, int | list[int]]) -> Iterator[Rate]:
    """The encodings of one picture through files."""
    data, pixels = b"", original
    for generation in range(1 + GENERATIONS):
        data = codec.encode(pixels, like=data) if generation else codec.encode(pixels, parameters=parameters)
        pixels = codec.decode(data)
        yield 8 * len(data) / (SIZE * SIZE), psnr(pixels.astype(np.float64), original.astype(np.float64))


def float_chain(step: Step, original: Pixels) -> Iterator[Rate]:
    """The encodings of one picture by `step`: picture [1, 3, h, w] → bits, reconstruction."""
    first = torch.from_numpy(original.transpose(2, 0, 1)[None].copy()).float() / 255
    x = first
    for _ in range(1 + GENERATIONS):
        bits, x = step(x)
        yield bits / (SIZE * SIZE), psnr(255 * x.double().numpy(), 255 * first.double().numpy())


def summary(chains: list[list[Rate]]) -> dict[str, object]:
    """Means over pictures per generation, and the drift from the first to the last."""
    mean = np.mean(np.array(chains), axis=0)
    return {
        "bpp": mean[:, 0].round(5).tolist(),
        "psnr": mean[:, 1].round(4).tolist(),
        "psnr_drift": round(float(mean[-1, 1] - mean[0, 1]), 4),
        "bpp_drift_percent": round(float(100 * (mean[-1, 0] / mean[0, 0] - 1)), 3),
    }


def flow_parameters(step: float) -> dict[str, int | list[int]]:
    """All levels at one step (in latent units, 255 / 32 grey levels), nothing skipped."""
    level = round(math.log(step) * STEPS_PER_INDEX / LOG_SCALE_STEP)
    z0 = min(Z0_STEPS - 1, UNIT_STEP + round(4 * math.log2(step)))
    return {"d0": [z0] * 48, "step1": level, "step2": level, "skip": 0}


def flow_step(model: Flow, step: float) -> Step:
    def once(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        result = model.evaluate(x, (step, step, step))
        return sum(result.bits), result.reconstruction

    return once


def shallow_step(model: Shallow, position: float) -> Step:
    def once(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        result = model.evaluate(x, position)
        return result.z_bits + result.symbol_bits, result.reconstruction

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kodak", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    crops = []
    for name, (top, left) in CROPS.items():
        pixels = np.asarray(Image.open(options.kodak / f"{name}.png").convert("RGB"))
        crops.append(pixels[top : top + SIZE, left : left + SIZE])
    flow = Flow.of(load_file(options.weights / "flow.safetensors"))
    shallow = Shallow.of(load_file(options.weights / "shallow.safetensors"))
    result: dict[str, dict[str, object]] = {}

    def add(name: str, step: Step, parameters: dict[str, int | list[int]]) -> None:
        codec = nicrt.load(name.split(",")[0])
        result[name] = {
            "float": summary([list(float_chain(step, crop)) for crop in crops]),
            "8-bit": summary([list(eight_bit_chain(codec, crop, parameters)) for crop in crops]),
        }
        print(name, json.dumps(result[name]), flush=True)

    for step in (1.0, 4.0):
        add(f"flow, step {step:g}", flow_step(flow, step), flow_parameters(step))
    for position in (1, 5):
        add(f"shallow, gain {position}", shallow_step(shallow, position), {"gain": GAIN_UNIT * position, "skip": 0})
    options.output.parent.mkdir(parents=True, exist_ok=True)
    header = {"generations": GENERATIONS, "crops": CROPS, "size": SIZE}
    options.output.write_text(json.dumps({**header, "chains": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()

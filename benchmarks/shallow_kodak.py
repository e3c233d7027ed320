"""Rate and quality of the shallow bundle's real files against PyTorch:

    python benchmarks/shallow_kodak.py --kodak DIR --checkpoint FILE

Per quality, means over the pictures: bits per pixel of files on disk and by ideal code length (the model's own
distributions, coded symbols only), PSNR of `nicrt decode` and of the PyTorch model given the same symbols; then the
same with nothing skipped, against PyTorch's own evaluation. Writes results/shallow_kodak.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file

import nicrt
from nicrt.export.models.entropy import gaussian_bits
from nicrt.export.models.shallow import Shallow
from nicrt.runtime.evaluate import psnr
from nicrt.runtime.pictures import from_array

QUALITIES = (10, 30, 50, 70, 90)
RESULTS = Path(__file__).parent / "results" / "shallow_kodak.json"
Pixels = npt.NDArray[np.uint8]


def to_pixels(reconstruction: torch.Tensor, size: tuple[int, int]) -> Pixels:
    scaled = (reconstruction.clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy()
    return scaled[: size[0], : size[1]].astype(np.uint8)


def padded(pixels: Pixels) -> torch.Tensor:
    rows, columns = (-side % 64 for side in pixels.shape[:2])
    whole = np.pad(from_array(pixels), ((0, rows), (0, columns), (0, 0)), mode="edge")
    return torch.from_numpy(whole.transpose(2, 0, 1)[None].copy())


def file_against_model(
    codec: nicrt.Codec, model: Shallow, pixels: Pixels, quality: float, skip: int | None
) -> dict[str, float]:
    """One picture: its file, and the model given the file's symbols."""
    data = codec.encode(pixels, quality=quality, parameters={} if skip is None else {"skip": skip})
    facts = nicrt.info(data)
    gain, _, threshold, _ = (values[0] for values in facts.parameters)
    z, symbols = (torch.from_numpy(tensor)[None] for tensor in codec.symbols(data))
    mean, index = model.hyper_synthesis(z.float())
    index = torch.round(index).clamp(0, 63)
    coded = index >= threshold
    bits = float(model.prior.bits(z).sum() + gaussian_bits(symbols, index)[coded].sum())
    expected = to_pixels(model.synthesise(symbols + mean, gain / 100), pixels.shape[:2])
    decoded = codec.decode(data)
    area = pixels.shape[0] * pixels.shape[1]
    return {
        "bpp": 8 * len(data) / area,
        "ideal_bpp": bits / area,
        "psnr": psnr(decoded, pixels),
        "model_psnr": psnr(expected, pixels),
        "bytes_over_budget": len(data) - (bits / 8 * 1.002 + 96 + 12 * facts.segments),
        "coded_share": float(coded.float().mean()),
    }


def own_evaluation(model: Shallow, pixels: Pixels, gain: int) -> dict[str, float]:
    """PyTorch's evaluation of the picture, nothing of it through a file."""
    result = model.evaluate(padded(pixels), gain / 100)
    area = pixels.shape[0] * pixels.shape[1]
    return {
        "torch_bpp": (result.z_bits + result.symbol_bits) / area,
        "torch_psnr": psnr(to_pixels(result.reconstruction, pixels.shape[:2]), pixels),
    }


def measure(folder: Path, checkpoint: Path) -> list[dict[str, Any]]:
    codec, model = nicrt.load("shallow"), Shallow.of(load_file(checkpoint))
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.glob("*.png"))]
    rows = []
    for quality in QUALITIES:
        row: dict[str, Any] = {"quality": quality}
        for name, skip in (("default", None), ("nothing_skipped", 0)):
            results = []
            for pixels in pictures:
                result = file_against_model(codec, model, pixels, quality, skip)
                if skip == 0:
                    result.update(own_evaluation(model, pixels, round(7 * quality)))
                results.append(result)
            row[name] = {key: float(np.mean([r[key] for r in results])) for key in results[0]}
            row[name]["worst_bytes_over_budget"] = max(r["bytes_over_budget"] for r in results)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kodak", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = measure(options.kodak, options.checkpoint)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

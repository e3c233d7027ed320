"""What iterative encoding (effort 6 to 8) gains over a single pass: python benchmarks/editing.py KODAK_FOLDER

For crops of 256 x 256 pixels from the middle of some pictures: rate of the real file, PSNR and seconds at each quality
and effort; the gain is the rate against that of single passes at the same PSNR (linear interpolation of the logarithm
of the rate between single passes at every fifth quality). Results go to benchmarks/results/editing.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

import nicrt
from nicrt.runtime.target import mean_squared_error, psnr_of

RESULTS = Path(__file__).resolve().parent / "results" / "editing.json"
CROP = 256
SINGLE_PASS_QUALITIES = range(0, 101, 5)


def crop(path: Path) -> np.ndarray:
    """The middle of a picture, uint8 [256, 256, 3]."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    top, left = ((side - CROP) // 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + CROP, left : left + CROP])


def measure(codec: nicrt.Codec, pixels: np.ndarray, **options: Any) -> dict[str, float]:
    """bpp of the file, PSNR of its decoded pixels, seconds to encode."""
    start = perf_counter()
    data = codec.encode(pixels, **options)
    seconds = perf_counter() - start
    error = mean_squared_error(codec.decode(data), pixels.astype(np.float32) / 255)
    return {"bpp": round(8 * len(data) / CROP**2, 4), "psnr": round(psnr_of(error), 3), "seconds": round(seconds, 2)}


def gain(point: dict[str, float], curve: list[dict[str, float]]) -> float:
    """Rate of a point against the curve's at the same PSNR, in per cent; negative is better."""
    points = sorted(curve, key=lambda p: p["psnr"])
    reference = np.interp(point["psnr"], [p["psnr"] for p in points], np.log([p["bpp"] for p in points]))
    return round(100 * (point["bpp"] / float(np.exp(reference)) - 1), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="pictures")
    parser.add_argument("--bundles", nargs="+", default=["shallow"])
    parser.add_argument("--names", nargs="+", default=["kodim05", "kodim19", "kodim23"])
    parser.add_argument("--qualities", nargs="+", type=float, default=[20, 45, 70])
    parser.add_argument("--efforts", nargs="+", type=int, default=[6, 7])
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for bundle in options.bundles:
        codec = nicrt.load(bundle, threads=1)
        results[bundle] = {"crop": CROP, "threads": 1, "pictures": {}, "mean gain in per cent of rate": {}}
        found: dict[int, list[float]] = {effort: [] for effort in options.efforts}
        for name in options.names:
            pixels = crop(options.folder / f"{name}.png")
            curve = [measure(codec, pixels, quality=quality) for quality in SINGLE_PASS_QUALITIES]
            entry = results[bundle]["pictures"][name] = {"single pass": curve, "iterated": []}
            for effort in options.efforts:
                for quality in options.qualities:
                    point = measure(codec, pixels, quality=quality, effort=effort)
                    found[effort].append(gain(point, curve))
                    row = {"effort": effort, "quality": quality, **point, "rate_percent": found[effort][-1]}
                    entry["iterated"].append(row)
                    print(bundle, name, json.dumps(row), flush=True)
                means = {f"effort {e}": round(float(np.mean(gains)), 2) for e, gains in found.items() if gains}
                results[bundle]["mean gain in per cent of rate"] = means
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Layered files against simulcast and a single layer: python benchmarks/layers.py PICTURES... [-o results/layers.json]

A quarter, half and full size. *Layered*: one `compass` file; *simulcast*: every size as a `mean-scale` file of its own;
*single*: the full size alone. BD-rates at the full size (positive: layers cost more), and of the implicit filter
against its bicubic variant.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import bjontegaard
import numpy as np
import numpy.typing as npt
from PIL import Image

import nicrt
from nicrt.runtime.evaluate import psnr
from nicrt.runtime.pictures import resize

QUALITIES = (10, 25, 50, 75)
PEER_QUALITIES = (10, 40, 70, 100)  # so that the curves overlap
SCALES = (1, 2, 4)
Pixels = npt.NDArray[np.uint8]
Curve = list[tuple[float, float]]


def layered(codec: nicrt.Codec, picture: Pixels, variant: str) -> Curve:
    """(bpp of the whole file, PSNR of the full size) per quality."""
    curve = []
    for quality in QUALITIES:
        data = codec.encode(picture, quality=quality, scales=SCALES, variant=variant)
        curve.append((8 * len(data), psnr(codec.decode(data), picture)))
    return per_pixel(curve, picture)


def alone(codec: nicrt.Codec, pictures: list[Pixels]) -> Curve:
    """The same for files of their own: bits of all of them, PSNR of the last."""
    curve = []
    for quality in PEER_QUALITIES:
        files = [codec.encode(picture, quality=quality) for picture in pictures]
        curve.append((8 * sum(map(len, files)), psnr(codec.decode(files[-1]), pictures[-1])))
    return per_pixel(curve, pictures[-1])


def per_pixel(curve: Curve, picture: Pixels) -> Curve:
    area = picture.shape[0] * picture.shape[1]
    return [(bits / area, quality) for bits, quality in curve]


def bd_rate(anchor: Curve, test: Curve) -> float:
    """Percent more rate of `test` at equal PSNR."""
    (rate_a, psnr_a), (rate_t, psnr_t) = (np.array(sorted(curve)).T for curve in (anchor, test))
    return round(float(bjontegaard.bd_rate(rate_a, psnr_a, rate_t, psnr_t, method="akima")), 2)


def measure(picture: Pixels) -> dict[str, Any]:
    compass, single = nicrt.load("compass"), nicrt.load("mean-scale")
    height, width = picture.shape[:2]
    smaller = [resize(picture, (round(height * s / SCALES[-1]), round(width * s / SCALES[-1]))) for s in SCALES[:-1]]
    curves = {
        "layered": layered(compass, picture, "compass"),
        "layered, bicubic": layered(compass, picture, "bicubic"),
        "simulcast": alone(single, [*smaller, picture]),
        "single": alone(single, [picture]),
    }
    return {
        "curves": curves,
        "bd_rate_percent": {
            "layered against simulcast": bd_rate(curves["simulcast"], curves["layered"]),
            "layered against single": bd_rate(curves["single"], curves["layered"]),
            "filter against bicubic": bd_rate(curves["layered, bicubic"], curves["layered"]),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "layers.json")
    options = parser.parse_args()
    result = {}
    for path in options.pictures:
        result[path.stem] = measure(np.asarray(Image.open(path).convert("RGB")))
        print(path.stem, result[path.stem]["bd_rate_percent"], flush=True)
    rates = [measured["bd_rate_percent"] for measured in result.values()]
    means = {name: round(float(np.mean([rate[name] for rate in rates])), 2) for name in rates[0]}
    print("mean", means)
    whole = {"scales": SCALES, "mean_bd_rate_percent": means, "pictures": result}
    options.output.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()

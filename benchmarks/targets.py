"""How many passes `--bpp` and `--psnr` cost, and how near they come, for the shipped bundles.

    python benchmarks/targets.py --kodak DIR [--bundle NAME ...] [--picture NAME ...] [--effort N] [-o FILE]

Pictures: the Kodak suite and those that tests/made_pictures.py makes. Targets: what files of three qualities have,
rounded to half a decibel and to two digits of a rate, so that they fall anywhere between a bundle's settings; and of
each kind one that is out of reach.

A pass for a rate is one encode with the parameters of the file that came out; for a PSNR, one encode and one decode of
it, which a search cannot do without. Both are counted in multiplications of the graphs that ran, by the manifest's
figures, and are the same on every machine. `encodes` is the same cost in encodes alone for both kinds. Seconds are of
this machine: of the search, and of that one encode.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import nicrt
from nicrt.runtime.evaluate import psnr

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from counted_work import Work  # noqa: E402
from made_pictures import MADE  # noqa: E402

BUNDLES = ("shallow", "slim", "mean-scale", "compass", "flow")
QUALITIES = (20.0, 50.0, 80.0)
OUT_OF_REACH = {"bpp": 0.001, "psnr": 75.0}
RESULTS = Path(__file__).parent / "results" / "targets.json"
Pixels = npt.NDArray[np.uint8]


def timed(work: Work, run: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, multiplications and seconds."""
    start = time.perf_counter()
    result, macs = work.of(run)
    return result, macs, time.perf_counter() - start


@dataclass(frozen=True)
class Found:
    """One search. excess: dB above a PSNR, or share of a rate that is left; below 0 where the target is not met."""

    kind: str
    target: float
    passes: float
    encodes: float
    excess: float
    missed: bool
    seconds: float
    pass_seconds: float


def search(work: Work, codec: nicrt.Codec, pixels: Pixels, effort: int, kind: str, target: float) -> Found:
    told: list[nicrt.Encoded] = []
    options: dict[str, Any] = {f"target_{kind}": target, "effort": effort}
    data, macs, seconds = timed(work, lambda: codec.encode(pixels, **options))
    opened = codec.opened(data)
    again = {"variant": opened.variant, "parameters": opened.parameters, "effort": effort}
    _, encode_macs, encode_seconds = timed(work, lambda: codec.encode(pixels, report=told.append, **again))
    decoded, decode_macs, decode_seconds = timed(work, lambda: codec.decode(data))
    with_decode = kind == "psnr"
    area = pixels.shape[0] * pixels.shape[1]
    excess = psnr(decoded, pixels) - target if with_decode else 1 - 8 * len(data) / area / target
    return Found(
        kind,
        target,
        round(macs / (encode_macs + with_decode * decode_macs), 3),
        round(macs / encode_macs, 3),
        round(excess, 4),
        excess < 0,
        round(seconds, 4),
        round(encode_seconds + with_decode * decode_seconds, 4),
    )


def targets(codec: nicrt.Codec, pixels: Pixels, effort: int) -> Iterator[tuple[str, float]]:
    area = pixels.shape[0] * pixels.shape[1]
    for quality in QUALITIES:
        data = codec.encode(pixels, quality=quality, effort=effort)
        bpp = 8 * len(data) / area
        yield "bpp", round(bpp, 1 - math.floor(math.log10(bpp)))
        yield "psnr", round(2 * psnr(codec.decode(data), pixels)) / 2
    yield from OUT_OF_REACH.items()


def pictures(kodak: Path | None) -> Iterator[tuple[str, Pixels]]:
    for path in sorted(kodak.glob("*.png")) if kodak else ():
        yield path.stem, np.asarray(Image.open(path).convert("RGB"))
    for name, make in MADE.items():
        yield name, make()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kodak", type=Path, help="folder of the Kodak pictures")
    parser.add_argument("--bundle", action="append", help="only this one; may be repeated")
    parser.add_argument("--picture", action="append", help="only this one; may be repeated")
    parser.add_argument("--effort", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = dict[str, dict[str, list[dict[str, object]]]]()
    for bundle in options.bundle or BUNDLES:
        codec = nicrt.load(bundle, threads=1)
        work = Work(codec)
        results[bundle] = {}
        for name, pixels in pictures(options.kodak):
            if options.picture and name not in options.picture:
                continue
            found = [
                search(work, codec, pixels, options.effort, kind, target)
                for kind, target in targets(codec, pixels, options.effort)
            ]
            results[bundle][name] = [asdict(one) for one in found]
            for one in found:
                print(
                    f"{bundle} {name}: {one.kind} {one.target:g}: {one.passes:.2f} passes, {one.excess:+.4f}",
                    flush=True,
                )
    options.output.write_text(json.dumps({"effort": options.effort, "bundles": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Whether more quality is never a worse picture: walks -q 0, 5, ... 100 for the shipped bundles.

    python benchmarks/monotone.py --kodak DIR [--bundle NAME ...] [--picture NAME ...] [--side PIXELS] [-o FILE]

Pictures: some of the Kodak suite, cut to their middle SIDE x SIDE pixels, and those that tests/made_pictures.py makes.
From one quality to the next, the file may shrink by at most 0.5% and the PSNR fall by at most 0.02 dB: what falls more
is printed and, with all bytes and PSNRs, written to results/monotone.json.

What falls is left over on made pictures, for three reasons. In files of a few hundred bytes (flat, gradient, grain) all
places round alike: a step moves the PSNR by up to 1 dB either way (flow: 3.3), and bytes by some dozens. A width of
slim that is the better one on photographs is not on flat fields, by up to 2 dB. Of what a synthesis cannot show,
however fine the steps (checkerboards, text and flags with all but shallow and flow), the error hardly changes from one
quality to the next, and up to 0.2 dB of it is chance.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import nicrt
from nicrt.runtime.evaluate import psnr

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from made_pictures import MADE  # noqa: E402

BUNDLES = ("shallow", "slim", "mean-scale", "compass", "flow")
KODAK = ("kodim03", "kodim08", "kodim13", "kodim23")
QUALITIES = tuple(range(0, 101, 5))
LOST_BYTES, LOST_DB = 0.005, 0.02
RESULTS = Path(__file__).parent / "results" / "monotone.json"
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Walk:
    """One picture at all qualities: bytes of the files, PSNRs in dB, and the qualities at which one of them fell."""

    bytes: list[int]
    psnr_db: list[float]
    falls: list[int]


def walk(codec: nicrt.Codec, pixels: Pixels, qualities: tuple[int, ...] = QUALITIES) -> Walk:
    files = [codec.encode(pixels, quality=quality) for quality in qualities]
    sizes = [len(data) for data in files]
    fidelity = [psnr(codec.decode(data), pixels) for data in files]
    steps = zip(qualities[1:], pairwise(sizes), pairwise(fidelity), strict=True)
    falls = [q for q, (a, b), (c, d) in steps if b < (1 - LOST_BYTES) * a or d < c - LOST_DB]
    return Walk(sizes, [round(db, 3) for db in fidelity], falls)


def pictures(kodak: Path | None, side: int) -> Iterator[tuple[str, Pixels]]:
    for name in KODAK if kodak else ():
        assert kodak is not None
        pixels = np.asarray(Image.open(kodak / f"{name}.png").convert("RGB"))
        top, left = (max(0, extent - side) // 2 for extent in pixels.shape[:2])
        yield name, pixels[top : top + side, left : left + side]
    for name, make in MADE.items():
        yield name, make()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kodak", type=Path, help="folder of the Kodak pictures")
    parser.add_argument("--bundle", action="append", help="only this one; may be repeated")
    parser.add_argument("--picture", action="append", help="only this one; may be repeated")
    parser.add_argument("--side", type=int, default=1024, help="of Kodak pictures, their middle (default: all)")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    found: dict[str, dict[str, object]] = {}
    for bundle in options.bundle or BUNDLES:
        codec = nicrt.load(bundle, threads=1)
        found[bundle] = {}
        for name, pixels in pictures(options.kodak, options.side):
            if options.picture and name not in options.picture:
                continue
            start = time.perf_counter()
            result = walk(codec, pixels)
            found[bundle][name] = asdict(result)
            print(
                f"{bundle} {name}: falls at {result.falls or 'none'} ({time.perf_counter() - start:.0f} s)", flush=True
            )
            for quality, size, db in zip(QUALITIES, result.bytes, result.psnr_db, strict=True):
                if quality in result.falls:
                    before = QUALITIES.index(quality) - 1
                    print(f"  -q {quality}: {result.bytes[before]} → {size} B, {result.psnr_db[before]} → {db} dB")
    header = {"qualities": QUALITIES, "lost_bytes": LOST_BYTES, "lost_db": LOST_DB, "side": options.side}
    options.output.write_text(json.dumps({**header, "bundles": found}) + "\n")


if __name__ == "__main__":
    main()

"""The README's picture: a crop of kodim23, the original beside nicrt and JPEG at the same size.

python benchmarks/comparison_picture.py KODIM23.png [-o results/parrots.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import nicrt
from nicrt.runtime.peers import PILLOW, encode_to_size

CROP = (60, 40, 380, 296)
QUALITY = 12
GAP, CAPTION = 8, 18


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "parrots.png")
    options = parser.parse_args()
    original = Image.open(options.original).convert("RGB")
    codec = nicrt.load("shallow")
    data = codec.encode(np.asarray(original), quality=QUALITY)
    jpeg = encode_to_size(PILLOW["jpeg"], np.asarray(original), len(data))
    panels = {
        "original": original,
        f"nicrt, bundle shallow, {len(data)} bytes": Image.fromarray(codec.decode(data)),
        f"JPEG 4:4:4, {len(jpeg)} bytes": Image.fromarray(PILLOW["jpeg"].decode(jpeg)),
    }
    width, height = CROP[2] - CROP[0], CROP[3] - CROP[1]
    sheet = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height + CAPTION), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (caption, picture) in enumerate(panels.items()):
        left = number * (width + GAP)
        sheet.paste(picture.crop(CROP), (left, 0))
        draw.text((left + 2, height + 3), caption, fill="black")
    sheet.save(options.output, optimize=True)


if __name__ == "__main__":
    main()

"""The README's picture: a crop of kodim23, the original beside nicrt and JPEG at the same size.

python benchmarks/comparison_picture.py KODIM23.png [-o results/parrots.png]
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import nicrt

CROP = (60, 40, 380, 296)
QUALITY = 12
GAP, CAPTION = 8, 18


def smallest_jpeg_not_below(image: Image.Image, size_bytes: int) -> bytes:
    """JPEG 4:4:4 of the lowest quality that takes at least this many bytes: the peer gets the rounding."""
    for quality in range(1, 101):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
        if len(buffer.getvalue()) >= size_bytes:
            break
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "parrots.png")
    options = parser.parse_args()
    original = Image.open(options.original).convert("RGB")
    codec = nicrt.load("shallow")
    data = codec.encode(np.asarray(original), quality=QUALITY)
    jpeg = smallest_jpeg_not_below(original, len(data))
    panels = {
        "original": original,
        f"nicrt, bundle shallow, {len(data)} bytes": Image.fromarray(codec.decode(data)),
        f"JPEG 4:4:4, {len(jpeg)} bytes": Image.open(io.BytesIO(jpeg)),
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

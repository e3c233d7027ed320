"""Time per megapixel and memory of a 100-megapixel decode: python benchmarks/large.py [-o results/large.json]

Each size is decoded in a process of its own on one thread: the first decode (memory is new) counts for the peak, the
median of `--repeat` decodes for the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import nicrt
from nicrt.runtime.bench import machine, photograph

SIDES = (1000, 3000, 10_000)
LIMITS = nicrt.Limits(pixels=1 << 28, memory_bytes=16 << 30)


def encode(side: int) -> bytes:
    """A square picture, beyond 1000 pixels made of equal tiles."""
    tile = photograph(min(side, 1000), min(side, 1000))
    picture = np.tile(tile, (side // len(tile), side // len(tile), 1))
    return nicrt.load("shallow", threads=1, limits=LIMITS).encode(picture, quality=50)


def decode(path: Path, repeat: int) -> dict[str, Any]:
    codec = nicrt.load("shallow", threads=1, limits=LIMITS)
    data = path.read_bytes()
    shape = codec.decode(data).shape
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        codec.decode(data)
        seconds.append(time.perf_counter() - start)
    megapixels = shape[0] * shape[1] / 1e6
    return {
        "megapixels": megapixels,
        "ms_per_megapixel": round(statistics.median(seconds) * 1e3 / megapixels, 2),
        "peak_rss_mib": int(peak.split()[1]) >> 10,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "large.json")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--decode", type=Path, help=argparse.SUPPRESS)  # the process of its own
    options = parser.parse_args()
    if options.decode:
        print(json.dumps(decode(options.decode, options.repeat)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            path = Path(folder) / "picture.nic"
            path.write_bytes(encode(side))
            command = [sys.executable, __file__, "--decode", str(path), "--repeat", str(options.repeat)]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print(rows[-1], flush=True)
    options.output.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

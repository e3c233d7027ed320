"""The native CPU backend against ONNX Runtime, one thread each, in one process:

    python benchmarks/native.py --kodak DIR

Per bundle and quality: milliseconds of the synthesis graph with both (minimum and median of alternating runs, wall
clock and time on the processor, which other load disturbs less), of the whole decode of a file to RGB, and what differs
in the pixels. Writes results/native.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import nicrt
from nicrt import _core
from nicrt.runtime.backends.base import Array, Executable
from nicrt.runtime.backends.onnxruntime_library import import_onnxruntime
from nicrt.runtime.evaluate import psnr

BUNDLES = ("shallow", "slim", "mean-scale")
QUALITIES = (10, 50, 100)
BACKENDS = ("native", "onnxruntime")
GRAPH = "synthesis"  # beginning of the graph's name
RESULTS = Path(__file__).parent / "results" / "native.json"
Pixels = npt.NDArray[np.uint8]


class Recorder:
    """Runs a graph and keeps the inputs of its last run."""

    def __init__(self, graph: Executable) -> None:
        self.graph = graph
        self.inputs: dict[str, Array] = {}

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        self.inputs = dict(inputs)
        return self.graph.run(inputs, outputs)


def compare(runs: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each, run in turn."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            start = time.perf_counter(), time.process_time()
            run()
            wall[name].append(1e3 * (time.perf_counter() - start[0]))
            processor[name].append(1e3 * (time.process_time() - start[1]))
    return {
        name: {
            "wall_min_ms": min(wall[name]),
            "wall_median_ms": float(np.median(wall[name])),
            "cpu_min_ms": min(processor[name]),
            "cpu_median_ms": float(np.median(processor[name])),
        }
        for name in runs
    }


def pixels_apart(codecs: Mapping[str, nicrt.Codec], pictures: list[Pixels], quality: float) -> dict[str, float]:
    """What the native backend changes: largest difference in grey levels, share of values, PSNR lost."""
    most, share, lost = 0, [], []
    for pixels in pictures:
        data = codecs["onnxruntime"].encode(pixels, quality=quality)
        found, expected = (codecs[name].decode(data) for name in BACKENDS)
        apart = np.abs(found.astype(int) - expected)
        most = max(most, int(apart.max()))
        share.append(float((apart > 0).mean()))
        lost.append(psnr(expected, pixels) - psnr(found, pixels))
    return {
        "largest_difference": most,
        "share_different": float(np.mean(share)),
        "psnr_lost_mean_db": float(np.mean(lost)),
        "psnr_lost_most_db": max(lost),
    }


def measure(bundle: str, pictures: list[Pixels], repeat: int) -> list[dict[str, Any]]:
    rows = []
    for quality in QUALITIES:
        codecs = {name: nicrt.load(bundle, threads=1, backend=name) for name in BACKENDS}
        data = codecs["onnxruntime"].encode(pictures[0], quality=quality)
        recorders = {}
        for name, codec in codecs.items():
            codec.decode(data)
            (graph,) = (graph for graph in codec.backends if graph.startswith(GRAPH))
            recorders[name] = Recorder(codec._graphs.get(graph))
            codec._graphs._loaded[graph] = (recorders[name], name)
            codec.decode(data)
        inputs = recorders["native"].inputs
        synthesis = compare({n: partial(r.graph.run, inputs, ["picture"]) for n, r in recorders.items()}, repeat)
        decode = compare({n: partial(c.decode, data) for n, c in codecs.items()}, repeat)
        megapixels = pictures[0].shape[0] * pictures[0].shape[1] / 1e6
        for times in decode.values():
            times["megapixels_per_second"] = 1e3 * megapixels / times["wall_min_ms"]
            times["megapixels_per_cpu_second"] = 1e3 * megapixels / times["cpu_min_ms"]
        row = {
            "bundle": bundle,
            "graph": graph,
            "quality": quality,
            "size": [pictures[0].shape[1], pictures[0].shape[0]],
            "synthesis": synthesis,
            "synthesis_speedup_cpu": synthesis["onnxruntime"]["cpu_min_ms"] / synthesis["native"]["cpu_min_ms"],
            "decode": decode,
            "pixels": pixels_apart(codecs, pictures, quality),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kodak", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=24, help="how many to compare the pixels of")
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    files = sorted(options.kodak.glob("*.png"))[: options.pictures]
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    result = {
        "arithmetic": _core.arithmetics()[-1],
        "onnxruntime": import_onnxruntime().__version__,
        "machine": platform.processor() or platform.machine(),
        "pictures": len(pictures),
        "rows": [row for bundle in BUNDLES for row in measure(bundle, pictures, options.repeat)],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

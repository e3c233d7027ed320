"""Entropy decoding on a device: python benchmarks/device_entropy.py [--device cuda|host] [-o FILE.json]

The design's entropy job (benchmarks/entropy_coder.py) in the shape of latents: 1080p and Kodak, 320 channels at stride
16, tiles of 512 pixels, `--skip` of the places not coded, lanes as `nicrt encode --lanes` lays them out, alone and in
batches. Symbols are compared with the CPU's before anything is timed.

  kernels_ms   index and payload on the device → symbols on the device: a captured graph between two events
  set_ms       checks, checksums and the copy of the file's bytes to the device, until it has arrived
  total_ms     both and the status check, by the clock of the host

Figures of `host` say that the source works, not how fast a GPU is.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import time
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from entropy_coder import TABLES, codebook, job

from nicrt import _core

SIZES = {"kodak": (320, 32, 48), "1080p": (320, 68, 120)}
TILE = 512 // 16
SYMBOLS_PER_LANE = {"compact": 16384, "balanced": 2048, "parallel": 512}
NOT_CODED = 255


@cache
def picture(shape: tuple[int, int, int], skip: float, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Index and symbols [channels, height, width]."""
    count = int(np.prod(shape))
    index, symbols = job(count, seed)
    index[np.random.default_rng(seed).random(count) < skip] = NOT_CODED
    return index.reshape(shape), symbols.astype(np.int32).reshape(shape)


def encode(
    book: _core.Codebook, index: npt.NDArray[np.uint8], symbols: npt.NDArray[np.int32], lanes: str
) -> tuple[bytes, _core.Stream]:
    encoded = _core.encode_stream(book, symbols, index, TILE, SYMBOLS_PER_LANE[lanes], 1)
    data = _core.write(b"\0" * 8, b"\0" * 4, 1, 1, 0, [], [[encoded]])
    return data, _core.parse(data).stages[0][0]


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    ordered = sorted(milliseconds)
    return {
        "p50": round(statistics.median(ordered), 4),
        "p90": round(ordered[int(0.9 * (len(ordered) - 1))], 4),
        "min": round(ordered[0], 4),
    }


def measure(module: ModuleType, name: str, lanes: str, batch: int, skip: float, repeat: int) -> dict[str, Any]:
    shape, book = SIZES[name], codebook()
    pictures = [picture(shape, skip, seed) for seed in range(batch)]
    files = [encode(book, index, symbols, lanes) for index, symbols in pictures]
    queue = module.Queue()
    decoder = module.StreamDecoder(
        queue,
        book,
        (batch, *shape),
        TILE,
        sum(s.size for _, s in files),
        sum(s.segment_count for _, s in files),
    )
    index = module.Buffer((batch, *shape), "uint8", queue)
    index.upload(np.stack([index for index, _ in pictures]))
    symbols = module.Buffer((batch, *shape), "int32", queue)

    decoder.set(files)
    decoder.run(symbols, index)
    queue.synchronize()
    decoder.check()
    if not np.array_equal(symbols.download(), np.stack([s for _, s in pictures])):  # encode_stream put the zeros
        raise SystemExit(f"{name}, {lanes}, batch {batch}: the symbols are wrong")

    queue.begin_capture()
    decoder.run(symbols, index)
    graph = queue.end_capture()
    kernels, sets, totals = [], [], []
    for _ in range(repeat):
        begin = time.perf_counter()
        decoder.set(files)
        queue.synchronize()
        middle = time.perf_counter()
        start = queue.record()
        graph.replay()
        end = queue.record()
        queue.synchronize()
        decoder.check()
        totals.append(1e3 * (time.perf_counter() - begin))
        sets.append(1e3 * (middle - begin))
        kernels.append(end.elapsed_ms(start))
    coded = sum(int((index < TABLES).sum()) for index, _ in pictures)
    median = statistics.median(kernels)
    lane_counts = {str(k): sum(s.lanes.get(k, 0) for _, s in files) for k in (1, 4, 8, 32)}
    return {
        "size": name,
        "lanes": lanes,
        "batch": batch,
        "coded_symbols": coded,
        "bytes": sum(s.size for _, s in files),
        "segments_by_lanes": {k: v for k, v in lane_counts.items() if v},
        "device_bytes": decoder.device_bytes,
        "kernels_ms": percentiles(kernels),
        "set_ms": percentiles(sets),
        "total_ms": percentiles(totals),
        "msym_s": round(coded / median / 1e3, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "host"], help="default: cuda where there is a GPU")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--skip", type=float, default=0.85, help="share of the places that are not coded")
    parser.add_argument("--repeat", type=int, default=200)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    module = importlib.import_module(f"nicrt._device_{options.device}") if options.device else best_module()
    results: list[dict[str, Any]] = []
    report = {
        "device": module.device_name(),
        "kind": module.kind,
        "host": platform.processor() or platform.machine(),
        "skip": options.skip,
        "repeat": options.repeat,
        "results": results,
    }
    for name in SIZES:
        for lanes in SYMBOLS_PER_LANE:
            for batch in options.batches:
                results.append(measure(module, name, lanes, batch, options.skip, options.repeat))
                print(json.dumps(results[-1]), flush=True)
                if options.output is not None:
                    options.output.write_text(json.dumps(report, indent=1) + "\n")


def best_module() -> ModuleType:
    """The CUDA module where it is built and has a device, else the host's."""
    try:
        module = importlib.import_module("nicrt._device_cuda")
        if module.available():
            return module
    except ImportError:
        pass
    return importlib.import_module("nicrt._device_host")


if __name__ == "__main__":
    main()

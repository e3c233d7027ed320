"""Speed and size of the entropy coder on one core: python benchmarks/entropy_coder.py [-o FILE.json]

The job: 10 million symbols over 64 Gaussian tables with scales 0.11 .. 256, 70% of them below 0.5, as a learned codec
at a low rate has them. Figures are medians of `--repeat` runs; the cold ones flush the caches before each run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nicrt import _core
from nicrt.export.tables import build, gaussian

TABLES = 64
SYMBOLS = 10_000_000
COLD_SYMBOLS = 98_304  # a 768 x 512 picture's share of coded symbols
FLUSH_BYTES = 96 << 20
RESULTS = Path(__file__).parent / "results"

Index = npt.NDArray[np.uint8]
Symbols = npt.NDArray[np.int16]


def scales() -> npt.NDArray[np.float64]:
    return np.exp(np.linspace(math.log(0.11), math.log(256), TABLES))


def job(count: int, seed: int = 1234) -> tuple[Index, Symbols]:
    """Table index and symbol of every place."""
    rng = np.random.default_rng(seed)
    sigma = scales()
    uniform = rng.random(count)
    narrow = rng.random(count) < 0.70
    below = int((sigma < 0.5).sum())
    low = np.floor(below * rng.random(count) ** 1.5).astype(int)
    high = np.minimum(TABLES - 1, below + np.floor(rng.exponential(8.0, count)).astype(int))
    del uniform  # drawn so that the job is the one that the design's table was measured on
    index = np.where(narrow, low, high).astype(np.uint8)
    symbols = np.rint(rng.standard_normal(count) * sigma[index]).astype(np.int16)
    return index, symbols


def ideal_bits(index: Index, symbols: Symbols) -> float:
    """Code length of the symbols under their own Gaussians, in bits."""
    total = 0.0
    for table, sigma in enumerate(scales()):
        values, counts = np.unique(np.abs(symbols[index == table].astype(int)), return_counts=True)
        root = sigma * math.sqrt(2)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            mass = 0.5 * (math.erfc((value - 0.5) / root) - math.erfc((value + 0.5) / root))
            total -= count * math.log2(mass)
    return total


def codebook() -> _core.Codebook:
    tables = [build(gaussian(float(sigma))) for sigma in scales()]
    return _core.Codebook(
        np.array([t.low for t in tables], np.int16),
        np.array([t.shift for t in tables], np.uint8),
        np.array([len(t.frequency) for t in tables], np.int32),
        np.concatenate([t.frequency for t in tables]),
    )


def median_seconds(work: Callable[[], object], repeat: int, before: Callable[[], object] = lambda: None) -> float:
    seconds = []
    for _ in range(repeat):
        before()
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def decode_seconds(
    book: _core.Codebook,
    index: Index,
    symbols: Symbols,
    segment: bytes,
    lanes: int,
    repeat: int,
    before: Callable[[], object] = lambda: None,
    **options: str,
) -> float:
    """Median time of decoding one segment; stops when the symbols come out wrong."""
    out = np.zeros(len(symbols), np.int16)
    seconds = median_seconds(
        lambda: _core.decode_segment(book, index, segment, lanes, out=out, **options), repeat, before
    )
    if not np.array_equal(out, symbols):
        raise SystemExit(f"{options} {lanes} lanes: the symbols are wrong")
    return seconds


def measure(repeat: int) -> dict[str, Any]:
    index, symbols = job(SYMBOLS)
    book = codebook()
    ideal = ideal_bits(index, symbols)
    rows = []
    for lanes in (1, 4, 8, 32):
        segment = _core.encode_segment(book, index, symbols, lanes)
        encode = median_seconds(
            lambda lanes=lanes: _core.encode_segment(book, index, symbols, lanes), max(3, repeat // 3)
        )
        row = {
            "lanes": lanes,
            "bytes": len(segment),
            "over_ideal_percent": round(100 * (8 * len(segment) / ideal - 1), 4),
            "encode_msym_s": round(SYMBOLS / encode / 1e6, 1),
        }
        for isa in _core.isas():
            for path in ("lookup", "search"):
                seconds = decode_seconds(book, index, symbols, segment, lanes, repeat, isa=isa, path=path)
                row[f"decode_{isa}_{path}_msym_s"] = round(SYMBOLS / seconds / 1e6, 1)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return {
        "symbols": SYMBOLS,
        "ideal_bits_per_symbol": ideal / SYMBOLS,
        "rows": rows,
        "cold": measure_cold(index, symbols, repeat),
    }


def measure_cold(index: Index, symbols: Symbols, repeat: int) -> list[dict[str, Any]]:
    """A picture's worth of symbols with caches flushed before each run."""
    few_index, few_symbols = index[:COLD_SYMBOLS].copy(), symbols[:COLD_SYMBOLS].copy()
    flush = np.zeros(FLUSH_BYTES, np.uint8)
    rows = []
    for lanes in (8, 32):
        book = codebook()
        segment = _core.encode_segment(book, few_index, few_symbols, lanes)
        for path in ("automatic", "lookup", "search"):
            seconds = decode_seconds(
                book, few_index, few_symbols, segment, lanes, 5 * repeat, lambda: np.add(flush, 1, out=flush), path=path
            )
            rows.append({"lanes": lanes, "path": path, "decode_msym_s": round(COLD_SYMBOLS / seconds / 1e6, 1)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def machine() -> dict[str, str]:
    """Processor and libraries of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    family = [line.partition(":")[2].strip() for line in lines if line.startswith("cpu family")]
    return {
        "processor": f"{names[0]} (family {family[0]})" if names and family else platform.processor(),
        "python": platform.python_version(),
        "instruction_sets": " ".join(_core.isas()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "entropy_coder.json")
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    result = {"machine": machine(), **measure(options.repeat)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

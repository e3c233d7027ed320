"""`nicrt decode --jobs N` over a folder, as a process: python benchmarks/throughput.py [-o results/throughput.json]

The Kodak pictures, each `--copies` times, to raw pixels (PPM) and to PNG, with one job and with one per processor, each
on one thread, the processes taking turns. The ratio of the medians is what the jobs bring, start-up included.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import nicrt
from nicrt.runtime.bench import machine
from nicrt.runtime.limits import cpu_count

KODAK = Path(__file__).resolve().parents[2] / "shared" / "data" / "kodak"


def prepare(folder: Path, copies: int) -> list[str]:
    """Files at `-q 50`."""
    codec = nicrt.load("shallow")
    files = []
    for path in sorted(KODAK.glob("*.png")):
        data = codec.encode(np.asarray(Image.open(path).convert("RGB")), quality=50)
        for copy in range(copies):
            file = folder / f"{path.stem}-{copy}.nic"
            file.write_bytes(data)
            files.append(str(file))
    return files


def seconds(files: list[str], jobs: int, suffix: str, folder: Path) -> float:
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "nicrt.runtime.cli", "decode", *files, f"{out}/", "--jobs", str(jobs)]
    start = time.perf_counter()
    subprocess.run([*command, "--threads", "1", "--format", suffix], check=True, stdout=subprocess.DEVNULL)
    elapsed = time.perf_counter() - start
    assert len(list(out.iterdir())) == len(files)
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "throughput.json")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        files = prepare(Path(name), options.copies)
        for suffix in ("ppm", "png"):
            times: dict[int, list[float]] = {1: [], cpu_count(): []}
            for _ in range(options.repeat):
                for jobs, found in times.items():
                    found.append(seconds(files, jobs, suffix, Path(name)))
            medians = {jobs: statistics.median(found) for jobs, found in times.items()}
            one, all_jobs = medians[1], medians[cpu_count()]
            row = {"output": suffix, "files": len(files), "jobs": cpu_count(), "one_job_s": round(one, 3)}
            rows.append({**row, "all_jobs_s": round(all_jobs, 3), "ratio": round(one / all_jobs, 3)})
            print(rows[-1], flush=True)
    options.output.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

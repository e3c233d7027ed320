"""Latency, throughput and the entropy kernels of decoding on a device: python benchmarks/gpu_figures.py -o FILE.json

The shallow codec with `--lanes parallel`, bytes of files in the host's memory to RGB in the device's. Latency of one
file at a time, with and without replay of captured graphs and with TF32 in float graphs; batches, by one thread and by
two with a codec each; and every step's own time on the device, by events. FILE.json is written anew after each
figure.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import nicrt
from nicrt.runtime.bench import machine, percentiles, photograph
from nicrt.runtime.device import measure

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "tests" / "golden" / "parrots.nic"  # a Kodak picture
SIZES = {"kodak": (768, 512), "1080p": (1920, 1080)}
BATCHES = {"kodak": (1, 2, 4, 8, 16, 32, 64), "1080p": (1, 2, 4, 8, 16)}
QUALITY = 50
LIMITS = nicrt.Limits(memory_bytes=100 << 30)
WAYS: dict[str, dict[str, Any]] = {
    "replayed": {},
    "launched": {"capture": False},
    "heuristic": {"conv_search": "heuristic"},
    "tf32": {"tf32": True},
}


def pictures(quick: bool) -> dict[str, np.ndarray]:
    kodak = nicrt.decode(PICTURE.read_bytes())
    if quick:
        return {"kodak": kodak[:128, :192]}
    return {"kodak": kodak, "1080p": photograph(*SIZES["1080p"])}


def attempt(measured: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured, or why it could not be: the figures after it are measured all the same."""
    try:
        return measured()
    except nicrt.NicrtError as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def latency(bundle: str, device: str, data: bytes, repeat: int, options: dict[str, Any]) -> dict[str, Any]:
    settings = nicrt.DeviceOptions(**options)
    codec = nicrt.load(bundle, device=device, device_options=settings, threads=1, limits=LIMITS)
    found = percentiles(measure.latencies(codec, [data], repeat))
    return {**found, **measure.ran_on(codec), "backends": codec.backends}


def throughput(bundle: str, device: str, data: bytes, batch: int, repeat: int, threads: int) -> dict[str, Any]:
    """GP/s of `threads` codecs side by side, each batch after batch."""
    codecs = [nicrt.load(bundle, device=device, threads=1, limits=LIMITS) for _ in range(threads)]
    files = [data] * batch
    for codec in codecs:
        measure.latencies(codec, files, 1)
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        every = list(pool.map(lambda codec: measure.latencies(codec, files, repeat), codecs))
    seconds = time.perf_counter() - start
    info = nicrt.info(data)
    done = threads * (repeat + measure.WARM_UP) * batch * info.width * info.height
    return {
        "p50_ms": percentiles([second for one in every for second in one])["p50_ms"],
        "gigapixels_per_second": round(done / seconds / 1e9, 4),
    }


def steps(bundle: str, device: str, files: Sequence[bytes], repeat: int) -> dict[str, Any]:
    """Milliseconds of each step, and of the entropy steps the symbols (coded or not) per second."""
    codec = nicrt.load(bundle, device=device, threads=1, limits=LIMITS)
    codec.decode_batch(files)
    found: dict[str, Any] = {n: percentiles(s) for n, s in measure.steps(codec, files, repeat).items()}
    for stream in codec.streams(files):
        entry = found[f"entropy {stream.name}"]
        entry["places"] = stream.symbols.size
        entry["not_zero"] = int(np.count_nonzero(stream.symbols))
        entry["gigaplaces_per_second"] = round(stream.symbols.size / max(entry["p50_ms"], 1e-6) / 1e6, 3)
    return {"batch": len(files), "steps": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--bundle", default="shallow", help="another export of the shallow codec, by path")
    parser.add_argument("--quick", action="store_true", help="a small picture, few repeats")
    options = parser.parse_args()
    repeat = 3 if options.quick else 200
    codec = nicrt.load(options.bundle, threads=1)
    result: dict[str, Any] = {"machine": machine(), "device": options.device, "lanes": "parallel", "quality": QUALITY}

    def keep(*path: str, value: object) -> None:
        place = result
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
        options.output.write_text(json.dumps(result, indent=2) + "\n")
        print(*path, json.dumps(value)[:300], flush=True)

    files = {}
    for name, picture in pictures(options.quick).items():
        compact = codec.encode(picture, quality=QUALITY)
        files[name] = codec.encode(picture, quality=QUALITY, lanes="parallel")
        area = picture.shape[0] * picture.shape[1]
        rates = {"bpp": 8 * len(files[name]) / area, "compact_bpp": 8 * len(compact) / area}
        keep(name, "file", value={"height": picture.shape[0], "width": picture.shape[1], **rates})
        for way, settings in WAYS.items():
            found = attempt(partial(latency, options.bundle, options.device, files[name], repeat, settings))
            keep(name, "latency", way, value=found)
        keep(name, "steps", value=attempt(partial(steps, options.bundle, options.device, [files[name]], repeat)))
    for name, data in files.items():
        most = 4 if options.quick else max(BATCHES[name])
        rows: list[dict[str, Any]] = []
        for threads in (1, 2):
            for batch in (b for b in BATCHES[name] if b <= most):
                often = max(3, repeat // (4 * batch))
                found = attempt(partial(throughput, options.bundle, options.device, data, batch, often, threads))
                rows.append({"batch": batch, "threads": threads, **found})
                keep(name, "throughput", value=rows)
        whole = partial(steps, options.bundle, options.device, [data] * most, max(3, repeat // 20))
        keep(name, "steps of a batch", value=attempt(whole))


if __name__ == "__main__":
    main()

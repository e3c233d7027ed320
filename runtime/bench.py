"""Decode latency, measured: per step and whole, percentiles over repeats, with what ran and where.

Figures are of `Codec.decode`: bytes in memory to RGB in memory. Each run has a warm-up; cold start is a whole process.
On a device they are of `DeviceCodec.decode_batch`: bytes in the host's memory to RGB in the device's.
"""

from __future__ import annotations

import math
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nicrt import _core

from .codec import Codec, Pixels
from .errors import ImageError, LimitError, NicrtError, UnsupportedError
from .fileinfo import FileInfo, info
from .limits import DEFAULT_LIMITS, Limits, cpu_count
from .loading import load, load_for
from .peers import Peer, PillowPeer, encode_to_size, peers_on
from .versions import versions
from .whole_files import scratch_folder

if TYPE_CHECKING:
    from .device.codec import DeviceCodec

PERCENTILES = (50, 90, 99)
COLD_STARTS = 3
COMPRESSAI_QUALITY = 4
PROCESS = """
import sys
from nicrt.runtime.cli import main
code = main(sys.argv[1:])
try:  # not getrusage: on Linux a process inherits the peak of the one that started it
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
except OSError:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
LIBRARIES = ("numpy", "onnxruntime", "onnxruntime-gpu", "pillow", "compressai", "torch")


@dataclass(frozen=True)
class Case:
    """One thing to measure: a file, and the codec that decodes it."""

    name: str
    data: bytes
    codec: Codec
    limits: Limits = DEFAULT_LIMITS


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and max of durations, in ms."""
    values = np.percentile(seconds, PERCENTILES) * 1e3
    named = {f"p{p}_ms": round(float(v), 4) for p, v in zip(PERCENTILES, values, strict=True)}
    return {**named, "max_ms": round(max(seconds) * 1e3, 4)}


def photograph(width: int, height: int, seed: int = 1) -> Pixels:
    """uint8 [height, width, 3] with about the spectrum of photographs: noise on grids from coarse to fine, each
    somewhat weaker than the one before. For sizes of which there is no picture at hand.
    """
    from PIL import Image

    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128.0, np.float32)
    cells, strength = 2, 30.0
    while cells <= max(width, height):
        grid = rng.normal(0, strength, (max(1, cells * height // max(width, height)), cells, 3)).astype(np.float32)
        for plane in range(3):
            layer = Image.fromarray(0.8 * grid[:, :, 0] + 0.2 * grid[:, :, plane])
            picture[:, :, plane] += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
        cells, strength = 2 * cells, strength * 0.85
    return picture.clip(0, 255).astype(np.uint8)


def cases_of(
    targets: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    *,
    threads: int,
    backend: str,
    device: str | None,
    quality: float,
    lanes: str,
    limits: Limits = DEFAULT_LIMITS,
) -> list[Case]:
    """Files stay what they are; a bundle is measured on a synthetic photograph of every size (width, height). Raises
    LimitError for sizes beyond the limits, before any photograph is made."""
    for width, height in sizes:
        if width * height > limits.pixels:
            raise LimitError(f"{width} x {height} has more pixels than the limit of {limits.pixels} (--max-pixels)")
    settings: dict[str, Any] = {"threads": threads, "backend": backend, "device": device, "limits": limits}
    cases = []
    for target in targets:
        if Path(target).is_file():
            cases.append(_file_case(Path(target), settings, limits))
            continue
        codec = load(target, **settings)
        for width, height in sizes:
            data = codec.encode(photograph(width, height), quality=quality, lanes=lanes)
            cases.append(Case(f"{codec.name} {width}x{height}", data, codec, limits))
    return cases


def _file_case(path: Path, settings: Mapping[str, Any], limits: Limits) -> Case:
    try:
        data = path.read_bytes()
        return Case(path.name, data, load_for(data, **settings), limits)
    except OSError as error:
        raise ImageError(f"{path}: cannot read it: {error.strerror or error}") from None
    except NicrtError as error:
        raise type(error)(f"{path}: {error}") from error


def measure(case: Case, *, repeat: int, batch: int, threads: int) -> dict[str, Any]:
    """Everything about one case."""
    from .device.codec import DeviceCodec

    if isinstance(case.codec, DeviceCodec):
        return measure_on_device(case, case.codec, repeat=repeat, batch=batch, threads=threads)
    facts = info(case.data, limits=case.limits)
    case.codec.decode(case.data)
    whole: list[float] = []
    steps: dict[str, list[float]] = {}
    for _ in range(repeat):
        inside: dict[str, float] = {}

        def trace(name: str, seconds: float, inside: dict[str, float] = inside) -> None:
            inside[name] = inside.get(name, 0.0) + seconds

        start = time.perf_counter()
        case.codec.decode(case.data, trace=trace)
        whole.append(time.perf_counter() - start)
        inside["rest (store, glue)"] = whole[-1] - sum(inside.values())
        for name, seconds in inside.items():
            steps.setdefault(name, []).append(seconds)
    megapixels = facts.width * facts.height / 1e6
    result = {
        **_facts(case, facts, threads=threads, repeat=repeat),
        "backends": case.codec.backends,
        "whole": percentiles(whole),
        "steps": {name: percentiles(seconds) for name, seconds in steps.items()},
        "megapixels_per_second": round(megapixels / float(np.median(whole)), 2),
        "cold_start": cold_start(case.data, case.limits),
    }
    if batch > 1:
        result["batch"] = measure_batch(case, batch, megapixels)
    return result


def measure_on_device(case: Case, codec: DeviceCodec, *, repeat: int, batch: int, threads: int) -> dict[str, Any]:
    """The same of one case on a device, on which its codec is."""
    from .device import measure as device_measure

    facts = info(case.data, limits=case.limits)
    pixels = facts.width * facts.height
    whole = device_measure.latencies(codec, [case.data], repeat)
    steps = device_measure.steps(codec, [case.data], repeat)
    result = {
        **_facts(case, facts, threads=threads, repeat=repeat),
        "backends": codec.backends,
        "whole": percentiles(whole),
        "steps": {name: percentiles(seconds) for name, seconds in steps.items()},
        "megapixels_per_second": round(pixels / 1e6 / float(np.median(whole)), 2),
    }
    if batch > 1:
        result["batch"] = device_measure.throughput(codec, [case.data] * batch, repeat, pixels)
    result["device"] = device_measure.ran_on(codec)
    return result


def _facts(case: Case, facts: FileInfo, *, threads: int, repeat: int) -> dict[str, Any]:
    return {
        "name": case.name,
        "bundle": case.codec.name,
        "symbol_id": facts.symbol_id,
        "picture_id": facts.picture_id,
        "width": facts.width,
        "height": facts.height,
        "bpp": round(facts.bpp, 4),
        "segments": facts.segments,
        "threads": threads,
        "repeat": repeat,
    }


def measure_batch(case: Case, batch: int, megapixels: float) -> dict[str, float]:
    """Throughput of many files at a time, as many as there are processors."""
    start = time.perf_counter()
    for _ in case.codec.decode_many([case.data] * batch, jobs=cpu_count()):
        pass
    seconds = time.perf_counter() - start
    return {"files": batch, "jobs": cpu_count(), "megapixels_per_second": round(batch * megapixels / seconds, 2)}


def cold_start(data: bytes, limits: Limits) -> dict[str, float]:
    """`nicrt decode` of the file to a PPM as a whole process: time and peak memory."""
    with scratch_folder(Path(tempfile.gettempdir())) as folder:
        source = folder / "in.nic"
        source.write_bytes(data)
        allowed = ["--max-pixels", str(limits.pixels), "--max-memory", str(limits.memory_bytes >> 20)]
        allowed += ["--max-header", str(limits.header_bytes), "--max-stages", str(limits.stages)]
        allowed += ["--max-load-time", str(math.ceil(limits.load_s))]
        command = [sys.executable, "-c", PROCESS, "decode", str(source), "-", *allowed]
        seconds = []
        for _ in range(COLD_STARTS + 1):
            # the file is ours: a process that outlives us must not make the folder again
            with (folder / "out.ppm").open("wb") as out:
                start = time.perf_counter()
                done = subprocess.run(command, check=True, stdout=out, stderr=subprocess.PIPE)
                seconds.append(time.perf_counter() - start)
    return {
        "p50_ms": round(float(np.median(seconds[1:])) * 1e3, 1),
        "first_ms": round(seconds[0] * 1e3, 1),
        "peak_rss_mib": int(done.stderr.split()[-1]) >> 10,
    }


def machine() -> dict[str, Any]:
    """Processor, graphics card, operating system and library versions."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "processors": cpu_count(),
        "instruction_sets": _core.isas(),
        "gpu": _gpu(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "nicrt": version("nicrt"),
        "libraries": versions(LIBRARIES),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _gpu() -> str | None:
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def measure_peers(pixels: Pixels, size_bytes: int, *, repeat: int, threads: int) -> list[dict[str, Any]]:
    """Decoding of the peers that are installed, on the same picture at about the same number of bytes; CompressAI's
    models, which have no trained weights here, at one quality."""
    results = []
    for peer in peers_on(threads):
        try:
            if isinstance(peer, PillowPeer):
                data = encode_to_size(peer, pixels, size_bytes)
            else:
                data = peer.encode(pixels, COMPRESSAI_QUALITY)
        except UnsupportedError:
            continue
        results.append(_measured_peer(peer, data, pixels.shape[0] * pixels.shape[1], repeat))
    return results


def _measured_peer(peer: Peer, data: bytes, area: int, repeat: int) -> dict[str, Any]:
    peer.decode(data)
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        peer.decode(data)
        seconds.append(time.perf_counter() - start)
    return {
        "name": peer.title,
        "bpp": round(8 * len(data) / area, 4),
        "whole": percentiles(seconds),
        "megapixels_per_second": round(area / 1e6 / float(np.median(seconds)), 2),
    }


def run(
    targets: Sequence[str],
    *,
    sizes: Sequence[tuple[int, int]],
    threads: int,
    backend: str,
    device: str | None = None,
    repeat: int,
    batch: int,
    quality: float,
    lanes: str,
    limits: Limits = DEFAULT_LIMITS,
) -> dict[str, Any]:
    """Measure all targets (bundles or files), then on the CPU the peers on the first case's picture. device: as for
    `nicrt.load`."""
    cases = cases_of(
        targets,
        sizes,
        threads=threads,
        backend=backend,
        device=device,
        quality=quality,
        lanes=lanes,
        limits=limits,
    )
    runs = [measure(case, repeat=repeat, batch=batch, threads=threads) for case in cases]
    first = cases[0]
    return {
        "machine": machine(),
        "runs": runs,
        "peers": []
        if device is not None
        else measure_peers(first.codec.decode(first.data), len(first.data), repeat=repeat, threads=threads),
    }

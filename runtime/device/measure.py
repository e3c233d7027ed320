"""What `nicrt bench` measures on a device: bytes of a file in host memory to RGB in the device's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..fileinfo import Buffer
from ..versions import versions
from .codec import DeviceCodec

WARM_UP = 3
LIBRARIES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "nvidia-cuda-runtime",
    "nvidia-cuda-runtime-cu12",
)


def latencies(codec: DeviceCodec, files: Sequence[Buffer], repeat: int) -> list[float]:
    """Seconds of `repeat` calls, each until the pictures are complete; by the host's clock."""
    for _ in range(WARM_UP):
        codec.decode_batch(files)
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        codec.decode_batch(files)
        seconds.append(time.perf_counter() - start)
    return seconds


def steps(codec: DeviceCodec, files: Sequence[Buffer], repeat: int) -> dict[str, list[float]]:
    """Seconds of every step, by events on the device for what runs there; plain launches, so that their sum is more
    than a replayed graph takes.
    """
    found: dict[str, list[float]] = {}
    for _ in range(repeat):
        inside: dict[str, float] = {}

        def report(name: str, seconds: float, inside: dict[str, float] = inside) -> None:
            inside[name] = inside.get(name, 0.0) + seconds

        codec.decode_batch(files, trace=report)
        for name, seconds in inside.items():
            found.setdefault(name, []).append(seconds)
    return found


def throughput(codec: DeviceCodec, files: Sequence[Buffer], repeat: int, pixels: int) -> dict[str, Any]:
    """Batches one after the other: MP/s of the median."""
    seconds = float(np.median(latencies(codec, files, repeat)))
    return {
        "files": len(files),
        "p50_ms": round(seconds * 1e3, 4),
        "megapixels_per_second": round(len(files) * pixels / 1e6 / seconds, 2),
    }


def ran_on(codec: DeviceCodec) -> dict[str, Any]:
    """The device, the libraries, what ran where and what was replayed."""
    return {
        "name": codec.device,
        "libraries": versions(LIBRARIES),
        "fallbacks": codec.fallbacks,
        "plans": codec.plans,
    }

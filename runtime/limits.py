"""Limits on what a file may ask for. Finite by default, each a flag of the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass

MAX_WORKERS = 256  # threads x jobs: beyond it a machine only loses
MAX_INPUT_BYTES = 2 << 30  # of one file or stream: devices and pipes may never end


@dataclass(frozen=True)
class Limits:
    """pixels: of a picture, in or out. memory_bytes: estimate of the tensors that a picture needs at once; those of
    each graph are held to it as it runs. header_bytes: of a .nic header. stages: rounds in a file (layers). load_s:
    seconds in which all graphs of a bundle are loaded and proven."""

    pixels: int = 1 << 26
    memory_bytes: int = 8 << 30
    header_bytes: int = 1 << 20
    stages: int = 64
    load_s: float = 120.0


DEFAULT_LIMITS = Limits()


def cpu_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""The device that the tests of device decoding run on, and what they compare with. `NICRT_TEST_DEVICE=cuda` runs all of
them on a GPU; else the host takes its place: the same code but for the kernels' compiler.
"""

from __future__ import annotations

import os

import numpy as np

import nicrt
from nicrt.runtime.backends.base import Array

DEVICE = os.environ.get("NICRT_TEST_DEVICE", "host")


def on_device(codec: nicrt.Codec, device: str = DEVICE, **options: object) -> nicrt.DeviceCodec:
    """The bundle of a codec on a device. options: of nicrt.DeviceOptions."""
    assert codec.bundle.path is not None
    settings = nicrt.DeviceOptions(**options)  # type: ignore[arg-type]
    return nicrt.load(codec.bundle.path, device=device, device_options=settings, threads=1)


def largest_difference(a: Array, b: Array) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())

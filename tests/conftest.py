"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nicrt
from nicrt.runtime.backends.onnxruntime_library import disable_telemetry

disable_telemetry()  # some tests import ONNX Runtime themselves

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"  # development data beside the checkout; tests that need it skip without
PICTURES = ROOT / "tests" / "pictures"
GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Proof marks of this run are its own: every proof runs once."""
    patch = pytest.MonkeyPatch()
    patch.setenv("NICRT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def codec() -> nicrt.Codec:
    return nicrt.load("shallow", threads=2)


@pytest.fixture(scope="session")
def harbour() -> np.ndarray:
    """uint8 [160, 240, 3], a photograph."""
    return np.asarray(Image.open(PICTURES / "harbour.png").convert("RGB"))


@pytest.fixture(scope="session")
def small(harbour: np.ndarray) -> np.ndarray:
    """uint8 [40, 60, 3]"""
    return harbour[::4, ::4].copy()


@pytest.fixture(scope="session")
def deep(small: np.ndarray) -> np.ndarray:
    """uint16 [40, 60, 3]: whose lower bytes matter"""
    noise = np.random.default_rng(5).integers(0, 256, small.shape)
    return (small.astype(np.uint16) << 8) + noise.astype(np.uint16)


@pytest.fixture(scope="session")
def alpha(small: np.ndarray) -> np.ndarray:
    """uint16 [40, 60], with both ends in it"""
    values = np.random.default_rng(6).integers(0, 65536, small.shape[:2]).astype(np.uint16)
    values[0, :2] = 0, 65535
    return values


@pytest.fixture(scope="session")
def kodak() -> list[Path]:
    files = sorted((SHARED / "data" / "kodak").glob("*.png"))
    if not files:
        pytest.skip("needs the Kodak pictures in ../shared/data")
    return files


@pytest.fixture(scope="session")
def small_file(codec: nicrt.Codec, harbour: np.ndarray) -> bytes:
    """A .nic file of a few hundred bytes: 40 x 24 pixels."""
    return codec.encode(harbour[60:84, 100:140], quality=20)

"""Large pictures run window by window, regions alone: both must give the pixels and symbols of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nicrt
import synthetic
from nicrt.runtime.rect import Rect


@pytest.fixture(scope="module")
def picture(harbour: np.ndarray) -> np.ndarray:
    """uint8 [233, 317, 3]: not a multiple of anything."""
    return np.concatenate([harbour, harbour[::-1]])[:233].repeat(2, axis=1)[:, :317]


@pytest.fixture(scope="module")
def file(codec: nicrt.Codec, picture: np.ndarray) -> bytes:
    return codec.encode(picture, quality=40, tile=64)


@pytest.fixture(scope="module")
def whole(codec: nicrt.Codec, file: bytes) -> np.ndarray:
    return codec.decode(file)


def test_windows_give_the_same_file_and_pixels(
    codec: nicrt.Codec, picture: np.ndarray, file: bytes, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec._graphs.engine, "window_edge", 128)
    graphs: list[str] = []
    windowed = codec.decode(file, trace=lambda name, _: graphs.append(name))
    assert graphs.count("graph synthesis") == 6  # 2 x 3 windows: it did run piece by piece
    np.testing.assert_array_equal(windowed, whole)
    assert codec.encode(picture, quality=40, tile=64) == file


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(x=st.integers(0, 316), y=st.integers(0, 232), width=st.integers(1, 200), height=st.integers(1, 200))
def test_regions_are_crops(
    codec: nicrt.Codec, file: bytes, whole: np.ndarray, x: int, y: int, width: int, height: int
) -> None:
    width, height = min(width, 317 - x), min(height, 233 - y)
    part = codec.decode(file, region=(x, y, width, height))
    assert part.shape == (height, width, 3)
    np.testing.assert_array_equal(part, whole[y : y + height, x : x + width])


def test_a_region_reads_only_what_it_needs(codec: nicrt.Codec, file: bytes) -> None:
    """Segments far from the region may be damaged: nobody looks at them."""
    damaged = bytearray(file)
    damaged[-5] ^= 1  # the last tile of the last stream
    with pytest.raises(nicrt.CorruptError):
        codec.decode(bytes(damaged))
    np.testing.assert_array_equal(
        codec.decode(bytes(damaged), region=(0, 0, 50, 50)), codec.decode(file, region=(0, 0, 50, 50))
    )
    with pytest.raises(nicrt.CorruptError):
        codec.decode(bytes(damaged), region=(300, 220, 17, 13))


@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, 0, 0, 5), (315, 0, 5, 5), (0, 232, 5, 2)])
def test_regions_outside_the_picture(codec: nicrt.Codec, file: bytes, region: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError):
        codec.decode(file, region=region)


def test_regions_of_stages_without_halo_are_cropped(tmp_path: Path, harbour: np.ndarray) -> None:
    layered = nicrt.load(synthetic.layered(tmp_path / "layered"), threads=1)
    data = layered.encode(harbour, scales=[1, 2])
    whole = layered.decode(data)
    np.testing.assert_array_equal(layered.decode(data, region=(7, 9, 31, 17)), whole[9:26, 7:38])


def test_scale_takes_the_lowest_stage_that_serves(tmp_path: Path, harbour: np.ndarray) -> None:
    layered = nicrt.load(synthetic.layered(tmp_path / "layered"), threads=1)
    data = layered.encode(harbour, scales=[1, 2, 4])  # stages: the base at full size, then layers of 1/4, 1/2, 1
    used: list[str] = []
    small = layered.decode(data, scale=0.25, trace=lambda name, _: used.append(name))
    assert small.shape == (40, 60, 3)
    np.testing.assert_array_equal(small, layered.decode(data, stage=2))
    assert layered.decode(data, scale=0.4).shape == (64, 96, 3)
    assert layered.decode(data, scale=1.0).shape == (160, 240, 3)
    for wrong in ({"scale": 0}, {"scale": 1.5}, {"scale": 0.5, "stage": 1}):
        with pytest.raises(ValueError):
            layered.decode(data, **wrong)  # type: ignore[arg-type]


def test_rect() -> None:
    bounds = Rect(0, 0, 128, 192)
    assert Rect(60, 70, 70, 80).grown(10, 16, bounds) == Rect(48, 48, 80, 96)
    assert Rect(0, 0, 128, 192).grown(50, 16, bounds) == bounds
    assert list(bounds.windows(128)) == [Rect(0, 0, 128, 128), Rect(0, 128, 128, 192)]

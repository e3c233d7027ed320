"""Any bytes give pixels or a typed error: exhaustively for one small file, and for the golden bad files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nicrt
from conftest import GOLDEN
from nicrt import _core

BAD = json.loads((GOLDEN / "bad" / "bad.json").read_text())


@pytest.mark.parametrize("name", BAD)
def test_golden_bad_files(codec: nicrt.Codec, name: str) -> None:
    data = (GOLDEN / "bad" / f"{name}.nic").read_bytes()
    expected = getattr(nicrt, BAD[name]["error"])
    with pytest.raises(expected) as error:
        codec.decode(data)
    assert type(error.value) is expected
    assert "\n" not in str(error.value)


def test_every_proper_prefix_is_truncated(codec: nicrt.Codec, small_file: bytes) -> None:
    for size in range(len(small_file)):
        with pytest.raises(nicrt.TruncatedError):
            codec.decode(small_file[:size])


def test_every_bit_flip_is_an_error(codec: nicrt.Codec, small_file: bytes) -> None:
    for bit in range(8 * len(small_file)):
        damaged = bytearray(small_file)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(nicrt.NicrtError) as error:
            codec.decode(bytes(damaged))
        assert not isinstance(error.value, nicrt.InternalError)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), signed=st.booleans())
def test_any_bytes(codec: nicrt.Codec, data: bytes, signed: bool) -> None:
    with pytest.raises(nicrt.NicrtError) as error:
        codec.decode((b"\x89NIC\r\n\x1a\n\x01" if signed else b"") + data)
    assert not isinstance(error.value, nicrt.InternalError)


@pytest.mark.filterwarnings("ignore::nicrt.PictureIdWarning")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_any_header_with_a_right_checksum(codec: nicrt.Codec, small_file: bytes, draw: st.DataObject) -> None:
    """Past the CRC: what a hostile encoder could write. Pixels (of any look) or a typed error, nothing else."""
    from test_api import with_header_bytes

    end = nicrt.info(small_file).header_bytes - 4
    offset = draw.draw(st.integers(10, end - 1))
    value = draw.draw(st.binary(min_size=1, max_size=min(4, end - offset)))
    try:
        pixels = codec.decode(with_header_bytes(small_file, offset, value))
    except nicrt.InternalError:
        raise
    except nicrt.NicrtError:
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3


def test_sizes_from_one_pixel(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    for height, width in [(1, 1), (1, 64), (65, 1), (2, 3), (63, 65), (64, 64), (17, 129)]:
        crop = harbour[:height, :width]
        data = codec.encode(crop, quality=60)
        assert codec.decode(data).shape == crop.shape


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pixels=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1)),
    quality=st.floats(0, 100),
    lanes=st.sampled_from(["compact", "balanced", "parallel"]),
    tile=st.sampled_from([0, 64, 512]),
    skip=st.integers(0, 64),
)
def test_round_trip_of_any_picture(
    codec: nicrt.Codec, pixels: tuple[int, int, int], quality: float, lanes: str, tile: int, skip: int
) -> None:
    height, width, seed = pixels
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    data = codec.encode(noise, quality=quality, lanes=lanes, tile=tile, parameters={"skip": skip})
    assert codec.decode(data).shape == noise.shape
    assert codec.verify(data).width == width


def test_segments_with_right_checksums(codec: nicrt.Codec) -> None:
    """Past the segments' CRC too: the coder's own checks, on bytes that a hostile encoder could have written."""
    good = (GOLDEN / "shallow" / "row.nic").read_bytes()
    header, sizes = nicrt.info(good).header_bytes, nicrt.info(good).stream_bytes[0]
    rng = np.random.default_rng(5)
    outcomes = {"pixels": 0, "corrupt": 0}
    for _ in range(1500):
        data, start = bytearray(good), header
        for size in sizes:
            for _ in range(rng.integers(0, 3)):
                data[start + rng.integers(0, size - 4)] = rng.integers(0, 256)
            body = bytes(data[start : start + size - 4])
            data[start + size - 4 : start + size] = _core.crc32c(body).to_bytes(4, "little")
            start += size
        try:
            assert codec.decode(bytes(data)).shape == (1, 197, 3)
            outcomes["pixels"] += 1
        except nicrt.CorruptError:
            outcomes["corrupt"] += 1
    assert min(outcomes.values()) > 20, outcomes

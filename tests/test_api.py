"""The public Python API."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

import nicrt
from nicrt import _core
from nicrt.runtime.evaluate import psnr


def test_exported_names_are_locked() -> None:
    assert set(nicrt.__all__) == {
        "load", "load_for", "decode", "info", "Codec", "DeviceCodec", "DeviceDecoder", "DeviceOptions",
        "DevicePicture", "FileInfo", "Limits",
        "backend_names", "PictureIdWarning", "NicrtError", "TruncatedError", "CorruptError", "UnsupportedError",
        "LimitError", "WrongBundleError", "ImageError", "InternalError", "ClippingWarning", "Encoded", "TargetWarning",
        "SaturationWarning", "CacheWarning", "CancelledError",
    }  # fmt: skip
    for name in nicrt.__all__:
        assert getattr(nicrt, name).__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError):
        _ = nicrt.no_such_name


def test_error_tree() -> None:
    errors = [getattr(nicrt, name) for name in nicrt.__all__ if name.endswith("Error") and name != "NicrtError"]
    assert len(errors) == 8
    assert all(issubclass(error, nicrt.NicrtError) for error in errors)
    assert len({error.exit_code for error in errors}) == 8


@pytest.mark.parametrize("quality", [0, 37.5, 100])
def test_round_trip(codec: nicrt.Codec, harbour: np.ndarray, quality: float) -> None:
    data = codec.encode(harbour, quality=quality)
    pixels = nicrt.decode(data)
    assert pixels.dtype == np.uint8 and pixels.shape == harbour.shape and pixels.flags["C_CONTIGUOUS"]
    assert psnr(pixels, harbour) > {0: 23, 37.5: 28, 100: 38}[quality]
    np.testing.assert_array_equal(pixels, codec.decode(data))


def test_quality_is_continuous_and_monotonous(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    sizes = [len(codec.encode(harbour, quality=quality)) for quality in range(0, 101, 5)]
    assert sizes == sorted(sizes)
    assert max(b / a for a, b in itertools.pairwise(sizes)) < 1.35


def test_info_needs_no_bundle(codec: nicrt.Codec, small_file: bytes) -> None:
    facts = nicrt.info(small_file)
    assert (facts.width, facts.height, facts.stages, facts.complete_stages) == (40, 24, 1, 1)
    assert facts.bytes == facts.total_bytes == len(small_file)
    assert facts.bpp == pytest.approx(8 * len(small_file) / (40 * 24))
    cut = nicrt.info(small_file[: facts.header_bytes + 3])
    assert cut.complete_stages == 0 and cut.total_bytes == len(small_file)


@pytest.mark.parametrize("kind", ["uint16", "float32", "float64", "grey", "grey3"])
def test_array_kinds(codec: nicrt.Codec, harbour: np.ndarray, kind: str) -> None:
    grey = harbour[:, :, 1]
    same = {
        "uint16": (harbour.astype(np.uint16) * 257, harbour),
        "float32": (harbour.astype(np.float32) / 255, harbour),
        "float64": (harbour / 255, harbour),
        "grey": (grey, np.repeat(grey[:, :, None], 3, axis=2)),
        "grey3": (grey[:, :, None], np.repeat(grey[:, :, None], 3, axis=2)),
    }[kind]
    given, rgb = (codec.decode(codec.encode(array, quality=50)) for array in same)
    assert np.abs(given.astype(int) - rgb).max() <= 1


@pytest.mark.parametrize("mode", ["rgba", "empty", "4d", "nan", "bool"])
def test_bad_arrays_are_the_callers_mistake(codec: nicrt.Codec, mode: str) -> None:
    bad = {
        "rgba": np.zeros((8, 8, 4), np.uint8),
        "empty": np.zeros((0, 8, 3), np.uint8),
        "4d": np.zeros((1, 8, 8, 3), np.uint8),
        "nan": np.full((8, 8, 3), np.nan, np.float32),
        "bool": np.zeros((8, 8, 3), bool),
    }[mode]
    with pytest.raises((ValueError, TypeError)) as error:
        codec.encode(bad)
    assert not isinstance(error.value, nicrt.NicrtError)


def test_bad_arguments(codec: nicrt.Codec, harbour: np.ndarray, small_file: bytes) -> None:
    for options in (
        {"quality": 101}, {"quality": -1}, {"effort": 0}, {"effort": 10}, {"lanes": "many"}, {"tile": 100},
        {"tile": -64}, {"parameters": {"no_such": 1}}, {"parameters": {"gain": 10**6}},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            codec.encode(harbour, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        codec.decode(small_file, stage=2)
    with pytest.raises(ValueError):
        nicrt.load("shallow", backend="abacus")
    with pytest.raises(ValueError):
        nicrt.load("shallow", threads=0)
    with pytest.raises(nicrt.UnsupportedError, match="shallow"):
        nicrt.load("no-such-bundle")


def test_limits(small_file: bytes, harbour: np.ndarray) -> None:
    for limits in (nicrt.Limits(pixels=40 * 24 - 1), nicrt.Limits(memory_bytes=1000), nicrt.Limits(header_bytes=20)):
        small = nicrt.load("shallow", limits=limits)
        with pytest.raises(nicrt.LimitError):
            small.decode(small_file)
        if limits.header_bytes > 20:
            with pytest.raises(nicrt.LimitError):
                small.encode(harbour)


def test_buffers(codec: nicrt.Codec, small_file: bytes) -> None:
    pixels = codec.decode(small_file)
    for buffer in (bytearray(small_file), memoryview(small_file)):
        np.testing.assert_array_equal(codec.decode(buffer), pixels)


def test_one_codec_from_many_threads(harbour: np.ndarray) -> None:
    codec = nicrt.load("shallow", threads=1)  # not loaded yet: the first uses race
    crops = [harbour[i : i + 60, 2 * i : 2 * i + 90] for i in range(12)]
    results: list[bytes] = [b""] * len(crops)

    def work(i: int) -> None:
        data = codec.encode(crops[i], quality=30 + i)
        assert codec.decode(data).shape == crops[i].shape
        results[i] = data

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(crops))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = nicrt.load("shallow", threads=1)
    assert results == [alone.encode(crop, quality=30 + i) for i, crop in enumerate(crops)]


def test_report_of_what_ran(codec: nicrt.Codec, small_file: bytes) -> None:
    codec.decode(small_file)
    native = _core.arithmetics()[-1] != "scalar"
    assert codec.backends["synthesis"] == ("native" if native else "onnxruntime") and not codec.fallbacks


def test_other_picture_id_warns_and_strict_refuses(codec: nicrt.Codec, small_file: bytes) -> None:
    other = with_header_bytes(small_file, 19, b"\0\0\0\0")
    with pytest.warns(nicrt.PictureIdWarning) as caught:
        pixels = codec.decode(other)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(pixels, codec.decode(small_file))
    with pytest.raises(nicrt.WrongBundleError):
        codec.decode(other, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codec.decode(small_file, strict=True)


def with_header_bytes(data: bytes, offset: int, value: bytes) -> bytes:
    """The file with header bytes replaced and the header's CRC made right."""
    from nicrt import _core

    end = nicrt.info(data).header_bytes
    head = bytearray(data[: end - 4])
    head[offset : offset + len(value)] = value
    return bytes(head) + _core.crc32c(bytes(head)).to_bytes(4, "little") + data[end:]


def test_decoding_loads_no_torch_and_import_is_light(small_file: bytes) -> None:
    script = f"""
import sys
import nicrt
assert not {{"numpy", "onnxruntime", "PIL", "torch"}} & set(sys.modules), "import nicrt alone is light"
nicrt.decode(bytes.fromhex("{small_file.hex()}"))
assert "onnxruntime" not in sys.modules, "shallow decodes natively"
assert not [m for m in sys.modules if m.partition(".")[0] in ("torch", "onnx", "scipy", "jsonschema")]
"""
    subprocess.run([sys.executable, "-c", script], check=True)

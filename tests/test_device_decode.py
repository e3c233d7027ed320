"""Decoding with tensors that stay on a device: symbols, pixels, formats and errors are those of the CPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from on_device import DEVICE, largest_difference, on_device
from PIL import Image
from test_api import with_header_bytes

import nicrt
import synthetic
from conftest import GOLDEN
from nicrt.runtime.backends.base import Array
from nicrt.runtime.device.decoding import StreamTensors

BUNDLES = sorted(path.parent.name for path in GOLDEN.glob("*/good.json"))
GOOD: dict[str, dict[str, str]] = {b: json.loads((GOLDEN / b / "good.json").read_text()) for b in BUNDLES}
BAD = json.loads((GOLDEN / "bad" / "bad.json").read_text())


@pytest.fixture(scope="module")
def decoder(codec: nicrt.Codec) -> nicrt.DeviceCodec:
    return on_device(codec)


def symbols_sha256(streams: Sequence[StreamTensors], picture: int = 0) -> str:
    digest = hashlib.sha256()
    for stream in streams:
        digest.update(np.ascontiguousarray(stream.symbols[picture], dtype="<i4").tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_golden_files(bundle: str) -> None:
    decoder = nicrt.load(bundle, device=DEVICE)
    for name, sha256 in GOOD[bundle].items():
        data = (GOLDEN / bundle / f"{name}.nic").read_bytes()
        expected = np.asarray(Image.open(GOLDEN / bundle / f"{name}.png"))
        for _ in range(2):  # what made the plan, and what used it again
            picture = decoder.decode(data, strict=DEVICE == "host")
            assert picture.shape == expected.shape, name
            assert largest_difference(picture.numpy(), expected) <= 1, name
        assert symbols_sha256(decoder.streams([data])) == sha256, name


@pytest.mark.parametrize("bundle", ["flow", "compass"])
def test_every_stage(bundle: str) -> None:
    codec = nicrt.load(bundle, threads=1)
    decoder = on_device(codec)
    data = (GOLDEN / bundle / "harbour-steps.nic").read_bytes()
    for stage in range(1, nicrt.info(data).stages + 1):
        expected = codec.decode(data, stage=stage)
        assert largest_difference(decoder.decode(data, stage=stage).numpy(), expected) <= 1


def test_programs_of_layers_and_bands(tmp_path: Path, harbour: np.ndarray) -> None:
    """`each`, rows and columns of bands, table sets, tensors of one picture size after another."""
    pytest.importorskip("hypothesis")
    from test_program import encode_layers

    codec = nicrt.load(synthetic.layered(tmp_path / "layered"), threads=1)
    decoder = on_device(codec)
    for layers in ([], [(9, 33), (50, 21), (40, 31)], [(61, 7), (40, 31)]):
        data = encode_layers(codec, harbour[:40, :31], layers, floor=1, table_set=1)
        np.testing.assert_array_equal(decoder.decode(data).numpy(), codec.decode(data))
    others = [encode_layers(codec, harbour[i : i + 40, :31], [(61, 7), (40, 31)], floor=1) for i in (0, 30)]
    np.testing.assert_array_equal(decoder.decode_batch(others).numpy(), [codec.decode(data) for data in others])
    banded = nicrt.load(synthetic.banded(tmp_path / "banded"), threads=1)
    data = banded.encode(harbour[:100, :140], scales=[0.3, 0.5, 1.0])
    pictures = on_device(banded)
    for stage in (1, 2, 3):
        np.testing.assert_array_equal(pictures.decode(data, stage=stage).numpy(), banded.decode(data, stage=stage))
    with pytest.raises(nicrt.UnsupportedError, match="the bundle shows"):  # it shows what depends on no symbol
        pictures.decode_batch([data, data])


@pytest.mark.parametrize("bundle", BUNDLES)
def test_batches(bundle: str, harbour: np.ndarray) -> None:
    codec = nicrt.load(bundle, threads=1)
    decoder = on_device(codec)
    crops = [harbour[8 * i : 8 * i + 65, 9 * i : 9 * i + 97] for i in range(3)]
    files = [codec.encode(crop, quality=40) for crop in crops]
    batch = decoder.decode_batch(files)
    assert batch.shape == (3, 65, 97, 3)
    streams = decoder.streams(files)
    for number, data in enumerate(files):
        assert largest_difference(batch.numpy()[number], codec.decode(data)) <= 1
        for stream, symbols in zip(streams, codec.symbols(data), strict=True):
            np.testing.assert_array_equal(stream.symbols[number], symbols)
    assert decoder.plans[0]["batch"] == 3


def test_batches_are_of_one_kind(decoder: nicrt.DeviceCodec, codec: nicrt.Codec, harbour: np.ndarray) -> None:
    first, wider = (codec.encode(harbour[:64, :width], quality=40) for width in (64, 65))
    other = codec.encode(harbour[:64, :64], quality=60)
    for files in ([first, wider], [first, other], []):
        with pytest.raises(ValueError, match="batch"):
            decoder.decode_batch(files)


@pytest.mark.parametrize("name", BAD)
def test_golden_bad_files(decoder: nicrt.DeviceCodec, name: str) -> None:
    data = (GOLDEN / "bad" / f"{name}.nic").read_bytes()
    with pytest.raises(getattr(nicrt, BAD[name]["error"])) as error:
        decoder.decode(data)
    assert type(error.value).__name__ == BAD[name]["error"]


def test_damage_gives_the_errors_of_the_cpu(decoder: nicrt.DeviceCodec, codec: nicrt.Codec, small_file: bytes) -> None:
    expected = decoder.decode(small_file).numpy()
    for bit in range(0, 8 * len(small_file), 37):
        damaged = bytearray(small_file)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(nicrt.NicrtError) as on_cpu:
            codec.decode(damaged)
        with pytest.raises(nicrt.NicrtError) as on_device:
            decoder.decode(damaged)
        assert type(on_cpu.value) is type(on_device.value)
    for size in range(0, len(small_file), 29):
        with pytest.raises(nicrt.TruncatedError):
            decoder.decode(small_file[:size])
    np.testing.assert_array_equal(decoder.decode(small_file).numpy(), expected)  # it goes on as if nothing had been


def test_damage_that_only_decoding_finds(decoder: nicrt.DeviceCodec, codec: nicrt.Codec, small_file: bytes) -> None:
    """Checksums are right; another `step` gives other table indices, to which the streams do not fit."""
    end = nicrt.info(small_file).header_bytes - 4
    found = 0
    for offset in range(23, end):
        changed = with_header_bytes(small_file, offset, bytes([small_file[offset] ^ 2]))
        try:
            codec.decode(changed)
        except nicrt.NicrtError as error:
            with pytest.raises(type(error)):
                decoder.decode(changed)
            found += isinstance(error, nicrt.CorruptError)
        except ValueError:
            continue
    assert found


def bt709(rgb: Array) -> tuple[Array, Array]:
    """Y [h, w] and CbCr [ceil(h / 2), ceil(w / 2), 2] in limited range, as floats; chroma of 2x2 means, the edges
    repeated.
    """
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    planes = np.stack([(b - y) / 1.8556, (r - y) / 1.5748], axis=-1)
    height, width = y.shape
    padded = np.pad(planes, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    means = padded.reshape(-(-height // 2), 2, -(-width // 2), 2, 2).mean(axis=(1, 3))
    return 16 + 219 * y, 128 + 224 * means


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (1, 1), (2, 1), (33, 40)])
def test_formats(decoder: nicrt.DeviceCodec, codec: nicrt.Codec, harbour: np.ndarray, size: tuple[int, int]) -> None:
    height, width = size
    data = codec.encode(harbour[:height, :width], quality=80)
    rgb = decoder.decode(data).numpy()
    planar = decoder.decode(data, format="planar").numpy()
    np.testing.assert_array_equal(planar, rgb.transpose(2, 0, 1))
    nv12 = decoder.decode(data, format="nv12").numpy()
    row = width + width % 2
    assert nv12.shape == (height + (height + 1) // 2, row)
    y, chroma = bt709(rgb)
    assert np.abs(nv12[:height, :width] - y).max() <= 0.51
    assert np.abs(nv12[height:].reshape(chroma.shape) - chroma).max() <= 0.51
    with pytest.raises(ValueError, match="format"):
        decoder.decode(data, format="yuv444")  # type: ignore[arg-type]


def test_dlpack(decoder: nicrt.DeviceCodec, small_file: bytes) -> None:
    torch = pytest.importorskip("torch")
    picture = decoder.decode(small_file)
    expected = picture.numpy()
    tensor = torch.from_dlpack(picture)
    assert tensor.shape == expected.shape and tensor.dtype == torch.uint8
    assert tensor.device.type == ("cpu" if DEVICE == "host" else "cuda")
    np.testing.assert_array_equal(tensor.cpu().numpy(), expected)
    decoder.decode_batch([small_file, small_file])
    del picture
    np.testing.assert_array_equal(tensor.cpu().numpy(), expected)  # the tensor owns it now
    if DEVICE == "host":
        again = decoder.decode(small_file)
        shared = np.from_dlpack(again)
        assert shared.ctypes.data == again.pointer
        np.testing.assert_array_equal(shared, expected)
        assert not hasattr(again, "__cuda_array_interface__")
    else:
        facts = decoder.decode(small_file).__cuda_array_interface__
        assert facts["shape"] == expected.shape and facts["typestr"] == "|u1"

"""`nicrt.load(device=)`: the Codec that every other is, with its pictures in a device's memory; and `--device`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from on_device import DEVICE, largest_difference, on_device
from PIL import Image

import nicrt
from conftest import GOLDEN
from nicrt.runtime.cli import main
from nicrt.runtime.device.picture import FORMATS, converted

COMPASS = GOLDEN / "compass" / "harbour-steps.nic"


@pytest.fixture(scope="module")
def device_codec(codec: nicrt.Codec) -> nicrt.DeviceCodec:
    return on_device(codec)


def test_it_is_a_codec(device_codec: nicrt.DeviceCodec, codec: nicrt.Codec, small: np.ndarray) -> None:
    assert isinstance(device_codec, nicrt.Codec) and device_codec.name == "shallow"
    data = device_codec.encode(small, quality=40)
    assert data == codec.encode(small, quality=40)
    picture = device_codec.decode(data)
    assert isinstance(picture, nicrt.DevicePicture) and picture.device == device_codec.device
    assert largest_difference(picture.numpy(), codec.decode(data)) <= 1
    assert device_codec.verify(data) == codec.verify(data)
    for found, expected in zip(device_codec.symbols(data), codec.symbols(data), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (
        device_codec.backends["synthesis"].startswith("onnxruntime") and len(device_codec.backends) > 2
    )  # and the encoder's
    assert [p.numpy().shape for p in device_codec.decode_many([data, data])] == [small.shape] * 2


def test_load_for(small_file: bytes) -> None:
    assert isinstance(nicrt.load_for(small_file, device=DEVICE).decode(small_file), nicrt.DevicePicture)


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (1, 1)])
def test_formats_are_the_same_on_the_cpu(
    device_codec: nicrt.DeviceCodec, codec: nicrt.Codec, harbour: np.ndarray, size: tuple[int, int]
) -> None:
    data = codec.encode(harbour[: size[0], : size[1]], quality=80)
    rgb, on_cpu = device_codec.decode(data).numpy(), codec.decode(data)
    for name in FORMATS:
        stored = device_codec.decode(data, format=name)
        np.testing.assert_array_equal(stored.numpy(), converted(rgb, name))
        here = codec.decode(data, format=name)
        assert type(here) is np.ndarray and here.shape == stored.shape
        np.testing.assert_array_equal(here, converted(on_cpu, name))
        np.testing.assert_array_equal(codec.decode_batch([data, data], format=name), [here, here])
    np.testing.assert_array_equal(codec.decode(data, format="planar"), on_cpu.transpose(2, 0, 1))
    for decode in (codec.decode, device_codec.decode):
        with pytest.raises(ValueError, match="format"):
            decode(data, format="yuv444")  # type: ignore[arg-type]


def test_a_region_in_another_format(codec: nicrt.Codec, small_file: bytes) -> None:
    whole = codec.decode(small_file)
    part = codec.decode(small_file, region=(3, 5, 17, 9), format="planar")
    assert largest_difference(part, whole[5:14, 3:20].transpose(2, 0, 1)) <= 1
    height, width = codec.decode(small_file, scale=0.5).shape[:2]
    expected = height + (height + 1) // 2, width + width % 2
    assert codec.decode(small_file, scale=0.5, format="nv12").shape == expected


def test_batches_on_the_cpu(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    files = [codec.encode(harbour[i : i + 33, :40], quality=40) for i in (0, 50)]
    batch = codec.decode_batch(files)
    assert batch.shape == (2, 33, 40, 3)
    np.testing.assert_array_equal(batch, [codec.decode(data) for data in files])
    for others in ([], [files[0], codec.encode(harbour[:33, :41])]):
        with pytest.raises(ValueError, match="batch"):
            codec.decode_batch(others)


def test_what_a_device_does_not_do(device_codec: nicrt.DeviceCodec, small_file: bytes) -> None:
    for options in ({"region": (0, 0, 8, 8)}, {"scale": 0.5}):
        with pytest.raises(nicrt.UnsupportedError, match=r"whole pictures.*decode on the CPU"):
            device_codec.decode(small_file, **options)  # type: ignore[arg-type]


def test_a_truncated_file() -> None:
    codec, data = nicrt.load("compass", threads=1), COMPASS.read_bytes()
    device_codec = on_device(codec)
    cut = data[:-10]
    with pytest.raises(nicrt.TruncatedError):
        device_codec.decode(cut)
    expected = codec.decode(cut, partial=True)
    assert expected.shape != codec.decode(data).shape
    assert largest_difference(device_codec.decode(cut, partial=True).numpy(), expected) <= 1


def test_trace(device_codec: nicrt.DeviceCodec, small_file: bytes) -> None:
    seen: dict[str, float] = {}
    picture = device_codec.decode(small_file, trace=lambda name, seconds: seen.update({name: seconds}))
    assert list(seen) == ["parse", "copy", "entropy z", "graph hyper", "entropy y", "graph synthesis", "store"]
    assert min(seen.values()) >= 0
    np.testing.assert_array_equal(picture.numpy(), device_codec.decode(small_file).numpy())


def test_memory_is_used_again() -> None:
    """Every layer makes its own tensors, few of which live long."""
    device_codec = nicrt.load("compass", device=DEVICE, device_options=nicrt.DeviceOptions(capture=False))
    device_codec.decode(COMPASS.read_bytes())
    (kept,) = device_codec._decoding.replays.values()
    tensors, memory = kept.layout.planned, kept.layout.memory
    assert sum(buffer.nbytes for buffer in memory.reused) < 0.7 * sum(tensor.bytes for tensor in tensors)


def test_limits(codec: nicrt.Codec, small_file: bytes) -> None:
    limits = nicrt.Limits(memory_bytes=1 << 20)
    device_codec = nicrt.load("shallow", device=DEVICE, limits=limits)
    with pytest.raises(nicrt.LimitError, match="on the device"):
        device_codec.decode(small_file)
    narrow = nicrt.load("shallow", device=DEVICE, limits=replace(limits, pixels=100))
    with pytest.raises(nicrt.LimitError, match="pixel"):
        narrow.decode(small_file)


def test_names_and_options() -> None:
    torch_like = type("device", (), {"__str__": lambda _: DEVICE})()
    assert nicrt.load("shallow", device=torch_like).device  # type: ignore[call-overload]
    for name in ("tpu", "cuda:", "cuda:x", "host:1", ""):
        with pytest.raises(ValueError, match="device"):
            nicrt.load("shallow", device=name)
    for options in ({"plans": 0}, {"conv_search": "thorough"}):
        with pytest.raises(ValueError, match=r"plans|search"):
            nicrt.DeviceOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="go with a device"):
        nicrt.load("shallow", device_options=nicrt.DeviceOptions())  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="'cuda:1' is a device, not a backend: --device cuda:1"):
        nicrt.load("shallow", backend="cuda:1")
    try:
        nicrt.load("shallow", device="cuda")
    except nicrt.UnsupportedError as error:
        assert any(what in str(error) for what in ("nvcc", "nvidia-smi", "nicrt[gpu]"))  # what to do about it


def test_the_old_name(codec: nicrt.Codec, small_file: bytes) -> None:
    decoder = nicrt.DeviceDecoder(codec, DEVICE, plans=2, capture=False, tf32=True, conv_search="heuristic")
    assert isinstance(decoder, nicrt.DeviceCodec) and "eprecated" in str(nicrt.DeviceDecoder.__doc__)
    assert largest_difference(decoder.decode(small_file).numpy(), codec.decode(small_file)) <= 1
    assert decoder.plans[0]["captured"] == "no: not asked for"
    seen: list[str] = []
    decoder.trace([small_file, small_file], lambda name, _: seen.append(name))
    assert seen[0] == "parse" and seen[-1] == "store"
    assert nicrt.DeviceDecoder("shallow", DEVICE).decode_batch([small_file]).shape[0] == 1


def test_decode_by_the_command_line(
    tmp_path: Path, codec: nicrt.Codec, small_file: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "a.nic", tmp_path / "a.png"
    source.write_bytes(small_file)
    assert main(["decode", str(source), str(out), "--device", DEVICE]) == 0
    assert largest_difference(np.asarray(Image.open(out)), codec.decode(small_file)) <= 1
    assert main(["decode", "-b", "shallow", str(source), str(tmp_path / "b.png"), "--device", DEVICE, "--strict"]) == 0
    capsys.readouterr()
    source.write_bytes(small_file[:-10])
    cut = tmp_path / "cut.png"
    for arguments, code, said in (
        (["--device", DEVICE], 4, "ends after"),
        (["--device", DEVICE, "--backend", "native"], 2, "--backend is who runs graphs on the CPU"),
        (["--device", DEVICE, "--region", "0,0,8,8"], 6, "whole pictures"),
        (["--device", "tpu"], 2, "a device is 'cuda', 'cuda:N' or 'host'"),
        (["--backend", "cuda"], 1, "--device cuda"),
    ):
        assert main(["decode", str(source), str(cut), *arguments]) == code, arguments
        said_now = capsys.readouterr().err
        assert said in said_now and said_now.count("\n") == 1, said_now
        assert not cut.exists()


@pytest.mark.skipif(DEVICE != "host", reason="there is a GPU")
def test_without_a_gpu_the_command_line_says_what_to_do(
    tmp_path: Path, small_file: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.nic"
    source.write_bytes(small_file)
    for arguments in (["decode", str(source), str(tmp_path / "a.png")], ["bench", str(source)]):
        assert main([*arguments, "--device", "cuda"]) == 6
        said = capsys.readouterr().err
        assert any(what in said for what in ("nvcc", "nvidia-smi", "nicrt[gpu]"))


def test_bench_on_a_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.json"
    arguments = ["bench", "shallow", "--size", "128x64", "--repeat", "3", "--batch", "4", "--threads", "1"]
    assert main([*arguments, "--device", DEVICE, "--lanes", "parallel", "--json", str(out)]) == 0
    (run,) = json.loads(out.read_text())["runs"]
    assert list(run["steps"]) == [
        "parse", "copy", "entropy z", "graph hyper", "entropy y", "graph synthesis", "store"
    ]  # fmt: skip
    assert run["batch"]["files"] == 4 and run["device"]["name"] and run["device"]["plans"][0]["captured"]
    assert f"on {run['device']['name']}" in capsys.readouterr().out
    assert main(["bench", "--compare", str(out), str(out)]) == 0
    assert main(["bench", "shallow", "--backend", "cuda"]) == 2
    assert "--device cuda" in capsys.readouterr().err

"""The memory limit on a device: what it counts on the device and the host, and for how many plans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import nicrt
from nicrt import _device_host
from nicrt.runtime.backends import GraphSet
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu

ROOM = nicrt.Limits(memory_bytes=1 << 40)


@pytest.fixture(scope="module")
def files(codec: nicrt.Codec, harbour: np.ndarray) -> dict[int, bytes]:
    """Edge → a file of a square picture."""
    return {edge: codec.encode(harbour[:edge, :edge], quality=40, effort=1) for edge in (64, 128, 160)}


def bytes_of(decoder: nicrt.DeviceCodec) -> int:
    return sum(plan["device_bytes"] + plan["host_bytes"] for plan in decoder.plans)


def limited(codec: nicrt.Codec, memory_bytes: int, **options: object) -> nicrt.DeviceDecoder:
    return nicrt.DeviceDecoder(codec, "host", limits=replace(ROOM, memory_bytes=memory_bytes), **options)  # type: ignore[arg-type]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Bytes of every buffer and entropy decoder that is made, on the device and on the host."""
    sizes: list[int] = []

    def counted(make: type, size: str) -> object:
        def made(*arguments: object, **options: object) -> object:
            sizes.append(0)
            result = make(*arguments, **options)
            sizes[-1] = sum(getattr(result, name) for name in size.split())
            return result

        return made

    monkeypatch.setattr(_device_host, "Buffer", counted(_device_host.Buffer, "nbytes"))
    monkeypatch.setattr(_device_host, "StreamDecoder", counted(_device_host.StreamDecoder, "device_bytes host_bytes"))
    yield sizes


def test_what_is_taken_is_counted(codec: nicrt.Codec, files: dict[int, bytes], taken: list[int]) -> None:
    """All buffers, the picture that comes out and the page-locked host memory; workspaces come on top."""
    decoder = limited(codec, 1 << 40, capture=False)
    decoder.decode(files[128])
    (plan,) = decoder.plans
    assert plan["host_bytes"] > 0
    per_pixel = [codec.bundle.manifest.graphs[name].workspace_bytes_per_pixel or 0 for name in ("hyper", "synthesis")]
    workspaces = sum(int(2 * each * 128 * 128) for each in per_pixel)
    assert sum(taken) == bytes_of(decoder) - workspaces


def test_the_limit_is_that_of_the_plan_exactly(codec: nicrt.Codec, files: dict[int, bytes]) -> None:
    whole = limited(codec, 1 << 40)
    whole.decode(files[128])
    needed = bytes_of(whole)
    assert limited(codec, needed).decode(files[128]).width == 128
    with pytest.raises(nicrt.LimitError, match=r"128 x 128 on the device needs more memory.*Limits\.memory_bytes"):
        limited(codec, needed - 1).decode(files[128])
    host_bytes = whole.plans[0]["host_bytes"]
    with pytest.raises(nicrt.LimitError):  # without the host's share it would do
        limited(codec, needed - host_bytes).decode(files[128])


def test_the_limit_is_refused_before_it_is_exceeded(
    codec: nicrt.Codec, files: dict[int, bytes], taken: list[int]
) -> None:
    decoder = limited(codec, 3 << 20)
    with pytest.raises(nicrt.LimitError):
        decoder.decode(files[160])
    assert sum(taken) <= 3 << 20


def test_all_kept_plans_count(codec: nicrt.Codec, files: dict[int, bytes]) -> None:
    sizes = {}
    for edge, data in files.items():
        alone = limited(codec, 1 << 40)
        alone.decode(data)
        sizes[edge] = bytes_of(alone)
    decoder = limited(codec, sizes[128] + sizes[160])
    for edge in (64, 128, 160, 64, 160):
        assert decoder.decode(files[edge]).width == edge
        assert bytes_of(decoder) <= sizes[128] + sizes[160]
    assert [plan["size"][0] for plan in decoder.plans] == [64, 160]


def test_the_decoders_limits_count_and_not_the_codecs(files: dict[int, bytes]) -> None:
    narrow = nicrt.load("shallow", threads=1, limits=nicrt.Limits(pixels=1000, memory_bytes=1000))
    with pytest.raises(nicrt.LimitError):
        narrow.decode(files[64])
    assert nicrt.DeviceDecoder(narrow, "host").decode(files[64]).width == 64
    wide = nicrt.load("shallow", threads=1)
    with pytest.raises(nicrt.LimitError, match="pixel"):
        nicrt.DeviceDecoder(wide, "host", limits=nicrt.Limits(pixels=1000)).decode(files[64])


def test_graphs_by_way_of_the_host_count_there(codec: nicrt.Codec, files: dict[int, bytes]) -> None:
    on_device, by_host = limited(codec, 1 << 40, capture=False), limited(codec, 1 << 40, capture=False)
    by_host._decoding.graphs = GraphSet(codec.bundle, [OnnxRuntimeCpu(1)])
    for decoder in (on_device, by_host):
        decoder.decode(files[128])
    assert by_host.plans[0]["by_way_of_host"] == ["graph hyper", "graph synthesis"]
    moved = by_host.plans[0]["host_bytes"] - on_device.plans[0]["host_bytes"]
    left = on_device.plans[0]["device_bytes"] - by_host.plans[0]["device_bytes"]
    assert moved > left > 0  # workspaces, and copies of the tensors besides

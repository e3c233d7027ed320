"""The device module compiled for the host: the symbols of `_core.decode_stream`, pixels in every format, DLPack. Where
there is a GPU the same tests run on it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

import nicrt
from conftest import GOLDEN
from nicrt import _core

if TYPE_CHECKING:
    from nicrt import _device_host

BUNDLES = sorted(path.parent.name for path in GOLDEN.glob("*/good.json"))
Symbols = npt.NDArray[np.int32]


def modules() -> Iterator[str]:
    yield "_device_host"
    try:
        if importlib.import_module("nicrt._device_cuda").available():
            yield "_device_cuda"
    except ImportError:
        pass


@pytest.fixture(params=list(modules()))
def device(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"nicrt.{request.param}")


@dataclass
class Call:
    """What one call of StreamDecoder takes, and what has to come of it. index: of channels, or of places."""

    codebook: _core.Codebook
    index: npt.NDArray[np.uint8]
    shape: tuple[int, int, int]
    tile: int
    data: bytes
    stream: _core.Stream
    symbols: Symbols


def calls_of(codec: nicrt.Codec, data: bytes) -> list[Call]:
    """Those of all streams of a file, as the CPU decodes them."""
    file = _core.parse(data)
    streams = [stream for stage in file.stages for stream in stage]
    return [
        Call(c.codebook, c.index, c.symbols.shape, file.tile_size // c.stride, data, stream, c.symbols)  # type: ignore[arg-type]
        for c, stream in zip(codec.coded(data), streams, strict=True)
    ]


class Rig:
    """A decoder for calls that are alike but for their bytes and index."""

    def __init__(self, device: ModuleType, call: Call, pictures: int = 1, pad: int = 0) -> None:
        self.queue = device.Queue()
        by_channel = call.index.ndim == 1
        self.decoder: _device_host.StreamDecoder = device.StreamDecoder(
            self.queue,
            call.codebook,
            (pictures, *call.shape),
            call.tile,
            pictures * call.stream.size,
            pictures * call.stream.segment_count,
            channel_ids=call.index if by_channel else None,
        )
        self.symbols = device.Buffer((pictures, *call.shape), "int32", self.queue)
        self.index = None
        if not by_channel:
            channels, height, width = call.shape
            padded = np.full((pictures, channels, height + pad, width + 2 * pad), 5, np.uint8)
            padded[:, :, :height, :width] = call.index
            self.index = device.Buffer(padded.shape, "uint8", self.queue)
            self.index.upload(padded)

    def decode(self, files: list[tuple[Any, _core.Stream]]) -> Symbols:
        self.decoder.set(files)
        self.decoder.run(self.symbols, self.index)
        self.queue.synchronize()
        self.decoder.check()
        return self.symbols.download()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_golden_files(device: ModuleType, bundle: str) -> None:
    codec = nicrt.load(bundle, threads=1)
    names = json.loads((GOLDEN / bundle / "good.json").read_text())
    calls = [call for name in names for call in calls_of(codec, (GOLDEN / bundle / f"{name}.nic").read_bytes())]
    assert len(calls) > 2
    for call in calls:
        np.testing.assert_array_equal(Rig(device, call).decode([(call.data, call.stream)])[0], call.symbols)


def of_picture(codec: nicrt.Codec, harbour: npt.NDArray[np.uint8]) -> Call:
    """The latents of a photograph, parallel lanes."""
    return calls_of(codec, codec.encode(harbour, quality=70, lanes="parallel"))[-1]


def test_a_batch_and_padded_index(device: ModuleType, codec: nicrt.Codec, harbour: npt.NDArray[np.uint8]) -> None:
    call = of_picture(codec, harbour)
    rig = Rig(device, call, pictures=3, pad=2)
    assert rig.decoder.shape == (3, *call.shape)
    got = rig.decode([(memoryview(call.data), call.stream)] * 3)
    for symbols in got:
        np.testing.assert_array_equal(symbols, call.symbols)


def test_damage_is_an_error(device: ModuleType, codec: nicrt.Codec, harbour: npt.NDArray[np.uint8]) -> None:
    call = of_picture(codec, harbour)
    rig = Rig(device, call)
    flipped = bytearray(call.data)
    flipped[-20] ^= 1
    with pytest.raises(nicrt.CorruptError, match="checksum"):
        rig.decode([(flipped, call.stream)])
    with pytest.raises(nicrt.TruncatedError, match="the file ends after"):
        rig.decode([(call.data[:-20], call.stream)])
    with pytest.raises(ValueError, match="2 streams"):
        rig.decode([(call.data, call.stream)] * 2)
    assert rig.index is not None
    other = call.index.copy()
    other[other < 64] ^= 1
    rig.index.view(other.shape).upload(other)
    with pytest.raises(nicrt.CorruptError, match="tile 0, segment"):
        rig.decode([(call.data, call.stream)])
    rig.index.view(other.shape).upload(call.index)
    np.testing.assert_array_equal(rig.decode([(call.data, call.stream)])[0], call.symbols)


def test_limits_and_arguments(device: ModuleType, codec: nicrt.Codec, harbour: npt.NDArray[np.uint8]) -> None:
    call = of_picture(codec, harbour)
    queue = device.Queue()
    small = device.StreamDecoder(queue, call.codebook, (1, *call.shape), call.tile, 10, 10)
    with pytest.raises(nicrt.LimitError, match="10 bytes"):
        small.set([(call.data, call.stream)])
    with pytest.raises(nicrt.LimitError, match="places"):
        device.StreamDecoder(queue, call.codebook, (1, 1 << 15, 1 << 15, 1 << 15), 0, 10, 10)
    with pytest.raises(ValueError, match="index"):
        small.run(device.Buffer((1, *call.shape), "int32", queue))
    with pytest.raises(ValueError, match="symbols"):
        small.run(device.Buffer(call.shape, "int32", queue))
    with pytest.raises(ValueError, match="channel id"):
        device.StreamDecoder(queue, call.codebook, (1, 4, 2, 2), 0, 10, 10, np.zeros(3, np.uint8))


def test_symbols_beyond_what_exact_graphs_take(
    device: ModuleType, codec: nicrt.Codec, harbour: npt.NDArray[np.uint8]
) -> None:
    call = of_picture(codec, harbour)
    rig = Rig(device, call)
    size, segments = call.stream.size, call.stream.segment_count
    least, greatest = int(call.symbols.min()), int(call.symbols.max())
    for limits, good in [((least, greatest), True), ((least + 1, greatest), False), ((least, greatest - 1), False)]:
        rig.decoder = device.StreamDecoder(
            rig.queue, call.codebook, (1, *call.shape), call.tile, size, segments, limits=limits
        )
        if good:
            np.testing.assert_array_equal(rig.decode([(call.data, call.stream)])[0], call.symbols)
            continue
        with pytest.raises(nicrt.CorruptError, match="symbol"):
            rig.decode([(call.data, call.stream)])


def test_graph_replay(device: ModuleType, codec: nicrt.Codec, harbour: npt.NDArray[np.uint8]) -> None:
    call = of_picture(codec, harbour)
    rig = Rig(device, call)
    rig.symbols.upload(np.full((1, *call.shape), 99, np.int32))
    rig.queue.begin_capture()
    rig.decoder.run(rig.symbols, rig.index)
    with pytest.raises(ValueError, match="capturing"):
        rig.decoder.set([(call.data, call.stream)])
    graph = rig.queue.end_capture()
    assert (rig.symbols.download() == 99).all()
    rig.decoder.set([(call.data, call.stream)])
    start = rig.queue.record()
    graph.replay()
    end = rig.queue.record()
    end.synchronize()
    rig.decoder.check()
    assert end.elapsed_ms(start) >= 0
    np.testing.assert_array_equal(rig.symbols.download()[0], call.symbols)


def test_tables_by_channel(device: ModuleType) -> None:
    codebook = _core.Codebook(
        np.array([-1, 0], np.int16),
        np.array([0, 3], np.uint8),
        np.array([4, 2], np.int32),
        np.array([1000, 2000, 1000, 96, 4000, 96], np.uint16),
    )
    ids = np.array([0, 1, 0], np.uint8)
    symbols = np.random.default_rng(1).integers(-40, 40, (3, 9, 11), dtype=np.int32)
    data = _core.write(b"12345678", b"1234", 88, 72, 32, [], [[_core.encode_stream(codebook, symbols, ids, 4, 8, 1)]])
    stream = _core.parse(data).stages[0][0]
    rig = Rig(device, Call(codebook, ids, (3, 9, 11), 4, data, stream, symbols))
    np.testing.assert_array_equal(rig.decode([(data, stream)])[0], symbols)


def test_buffers(device: ModuleType) -> None:
    queue = device.Queue()
    buffer = device.Buffer((2, 3, 4), "int32", queue)
    values = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    buffer.upload(values)
    assert buffer.shape == (2, 3, 4) and buffer.dtype == "int32" and buffer.nbytes == 96
    assert buffer.queue is queue and queue.device == 0
    np.testing.assert_array_equal(buffer.download(), values)
    second = buffer.view((3, 4), offset_bytes=48)
    assert second.pointer == buffer.pointer + 48
    np.testing.assert_array_equal(second.download(), values[1])
    np.testing.assert_array_equal(buffer.view((96,), "uint8").download(), values.view(np.uint8).ravel())
    out = device.pinned((2, 3, 4), "int32")
    assert buffer.download(out) is out
    other = device.Buffer((24,), "int32", queue)
    other.copy_from(buffer)
    np.testing.assert_array_equal(other.download(), values.ravel())
    for shape, dtype, offset in [((25,), "int32", 0), ((2,), "int32", 92), ((1,), "int32", 2), ((1,), "int32", 100)]:
        with pytest.raises(ValueError, match="view"):
            buffer.view(shape, dtype, offset)
    with pytest.raises(ValueError, match="shape or dtype"):
        buffer.upload(values.astype(np.float32))
    with pytest.raises(ValueError, match="dtype float64"):
        device.Buffer((1,), "float64", queue)
    with pytest.raises(ValueError, match="too many"):
        device.Buffer((1 << 40, 1 << 40), "uint8", queue)
    with pytest.raises((ValueError, nicrt.InternalError)):
        device.Queue(1 << 20)


def test_exports(device: ModuleType) -> None:
    queue = device.Queue()
    buffer = device.Buffer((2, 3), "float32", queue)
    values = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    buffer.upload(values)
    assert device.available() and device.device_count() >= 1 and device.device_name()
    if device.kind == "cuda":
        interface = buffer.__cuda_array_interface__
        assert interface["shape"] == (2, 3) and interface["typestr"] == "<f4" and interface["data"][0] == buffer.pointer
        assert interface["stream"] == queue.handle > 2 and buffer.__dlpack_device__() == (2, 0)
        return
    assert buffer.__dlpack_device__() == (1, 0) and queue.handle == 0
    shared = np.from_dlpack(buffer)
    buffer.upload(values * 2)
    del buffer  # its memory lives as long as an importer
    np.testing.assert_array_equal(shared, values * 2)


def test_crop_and_store(device: ModuleType) -> None:
    queue = device.Queue()
    pixels = np.random.default_rng(2).integers(0, 256, (2, 8, 16, 3), dtype=np.uint8)
    picture = device.Buffer(pixels.shape, "uint8", queue)
    picture.upload(pixels)
    height, width = 7, 13
    rgb = device.Buffer((2, height, width, 3), "uint8", queue)
    device.store(queue, picture, rgb, height, width)
    np.testing.assert_array_equal(rgb.download(), pixels[:, :height, :width])
    rows = device.Buffer((2, height, 48), "uint8", queue)
    device.store(queue, picture, rows, height, width, "rgb")
    np.testing.assert_array_equal(
        rows.download()[:, :, : 3 * width].reshape(2, height, width, 3), pixels[:, :height, :width]
    )
    planar = device.Buffer((2, 3, height, 20), "uint8", queue)
    device.store(queue, picture, planar, height, width, "planar")
    np.testing.assert_array_equal(planar.download()[..., :width].transpose(0, 2, 3, 1), pixels[:, :height, :width])
    nv12 = device.Buffer((2, 7 + 4, 14), "uint8", queue)
    device.store(queue, picture, nv12, height, width, "nv12")
    luma = 16 + pixels[:, :height, :width] @ np.array([0.2126, 0.7152, 0.0722]) * 219 / 255
    assert np.abs(nv12.download()[:, :height, :width] - luma).max() <= 0.51
    planes = pixels.reshape(2, 3, 8, 16)
    source, cut = device.Buffer(planes.shape, "uint8", queue), device.Buffer((2, 3, 5, 6), "uint8", queue)
    source.upload(planes)
    device.crop(queue, source, cut, top=3, left=9)
    np.testing.assert_array_equal(cut.download(), planes[:, :, 3:, 9:15])
    with pytest.raises(ValueError, match="out has another shape"):
        device.store(queue, picture, nv12, height, width, "planar")
    with pytest.raises(ValueError, match="format"):
        device.store(queue, picture, nv12, height, width, "nv21")
    with pytest.raises(ValueError, match="crop"):
        device.crop(queue, source, cut, top=4, left=9)

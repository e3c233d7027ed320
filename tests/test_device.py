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
from nicrt.runtime.tables import TableGroup

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
    """One call of _core.decode_stream and what came of it."""

    codebook: _core.Codebook
    index: npt.NDArray[np.uint8]
    shape: tuple[int, int, int]
    tile: int
    data: bytes
    stream: _core.Stream
    symbols: Symbols


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Filled with what the entropy steps of every decode do."""
    made: list[Call] = []
    decode_stream = _core.decode_stream

    def watched(
        codebook: _core.Codebook,
        index: npt.NDArray[np.uint8],
        shape: tuple[int, int, int],
        tile: int,
        data: bytes,
        stream: _core.Stream,
        threads: int,
        out: Symbols | None = None,
    ) -> Symbols:
        symbols = decode_stream(codebook, index, shape, tile, data, stream, threads, out)
        made.append(Call(codebook, index.copy(), shape, tile, data, stream, symbols.copy()))
        return symbols

    monkeypatch.setattr(_core, "decode_stream", watched)
    return made


class Rig:
    """A decoder for calls that are alike but for their bytes and index."""

    def __init__(self, device: ModuleType, call: Call, pictures: int = 1, pad: int = 0) -> None:
        self.stream = device.Stream()
        by_channel = call.index.ndim == 1
        self.decoder: _device_host.StreamDecoder = device.StreamDecoder(
            self.stream,
            call.codebook,
            (pictures, *call.shape),
            call.tile,
            pictures * call.stream.size,
            pictures * call.stream.segment_count,
            channel_ids=call.index if by_channel else None,
        )
        self.symbols = device.Buffer((pictures, *call.shape), "int32", self.stream)
        self.index = None
        if not by_channel:
            channels, height, width = call.shape
            padded = np.full((pictures, channels, height + pad, width + 2 * pad), 5, np.uint8)
            padded[:, :, :height, :width] = call.index
            self.index = device.Buffer(padded.shape, "uint8", self.stream)
            self.index.upload(padded)

    def decode(self, files: list[tuple[Any, _core.Stream]]) -> Symbols:
        self.decoder.set(files)
        self.decoder.run(self.symbols, self.index)
        self.stream.synchronize()
        self.decoder.check()
        return self.symbols.download()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_golden_files(device: ModuleType, bundle: str, calls: list[Call]) -> None:
    codec = nicrt.load(bundle, threads=1)
    for name in json.loads((GOLDEN / bundle / "good.json").read_text()):
        codec.symbols((GOLDEN / bundle / f"{name}.nic").read_bytes())
    assert len(calls) > 2
    for call in calls:
        np.testing.assert_array_equal(Rig(device, call).decode([(call.data, call.stream)])[0], call.symbols)


def of_picture(codec: nicrt.Codec, harbour: npt.NDArray[np.uint8], calls: list[Call]) -> Call:
    """The latents of a photograph, parallel lanes."""
    codec.decode(codec.encode(harbour, quality=70, lanes="parallel"))
    return calls[-1]


def test_a_batch_and_padded_index(
    device: ModuleType, codec: nicrt.Codec, harbour: npt.NDArray[np.uint8], calls: list[Call]
) -> None:
    call = of_picture(codec, harbour, calls)
    rig = Rig(device, call, pictures=3, pad=2)
    assert rig.decoder.shape == (3, *call.shape)
    got = rig.decode([(memoryview(call.data), call.stream)] * 3)
    for symbols in got:
        np.testing.assert_array_equal(symbols, call.symbols)


def test_damage_is_an_error(
    device: ModuleType, codec: nicrt.Codec, harbour: npt.NDArray[np.uint8], calls: list[Call]
) -> None:
    call = of_picture(codec, harbour, calls)
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


def test_limits_and_arguments(
    device: ModuleType, codec: nicrt.Codec, harbour: npt.NDArray[np.uint8], calls: list[Call]
) -> None:
    call = of_picture(codec, harbour, calls)
    stream = device.Stream()
    small = device.StreamDecoder(stream, call.codebook, (1, *call.shape), call.tile, 10, 10)
    with pytest.raises(nicrt.LimitError, match="10 bytes"):
        small.set([(call.data, call.stream)])
    with pytest.raises(nicrt.LimitError, match="places"):
        device.StreamDecoder(stream, call.codebook, (1, 1 << 15, 1 << 15, 1 << 15), 0, 10, 10)
    with pytest.raises(ValueError, match="index"):
        small.run(device.Buffer((1, *call.shape), "int32", stream))
    with pytest.raises(ValueError, match="symbols"):
        small.run(device.Buffer(call.shape, "int32", stream))
    with pytest.raises(ValueError, match="channel id"):
        device.StreamDecoder(stream, call.codebook, (1, 4, 2, 2), 0, 10, 10, np.zeros(3, np.uint8))


def test_symbols_beyond_what_exact_graphs_take(
    device: ModuleType, codec: nicrt.Codec, harbour: npt.NDArray[np.uint8], calls: list[Call]
) -> None:
    call = of_picture(codec, harbour, calls)
    rig = Rig(device, call)
    size, segments = call.stream.size, call.stream.segment_count
    least, greatest = int(call.symbols.min()), int(call.symbols.max())
    for limits, good in [((least, greatest), True), ((least + 1, greatest), False), ((least, greatest - 1), False)]:
        rig.decoder = device.StreamDecoder(
            rig.stream, call.codebook, (1, *call.shape), call.tile, size, segments, limits=limits
        )
        if good:
            np.testing.assert_array_equal(rig.decode([(call.data, call.stream)])[0], call.symbols)
            continue
        with pytest.raises(nicrt.CorruptError, match="symbol"):
            rig.decode([(call.data, call.stream)])


def test_graph_replay(
    device: ModuleType, codec: nicrt.Codec, harbour: npt.NDArray[np.uint8], calls: list[Call]
) -> None:
    call = of_picture(codec, harbour, calls)
    rig = Rig(device, call)
    rig.symbols.upload(np.full((1, *call.shape), 99, np.int32))
    rig.stream.begin_capture()
    rig.decoder.run(rig.symbols, rig.index)
    with pytest.raises(ValueError, match="capturing"):
        rig.decoder.set([(call.data, call.stream)])
    graph = rig.stream.end_capture()
    assert (rig.symbols.download() == 99).all()
    rig.decoder.set([(call.data, call.stream)])
    start = rig.stream.record()
    graph.replay()
    end = rig.stream.record()
    end.synchronize()
    rig.decoder.check()
    assert end.elapsed_ms(start) >= 0
    np.testing.assert_array_equal(rig.symbols.download()[0], call.symbols)


def test_by_channel_tables_of_a_bundle(device: ModuleType) -> None:
    group = TableGroup(
        "t",
        {
            "t.low": np.array([-1, 0], np.int16),
            "t.shift": np.array([0, 3], np.uint8),
            "t.size": np.array([4, 2], np.int32),
            "t.frequency": np.array([1000, 2000, 1000, 96, 4000, 96], np.uint16),
            "t.channel": np.array([[0, 1, 0]], np.int32),
        },
    )
    codebook, ids = group.by_channel([0])
    symbols = np.random.default_rng(1).integers(-40, 40, (3, 9, 11), dtype=np.int32)
    data = _core.write(b"12345678", b"1234", 88, 72, 32, [], [[_core.encode_stream(codebook, symbols, ids, 4, 8, 1)]])
    stream = _core.parse(data).stages[0][0]
    rig = Rig(device, Call(codebook, ids, (3, 9, 11), 4, data, stream, symbols))
    np.testing.assert_array_equal(rig.decode([(data, stream)])[0], symbols)


def test_buffers(device: ModuleType) -> None:
    stream = device.Stream()
    buffer = device.Buffer((2, 3, 4), "int32", stream)
    values = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    buffer.upload(values)
    assert buffer.shape == (2, 3, 4) and buffer.dtype == "int32" and buffer.nbytes == 96
    assert buffer.stream is stream and stream.device == 0
    np.testing.assert_array_equal(buffer.download(), values)
    second = buffer.view((3, 4), offset_bytes=48)
    assert second.pointer == buffer.pointer + 48
    np.testing.assert_array_equal(second.download(), values[1])
    np.testing.assert_array_equal(buffer.view((96,), "uint8").download(), values.view(np.uint8).ravel())
    out = device.pinned((2, 3, 4), "int32")
    assert buffer.download(out) is out
    other = device.Buffer((24,), "int32", stream)
    other.copy_from(buffer)
    np.testing.assert_array_equal(other.download(), values.ravel())
    for shape, dtype, offset in [((25,), "int32", 0), ((2,), "int32", 92), ((1,), "int32", 2), ((1,), "int32", 100)]:
        with pytest.raises(ValueError, match="view"):
            buffer.view(shape, dtype, offset)
    with pytest.raises(ValueError, match="shape or dtype"):
        buffer.upload(values.astype(np.float32))
    with pytest.raises(ValueError, match="dtype float64"):
        device.Buffer((1,), "float64", stream)
    with pytest.raises(ValueError, match="too many"):
        device.Buffer((1 << 40, 1 << 40), "uint8", stream)
    with pytest.raises((ValueError, nicrt.InternalError)):
        device.Stream(1 << 20)


def test_exports(device: ModuleType) -> None:
    stream = device.Stream()
    buffer = device.Buffer((2, 3), "float32", stream)
    values = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    buffer.upload(values)
    assert device.available() and device.device_count() >= 1 and device.device_name()
    if device.kind == "cuda":
        interface = buffer.__cuda_array_interface__
        assert interface["shape"] == (2, 3) and interface["typestr"] == "<f4" and interface["data"][0] == buffer.pointer
        assert interface["stream"] == stream.handle > 2 and buffer.__dlpack_device__() == (2, 0)
        return
    assert buffer.__dlpack_device__() == (1, 0) and stream.handle == 0
    shared = np.from_dlpack(buffer)
    buffer.upload(values * 2)
    del buffer  # its memory lives as long as an importer
    np.testing.assert_array_equal(shared, values * 2)


def test_crop_and_store(device: ModuleType) -> None:
    stream = device.Stream()
    pixels = np.random.default_rng(2).integers(0, 256, (2, 8, 16, 3), dtype=np.uint8)
    picture = device.Buffer(pixels.shape, "uint8", stream)
    picture.upload(pixels)
    height, width = 7, 13
    rgb = device.Buffer((2, height, width, 3), "uint8", stream)
    device.store(stream, picture, rgb, height, width)
    np.testing.assert_array_equal(rgb.download(), pixels[:, :height, :width])
    rows = device.Buffer((2, height, 48), "uint8", stream)
    device.store(stream, picture, rows, height, width, "rgb")
    np.testing.assert_array_equal(
        rows.download()[:, :, : 3 * width].reshape(2, height, width, 3), pixels[:, :height, :width]
    )
    planar = device.Buffer((2, 3, height, 20), "uint8", stream)
    device.store(stream, picture, planar, height, width, "planar")
    np.testing.assert_array_equal(planar.download()[..., :width].transpose(0, 2, 3, 1), pixels[:, :height, :width])
    nv12 = device.Buffer((2, 7 + 4, 14), "uint8", stream)
    device.store(stream, picture, nv12, height, width, "nv12")
    luma = 16 + pixels[:, :height, :width] @ np.array([0.2126, 0.7152, 0.0722]) * 219 / 255
    assert np.abs(nv12.download()[:, :height, :width] - luma).max() <= 0.51
    planes = pixels.reshape(2, 3, 8, 16)
    source, cut = device.Buffer(planes.shape, "uint8", stream), device.Buffer((2, 3, 5, 6), "uint8", stream)
    source.upload(planes)
    device.crop(stream, source, cut, top=3, left=9)
    np.testing.assert_array_equal(cut.download(), planes[:, :, 3:, 9:15])
    with pytest.raises(ValueError, match="out has another shape"):
        device.store(stream, picture, nv12, height, width, "planar")
    with pytest.raises(ValueError, match="format"):
        device.store(stream, picture, nv12, height, width, "nv21")
    with pytest.raises(ValueError, match="crop"):
        device.crop(stream, source, cut, top=4, left=9)

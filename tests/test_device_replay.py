"""What a device keeps from one batch to the next: memory, calls and captured graphs, each checked before it is
believed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from on_device import DEVICE, largest_difference, on_device

import nicrt
from nicrt.runtime.backends.base import Array
from nicrt.runtime.device.layout import Step
from nicrt.runtime.device.replay import Replay


def test_plans_are_kept_for_sizes_not_for_settings(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    decoder = on_device(codec, plans=2)
    first = codec.encode(harbour[:64, :64], quality=10)
    decoder.decode(first)
    (plan,) = decoder._decoding.replays.values()
    for quality in (20, 30, 35):  # other values of gain: uploaded, nothing made anew
        data = codec.encode(harbour[:64, :64], quality=quality)
        assert largest_difference(decoder.decode(data).numpy(), codec.decode(data)) <= 1
        assert list(decoder._decoding.replays.values()) == [plan]
    assert largest_difference(decoder.decode(first).numpy(), codec.decode(first)) <= 1
    for width in (65, 66, 64):
        decoder.decode(codec.encode(harbour[:64, :width], quality=10))
    assert [entry["size"] for entry in decoder.plans] == [(64, 66), (64, 64)]
    assert plan not in decoder._decoding.replays.values()


def test_a_plan_grows_with_its_files(codec: nicrt.Codec) -> None:
    """The first file of a size says little of how large the next will be."""
    decoder = on_device(codec)
    rng = np.random.default_rng(1)
    flat, noise = np.full((300, 300, 3), 90, np.uint8), rng.integers(0, 256, (300, 300, 3), np.uint8)
    for picture in (flat, noise, flat):
        data = codec.encode(picture, quality=100, parameters={"dz": 3, "skip": 10})  # else the encoder may change them
        assert largest_difference(decoder.decode(data).numpy(), codec.decode(data)) <= 1
    assert len(decoder.plans) == 1


def test_captured_work_is_replayed(codec: nicrt.Codec, small_file: bytes) -> None:
    captured, plain = (on_device(codec, capture=capture) for capture in (True, False))
    for _ in range(3):
        np.testing.assert_array_equal(captured.decode(small_file).numpy(), plain.decode(small_file).numpy())
    assert plain.plans[0]["captured"] == "no: not asked for"
    if DEVICE == "host":  # graphs of ONNX Runtime's CPU provider run at once and are in no capture
        assert captured.plans[0]["captured"] == "all: 2 graphs"


def test_a_replay_that_leaves_work_out_is_noticed(codec: nicrt.Codec, small_file: bytes) -> None:
    """Sessions that say that they can be captured, and run at once instead."""
    decoder = on_device(codec, "host")
    for name in ("hyper", "synthesis"):
        decoder._decoding.graphs.get(name).capturable = True  # type: ignore[attr-defined]
    for _ in range(2):
        np.testing.assert_array_equal(decoder.decode(small_file).numpy(), launched(codec, small_file))
    assert decoder.plans[0]["captured"] == "entropy: 2 graphs"


def test_a_capture_that_fails_is_done_without(
    codec: nicrt.Codec, small_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = on_device(codec)

    def refuse(replay: Replay, steps: Sequence[Step]) -> object:
        replay.layout.queue.begin_capture()
        replay.layout.queue.end_capture()
        raise nicrt.InternalError("no capture here")

    monkeypatch.setattr(Replay, "_graph_of", refuse)
    for _ in range(2):
        assert largest_difference(decoder.decode(small_file).numpy(), codec.decode(small_file)) <= 1
    assert decoder.plans[0]["captured"] == "no: no capture here"
    (replay,) = decoder._decoding.replays.values()
    shown = replay.layout.shown.download()
    replay._forget(~shown)
    replay._replace_by_graphs()  # refused again, and brings back what was overwritten
    np.testing.assert_array_equal(replay.layout.shown.download(), shown)


def launched(codec: nicrt.Codec, data: bytes) -> Array:
    return on_device(codec, "host", capture=False).decode(data).numpy()


def test_threads_with_a_decoder_each(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    files = [codec.encode(harbour[i : i + 50, : 60 + i], quality=30) for i in range(4)]
    expected = [codec.decode(data) for data in files]
    shared = on_device(codec)
    wrong: list[int] = []

    def work(decoder: nicrt.DeviceCodec) -> None:
        for _ in range(3):
            for data, pixels in zip(files, expected, strict=True):
                wrong.append(largest_difference(decoder.decode(data).numpy(), pixels))

    decoders = [on_device(codec), on_device(codec), shared, shared]
    threads = [threading.Thread(target=work, args=(decoder,)) for decoder in decoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 4 * 3 * len(files) and max(wrong) <= 1

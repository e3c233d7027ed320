"""Codecs to compare with: each decodes what it encodes, at the quality or the size that is asked for."""

from __future__ import annotations

import builtins
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nicrt.runtime.bench import measure_peers
from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.evaluate import psnr
from nicrt.runtime.peers import PILLOW, CompressAiPeer, encode_to_size, peers_on, untrained


@pytest.mark.parametrize("name", sorted(PILLOW))
def test_more_quality_is_more_bytes_and_less_error(name: str, harbour: np.ndarray) -> None:
    peer = PILLOW[name]
    try:
        low, high = (peer.encode(harbour, quality) for quality in (30, 90))
    except UnsupportedError:
        pytest.skip(f"this Pillow has no {name}")
    assert len(low) < len(high)
    assert psnr(peer.decode(low), harbour) < psnr(peer.decode(high), harbour)


def test_a_file_of_a_size_is_the_smallest_that_is_not_below(small: np.ndarray) -> None:
    peer = PILLOW["jpeg"]
    sizes = [len(peer.encode(small, quality)) for quality in range(1, 101)]
    assert sizes == sorted(sizes)
    for wanted in (0, sizes[0], sizes[40], sizes[40] + 1, sizes[-1]):
        assert len(encode_to_size(peer, small, wanted)) == next(size for size in sizes if size >= wanted)
    assert len(encode_to_size(peer, small, sizes[-1] + 1)) == sizes[-1]


class Flat:
    """Stands for a model of CompressAI's, whose interface it has: it keeps the mean of the picture."""

    def eval(self) -> Flat:
        return self

    def update(self, *, force: bool) -> None:
        assert force

    def compress(self, x: Any) -> dict[str, Any]:
        assert x.shape[0] == 1 and x.shape[2] % 64 == x.shape[3] % 64 == 0
        mean = np.float32(x.numpy().mean())
        return {"strings": [[mean.tobytes()], [b"z"]], "shape": (x.shape[2] // 64, x.shape[3] // 64)}

    def decompress(self, strings: list[list[bytes]], shape: list[int]) -> dict[str, Any]:
        assert strings[1] == [b"z"]
        mean = float(np.frombuffer(strings[0][0], np.float32)[0])
        return {"x_hat": pytest.importorskip("torch").full((1, 3, 64 * shape[0], 64 * shape[1]), mean)}


def test_models_of_compressai_encode_pictures_of_any_size(harbour: np.ndarray) -> None:
    pytest.importorskip("torch")
    asked: list[int] = []

    def model_of(quality: int) -> Flat:
        asked.append(quality)
        return Flat()

    peer = CompressAiPeer(model_of)
    flat = np.full((100, 70, 3), 51, np.uint8)
    for pixels in (flat, flat[:64, :64]):
        assert (peer.decode(peer.encode(pixels, 4)) == pixels).all()
    assert peer.decode(peer.encode(harbour, 5)).shape == harbour.shape
    assert asked == [4, 5]


def test_compressai_itself(small: np.ndarray) -> None:
    pytest.importorskip("compressai")
    peer = CompressAiPeer()
    try:
        data = peer.encode(small, 1)
    except UnsupportedError as error:
        pytest.skip(str(error))
    assert peer.decode(data).shape == small.shape


@pytest.mark.parametrize("error", [ImportError("no compressai"), RuntimeError("operator nms does not exist")])
def test_bench_does_without_what_is_not_there(
    error: Exception, small: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("compressai"):
            raise error
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnsupportedError, match=f"CompressAI cannot be used: {error}"):
        untrained(4)
    measured = [row["name"] for row in measure_peers(small, 800, repeat=1, threads=1)]
    assert "JPEG (Pillow)" in measured and not any("CompressAI" in name for name in measured)


def test_peers_run_on_the_threads_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import AvifImagePlugin

    monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 0)
    set_to: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=set_to.append))
    assert [peer.name for peer in peers_on(3)] == ["jpeg", "webp", "avif", "compressai"]
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 3
    CompressAiPeer(lambda _: Flat(), threads=3)._model(1)
    assert set_to == [3]

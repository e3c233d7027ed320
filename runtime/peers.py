"""Codecs to compare with: JPEG, WebP and AVIF as Pillow writes them, and models of CompressAI's.

Each encodes a picture at a setting and decodes what it wrote; nothing else of nicrt encodes with another codec to
measure it.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .errors import UnsupportedError, one_line
from .evaluate import Coder, Pixels


class Peer(Coder, Protocol):
    """A coder that is no bundle. name: on the command line; title: in tables. qualities: by rising rate."""

    @property
    def title(self) -> str: ...

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """pixels: uint8 [height, width, 3]. Raises UnsupportedError where what it takes is not installed."""
        ...


@dataclass(frozen=True)
class PillowPeer:
    """A codec of Pillow's. `qualities` span about 0.2 to 2 bits per pixel on photographs."""

    name: str
    description: str
    qualities: Sequence[float]
    options: Mapping[str, Any]

    @property
    def title(self) -> str:
        return f"{self.name.upper()} (Pillow)"

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        try:
            Image.fromarray(pixels).save(buffer, self.name.upper(), quality=round(quality), **self.options)
        except (KeyError, OSError) as error:
            raise UnsupportedError(f"this Pillow cannot write {self.name.upper()}: {one_line(error)}") from None
        return buffer.getvalue()

    def decode(self, data: bytes) -> Pixels:
        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


PILLOW = {
    peer.name: peer
    for peer in (
        PillowPeer(
            "jpeg",
            "JPEG 4:4:4, optimised Huffman tables, by Pillow",
            (5, 10, 20, 35, 50, 65, 80, 90, 95),
            {"subsampling": 0, "optimize": True},
        ),
        PillowPeer("webp", "WebP (4:2:0), method 6, by Pillow", (1, 10, 30, 50, 70, 80, 90, 95), {"method": 6}),
        PillowPeer(
            "avif",
            "AVIF 4:4:4, speed 7, by Pillow",
            (20, 35, 50, 60, 70, 80, 90),
            {"subsampling": "4:4:4", "speed": 7},
        ),
    )
}
"""Those of Pillow's, by the name that the command line gives them."""


def untrained(quality: int) -> Any:
    """mbt2018-mean without trained weights (their download is not ours to start): its time, not its rate."""
    try:
        from compressai.zoo import mbt2018_mean
    except (ImportError, RuntimeError) as error:  # the latter where torchvision does not fit torch
        raise UnsupportedError(f"CompressAI cannot be used: {one_line(error)}") from None
    return mbt2018_mean(quality, pretrained=False)


class CompressAiPeer:
    """A model of CompressAI's with a hyperprior, on the CPU. model_of: the model of a quality; each is made once.
    threads: of PyTorch, for the whole process; None leaves them as they are.

    What it encodes to is CompressAI's two strings behind a header of ours, for pictures padded by their edges.
    """

    name = "compressai"
    title = "CompressAI mbt2018-mean (untrained)"
    description = "mbt2018-mean of CompressAI, random weights"
    qualities: Sequence[float] = range(1, 9)
    _HEADER = struct.Struct(
        "<B6I"
    )  # quality; rows, columns: of the picture, of the latents' latents; bytes: of y, of z
    _MULTIPLE = 64

    def __init__(self, model_of: Callable[[int], Any] = untrained, threads: int | None = None) -> None:
        self._model_of, self._threads = model_of, threads
        self._models: dict[int, Any] = {}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        model = self._model(round(quality))
        import torch

        rows, columns = pixels.shape[:2]
        below, right = (-side % self._MULTIPLE for side in (rows, columns))
        padded = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
        planes = padded.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255)
        with torch.no_grad():
            packed = model.compress(torch.from_numpy(planes))
        y, z = (bytes(strings[0]) for strings in packed["strings"])
        return self._HEADER.pack(round(quality), rows, columns, *packed["shape"], len(y), len(z)) + y + z

    def decode(self, data: bytes) -> Pixels:
        quality, rows, columns, *shape, y_bytes, z_bytes = self._HEADER.unpack_from(data)
        y, z = self._HEADER.size, self._HEADER.size + y_bytes
        model = self._model(quality)
        import torch

        with torch.no_grad():
            made = model.decompress([[data[y:z]], [data[z : z + z_bytes]]], shape)["x_hat"]
        planes: Pixels = np.rint(made[0].numpy().clip(0, 1) * np.float32(255)).astype(np.uint8)
        return planes.transpose(1, 2, 0)[:rows, :columns]

    def _model(self, quality: int) -> Any:
        if quality not in self._models:
            model = self._model_of(quality).eval()
            if self._threads is not None:
                import torch

                torch.set_num_threads(self._threads)
            model.update(force=True)
            self._models[quality] = model
        return self._models[quality]


def encode_to_size(peer: PillowPeer, pixels: Pixels, size_bytes: int) -> bytes:
    """A file of the lowest quality of 1..100 that takes at least so many bytes, else of 100: the peer gets the
    rounding."""
    quality = 1 + bisect_left(range(1, 100), size_bytes, key=lambda quality: len(peer.encode(pixels, quality)))
    return peer.encode(pixels, quality)


def peers_on(threads: int) -> list[Peer]:
    """All of them, on so many threads where they take more than one."""
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = threads  # JPEG and WebP decode on one
    return [*PILLOW.values(), CompressAiPeer(threads=threads)]

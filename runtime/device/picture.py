"""Decoded pictures in a device's memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nicrt._device_host import Buffer

Format = Literal["rgb", "planar", "nv12"]
FORMATS: tuple[Format, ...] = ("rgb", "planar", "nv12")


class DevicePicture:
    """One decoded picture, or a batch of them, in a device's memory; made by a DeviceCodec. It is complete and its own:
    later decoding does not touch it.

    uint8 of `shape`: "rgb" [height, width, 3]; "planar" [3, height, width]; "nv12" [height + ceil(height / 2), row]
    where row is the width rounded up to even: rows of Y (of an odd width the last pixel twice), then rows of Cb Cr
    pairs, BT.709 in limited range. A batch has one axis more, in front. `torch.from_dlpack`, `cupy.from_dlpack` and
    `numpy.from_dlpack` (host memory only) share the memory, as does what reads `__cuda_array_interface__`.
    """

    def __init__(
        self, buffer: Buffer, *, width: int, height: int, picture_format: Format, device: str, lock: threading.Lock
    ) -> None:
        self._buffer = buffer
        self._lock = lock  # of the decoding, whose queue copies and consumers' waits use
        self.width = width
        self.height = height
        self.format = picture_format
        self.device = device

    @property
    def shape(self) -> tuple[int, ...]:
        """As above."""
        return self._buffer.shape

    @property
    def pointer(self) -> int:
        """Address in the device's memory; rows follow each other without gaps."""
        return self._buffer.pointer

    def numpy(self) -> npt.NDArray[np.uint8]:
        """A copy in host memory."""
        with self._lock:
            return self._buffer.download()

    def __dlpack__(self, **options: Any) -> Any:
        with self._lock:
            return self._buffer.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._buffer.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        found: dict[str, Any] = self._buffer.__cuda_array_interface__  # type: ignore[attr-defined]  # CUDA's has it
        return found

    def __repr__(self) -> str:
        return f"<DevicePicture {self.format} {self.shape} on {self.device}>"


def check_format(picture_format: str) -> None:
    """Raise ValueError for a format that there is not."""
    if picture_format not in FORMATS:
        raise ValueError(f"a format is one of {', '.join(FORMATS)}, not {picture_format!r}")


def stored_shape(picture_format: Format, count: int, height: int, width: int) -> tuple[int, ...]:
    """Shape of `count` pictures as `store` writes them."""
    if picture_format == "rgb":
        return count, height, width, 3
    if picture_format == "planar":
        return count, 3, height, width
    return count, height + (height + 1) // 2, width + width % 2


def converted(pixels: npt.NDArray[np.uint8], picture_format: Format) -> npt.NDArray[np.uint8]:
    """RGB [height, width, 3] of the host, or a batch of them, in the shape and with the values of a DevicePicture."""
    if picture_format == "rgb":
        return pixels
    from nicrt import _device_host

    height, width = pixels.shape[-3:-1]
    whole = np.ascontiguousarray(pixels if pixels.ndim == 4 else pixels[None])
    queue = _device_host.Queue()
    picture = _device_host.Buffer(whole.shape, "uint8", queue)
    picture.upload(whole)
    out = _device_host.Buffer(stored_shape(picture_format, len(whole), height, width), "uint8", queue)
    _device_host.store(queue, picture, out, height, width, picture_format)
    stored = out.download()
    return stored if pixels.ndim == 4 else stored[0]

"""Types of the device modules. `nicrt._device_host` and `nicrt._device_cuda` are one source, compiled for the CPU and
by nvcc for NVIDIA GPUs: the same classes, the same symbols and pixels. The host module is always there; what it does it
does at once, on the calling thread.

All work of a `Queue` runs in the order in which it was asked for, in general after the call has returned.

Errors: those of nicrt.runtime.errors; a CUDA call that fails is an InternalError with CUDA's message, memory that runs
out on the device a LimitError, a wrong shape or dtype of the caller a ValueError.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer as Bytes

from . import _core

DType = Literal["uint8", "int8", "int32", "int64", "float16", "float32"]

kind: Literal["host", "cuda"]
"""What this module was compiled for."""

def available() -> bool:
    """Whether a device is there that this build can run on (host: always). Never raises."""

def device_count() -> int:
    """Devices that can be used, 0 where there is no driver (host: 1)."""

def device_name(device: int = 0) -> str:
    """As its maker calls it, with the compute capability: "NVIDIA H200 (sm_90)"."""

class Queue:
    """A queue of work on one device. Not for use by two threads at once."""

    def __init__(self, device: int = 0) -> None: ...
    @property
    def handle(self) -> int:
        """The cudaStream_t as an integer, for libraries that take one (host: 0). Valid as long as this object."""

    @property
    def device(self) -> int: ...
    def synchronize(self) -> None:
        """Waits until everything asked for has been done; raises what went wrong on the way."""

    def record(self) -> Event:
        """An event that comes when all work so far is done."""

    def wait(self, event: Event) -> None:
        """Work asked for from now on begins after the event, which may be another queue's."""

    def begin_capture(self) -> None:
        """Work asked for from now on is noted, not done, on the host as well. Until `end_capture` only calls that queue
        work are allowed: `StreamDecoder.run`, `store`, `crop`, `Buffer.copy_from`, other libraries' work on `handle`.
        """

    def end_capture(self) -> Graph: ...

class Graph:
    """Captured work. Keeps nothing alive: buffers and decoders that it uses must outlive it, or freed memory is used.
    The buffers' contents, and what `StreamDecoder.set` brings, may change between replays; addresses may not.
    """

    def replay(self) -> None:
        """Adds the work to the queue that it was captured from."""

class Event:
    """A point in a queue."""

    def synchronize(self) -> None: ...
    def elapsed_ms(self, start: Event) -> float:
        """Milliseconds on the device's clock from `start` to this event, both of which must have come."""

class Buffer:
    """A tensor on the device, row-major without gaps. Its bytes are undefined until written. Freed in its queue's
    order when neither it nor a view of it nor an importer of its DLPack capsule is left: another queue that uses it
    must be waited for before. Cannot be made while its queue is capturing.
    """

    def __init__(self, shape: Sequence[int], dtype: DType, queue: Queue) -> None: ...
    @property
    def pointer(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def queue(self) -> Queue:
        """The queue that it was made on, which also gets the copies of `upload` and `download`."""

    def view(self, shape: Sequence[int], dtype: DType | None = None, offset_bytes: int = 0) -> Buffer:
        """The same memory with another shape, or a part of it: buffer.view(shape[1:], offset_bytes=i * item) is item i
        of a batch. ValueError where it does not lie inside or is not aligned to its dtype.
        """

    def upload(self, array: NDArray[Any]) -> None:
        """Copies an array of the same shape and dtype (C order) here; returns when the array may be changed."""

    def download(self, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """A numpy copy, into `out` where given; waits for all work of the queue. Fastest into `pinned`."""

    def copy_from(self, other: Buffer, queue: Queue | None = None) -> None:
        """Queues a copy of as many bytes from another buffer of the same device (on `queue`, or on its own)."""

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Shares the memory. `stream` as the DLPack protocol has it: the consumer's work waits for ours."""

    def __dlpack_device__(self) -> tuple[int, int]: ...

def pinned(shape: Sequence[int], dtype: DType) -> NDArray[Any]:
    """A numpy array in page-locked memory (host: ordinary memory): the fastest to copy from and to."""

class StreamDecoder:
    """Decodes one entropy step of batches of files with equal shapes, one batch at a time; allocates when made only.

    decoder.set([(file_bytes, parsed.stages[0][1])])    # host: checks, checksums, one copy to the device
    decoder.run(symbols, index)                         # queues kernels whose number and size never change
    queue.synchronize(); decoder.check()                # or raises what _core.decode_stream would
    """

    def __init__(
        self,
        queue: Queue,
        codebook: _core.Codebook,
        shape: tuple[int, int, int, int],
        tile: int,
        max_bytes: int,
        max_segments: int,
        channel_ids: NDArray[np.uint8] | None = None,
        limits: tuple[int, int] = (-32768, 32767),
    ) -> None:
        """shape: (n, channels, height, width); tile: edge of a tile in places, 0 for one tile.
        max_bytes, max_segments: what all n streams together may have at most (`_core.Stream.size`, `.segment_count`).
        channel_ids: uint8 [channels], the table of each channel; without it `run` needs an index tensor.
        limits: the least and the greatest symbol; `check` takes others for damage.
        LimitError: more than 2^28 places a picture, or 2^31 bytes.
        """

    @property
    def shape(self) -> tuple[int, int, int, int]: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def max_segments(self) -> int: ...
    @property
    def device_bytes(self) -> int:
        """Device memory that it holds."""

    @property
    def host_bytes(self) -> int:
        """Page-locked host memory that it holds."""

    def set(self, files: Sequence[tuple[Bytes, _core.Stream]]) -> None:
        """The n streams, each with the bytes that its offsets count in, which may be dropped afterwards. Waits until
        the device has taken the batch before. Not during capture.
        LimitError: more bytes or segments than allowed for; CorruptError: a directory that does not fit the shape, a
        checksum, a segment that is too short; TruncatedError: a segment past the end of its bytes. After an error the
        batch before is still the one that `run` decodes.
        """

    def run(self, symbols: Buffer, index: Buffer | None = None) -> None:
        """Queues the decoding of what `set` brought. symbols: int32 [n, channels, height, width], 0 where not coded.
        index: uint8 [n, channels, >= height, >= width], cropped; >= the number of tables means not coded. None exactly
        when there are channel_ids.
        """

    def check(self) -> None:
        """Raises CorruptError, about the first tile that fails, when the last run that has finished met damage; the
        symbols are then unspecified. Call it after `Queue.synchronize`, before the symbols or pixels are believed.
        """

def crop(queue: Queue, source: Buffer, out: Buffer, top: int = 0, left: int = 0) -> None:
    """Queues out[..., y, x] = source[..., top + y, left + x]: [n, c, H, W] → [n, c, h, w] of the same dtype."""

Format = Literal["rgb", "planar", "nv12"]

def store(queue: Queue, picture: Buffer, out: Buffer, height: int, width: int, format: Format = "rgb") -> None:
    """Queues the conversion of padded pictures, uint8 [n, >= height, >= width, 3], to uint8 `out`:

    rgb     [n, height, row_bytes] with row_bytes >= 3 width, or [n, height, width, 3]
    planar  [n, 3, height, row_bytes], row_bytes >= width: R, G and B planes
    nv12    [n, height + (height + 1) // 2, row_bytes], row_bytes >= width rounded up to even: Y rows (of an odd width
            the last pixel twice), then rows of Cb Cr pairs. BT.709 matrix, limited range, rounded to nearest from
            16-bit fixed point; chroma from the mean of each 2x2 (at an odd edge: of the pixels there are).

    Bytes of a row past the pixels are left alone.
    """

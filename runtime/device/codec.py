"""A codec that decodes on a device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any

from ..bundle import Bundle
from ..codec import Codec, Trace
from ..errors import UnsupportedError
from ..fileinfo import Buffer
from ..limits import Limits
from .decoding import Batch, DeviceDecoding, StreamTensors, check_alike
from .options import DeviceOptions
from .picture import DevicePicture, Format, check_format


class DeviceCodec(Codec):
    """A Codec whose `decode` goes from bytes in the host's memory to pixels in a device's, which symbols and latents
    never leave; made by `nicrt.load(bundle, device="cuda")`. Symbols are those of a codec on the CPU, pixels within one
    grey level. All else (`encode`, `verify`, `symbols`) is done on the CPU, as by any Codec.

    Decodes on one queue of the device, on which threads wait for each other: load one codec for each thread that is to
    decode side by side with others. What a picture size needs (memory, calls, captured graphs) is kept for the next
    files of that size, so the first of a size takes longer.
    """

    def __init__(
        self, bundle: Bundle, *, device: str, options: DeviceOptions, threads: int, backend: str, limits: Limits
    ) -> None:
        self._decoding = DeviceDecoding(bundle, device, options, threads, limits)
        super().__init__(bundle, threads=threads, backend=backend, limits=limits)

    @property
    def device(self) -> str:
        """The device as its maker calls it."""
        return self._decoding.device.name

    @property
    def backends(self) -> dict[str, str]:
        """Graph → what runs it, for the graphs used so far; of a graph that both use, on the device."""
        return {**super().backends, **self._decoding.graphs.report()}

    @property
    def fallbacks(self) -> dict[str, list[str]]:
        """Graph → why it does not run on the device alone."""
        return dict(self._decoding.graphs.refusals)

    @property
    def plans(self) -> list[dict[str, Any]]:
        """What is kept for each picture size: pictures of a batch, bytes on device and host, what is replayed."""
        return self._decoding.report()

    def decode(  # type: ignore[override]  # the picture stays in the device's memory
        self,
        data: Buffer,
        *,
        format: Format = "rgb",
        stage: int | None = None,
        partial: bool = False,
        strict: bool = False,
        region: tuple[int, int, int, int] | None = None,
        scale: float | None = None,
        trace: Trace | None = None,
    ) -> DevicePicture:
        """Decode a .nic file into the device's memory, as `Codec.decode` does on the CPU, but for `region` and `scale`.

        format: "rgb", "planar" or "nv12", see DevicePicture. strict: refuse a file whose float graphs are not the
        bundle's, and graphs that do not run on the device alone. trace: called with the name and the seconds of every
        step, of the host for "parse" and "copy", of the device for the rest; captured graphs are not replayed then.
        Raises as `Codec.decode` does; UnsupportedError for `region` and `scale`; LimitError also for a picture that
        needs too much of the device's memory.
        """
        if region is not None or scale is not None:
            raise UnsupportedError(
                "a device decodes whole pictures, no region and no scale: take a part of what it gives, stop at a "
                "stage, or decode on the CPU"
            )
        return self._decode([data], format, stage, partial, strict, trace, single=True)

    def decode_batch(  # type: ignore[override]  # as decode
        self,
        files: Sequence[Buffer],
        *,
        format: Format = "rgb",
        stage: int | None = None,
        strict: bool = False,
        trace: Trace | None = None,
    ) -> DevicePicture:
        """Decode files of one size, variant and parameters at once, as `decode` does one. Raises ValueError where they
        differ.
        """
        return self._decode(files, format, stage, False, strict, trace, single=False)

    def decode_many(  # type: ignore[override]  # as decode
        self, files: Iterable[Buffer], *, jobs: int = 1
    ) -> Iterator[DevicePicture]:
        """Decode files one after the other. For most pictures a second use `decode_batch`. jobs: without effect, since
        a device has one queue.
        """
        return (self.decode(data) for data in files)

    def streams(self, files: Sequence[Buffer], *, stage: int | None = None) -> list[StreamTensors]:
        """Symbols and table indices of files of one size as the device has them, in file order, for comparison. Raises
        as `decode` does.
        """
        return self._decoding.streams(self._batch(files, stage, partial=False, strict=False, single=False))

    def _decode(
        self,
        files: Sequence[Buffer],
        picture_format: Format,
        stage: int | None,
        partial: bool,
        strict: bool,
        trace: Trace | None,
        *,
        single: bool,
    ) -> DevicePicture:
        check_format(picture_format)
        start = perf_counter()
        batch = self._batch(files, stage, partial=partial, strict=strict, single=single)
        if trace is None:
            return self._decoding.decode(batch, picture_format, strict=strict)
        trace("parse", perf_counter() - start)
        return self._decoding.trace(batch, picture_format, strict=strict, report=trace)

    def _batch(self, files: Sequence[Buffer], stage: int | None, *, partial: bool, strict: bool, single: bool) -> Batch:
        opened = [self.opened(data, stage=stage, partial=partial, strict=strict) for data in files]
        check_alike(opened)
        return Batch(files, opened, single)

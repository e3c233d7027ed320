"""Decoding on a device: what it keeps from one batch of files to the next, and runs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nicrt import _core

from ..backends import Backend, GraphSet
from ..backends.allowance import Allowance
from ..backends.onnxruntime_cpu import OnnxRuntimeCpu
from ..bundle import Bundle
from ..codec import Trace
from ..errors import LimitError, UnsupportedError, one_line
from ..fileinfo import Buffer
from ..limits import Limits
from ..opened import Opened
from .devices import CUDA, open_device
from .graphs import GraphOptions, OnnxRuntimeDevice
from .layout import Capacity, Layout, Step
from .options import DeviceOptions
from .picture import DevicePicture, Format, stored_shape
from .replay import File, Replay

if TYPE_CHECKING:
    from nicrt._device_host import Buffer as DeviceBuffer

MIN_CAPACITY_BYTES, MIN_CAPACITY_SEGMENTS = 1 << 16, 1 << 10


@dataclass(frozen=True)
class StreamTensors:
    """What the entropy coder of one stream saw and gave, of all pictures of a batch. symbols: int32 [n, channels,
    height, width]; index: uint8, at least that large, None where the tables go by channel.
    """

    name: str
    symbols: npt.NDArray[np.int32]
    index: npt.NDArray[np.uint8] | None


@dataclass(frozen=True)
class Batch:
    """Files of one size, variant and kind of program, and what is to be decoded of them. single: the picture has no
    axis of the batch."""

    files: Sequence[Buffer]
    opened: Sequence[Opened]
    single: bool = False

    @property
    def first(self) -> Opened:
        return self.opened[0]

    def loadable(self) -> list[File]:
        """Each file with the streams to decode of it."""
        return [(data, self._streams(opened)) for data, opened in zip(self.files, self.opened, strict=True)]

    def needed(self) -> list[Capacity]:
        """What each entropy step's streams have, all files together."""
        streams = [self._streams(opened) for opened in self.opened]
        return [
            Capacity(sum(s.size for s in step), sum(s.segment_count for s in step))
            for step in zip(*streams, strict=True)
        ]

    @staticmethod
    def _streams(opened: Opened) -> list[_core.Stream]:
        return [stream for stage in opened.file.stages[: len(opened.rounds)] for stream in stage]


class DeviceDecoding:
    """The device, its queue, a bundle's graphs there, and a replay for each picture size. One batch at a time: threads
    wait for each other.

    threads: of graphs that run on the CPU. limits: `memory_bytes` bounds what is kept for all sizes together, on the
    device and on the host. Raises UnsupportedError that says what to install when this machine cannot do it.
    """

    def __init__(self, bundle: Bundle, device: str, options: DeviceOptions, threads: int, limits: Limits) -> None:
        self.device = open_device(device)
        self.queue = self.device.module.Queue(self.device.index)
        self.options = options
        self._bundle = bundle
        self._limits = limits
        allowance = Allowance(limits)
        self.graphs = GraphSet(bundle, self._backends(threads, allowance), allowance)
        self.replays: OrderedDict[tuple[object, ...], Replay] = OrderedDict()
        """The one that was used last at the end."""
        self._lock = threading.Lock()

    def _backends(self, threads: int, allowance: Allowance) -> list[Backend]:
        """In order of preference; what comes after the first is a fallback, and reported as such."""
        options = GraphOptions(conv_search=self.options.conv_search, tf32=self.options.tf32)
        backends: list[Backend] = [OnnxRuntimeDevice(self.device, self.queue, options, threads, allowance)]
        if self.device.kind == CUDA:
            mixed = replace(options, mixed=True)
            backends.append(OnnxRuntimeDevice(self.device, self.queue, mixed, threads, allowance))
            backends.append(OnnxRuntimeCpu(threads, allowance=allowance))
            backends = [*self._tensorrt(), *backends]
        return backends

    def _tensorrt(self) -> list[Backend]:
        """TensorRT, where `nicrt build` has made engines of this bundle that can run. They are for the first GPU."""
        from ..backends.tensorrt import TensorRt
        from ..backends.tensorrt_engines import engines_folder, has_engines

        try:
            if self.device.index == 0 and has_engines(engines_folder(), self._bundle.manifest.onnx_hashes):
                return [TensorRt(queue=self.queue)]
        except UnsupportedError:
            pass
        return []

    def report(self) -> list[dict[str, Any]]:
        """What is kept for each picture size: pictures of a batch, bytes on device and host, what is replayed."""
        return [
            {
                "size": replay.layout.size,
                "batch": replay.layout.batch,
                "device_bytes": replay.layout.memory.device_bytes,
                "host_bytes": replay.layout.memory.host_bytes,
                "captured": replay.captured,
                "by_way_of_host": [step.name for step in replay.layout.steps if not step.on_device],
            }
            for replay in self.replays.values()
        ]

    def decode(self, batch: Batch, picture_format: Format, *, strict: bool) -> DevicePicture:
        """strict: refuse graphs that do not run on the device alone. Raises LimitError for what needs too much memory,
        CorruptError and TruncatedError for damaged files.
        """
        with self._lock, memory_as_limit():
            replay = self._loaded(batch, strict)
            replay.run()
            out = self._store(replay.layout, picture_format)
            replay.finish()
            return self._picture(out, replay.layout, batch, picture_format)

    def trace(self, batch: Batch, picture_format: Format, *, strict: bool, report: Trace) -> DevicePicture:
        """The same without replays of captured graphs. Tells `report` each step's name and seconds: of the host for
        "copy", of the device for the rest.
        """
        with self._lock, memory_as_limit():
            start = perf_counter()
            replay = self._loaded(batch, strict)
            report("copy", perf_counter() - start)
            names, events = [], [self.queue.record()]

            def note(step: Step) -> None:
                names.append(step.name)
                events.append(self.queue.record())

            replay.step_by_step(note)
            out = self._store(replay.layout, picture_format)
            events.append(self.queue.record())
            replay.finish()
            for name, before, after in zip([*names, "store"], events, events[1:], strict=False):
                report(name, after.elapsed_ms(before) / 1e3)
            return self._picture(out, replay.layout, batch, picture_format)

    def streams(self, batch: Batch) -> list[StreamTensors]:
        """Symbols and table indices, in file order. Raises as `decode` does."""
        found: list[StreamTensors] = []

        def look(step: Step) -> None:
            stream = step.stream
            if stream is not None:
                index = None if stream.index is None else stream.index.download()
                found.append(StreamTensors(stream.name, stream.symbols.download(), index))

        with self._lock, memory_as_limit():
            replay = self._loaded(batch, strict=False)
            replay.step_by_step(look)
            replay.finish()
        return found

    def _picture(self, out: DeviceBuffer, layout: Layout, batch: Batch, picture_format: Format) -> DevicePicture:
        height, width = layout.size
        return DevicePicture(
            out.view(out.shape[1:]) if batch.single else out,
            width=width,
            height=height,
            picture_format=picture_format,
            device=self.device.name,
            lock=self._lock,
        )

    def _store(self, layout: Layout, picture_format: Format) -> DeviceBuffer:
        height, width = layout.size
        shape = stored_shape(picture_format, layout.batch, height, width)
        out: DeviceBuffer = self.device.module.Buffer(shape, "uint8", self.queue)
        self.device.module.store(self.queue, layout.shown, out, height, width, picture_format)
        return out

    def _loaded(self, batch: Batch, strict: bool) -> Replay:
        """The replay for these files, which are on their way to the device."""
        replay = self._replay(batch, strict)
        replay.load(batch.loadable())
        return replay

    def _replay(self, batch: Batch, strict: bool) -> Replay:
        """The kept one for these files, or a new one."""
        needed, plan = batch.needed(), self._plan(batch)
        if strict:
            self._refuse_fallbacks(plan)
        key = _kind_of(batch, plan)
        replay = self.replays.get(key)
        if replay is not None and all(c.holds(n) for c, n in zip(replay.layout.capacities, needed, strict=True)):
            self.replays.move_to_end(key)
            replay.set_parameters(batch.first.parameters, plan)
            return replay
        self.replays.pop(key, None)
        while len(self.replays) >= self.options.plans:
            self.replays.popitem(last=False)
        layout = self._layout(batch, plan, [_roomy(capacity) for capacity in needed])
        self.replays[key] = Replay(layout, batch.first.parameters, capture=self.options.capture)
        return self.replays[key]

    def _plan(self, batch: Batch) -> _core.Plan:
        first, file = batch.first, batch.first.file
        return _core.plan(
            self._bundle.core,
            first.variant,
            first.parameters,
            (file.height, file.width),
            rounds=len(first.rounds),
            tile=file.tile_size,
            batch=len(batch.files),
            windows=False,
        )

    def _layout(self, batch: Batch, plan: _core.Plan, capacities: Sequence[Capacity]) -> Layout:
        """A new layout for these files. Where the memory limit leaves no room for it, kept ones go, oldest first."""
        while True:
            kept_bytes = sum(replay.layout.memory.total_bytes for replay in self.replays.values())
            try:
                return Layout(
                    self.device,
                    self.queue,
                    self._bundle,
                    self.graphs,
                    plan,
                    batch=len(batch.files),
                    tile=batch.first.file.tile_size,
                    capacities=capacities,
                    limit_bytes=self._limits.memory_bytes - kept_bytes,
                    replays=self.options.capture,
                )
            except LimitError:
                if not self.replays:
                    raise
                self.replays.popitem(last=False)

    def _refuse_fallbacks(self, plan: _core.Plan) -> None:
        names = dict.fromkeys(step.graph for step in plan.steps if isinstance(step, _core.GraphStep))
        for graph, reasons in self.graphs.fallbacks_of(names).items():
            raise UnsupportedError(f"graph {graph!r} does not run on the device alone: {reasons[0]}")


def _kind_of(batch: Batch, plan: _core.Plan) -> tuple[object, ...]:
    """What batches have in common that one layout serves: parameters' values may differ but for those that decide sizes
    and tables.
    """
    sets = tuple(tuple(step.sets) for step in plan.steps if isinstance(step, _core.EntropyStep))
    sizes = tuple(entry.size for entry in plan.rounds)
    return batch.first.variant, len(batch.files), batch.first.file.tile_size, sizes, sets


def _roomy(needed: Capacity) -> Capacity:
    """Twice as much, rounded up to a power of two: most files of that size fit into it too."""
    return Capacity(
        max(MIN_CAPACITY_BYTES, 2 << (needed.bytes - 1).bit_length()),
        max(MIN_CAPACITY_SEGMENTS, 2 << (needed.segments - 1).bit_length()),
    )


def check_alike(opened: Sequence[Opened]) -> None:
    """Raise ValueError where files cannot be decoded as one batch, or where there is none."""
    if not opened:
        raise ValueError("a batch has at least one file")
    first = opened[0]
    for other in opened[1:]:
        same = (other.variant, other.parameters) == (first.variant, first.parameters)
        sizes = [(o.file.height, o.file.width, o.file.tile_size) for o in (other, first)]
        if not same or sizes[0] != sizes[1]:
            raise ValueError("the files of a batch differ in size, tiles, variant or parameters")


@contextmanager
def memory_as_limit() -> Iterator[None]:
    """A device that has no memory left raises MemoryError."""
    try:
        yield
    except MemoryError as error:
        raise LimitError(f"not enough memory on the device for this: {one_line(error)}") from None

"""Decodes files into a device's memory."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..backends import Backend, GraphSet
from ..backends.allowance import Allowance
from ..backends.onnxruntime_cpu import OnnxRuntimeCpu
from ..codec import Codec, load, refuse_fallbacks
from ..errors import LimitError, UnsupportedError, one_line
from ..fileinfo import Buffer
from ..job import Trace
from ..limits import DEFAULT_LIMITS, Limits
from ..manifest import Entropy, Program
from ..opened import Opened, streams_of
from .devices import CUDA, open_device
from .graphs import GraphOptions, OnnxRuntimeDevice
from .layout import Capacity, Layout
from .picture import FORMATS, DevicePicture, Format, stored_shape
from .plan import File, Plan

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


class DeviceDecoder:
    """Decodes .nic files on an NVIDIA GPU, from bytes in host memory to pixels in the GPU's; symbols and latents never
    leave it. Symbols are those of `Codec.decode`, pixels within one grey level.

    Has one stream, on which it works through calls one by one: make one per thread. What a picture size needs (memory,
    resolved steps, captured graphs) is kept for the next files of that size, so the first of a size takes longer.

    bundle: as for `nicrt.load`, or a Codec. device: "cuda", "cuda:N"; "host" runs the same on the CPU, for tests.
    plans: how many picture sizes to keep. capture: replay CUDA graphs. tf32: let float graphs round the factors of
    products to 10 bits; exact graphs never do. conv_search: "exhaustive", "heuristic" or "default", how ONNX Runtime
    chooses algorithms for float graphs. threads: of graphs that run on the CPU. limits: of all files; `memory_bytes`
    bounds what all kept picture sizes take together, on the device and on the host. Those of a Codec do not count here.

    Raises UnsupportedError that says what to install when this machine cannot do it.
    """

    def __init__(
        self,
        bundle: Codec | str | os.PathLike[str],
        device: str = "cuda",
        *,
        plans: int = 8,
        capture: bool = True,
        tf32: bool = False,
        conv_search: str = "exhaustive",
        threads: int = 1,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        if plans < 1:
            raise ValueError(f"plans is 1 or more, not {plans}")
        options = GraphOptions(conv_search=conv_search, tf32=tf32)
        self._device = open_device(device)
        self._codec = bundle if isinstance(bundle, Codec) else load(bundle, threads=threads, limits=limits)
        self._limits = limits
        self._stream = self._device.module.Stream(self._device.index)
        allowance = Allowance(limits)
        self._graphs = GraphSet(self._codec.bundle, self._backends(options, threads, allowance), allowance)
        self._most_plans = plans
        self._capture = capture
        self._plans: OrderedDict[tuple[object, ...], Plan] = OrderedDict()
        self._lock = threading.Lock()

    def _backends(self, options: GraphOptions, threads: int, allowance: Allowance) -> list[Backend]:
        """In order of preference; what comes after the first is a fallback, and reported as such."""
        backends: list[Backend] = [OnnxRuntimeDevice(self._device, self._stream, options, threads, allowance)]
        if self._device.kind == CUDA:
            mixed = replace(options, mixed=True)
            backends.append(OnnxRuntimeDevice(self._device, self._stream, mixed, threads, allowance))
            backends.append(OnnxRuntimeCpu(threads, allowance=allowance))
            backends = [*self._tensorrt(), *backends]
        return backends

    def _tensorrt(self) -> list[Backend]:
        """TensorRT, where `nicrt build` has made plans of this bundle and they can run. They are for the first GPU."""
        from ..backends.tensorrt import TensorRt
        from ..backends.tensorrt_plans import has_plans, plans_folder

        try:
            if self._device.index == 0 and has_plans(plans_folder(), self._codec.bundle.manifest.onnx_hashes):
                return [TensorRt(stream=self._stream)]
        except UnsupportedError:
            pass
        return []

    @property
    def device(self) -> str:
        """The device as its maker calls it."""
        return self._device.name

    @property
    def backends(self) -> dict[str, str]:
        """Graph → what runs it, for the graphs used so far."""
        return self._graphs.report()

    @property
    def fallbacks(self) -> dict[str, list[str]]:
        """Graph → why it does not run on the device alone."""
        return dict(self._graphs.refusals)

    @property
    def plans(self) -> list[dict[str, Any]]:
        """What is kept for each picture size: pictures of a batch, bytes on device and host, what is replayed."""
        return [
            {
                "size": plan.layout.rounds[-1].size,
                "batch": plan.layout.batch,
                "device_bytes": plan.layout.device_bytes,
                "host_bytes": plan.layout.host_bytes,
                "captured": plan.captured,
                "by_way_of_host": [step.name for step in plan.layout.steps if not step.on_device],
            }
            for plan in self._plans.values()
        ]

    def decode(
        self,
        data: Buffer,
        *,
        format: Format = "rgb",
        stage: int | None = None,
        strict: bool = False,
    ) -> DevicePicture:
        """Decode one file. format: "rgb", "planar" or "nv12", see DevicePicture. stage: stop after this stage (from 1).
        strict: refuse a file whose float graphs are not the bundle's, and graphs that do not run on the device alone.
        Raises as `Codec.decode` does; LimitError also for a picture that needs too much of the device's memory.
        """
        return self._decode([data], format, stage, strict, single=True)

    def decode_batch(
        self,
        files: Sequence[Buffer],
        *,
        format: Format = "rgb",
        stage: int | None = None,
        strict: bool = False,
    ) -> DevicePicture:
        """Decode files of one size, variant and parameters at once, as `decode` does one. Raises ValueError where they
        differ.
        """
        return self._decode(files, format, stage, strict, single=False)

    def streams(self, files: Sequence[Buffer], *, stage: int | None = None) -> list[StreamTensors]:
        """Symbols and table indices of files of one size, in file order, for comparison. Raises as `decode` does."""
        with self._lock, _memory_as_limit():
            plan, _ = self._run(files, stage, strict=False)
            steps = plan.layout.entropy
            return [
                StreamTensors(s.name, s.symbols.download(), None if s.index is None else s.index.download())
                for s in steps
            ]

    def trace(self, files: Sequence[Buffer], report: Trace) -> None:
        """Decode files of one size without graph replay, and tell `report` each step's name and seconds: of the host
        for "parse" and "copy", of the device for the rest.
        """
        with self._lock, _memory_as_limit():
            start = perf_counter()
            opened = self._opened(files, stage=None, strict=False)
            report("parse", perf_counter() - start)
            plan = self._plan(opened, _needed(opened))
            start = perf_counter()
            plan.load(_loadable(files, opened), opened[0].parameters)
            report("copy", perf_counter() - start)
            names, events = plan.trace()
            self._store(plan.layout, "rgb")
            events.append(self._stream.record())
            plan.finish()
            for name, before, after in zip([*names, "store"], events, events[1:], strict=False):
                report(name, after.elapsed_ms(before) / 1e3)

    def _decode(
        self, files: Sequence[Buffer], picture_format: Format, stage: int | None, strict: bool, *, single: bool
    ) -> DevicePicture:
        if picture_format not in FORMATS:
            raise ValueError(f"a format is one of {', '.join(FORMATS)}, not {picture_format!r}")
        with self._lock, _memory_as_limit():
            plan, out = self._run(files, stage, strict, picture_format)
            assert out is not None
            height, width = plan.layout.rounds[-1].size
            return DevicePicture(
                out.view(out.shape[1:]) if single else out,
                width=width,
                height=height,
                picture_format=picture_format,
                device=self._device.name,
                lock=self._lock,
            )

    def _run(
        self, files: Sequence[Buffer], stage: int | None, strict: bool, picture_format: Format | None = None
    ) -> tuple[Plan, DeviceBuffer | None]:
        opened = self._opened(files, stage, strict)
        if strict:
            refuse_fallbacks(self._graphs, opened[0], "does not run on the device alone")
        plan = self._plan(opened, _needed(opened))
        plan.load(_loadable(files, opened), opened[0].parameters)
        plan.run()
        out = None if picture_format is None else self._store(plan.layout, picture_format)
        plan.finish()
        return plan, out

    def _store(self, layout: Layout, picture_format: Format) -> DeviceBuffer:
        height, width = layout.rounds[-1].size
        shape = stored_shape(picture_format, layout.batch, height, width)
        out: DeviceBuffer = self._device.module.Buffer(shape, "uint8", self._stream)
        self._device.module.store(self._stream, layout.shown, out, height, width, picture_format)
        return out

    def _opened(self, files: Sequence[Buffer], stage: int | None, strict: bool) -> list[Opened]:
        if not files:
            raise ValueError("a batch has at least one file")
        opened = [self._codec.opened(data, stage=stage, strict=strict, limits=self._limits) for data in files]
        first = opened[0]
        for other in opened[1:]:
            same = (other.variant, other.parameters) == (first.variant, first.parameters)
            sizes = [(o.file.height, o.file.width, o.file.tile_size) for o in (other, first)]
            if not same or sizes[0] != sizes[1]:
                raise ValueError("the files of a batch differ in size, tiles, variant or parameters")
        return opened

    def _plan(self, opened: Sequence[Opened], needed: Sequence[Capacity]) -> Plan:
        """The kept plan for these files, or a new one."""
        first, file = opened[0], opened[0].file
        program = self._codec.bundle.manifest.variants[first.variant].program
        fixed = _fixed_parameters(program, first)
        size = (file.height, file.width, file.tile_size)
        key = (first.variant, size, len(opened), len(first.rounds), fixed)
        plan = self._plans.get(key)
        if plan is not None and all(c.holds(n) for c, n in zip(plan.layout.capacities, needed, strict=True)):
            self._plans.move_to_end(key)
            return plan
        self._plans.pop(key, None)
        while len(self._plans) >= self._most_plans:
            self._plans.popitem(last=False)
        layout = self._layout(program, opened, [_roomy(capacity) for capacity in needed])
        self._plans[key] = Plan(layout, self._capture)
        return self._plans[key]

    def _layout(self, program: Program, opened: Sequence[Opened], capacities: Sequence[Capacity]) -> Layout:
        """A new layout for these files. Where the memory limit leaves no room for it, kept plans go, oldest first."""
        first = opened[0]
        while True:
            kept_bytes = sum(plan.layout.total_bytes for plan in self._plans.values())
            try:
                return Layout(
                    device=self._device,
                    stream=self._stream,
                    bundle=self._codec.bundle,
                    graphs=self._graphs,
                    program=program,
                    parameters=first.parameters,
                    rounds=first.rounds,
                    batch=len(opened),
                    tile=first.file.tile_size,
                    capacities=capacities,
                    limit_bytes=self._limits.memory_bytes - kept_bytes,
                    replays=self._capture,
                )
            except LimitError:
                if not self._plans:
                    raise
                self._plans.popitem(last=False)


def _fixed_parameters(program: Program, opened: Opened) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The parameters that decide buffers and tables; the others' values may change between batches."""
    steps = [step for stage in program.stages for step in stage.steps if isinstance(step, Entropy)]
    names = {step.set for step in steps} | {p.name for p in program.parameters if p.is_sizes}
    return tuple((name, tuple(values)) for name, values in opened.parameters.items() if name in names)


def _loadable(files: Sequence[Buffer], opened: Sequence[Opened]) -> list[File]:
    return [(data, list(streams_of(o.file, o.rounds))) for data, o in zip(files, opened, strict=True)]


def _needed(opened: Sequence[Opened]) -> list[Capacity]:
    """What each entropy step's streams have, all files together."""
    streams = [list(streams_of(o.file, o.rounds)) for o in opened]
    return [
        Capacity(sum(s.size for s in step), sum(s.segment_count for s in step)) for step in zip(*streams, strict=True)
    ]


def _roomy(needed: Capacity) -> Capacity:
    """Twice as much, rounded up to a power of two: most files of that size fit into it too."""
    return Capacity(
        max(MIN_CAPACITY_BYTES, 2 << (needed.bytes - 1).bit_length()),
        max(MIN_CAPACITY_SEGMENTS, 2 << (needed.segments - 1).bit_length()),
    )


@contextmanager
def _memory_as_limit() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise LimitError(f"not enough memory on the device for this: {one_line(error)}") from None

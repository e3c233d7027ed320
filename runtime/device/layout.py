"""A plan on a device: its tensors have buffers there, and every step is a call that queues its work.

What runs, in which order and on which shapes says the plan (`_core.plan`), of whole pictures, one or a batch of them.
The memory of a tensor that no step reads any more is that of a later one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nicrt import _core

from ..backends import Executable, GraphSet
from ..bundle import Bundle
from ..errors import UnsupportedError
from .calls import Tensor, all_of, bound, pasting
from .devices import Device
from .graphs import DeviceExecutable
from .memory import Memory
from .ranges import check_parameters, symbol_limits

if TYPE_CHECKING:
    from nicrt._device_host import Buffer, Queue, StreamDecoder

ARENA_GROWTH = 2  # backends take memory in blocks that double
DECODER_BYTES_PER_PLACE = 2  # of a StreamDecoder: a table id and a quotient
PICTURES_COMPARED = 3  # on the host at once, to check a replay: expected, another one to forget it by, and what came

_Rect = tuple[int, int, int, int]


@dataclass(frozen=True)
class Step:
    """What queues one step's work. capturable: only queues, so that a captured graph can hold it. on_device: not by
    way of the host. stream: what it decodes.
    """

    name: str
    run: Callable[[], None]
    capturable: bool
    on_device: bool = True
    stream: CodedStream | None = None


@dataclass(frozen=True)
class Capacity:
    """What the streams of one entropy step may have at most, all pictures of a batch together."""

    bytes: int
    segments: int

    def holds(self, needed: Capacity) -> bool:
        return needed.bytes <= self.bytes and needed.segments <= self.segments


@dataclass(frozen=True)
class CodedStream:
    """symbols: int32 [n, channels, height, width]; index: uint8, of at least that size, None where tables go by
    channel. Both hold what they should right behind the stream's step alone.
    """

    name: str
    decoder: StreamDecoder
    symbols: Buffer
    index: Buffer | None


class Layout:
    """`steps` decode a batch of pictures of one size, with capacities for their streams (`streams`, in file order).
    `shown`: uint8 [n, padded height, padded width, 3]. `memory` counts what a run holds, the picture that it gives and
    the host's copies of pictures with which replays are checked (`replays`: there will be some) included.

    Raises UnsupportedError for a program that cannot run on a device, LimitError where it needs more than
    `limit_bytes`, CorruptError for parameters that an exact graph is not exact for.
    """

    def __init__(
        self,
        device: Device,
        queue: Queue,
        bundle: Bundle,
        graphs: GraphSet,
        plan: _core.Plan,
        *,
        batch: int,
        tile: int,
        capacities: Sequence[Capacity],
        limit_bytes: int,
        replays: bool,
    ) -> None:
        self.queue = queue
        self.batch = batch
        self.capacities = capacities
        self.size = height, width = plan.rounds[-1].size
        self.memory = Memory(device, queue, limit_bytes, f"decoding {batch} pictures of {width} x {height}")
        self.steps: list[Step] = []
        self.streams: list[CodedStream] = []
        self._device = device
        self._bundle = bundle
        self._graphs = graphs
        self._rounds = plan.rounds
        self.planned = plan.tensors
        self._tile = tile
        self._tensors: dict[int, Tensor] = {}
        self._constants: dict[tuple[int, ...], Tensor] = {}
        self._parameters: dict[tuple[str, int | None], Tensor] = {}
        limits = symbol_limits(plan, bundle.manifest.graphs)
        for number, step in enumerate(plan.steps):
            if isinstance(step, _core.EntropyStep):
                self._add_entropy(step, limits[number])
            else:
                self._add_graph(step)
            for tensor in step.dies:
                self._give_back([self._tensors.pop(tensor)])
        assert plan.shown is not None
        self.shown = self._tensors[plan.shown].buffer
        self.memory.charge(batch * height * width * 3)  # of the largest format
        if replays:
            self.memory.charge(PICTURES_COMPARED * self.shown.nbytes, on_device=False)
        self.set_parameters(plan)

    def set_parameters(self, plan: _core.Plan) -> None:
        """Bring values to the device. plan: that of the layout, or one that differs from it in parameters' values
        alone. Raises CorruptError where an exact graph is not exact for them.
        """
        check_parameters(plan, self._bundle.manifest.graphs)
        steps = [step for step in plan.steps if isinstance(step, _core.GraphStep)]
        sources = (source for step in steps for source in step.inputs if source.kind == "parameter")
        values = {(source.parameter, source.element): source.values for source in sources}
        for key, tensor in self._parameters.items():
            tensor.buffer.upload(np.array(values[key], np.int32))

    def _take(self, shape: Sequence[int], dtype: str, per_picture: bool) -> Tensor:
        memory = self.memory.take(math.prod(shape) * np.dtype(dtype).itemsize)
        return Tensor(memory.view(shape, dtype), per_picture, memory)  # type: ignore[arg-type]  # see Memory.new

    def _give_back(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            if tensor.memory is not None:
                self.memory.give_back(tensor.memory)

    def _made(self, number: int) -> Tensor:
        """The new tensor of a step."""
        planned = self.planned[number]
        self._tensors[number] = self._take(planned.shape, planned.dtype, planned.per_picture)
        return self._tensors[number]

    def _add_entropy(self, step: _core.EntropyStep, limits: tuple[int, int]) -> None:
        core, channel_ids, index = self._bundle.core, None, None
        if step.index is None:
            codebook, channel_ids = core.channel_codebook(step.tables, step.sets)
        else:
            codebook, index = core.codebook(step.tables), self._tensors[step.index].buffer
        shape = (self.batch, *step.shape)
        capacity = self.capacities[len(self.streams)]
        about_bytes = DECODER_BYTES_PER_PLACE * math.prod(shape)
        self.memory.charge(about_bytes)  # most of it, before it is taken
        decoder = self._device.module.StreamDecoder(
            self.queue,
            codebook,
            shape,
            self._tile // step.stride,
            capacity.bytes,
            capacity.segments,
            channel_ids,
            limits,
        )
        self.memory.charge(decoder.device_bytes - about_bytes)
        self.memory.charge(decoder.host_bytes, on_device=False)
        symbols = self._made(step.out).buffer
        self.streams.append(CodedStream(step.name, decoder, symbols, index))
        run = lambda: decoder.run(symbols, index)  # noqa: E731
        self.steps.append(Step(f"entropy {step.name}", run, capturable=True, stream=self.streams[-1]))

    def _add_graph(self, step: _core.GraphStep) -> None:
        executable = self._graphs.get(step.graph)
        outputs = {port: self._made(number) for port, number in step.outputs}
        crops: dict[tuple[int, _Rect], Tensor] = {}
        bands: dict[tuple[tuple[int, ...], ...], dict[str, Tensor]] = {}
        calls: list[Callable[[], None]] = []
        rows = dict.fromkeys(outputs, 0)
        for number, call in enumerate(step.calls):
            given = {source.port: self._source(source, step, call, crops) for source in step.inputs}
            made = outputs
            if len(step.calls) > 1:  # into buffers of a band's size, from there into place
                shapes = tuple(step.output_shapes(number))
                made = bands.get(shapes) or self._band(shapes, outputs)
                bands[shapes] = made
            calls += self._runs(step, executable, call, given, made)
            for port, part in made.items() if made is not outputs else ():
                calls.append(pasting(part.buffer, outputs[port].buffer, rows[port]))
                rows[port] += part.buffer.shape[2]
        on_device = isinstance(executable, DeviceExecutable)
        capturable = isinstance(executable, DeviceExecutable) and executable.capturable
        self.steps.append(Step(f"graph {step.graph}", all_of(calls), capturable, on_device))
        self._give_back([*crops.values(), *(tensor for band in bands.values() for tensor in band.values())])

    def _band(self, shapes: Sequence[tuple[int, ...]], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        whole = zip(shapes, outputs.items(), strict=True)
        return {port: self._take(shape, tensor.buffer.dtype, tensor.per_picture) for shape, (port, tensor) in whole}

    def _runs(
        self,
        step: _core.GraphStep,
        executable: Executable,
        call: tuple[_Rect, _Rect, int, int],
        inputs: dict[str, Tensor],
        outputs: dict[str, Tensor],
    ) -> list[Callable[[], None]]:
        """One run for all pictures, or one for each."""
        around, _, first_row, end_row = call
        batched = any(tensor.per_picture for tensor in inputs.values()) and not step.one_by_one
        pixels = (end_row - first_row) * (around[3] - around[1]) * (self.batch if batched else 1)
        on_device = isinstance(executable, DeviceExecutable)
        needed = int(ARENA_GROWTH * self._graphs.workspace(step.graph) * pixels)
        self.memory.charge_workspace(step.graph, needed, on_device=on_device)
        if not on_device:
            self.memory.charge_copies(sum(t.buffer.nbytes for t in (*inputs.values(), *outputs.values())))
        pictures: list[int | None] = list(range(self.batch)) if step.one_by_one else [None]
        return [
            bound(executable, *({port: t.part(i) for port, t in ts.items()} for ts in (inputs, outputs)))
            for i in pictures
        ]

    def _source(
        self,
        source: _core.Source,
        step: _core.GraphStep,
        call: tuple[_Rect, _Rect, int, int],
        crops: dict[tuple[int, _Rect], Tensor],
    ) -> Tensor:
        around, _, first_row, end_row = call
        if source.kind == "tensor":
            key = source.tensor, around
            shape, top, left = self.planned[source.tensor].crop(around)
            if shape == self.planned[source.tensor].shape:
                return self._tensors[source.tensor]
            if key not in crops:
                crops[key] = self._crop(source.tensor, shape, top, left)
            return crops[key]
        if source.kind == "parameter":
            parameter = source.parameter, source.element
            if parameter not in self._parameters:
                self._parameters[parameter] = Tensor(self.memory.new((len(source.values),), "int32"))
            return self._parameters[parameter]
        if source.kind == "size":
            return self._constant(source.values)
        width = self._rounds[step.round].padded[1]
        return self._constant(range(first_row, end_row) if source.kind == "rows" else range(width))

    def _constant(self, values: Sequence[int]) -> Tensor:
        key = tuple(values)
        if key not in self._constants:
            self._constants[key] = Tensor(self.memory.new((len(key),), "int32"))
            self._constants[key].buffer.upload(np.array(key, np.int32))
        return self._constants[key]

    def _crop(self, number: int, shape: Sequence[int], top: int, left: int) -> Tensor:
        """Part of a tensor that an earlier round with another alignment made."""
        planned, source = self.planned[number], self._tensors[number].buffer
        if planned.axes != (2, 3) or len(shape) != 4:
            raise UnsupportedError("the program crops a tensor whose rows and columns are not its last axes")
        part = self._take(shape, planned.dtype, planned.per_picture)
        run = lambda: self._device.module.crop(self.queue, source, part.buffer, top, left)  # noqa: E731
        self.steps.append(Step("crop", run, capturable=True))
        return part

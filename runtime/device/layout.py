"""A program laid out on a device for one picture size: every buffer taken, every step resolved to a call.

The steps are those of the interpreter, with shapes in place of arrays: pictures run whole, and a batch runs at once
where a graph's ports have the batch symbol, else picture by picture on parts of the batch's buffers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..backends import Executable, GraphSet
from ..backends.base import Array
from ..bundle import Bundle
from ..errors import CorruptError, LimitError, UnsupportedError
from ..interpreter import bind_sizes
from ..manifest import BATCH, Entropy, Graph, Port, Program, Run
from ..plan import ARENA_GROWTH, Parameters, Round
from ..proofs import shape_of
from ..schedule import Scheduled, schedule
from ..validate import BY_CHANNEL, COLUMNS, ROWS, SIZE, parameter_source
from ..windows import Placed, Rect, place, unit_of
from .devices import Device
from .graphs import DeviceExecutable

if TYPE_CHECKING:
    from nicrt._device_host import Buffer, Stream, StreamDecoder

SYMBOLS = (-32768, 32767)
"""All symbols that the coder has: the limits of a stream that no exact graph reads."""
DECODER_BYTES_PER_PLACE = 2  # of a StreamDecoder: a table id and a quotient
PICTURES_COMPARED = 3  # on the host at once, to check a replay: expected, another one to forget it by, and what came


@dataclass(frozen=True)
class Step:
    """What queues one step's work. capturable: only queues, so that a captured graph can hold it. on_device: not by
    way of the host.
    """

    name: str
    run: Callable[[], None]
    capturable: bool
    on_device: bool = True


@dataclass(frozen=True)
class Capacity:
    """What the streams of one entropy step may have at most, all pictures of a batch together."""

    bytes: int
    segments: int

    def holds(self, needed: Capacity) -> bool:
        return needed.bytes <= self.bytes and needed.segments <= self.segments


@dataclass(frozen=True)
class EntropyStep:
    """symbols: int32 [n, channels, height, width]; index: uint8, of at least that size, None where tables go by
    channel.
    """

    name: str
    decoder: StreamDecoder
    symbols: Buffer
    index: Buffer | None


@dataclass(frozen=True)
class _Tensor:
    """`placed` holds an array of the buffer's shape and dtype that takes no memory. per_picture: the first axis is the
    batch; otherwise all pictures share it.
    """

    buffer: Buffer
    placed: Placed
    per_picture: bool

    def part(self, picture: int | None) -> Buffer:
        """The buffer of one picture of the batch, the batch axis kept; all of it for None or where it is shared."""
        if picture is None or not self.per_picture:
            return self.buffer
        shape = self.buffer.shape
        return self.buffer.view((1, *shape[1:]), offset_bytes=picture * (self.buffer.nbytes // shape[0]))

    def stand_in(self, alone: bool) -> Array:
        return self.placed.array[:1] if alone and self.per_picture else self.placed.array


@dataclass
class Layout:
    """Buffers and steps for `batch` pictures of one size, with capacities for their streams. `shown`: uint8 [n, padded
    height, padded width, 3]. `made`: the buffers that steps write.

    `device_bytes`, `host_bytes`: what a run holds there, the picture that it gives and the host's copies of pictures
    with which replays are checked (`replays`: there will be some) included.

    Raises UnsupportedError for a program that cannot run on a device, LimitError where both together are beyond
    `limit_bytes`.
    """

    device: Device
    stream: Stream
    bundle: Bundle
    graphs: GraphSet
    program: Program
    parameters: Parameters
    rounds: Sequence[Round]
    batch: int
    tile: int
    capacities: Sequence[Capacity]
    limit_bytes: int
    replays: bool
    steps: list[Step] = field(default_factory=list)
    entropy: list[EntropyStep] = field(default_factory=list)
    made: list[Buffer] = field(default_factory=list)
    device_bytes: int = 0
    host_bytes: int = 0

    def __post_init__(self) -> None:
        self._specs = self.bundle.manifest.graphs
        self._scope: dict[str, _Tensor] = {}
        self._buffers: list[Buffer] = []  # all of them: what runs knows their addresses only
        self._constants: dict[tuple[str, bytes], Buffer] = {}
        self._parameters: dict[tuple[str, int | None], Buffer] = {}
        self._ranges: list[tuple[str, Port, str, int | None]] = []
        self._workspaces: dict[str, int] = {}
        self._by_way_of_host_bytes = 0
        entries = schedule(self.rounds, encoding=False, show=True)
        limits = symbol_limits(entries, self._specs)
        for number, entry in enumerate(entries):
            if isinstance(entry.step, Entropy):
                self._add_entropy(entry.step, entry.item, limits[number])
            else:
                self._add_graph(entry.step, entry.item)
        self.shown = self._shown()
        height, width = self.rounds[-1].size
        self._charge(self.batch * height * width * 3)  # of the largest format
        if self.replays:
            self._charge(PICTURES_COMPARED * self.shown.nbytes, on_device=False)
        self.set_parameters(self.parameters)

    def set_parameters(self, parameters: Parameters) -> None:
        """Bring values to the device. Raises CorruptError where an exact graph is not exact for them."""
        for name, port, parameter, item in self._ranges:
            assert port.range is not None
            values = _values(parameters, parameter, item)
            if min(values) < port.range[0] or max(values) > port.range[1]:
                raise CorruptError(f"values of {parameter!r} for graph {name!r} are outside {port.range}")
        for (parameter, item), buffer in self._parameters.items():
            buffer.upload(np.array(_values(parameters, parameter, item), np.int32))
        self.parameters = parameters

    def _shown(self) -> Buffer:
        item = self.rounds[-1]
        buffer = self._scope[item.stage.shown].buffer
        shape, (height, width) = buffer.shape, item.size
        fits = len(shape) == 4 and shape[0] == self.batch and shape[1] >= height and shape[2] >= width and shape[3] == 3
        if not fits or buffer.dtype != "uint8":
            raise UnsupportedError(f"the bundle shows {buffer.dtype} {shape} for {self.batch} pictures of {item.size}")
        return buffer

    @property
    def total_bytes(self) -> int:
        return self.device_bytes + self.host_bytes

    def _charge(self, size_bytes: int, *, on_device: bool = True) -> None:
        if on_device:
            self.device_bytes += size_bytes
        else:
            self.host_bytes += size_bytes
        if self.total_bytes > self.limit_bytes:
            height, width = self.rounds[-1].size
            raise LimitError(
                f"decoding {self.batch} pictures of {width} x {height} on the device needs more memory, there and on "
                f"the host, than the limit of {self.limit_bytes >> 20} MiB (Limits.memory_bytes)"
            )

    def _charge_workspace(self, graph: str, executable: Executable, pixels: int) -> None:
        """A graph keeps the memory of its largest run."""
        own = executable.workspace_bytes_per_pixel
        per_pixel = self._specs[graph].workspace_bytes_per_pixel if own is None else own
        needed = int(ARENA_GROWTH * (per_pixel or 0.0) * pixels)
        more = max(0, needed - self._workspaces.get(graph, 0))
        self._charge(more, on_device=isinstance(executable, DeviceExecutable))
        self._workspaces[graph] = max(needed, self._workspaces.get(graph, 0))

    def _charge_by_way_of_host(self, tensors: Iterable[_Tensor]) -> None:
        """A graph that cannot run on the device has copies of its tensors on the host, until the next such graph."""
        needed = sum(tensor.buffer.nbytes for tensor in tensors)
        self._charge(max(0, needed - self._by_way_of_host_bytes), on_device=False)
        self._by_way_of_host_bytes = max(needed, self._by_way_of_host_bytes)

    def _buffer(self, shape: Sequence[int], dtype: str) -> Buffer:
        self._charge(math.prod(shape) * np.dtype(dtype).itemsize)
        self._buffers.append(self.device.module.Buffer(shape, dtype, self.stream))
        return self._buffers[-1]

    def _tensor(self, shape: Sequence[int], dtype: str, per_picture: bool) -> _Tensor:
        self.made.append(self._buffer(shape, dtype))
        return _Tensor(self.made[-1], Placed(_stand_in(shape, dtype)), per_picture)

    def _constant(self, values: Array) -> _Tensor:
        key = (str(values.shape), values.tobytes())
        if key not in self._constants:
            self._constants[key] = self._buffer(values.shape, values.dtype.name)
            self._constants[key].upload(values)
        return _Tensor(self._constants[key], Placed(values), per_picture=False)

    def _add_entropy(self, step: Entropy, item: Round, limits: tuple[int, int]) -> None:
        shape, rect, group = item.shape(step), Rect.of(item.padded), self.bundle.groups[step.tables]
        channel_ids, index = None, None
        if step.by == BY_CHANNEL:
            codebook, channel_ids = group.by_channel(self.parameters[step.set] if step.set else [0])
        else:
            codebook = group.by_index()
            index = self._scope[step.by].buffer
            too_small = len(index.shape) != 4 or index.shape[:2] != (self.batch, shape[0])
            if too_small or index.shape[2] < shape[1] or index.shape[3] < shape[2] or index.dtype != "uint8":
                raise UnsupportedError(
                    f"the bundle's index {step.by!r} is {index.dtype} {index.shape}, its symbols {shape}"
                )
        capacity = self.capacities[len(self.entropy)]
        self._charge(DECODER_BYTES_PER_PLACE * self.batch * math.prod(shape))  # most of it, before it is taken
        decoder = self.device.module.StreamDecoder(
            self.stream,
            codebook,
            (self.batch, *shape),
            self.tile // step.stride,
            capacity.bytes,
            capacity.segments,
            channel_ids,
            limits,
        )
        self._charge(decoder.device_bytes - DECODER_BYTES_PER_PLACE * self.batch * math.prod(shape))
        self._charge(decoder.host_bytes, on_device=False)
        symbols = self._tensor((self.batch, *shape), "int32", per_picture=True)
        if (shape[1] * step.stride, shape[2] * step.stride) == item.padded:
            symbols = _Tensor(symbols.buffer, Placed(symbols.placed.array, rect, step.stride), per_picture=True)
        self.entropy.append(EntropyStep(step.out, decoder, symbols.buffer, index))
        self.steps.append(Step(f"entropy {step.out}", lambda: decoder.run(symbols.buffer, index), capturable=True))
        self._scope[step.out] = symbols

    def _add_graph(self, run: Run, item: Round) -> None:
        rows = range(item.padded[0])
        if run.bands is None:
            outputs, step = self._call(run, item, rows, {})
        else:
            outputs, step = self._banded(run, item, run.bands)
        self.steps.append(step)
        self._scope.update((name, outputs[port]) for port, name in run.outputs.items())

    def _banded(self, run: Run, item: Round, height: int) -> tuple[dict[str, _Tensor], Step]:
        """Band after band into buffers of one band's size, from there into place."""
        padded = item.padded[0]
        scratch: dict[int, dict[str, _Tensor]] = {}
        whole: dict[str, _Tensor] = {}
        calls: list[Callable[[], None]] = []
        capturable = on_device = True
        for top in range(0, padded, height):
            rows = range(top, min(top + height, padded))
            outputs, step = self._call(run, item, rows, scratch.get(len(rows), {}))
            scratch[len(rows)] = outputs
            calls.append(step.run)
            capturable &= step.capturable
            on_device &= step.on_device
            for port, part in outputs.items():
                if port not in whole:
                    shape = part.buffer.shape
                    if len(shape) < 3 or shape[2] != len(rows):
                        raise UnsupportedError(f"graph {run.graph!r} makes {shape} of a band of {len(rows)} rows")
                    tensor = self._tensor((*shape[:2], padded, *shape[3:]), part.buffer.dtype, part.per_picture)
                    if tensor.buffer.shape[2:] == item.padded:
                        placed = Placed(tensor.placed.array, Rect.of(item.padded))
                        tensor = _Tensor(tensor.buffer, placed, part.per_picture)
                    whole[port] = tensor
                calls.append(_pasting(part.buffer, whole[port].buffer, top))
        return whole, Step(f"graph {run.graph}", _all(calls), capturable, on_device)

    def _call(
        self, run: Run, item: Round, rows: range, given: Mapping[str, _Tensor]
    ) -> tuple[dict[str, _Tensor], Step]:
        """One run of a graph into new tensors, or into those `given` by port."""
        graph, executable = self._specs[run.graph], self.graphs.get(run.graph)
        inputs = {port: self._source(run.graph, port, source, item, rows) for port, source in run.inputs.items()}
        batched = [port for port, tensor in inputs.items() if tensor.per_picture]
        alone = self.batch > 1 and any(graph.inputs[port].dims[0] != BATCH for port in batched)
        sizes = bind_sizes(run.graph, graph.inputs, {port: t.stand_in(alone) for port, t in inputs.items()})
        sizes |= zip(graph.sized_symbols, item.size, strict=False)
        strides = {port: t.placed.stride for port, t in inputs.items() if t.placed.rect is not None}
        unit, outputs = unit_of(graph.inputs, strides), dict(given)
        for port in run.outputs if not given else ():
            outputs[port] = self._output(graph.outputs[port], sizes, bool(batched), alone, unit, item)
        pictures = self.batch if batched and not alone else 1
        self._charge_workspace(run.graph, executable, pictures * len(rows) * item.padded[1])
        parts: list[int | None] = list(range(self.batch)) if alone else [None]
        calls = [
            _bound(executable, *({port: t.part(i) for port, t in ts.items()} for ts in (inputs, outputs)))
            for i in parts
        ]
        if isinstance(executable, DeviceExecutable):
            return outputs, Step(f"graph {run.graph}", _all(calls), executable.capturable)
        self._charge_by_way_of_host([*inputs.values(), *outputs.values()])
        return outputs, Step(f"graph {run.graph}", _all(calls), capturable=False, on_device=False)

    def _output(
        self, port: Port, sizes: Mapping[str, int], batched: bool, alone: bool, unit: int | None, item: Round
    ) -> _Tensor:
        shape = shape_of(port, sizes)
        if alone:
            if shape[:1] != (1,):
                raise UnsupportedError(f"a graph of the bundle makes {shape} of one picture of a batch")
            shape = (self.batch, *shape[1:])
        per_picture = batched and (self.batch == 1 or alone or port.dims[0] == BATCH)
        tensor = self._tensor(shape, port.dtype, per_picture)
        placed = place(tensor.placed.array, port, unit, Rect.of(item.padded))
        return _Tensor(tensor.buffer, placed, per_picture)

    def _source(self, graph: str, port: str, source: str, item: Round, rows: range) -> _Tensor:
        if source == SIZE:
            return self._constant(np.array(item.size, np.int32))
        if source == ROWS:
            return self._constant(np.array(rows, np.int32))
        if source == COLUMNS:
            return self._constant(np.arange(item.padded[1], dtype=np.int32))
        if not source.startswith("$"):
            return self._cropped(self._scope[source], Rect.of(item.padded))
        name, of_round = parameter_source(source)
        key = (name, item.item if of_round else None)
        spec = self._specs[graph]
        if spec.exact and spec.inputs[port].range is not None:
            self._ranges.append((graph, spec.inputs[port], *key))
        values = np.array(_values(self.parameters, *key), np.int32)
        if key not in self._parameters:
            self._parameters[key] = self._buffer(values.shape, "int32")
        return _Tensor(self._parameters[key], Placed(values), per_picture=False)

    def _cropped(self, tensor: _Tensor, rect: Rect) -> _Tensor:
        """The part that covers `rect` of a tensor that an earlier round with another alignment made."""
        part = tensor.placed.crop(rect)
        if part.shape == tensor.placed.array.shape:
            return tensor
        if tensor.placed.axes != (2, 3):
            raise UnsupportedError("the program crops a tensor whose rows and columns are not its last axes")
        source, out = tensor.buffer, self._tensor(part.shape, tensor.buffer.dtype, tensor.per_picture).buffer
        self.steps.append(Step("crop", lambda: self.device.module.crop(self.stream, source, out), capturable=True))
        return _Tensor(out, Placed(part, rect, tensor.placed.stride), tensor.per_picture)


def symbol_limits(entries: Sequence[Scheduled], graphs: Mapping[str, Graph]) -> dict[int, tuple[int, int]]:
    """Which symbols each entropy step (by its place among the entries) may give: what the exact graphs that read them
    are exact for. Raises UnsupportedError where an exact graph reads another graph's output that may leave its range:
    any that is not of an exact graph which states a range for it, or of bytes.
    """
    limits: dict[int, tuple[int, int]] = {}
    coded: dict[str, int] = {}  # tensor → entry of the stream that it comes from
    made: dict[str, tuple[float, float]] = {}  # tensor of a graph → range
    for number, entry in enumerate(entries):
        step = entry.step
        if isinstance(step, Entropy):
            made.pop(step.out, None)
            coded[step.out] = number
            limits[number] = SYMBOLS
            continue
        graph = graphs[step.graph]
        for port, source in step.inputs.items():
            bounds = graph.inputs[port].range
            if not graph.exact or bounds is None:
                continue
            if source in coded:
                where = coded[source]
                limits[where] = max(limits[where][0], bounds[0]), min(limits[where][1], bounds[1])
            elif source in made and (bounds[0] > made[source][0] or bounds[1] < made[source][1]):
                raise UnsupportedError(
                    f"graph {step.graph!r} is exact for {source!r} in {bounds[0]}..{bounds[1]}, which another graph "
                    "makes: only the CPU checks that"
                )
        for port, name in step.outputs.items():
            coded.pop(name, None)
            made[name] = _range_of(graph, port)
    return limits


def _range_of(graph: Graph, output: str) -> tuple[float, float]:
    """What an output of a graph keeps to."""
    port = graph.outputs[output]
    if port.dtype == "uint8":
        return 0, 255
    return port.range if graph.exact and port.range is not None else (-math.inf, math.inf)


def _values(parameters: Parameters, name: str, item: int | None) -> list[int]:
    return parameters[name] if item is None else [parameters[name][item]]


def _stand_in(shape: Sequence[int], dtype: str) -> Array:
    return np.broadcast_to(np.zeros((), dtype), shape)


def _all(calls: Sequence[Callable[[], None]]) -> Callable[[], None]:
    if len(calls) == 1:
        return calls[0]

    def run() -> None:
        for call in calls:
            call()

    return run


def _bound(executable: Executable, inputs: dict[str, Buffer], outputs: dict[str, Buffer]) -> Callable[[], None]:
    if isinstance(executable, DeviceExecutable):
        return executable.bind(inputs, outputs)

    def run() -> None:  # by way of the host
        arrays = {port: buffer.download() for port, buffer in inputs.items()}
        for buffer, array in zip(outputs.values(), executable.run(arrays, list(outputs)), strict=True):
            buffer.upload(np.ascontiguousarray(array))

    return run


def _pasting(part: Buffer, whole: Buffer, top: int) -> Callable[[], None]:
    """What copies a band, plane by plane, to its rows of the whole: [n, c, rows, ...] both."""
    planes = math.prod(part.shape[:2])
    size, whole_size = part.nbytes // planes, whole.nbytes // planes
    offset = top * (whole_size // whole.shape[2])
    pairs = [
        (
            part.view(part.shape[2:], offset_bytes=plane * size),
            whole.view(part.shape[2:], offset_bytes=plane * whole_size + offset),
        )
        for plane in range(planes)
    ]

    def run() -> None:
        for source, target in pairs:
            target.copy_from(source)

    return run

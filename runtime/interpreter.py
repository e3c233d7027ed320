"""Runs a program: the same steps in the same order for encoding and decoding.

The interpreter knows tensors, graphs and streams, and no model. Encoding differs in two places: `enc` steps run, and an
entropy step reads its tensor (and zeroes what is not coded) where decoding writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .backends import GraphSet
from .backends.base import Array
from .bundle import Bundle
from .errors import CorruptError, UnsupportedError
from .manifest import DIMENSION, Entropy, Graph, Port, Program, Run
from .pictures import resample
from .plan import Parameters, Round, rounds
from .validate import BY_CHANNEL, COLUMNS, PICTURE, ROWS, SIZE, parameter_source

Buffer = bytes | bytearray | memoryview
Picture = npt.NDArray[np.float32]
Watch = Callable[[Entropy, npt.NDArray[np.int32]], None]  # sees the symbols of every stream, zeros where not coded


@dataclass
class _Job:
    """State of one encode (`picture` is there) or decode (`data` is)."""

    parameters: Parameters
    tile: int
    tensors: dict[str, Array] = field(default_factory=dict)
    picture: Picture | None = None
    effort: int = 0
    symbols_per_lane: int = 0
    data: Buffer = b""
    streams: list[_core.Stream] = field(default_factory=list)  # of the round, when decoding
    encoded: list[_core.EncodedStream] = field(default_factory=list)  # of the round, when encoding
    watch: Watch | None = None

    @property
    def encoding(self) -> bool:
        return self.picture is not None


class Interpreter:
    """One program of a bundle. Holds no state of a picture: safe to use from many threads."""

    def __init__(self, bundle: Bundle, program: Program, graphs: GraphSet, threads: int) -> None:
        self._bundle = bundle
        self._specs = bundle.manifest.graphs
        self._program = program
        self._graphs = graphs
        self._threads = threads

    def encode(
        self,
        picture: Picture,
        parameters: Parameters,
        *,
        tile: int,
        symbols_per_lane: int,
        effort: int,
        watch: Watch | None = None,
    ) -> list[list[_core.EncodedStream]]:
        """picture: float32 [height, width, 3] in [0, 1] → the streams of each round."""
        job = _Job(parameters, tile, picture=picture, effort=effort, symbols_per_lane=symbols_per_lane, watch=watch)
        stages = []
        for item in rounds(self._program, parameters, (picture.shape[0], picture.shape[1])):
            job.encoded = []
            self._steps(item, job)
            stages.append(job.encoded)
        return stages

    def decode(
        self,
        file: _core.File,
        data: Buffer,
        parameters: Parameters,
        *,
        stages: int,
        pixels: bool = True,
        watch: Watch | None = None,
    ) -> npt.NDArray[np.uint8] | None:
        """Run the first `stages` rounds and show the last of them: uint8 [height, width, 3], or None without
        `pixels`.
        """
        job = _Job(parameters, file.tile_size, data=data, watch=watch)
        last: Round | None = None
        for item, streams in zip(
            rounds(self._program, parameters, (file.height, file.width)), file.stages, strict=True
        ):
            if item.number == stages:
                break
            job.streams = list(streams)
            self._steps(item, job)
            if job.streams:
                raise CorruptError("the file has more streams than the bundle's program reads")
            last = item
        assert last is not None
        return self._show(last, job) if pixels else None

    def _steps(self, item: Round, job: _Job) -> None:
        for step in item.stage.steps:
            if isinstance(step, Entropy):
                if job.encoding:
                    self._write(step, item, job)
                else:
                    self._read(step, item, job)
            elif job.encoding or not step.enc:
                self._run(step, item, job)

    def _show(self, item: Round, job: _Job) -> npt.NDArray[np.uint8]:
        show = item.stage.show
        if isinstance(show, Run):
            self._run(show, item, job)
            (show,) = show.outputs.values()
        shown = job.tensors[show]
        height, width = item.size
        if shown.ndim != 4 or shown.shape[1] < height or shown.shape[2] < width or shown.shape[3] != 3:
            raise UnsupportedError(f"the bundle shows a tensor of shape {shown.shape} for a picture of {item.size}")
        return np.ascontiguousarray(shown[0, :height, :width], dtype=np.uint8)

    def _tables(
        self, step: Entropy, shape: tuple[int, int, int], job: _Job
    ) -> tuple[_core.Codebook, npt.NDArray[np.uint8]]:
        group = self._bundle.groups[step.tables]
        if step.by == BY_CHANNEL:
            return group.by_channel(job.parameters[step.set] if step.set else [0])
        index = job.tensors[step.by]
        if index.ndim != 4 or index.shape[1] != shape[0] or index.shape[2] < shape[1] or index.shape[3] < shape[2]:
            raise UnsupportedError(f"the bundle's index {step.by!r} has shape {index.shape}, its symbols {shape}")
        return group.by_index(), np.ascontiguousarray(index[0, :, : shape[1], : shape[2]], dtype=np.uint8)

    def _write(self, step: Entropy, item: Round, job: _Job) -> None:
        shape = item.shape(step)
        codebook, index = self._tables(step, shape, job)
        symbols = np.array(job.tensors[step.out][0], dtype=np.int32, order="C")
        if symbols.shape != shape:
            raise UnsupportedError(f"the bundle's symbols {step.out!r} have shape {symbols.shape}, not {shape}")
        job.encoded.append(
            _core.encode_stream(codebook, symbols, index, job.tile // step.stride, job.symbols_per_lane, self._threads)
        )
        self._finish(step, symbols, job)

    def _read(self, step: Entropy, item: Round, job: _Job) -> None:
        shape = item.shape(step)
        codebook, index = self._tables(step, shape, job)
        if job.tile % step.stride:
            raise CorruptError(f"the file's tiles of {job.tile} pixels do not fit the bundle's stride {step.stride}")
        if not job.streams:
            raise CorruptError("the file has fewer streams than the bundle's program reads")
        symbols = _core.decode_stream(
            codebook, index, shape, job.tile // step.stride, job.data, job.streams.pop(0), self._threads
        )
        self._finish(step, symbols, job)

    def _finish(self, step: Entropy, symbols: npt.NDArray[np.int32], job: _Job) -> None:
        job.tensors[step.out] = symbols[None]
        if job.watch is not None:
            job.watch(step, symbols)

    def _run(self, run: Run, item: Round, job: _Job) -> None:
        name = run.graph
        if run.effort and job.encoding:
            levels = [level for level in run.effort if int(level) <= job.effort]
            name = run.effort[max(levels)] if levels else name
        if run.bands is None:
            outputs = self._call(name, run, item, job, range(item.padded[0]))
        else:
            rows, step = item.padded[0], run.bands
            parts = [
                self._call(name, run, item, job, range(row, min(row + step, rows))) for row in range(0, rows, step)
            ]
            outputs = [np.concatenate(bands, axis=2) for bands in zip(*parts, strict=True)]
        for tensor, array in zip(run.outputs.values(), outputs, strict=True):
            job.tensors[tensor] = array

    def _call(self, name: str, run: Run, item: Round, job: _Job, rows: range) -> list[Array]:
        """Run a graph for some rows of the round's picture; its outputs in the step's order."""
        graph = self._specs[name]
        inputs = {port: self._source(source, item, job, rows) for port, source in run.inputs.items()}
        sizes = _bind(name, graph.inputs, inputs)
        if graph.exact:
            _check_ranges(name, graph, inputs)
        results = self._graphs.get(name).run(inputs, list(run.outputs))
        outputs = dict(zip(run.outputs, results, strict=True))
        _bind(name, {port: graph.outputs[port] for port in outputs}, outputs, sizes)
        return results

    def _source(self, source: str, item: Round, job: _Job, rows: range) -> Array:
        if source == PICTURE:
            assert job.picture is not None
            return _padded(resample(job.picture, item.size), item.padded)
        if source == SIZE:
            return np.array(item.size, dtype=np.int32)
        if source == ROWS:
            return np.array(rows, dtype=np.int32)
        if source == COLUMNS:
            return np.arange(item.padded[1], dtype=np.int32)
        if source.startswith("$"):
            name, of_round = parameter_source(source)
            values = job.parameters[name]
            return np.array([values[item.item]] if of_round else values, dtype=np.int32)
        return job.tensors[source]


def _padded(picture: Picture, size: tuple[int, int]) -> Picture:
    """[height, width, 3] → [1, 3, size], its last row and column repeated."""
    height, width = picture.shape[:2]
    planes = picture.transpose(2, 0, 1)[None]
    return np.pad(planes, ((0, 0), (0, 0), (0, size[0] - height), (0, size[1] - width)), mode="edge")


def _bind(
    graph: str, ports: Mapping[str, Port], arrays: Mapping[str, Array], known: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Sizes of the dimension symbols that these arrays imply; UnsupportedError where an array does not fit its port."""
    sizes = dict(known or {})
    for name, port in ports.items():
        array = arrays[name]
        fits = array.dtype == port.dtype and array.ndim == len(port.dims)
        for extent, dimension in zip(array.shape, port.dims, strict=False):
            match = DIMENSION.match(str(dimension))
            if match is None:
                fits &= extent == dimension
            else:
                factor = int(match[1] or 1)
                fits &= extent % factor == 0 and sizes.setdefault(match[2], extent // factor) * factor == extent
        if not fits:
            raise UnsupportedError(
                f"graph {graph!r}: port {name!r} is {port.dtype} {port.dims}, its array {array.dtype} {array.shape}"
            )
    return sizes


def _check_ranges(name: str, graph: Graph, inputs: Mapping[str, Array]) -> None:
    """An exact graph is exact for inputs in its range; a file that leaves it must not reach a device that may
    differ.
    """
    for port, spec in graph.inputs.items():
        array = inputs[port]
        if spec.range is not None and array.size and (array.min() < spec.range[0] or array.max() > spec.range[1]):
            raise CorruptError(f"values for {port!r} of graph {name!r} are outside {spec.range[0]}..{spec.range[1]}")

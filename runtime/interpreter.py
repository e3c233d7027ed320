"""Runs a program: the same steps in the same order for encoding and decoding.

The interpreter knows tensors, graphs and streams, and no model. Encoding differs in two places: `enc` steps run, and an
entropy step reads its tensor (and zeroes what is not coded) where decoding writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .backends import GraphSet
from .backends.base import Array
from .bundle import Bundle
from .errors import CorruptError, UnsupportedError
from .fileinfo import Buffer
from .job import Coded, Job, Picture, Trace, Watch
from .manifest import DIMENSION, Entropy, Graph, Port, Program, Run
from .memo import Memo
from .opened import streams_of
from .plan import MAX_SIDE, Parameters, Round, graph_at, rounds
from .saturation import Saturated, saturated, symbol_range
from .schedule import Scheduled, narrow, schedule
from .validate import BY_CHANNEL, COLUMNS, PICTURE, ROWS, SIZE, parameter_source
from .windows import MIN_WINDOWED, Placed, Rect, empty_like, place, unit_of, window_edge

if TYPE_CHECKING:
    from .analysis_choice import AnalysisChoice

T = TypeVar("T")


class Interpreter:
    """One program of a bundle. Holds no state of a picture: safe to use from many threads."""

    def __init__(self, bundle: Bundle, program: Program, graphs: GraphSet, threads: int) -> None:
        self.bundle = bundle
        self._specs = bundle.manifest.graphs
        self.program = program
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
        given: Sequence[npt.NDArray[np.int32]] | None = None,
        choice: AnalysisChoice | None = None,
        clipped: list[Saturated] | None = None,
    ) -> list[list[_core.EncodedStream]]:
        """picture: float32 [height, width, 3] in [0, 1] → the streams of each round. `given`: the symbols of every
        stream in file order, int32 [channels, height, width]; encoder graphs do not run then. `choice` may change
        symbols before they are coded, or raise Retry. `clipped` gets the streams whose latents symbols do not hold.
        """
        job = Job(parameters, tile, picture=picture, effort=effort, symbols_per_lane=symbols_per_lane, watch=watch)
        job.given = None if given is None else list(given)
        return self._encode(job, picture, choice, clipped, self._write)

    def quantise(
        self,
        picture: Picture,
        parameters: Parameters,
        *,
        effort: int,
        memo: Memo,
        given: Sequence[npt.NDArray[np.int32]] | None = None,
        choice: AnalysisChoice | None = None,
        clipped: list[Saturated] | None = None,
    ) -> list[list[Coded]]:
        """As `encode`, without entropy coding: what there is to code in each round. Steps that did the same the last
        time are not run again, but taken from the memo."""
        job = Job(parameters, 0, picture=picture, effort=effort, memo=memo)
        job.given = None if given is None else list(given)
        return self._encode(job, picture, choice, clipped, self._hold)

    def write(self, coded: Coded, tile: int, symbols_per_lane: int) -> _core.EncodedStream:
        """Entropy code a stream, in tiles of so many pixels."""
        return _core.encode_stream(
            coded.codebook,
            coded.symbols,
            coded.index,
            tile // coded.step.stride,
            symbols_per_lane,
            self._threads,
        )

    def read(self, coded: Coded, data: Buffer, stream: _core.Stream, tile: int) -> npt.NDArray[np.int32]:
        """Entropy decode the stream of a file that was written so."""
        places = tile // coded.step.stride
        shape = (coded.symbols.shape[0], coded.symbols.shape[1], coded.symbols.shape[2])
        return _core.decode_stream(coded.codebook, coded.index, shape, places, data, stream, self._threads)

    def _encode(
        self,
        job: Job,
        picture: Picture,
        choice: AnalysisChoice | None,
        clipped: list[Saturated] | None,
        code: Callable[[Entropy, Round, npt.NDArray[np.int32], Job], T],
    ) -> list[list[T]]:
        """Run all steps; what `code` makes of the entropy steps of each round."""
        items = list(rounds(self.program, job.parameters, (picture.shape[0], picture.shape[1])))
        stages: list[list[T]] = [[] for _ in items]
        for entry in schedule(items, encoding=True, show=False):
            if isinstance(entry.step, Entropy):
                symbols = self._symbols(entry.step, entry.item, job)
                found = saturated(entry.step.out, symbols, symbol_range(self._specs, entry.item.stage, entry.step.out))
                if found is not None and clipped is not None:
                    clipped.append(found)
                stages[entry.item.number].append(code(entry.step, entry.item, symbols, job))
            elif not entry.step.enc or job.given is None:
                self.run(entry, job)
                if choice is not None:
                    choice.ran(entry, job)
            job.forget(entry.dies)
        return stages

    def decode(
        self,
        file: _core.File,
        data: Buffer,
        parameters: Parameters,
        *,
        stages: int,
        pixels: bool = True,
        region: Rect | None = None,
        watch: Watch | None = None,
        trace: Trace | None = None,
    ) -> npt.NDArray[np.uint8] | None:
        """Run the first `stages` rounds and show the last of them: uint8 [height, width, 3], or None without `pixels`.
        `region`: show only this part of it, and read and run only what it needs where the graphs' halos say what.
        """
        job = Job(parameters, file.tile_size, data=data, watch=watch, trace=trace)
        items = list(rounds(self.program, parameters, (file.height, file.width)))[:stages]
        steps = schedule(items, encoding=False, show=pixels)
        if region is not None:
            narrow(steps, self._specs, region, file.tile_size)
        self._decode(steps, streams_of(file, items), job)
        return _shown(items[-1], job, region) if pixels else None

    def decode_again(
        self, size: tuple[int, int], parameters: Parameters, streams: Sequence[Sequence[Coded]], *, memo: Memo
    ) -> npt.NDArray[np.uint8]:
        """What decoding shows of a picture of `size` (height, width) of which `quantise` gave these symbols: uint8
        [height, width, 3]. Only steps are run that the memo does not know."""
        job = Job(parameters, 0, given=[coded.symbols for stage in streams for coded in stage], memo=memo)
        items = list(rounds(self.program, parameters, size))
        self._decode(schedule(items, encoding=False, show=True), None, job)
        return _shown(items[-1], job, None)

    def _decode(self, steps: Sequence[Scheduled], streams: Iterator[_core.Stream] | None, job: Job) -> None:
        for entry in steps:
            stream = next(streams) if streams is not None and isinstance(entry.step, Entropy) else None
            if entry.rect is None:
                continue
            if not isinstance(entry.step, Entropy):
                self.run(entry, job)
            elif stream is not None:
                self._read(entry, stream, job)
            else:
                assert job.given is not None
                self._finish_kept(entry.step, entry.item, job.given.pop(0), job, None)
            job.forget(entry.dies)

    def _tables(
        self, step: Entropy, shape: tuple[int, int, int], rect: Rect, job: Job
    ) -> tuple[_core.Codebook, npt.NDArray[np.uint8]]:
        group = self.bundle.groups[step.tables]
        if step.by == BY_CHANNEL:
            return group.by_channel(_table_sets(step, job.parameters))
        index = job.tensors[step.by].crop(rect)
        if index.ndim != 4 or index.shape[1] != shape[0] or index.shape[2] < shape[1] or index.shape[3] < shape[2]:
            raise UnsupportedError(f"the bundle's index {step.by!r} has shape {index.shape}, its symbols {shape}")
        return group.by_index(), np.ascontiguousarray(index[0, :, : shape[1], : shape[2]], dtype=np.uint8)

    def _symbols(self, step: Entropy, item: Round, job: Job) -> npt.NDArray[np.int32]:
        """What a step is to code, int32 [channels, height, width]: its own copy."""
        source = job.tensors[step.out].array[0] if job.given is None else job.given.pop(0)
        symbols = np.array(source, dtype=np.int32, order="C")
        if symbols.shape != item.shape(step):
            raise UnsupportedError(
                f"the bundle's symbols {step.out!r} have shape {symbols.shape}, not {item.shape(step)}"
            )
        return symbols

    def _write(self, step: Entropy, item: Round, symbols: npt.NDArray[np.int32], job: Job) -> _core.EncodedStream:
        rect = Rect.of(item.padded)
        coded = Coded(step, *self._tables(step, item.shape(step), rect, job), symbols)
        encoded = self.write(coded, job.tile, job.symbols_per_lane)  # zeroes what is not coded
        job.finish(step, symbols, rect)
        return encoded

    def _hold(self, step: Entropy, item: Round, symbols: npt.NDArray[np.int32], job: Job) -> Coded:
        rect = Rect.of(item.padded)
        codebook, index = self._tables(step, item.shape(step), rect, job)
        if step.by != BY_CHANNEL:
            symbols[index >= self.bundle.groups[step.tables].count] = 0
        by: Hashable = tuple(_table_sets(step, job.parameters)) if step.by == BY_CHANNEL else job.versions[step.by]
        source = job.versions[step.out] if job.given is None else None
        self._finish_kept(step, item, symbols, job, None if source is None else (source, by))
        return Coded(step, codebook, index, symbols)

    def _finish_kept(
        self, step: Entropy, item: Round, symbols: npt.NDArray[np.int32], job: Job, key: Hashable | None
    ) -> None:
        """As `Job.finish`, of a whole picture. The tensor has the version that it had the last time if it was made of
        the same then (`key`); or without a key, if its values are the same."""
        assert job.memo is not None
        job.finish(step, symbols, Rect.of(item.padded))
        place, tensor = (item.number, id(step)), job.tensors[step.out]
        kept = job.memo.last(place) if key is None else job.memo.recall(place, key)
        if kept is None or (key is None and not np.array_equal(kept.tensors[0].array, tensor.array)):
            kept = job.memo.keep(place, object() if key is None else key, [tensor])
        (job.versions[step.out],) = kept.versions

    def _read(self, entry: Scheduled, stream: _core.Stream, job: Job) -> None:
        step, rect, whole = entry.step, entry.rect, entry.item.shape(entry.step)  # type: ignore[arg-type]
        assert isinstance(step, Entropy) and rect is not None
        shape = whole
        if rect != Rect.of(entry.item.padded):
            _, columns = entry.item.tile_grid(step, job.tile)
            shape, stream = _tiles_of(stream, columns, rect, whole, step.stride, job.tile)
        codebook, index = self._tables(step, shape, rect, job)
        start = perf_counter()
        symbols = _core.decode_stream(codebook, index, shape, job.tile // step.stride, job.data, stream, self._threads)
        if job.trace is not None:
            job.trace(f"entropy {step.out}", perf_counter() - start)
        job.finish(step, symbols, rect)

    def run(self, entry: Scheduled, job: Job) -> None:
        """Run a graph's step; its outputs are among the job's tensors then."""
        run, rect, item = entry.step, entry.rect, entry.item
        assert isinstance(run, Run) and rect is not None
        name = graph_at(run, job.effort) if job.encoding else run.graph
        if job.memo is None:
            outputs = self._run_all(name, run, item, job, rect)
        else:
            place, key = (item.number, id(run)), (name, item.size, *self._made_of(run, item, job))
            kept = job.memo.recall(place, key)
            if kept is None:
                self._count(name, rect, job)
                kept = job.memo.keep(place, key, self._run_all(name, run, item, job, rect))
            outputs = kept.tensors
            job.versions.update(zip(run.outputs.values(), kept.versions, strict=True))
        job.tensors.update(zip(run.outputs.values(), outputs, strict=True))
        if sum(tensor.array.nbytes for tensor in job.tensors.values()) > self._graphs.allowance.memory_bytes:
            raise self._graphs.allowance.too_large("what the graphs of the bundle leave to each other")

    def _made_of(self, run: Run, item: Round, job: Job) -> Iterator[Hashable]:
        """What goes into a step: versions of tensors, values of parameters, names of the rest."""
        for source in run.inputs.values():
            if source.startswith("$"):
                name, of_round = parameter_source(source)
                yield tuple(job.parameters[name][item.item : item.item + 1] if of_round else job.parameters[name])
            else:
                yield source if source.startswith("@") else job.versions[source]

    def _count(self, name: str, rect: Rect, job: Job) -> None:
        if job.memo is not None:
            job.memo.macs += (self._specs[name].macs_per_pixel or 0.0) * rect.area

    def _run_all(self, name: str, run: Run, item: Round, job: Job, rect: Rect) -> Sequence[Placed]:
        """Run a graph on `rect`, in bands or in windows where it must be."""
        if run.bands is not None:
            rows, step = item.padded[0], run.bands
            bands = [range(row, min(row + step, rows)) for row in range(0, rows, step)]
            parts = [self._call(name, run, item, job, band, rect, rect) for band in bands]
            wholes = [np.concatenate([p.array for p in made], axis=2) for made in zip(*parts, strict=True)]
            bounds = Rect.of(item.padded)
            return [Placed(a, bounds) if a.shape[2:] == item.padded else Placed(a) for a in wholes]
        return self._run_windows(name, run, item, job, rect)

    def _run_windows(self, name: str, run: Run, item: Round, job: Job, rect: Rect) -> list[Placed]:
        """Run a graph on `rect`, window by window where that is large."""
        graph, bounds, rows = self._specs[name], Rect.of(item.padded), range(item.padded[0])
        unit = unit_of(graph.inputs, job.strides(run.inputs))
        whole_at_once = rect == bounds and rect.area < MIN_WINDOWED
        if graph.halo is None or unit is None or whole_at_once:
            return self._call(name, run, item, job, rows, bounds, bounds)
        edge = window_edge(self._graphs.workspace(name))
        if edge % unit:
            return self._call(name, run, item, job, rows, bounds, bounds)
        whole: list[Placed] = []
        for window in rect.windows(edge):
            parts = self._call(name, run, item, job, rows, window.grown(graph.halo, unit, bounds), window)
            if window == rect:
                return parts
            whole = whole or [empty_like(part, rect) for part in parts]
            for tensor, part in zip(whole, parts, strict=True):
                tensor.paste(part.array, window)
        return whole

    def _call(
        self, name: str, run: Run, item: Round, job: Job, rows: range, around: Rect, window: Rect
    ) -> list[Placed]:
        """Run a graph on `around`; its outputs in the step's order, cut to `window`."""
        graph = self._specs[name]
        inputs = {port: self._source(source, item, job, rows, around) for port, source in run.inputs.items()}
        sizes = bind_sizes(name, graph.inputs, inputs)
        if graph.exact:
            _check_ranges(name, graph, inputs)
        executable = self._graphs.get(name)
        start = perf_counter()
        results = executable.run(inputs, list(run.outputs))
        if job.trace is not None:
            job.trace(f"graph {name}", perf_counter() - start)
        outputs = dict(zip(run.outputs, results, strict=True))
        sizes |= zip(graph.sized_symbols, item.size, strict=False)
        bind_sizes(name, {port: graph.outputs[port] for port in outputs}, outputs, sizes)
        unit = unit_of(graph.inputs, job.strides(run.inputs))
        placed = [place(array, graph.outputs[port], unit, around) for port, array in outputs.items()]
        if around == window:
            return placed
        return [Placed(p.crop(window), window, p.stride, p.axes) for p in placed]

    def evaluate(
        self, name: str, run: Run, item: Round, job: Job, rect: Rect, given: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Run a graph in the place of a step's on `rect`, some of its sources given → the step's tensors."""
        rows = range(item.padded[0])
        self._count(name, rect, job)
        inputs = {
            port: given[source] if source in given else self._source(source, item, job, rows, rect)
            for port, source in run.inputs.items()
        }
        results = self._graphs.get(name).run(inputs, list(run.outputs))
        return dict(zip(run.outputs.values(), results, strict=True))

    def halo(self, run: Run) -> int:
        """Pixels around a window on which what a step makes of it depends; a whole picture where that is not known."""
        halos = [self._specs[name].halo for name in (run.graph, *run.effort.values())]
        return max(MAX_SIDE if halo is None else halo for halo in halos)

    def _source(self, source: str, item: Round, job: Job, rows: range, rect: Rect) -> Array:
        if source == PICTURE:
            return job.pixels(item, rect)
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
        return np.ascontiguousarray(job.tensors[source].crop(rect))


def _table_sets(step: Entropy, parameters: Parameters) -> list[int]:
    return parameters[step.set] if step.set else [0]


def _tiles_of(
    stream: _core.Stream, columns: int, rect: Rect, whole: tuple[int, int, int], stride: int, tile: int
) -> tuple[tuple[int, int, int], _core.Stream]:
    """Shape and stream of the tiles that cover `rect` (whole tiles), of a stream with so many columns of them."""
    channels, height, width = whole
    top, left = rect.top // stride, rect.left // stride
    shape = (channels, min(rect.bottom // stride, height) - top, min(rect.right // stride, width) - left)
    first, last = (rect.top // tile, rect.left // tile), (-(-rect.bottom // tile), -(-rect.right // tile))
    return shape, stream.window(columns, first[0], first[1], last[0] - first[0], last[1] - first[1])


def _shown(item: Round, job: Job, region: Rect | None) -> npt.NDArray[np.uint8]:
    shown = job.tensors[item.stage.shown]
    height, width = item.size
    rect = Rect.of(item.padded) if shown.rect is None else shown.rect
    array = shown.array
    wanted = Rect(0, 0, height, width) if region is None else region
    top, left, bottom, right = (
        wanted.top - rect.top,
        wanted.left - rect.left,
        wanted.bottom - rect.top,
        wanted.right - rect.left,
    )
    if array.ndim != 4 or array.shape[1] < bottom or array.shape[2] < right or array.shape[3] != 3:
        raise UnsupportedError(f"the bundle shows a tensor of shape {array.shape} for a picture of {item.size}")
    return np.ascontiguousarray(array[0, top:bottom, left:right], dtype=np.uint8)


def bind_sizes(
    graph: str, ports: Mapping[str, Port], arrays: Mapping[str, Array], known: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Sizes of the dimension symbols that these arrays imply; UnsupportedError where an array does not fit its port.
    Of the arrays only dtype and shape count.
    """
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

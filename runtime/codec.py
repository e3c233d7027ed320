"""The public Python API: load a codec bundle, encode and decode with it."""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .analysis_choice import encode_looking
from .backends import AUTO, GraphSet
from .bundle import Bundle, find, find_by_symbol_id
from .choose import DEFAULT_QUALITY, Wish, choose
from .errors import CorruptError, LimitError, UnsupportedError, WrongBundleError
from .fileinfo import Buffer, FileInfo, info, parse, stages_to_run
from .interpreter import Interpreter, Trace, Watch
from .iterative import Edit, Goal, Point, check_request, edited_symbols, normalised_weights, prepare, start_of, steers
from .limits import DEFAULT_LIMITS, MAX_WORKERS, Limits, cpu_count
from .manifest import Variant
from .pictures import Rgb, from_array, resize
from .plan import Parameters, Round, check_parameters, estimated_bytes, rounds
from .target import at_target, mean_squared_error
from .windows import Rect

Pixels = npt.NDArray[np.uint8]

# Symbols per lane of the entropy coder: fewer bytes, or more lanes that work side by side
LANES = {"compact": 16384, "balanced": 2048, "parallel": 512}
DEFAULT_EFFORT = 5
SINGLE_PASS_EFFORT = 5  # above it, encoding iterates


class PictureIdWarning(UserWarning):
    """The file's float graphs are not the bundle's: the symbols are right, pixels may differ slightly."""


@dataclass(frozen=True)
class Opened:
    """A file and what to decode of it: `rounds` are those to run, the last of them to show."""

    file: _core.File
    variant: str
    parameters: dict[str, list[int]]
    rounds: list[Round]


@contextmanager
def _memory_as_limit() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise LimitError("not enough memory for this picture on this machine") from None


class Codec:
    """A codec bundle ready to encode and decode; made by `nicrt.load`. One Codec serves many threads at once."""

    def __init__(self, bundle: Bundle, *, threads: int, backend: str, limits: Limits) -> None:
        self._bundle = bundle
        self._limits = limits
        self._threads = threads
        self._graphs = GraphSet.open(bundle, backend, threads)
        self._lock = threading.Lock()
        self._interpreters: dict[str, Interpreter] = {}

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self._bundle.manifest.name

    @property
    def bundle(self) -> Bundle:
        """The bundle's manifest and files."""
        return self._bundle

    @property
    def backends(self) -> dict[str, str]:
        """Graph → backend that runs it, for the graphs used so far."""
        return self._graphs.report()

    @property
    def fallbacks(self) -> dict[str, list[str]]:
        """Graph → why a preferred backend was passed over."""
        return dict(self._graphs.refusals)

    def encode(
        self,
        picture: npt.ArrayLike,
        *,
        quality: float = DEFAULT_QUALITY,
        effort: int = DEFAULT_EFFORT,
        lanes: str = "compact",
        variant: str | None = None,
        scales: Sequence[float] | None = None,
        parameters: Mapping[str, int | Sequence[int]] | None = None,
        like: Buffer | None = None,
        tile: int | None = None,
        target_bpp: float | None = None,
        target_psnr: float | None = None,
        roi: npt.ArrayLike | None = None,
        ms_ssim_weight: float = 0.0,
    ) -> bytes:
        """Encode one picture → the bytes of a .nic file.

        picture: uint8, uint16 or float (0..1) array [height, width, 3] or [height, width], sRGB.
        quality: 0 (smallest) .. 100 (best). effort: 1 (fastest) .. 9. lanes: "compact" (smallest), "balanced",
        "parallel" (fastest to decode on a GPU). variant: one of the bundle's, in place of the one that `quality` picks.
        scales: sizes of the layers relative to the first, for bundles with layers. parameters: values of the program's
        parameters, over those that `quality` sets. like: a .nic file whose variant and parameters are taken, in place
        of all of these. tile: tile edge in pixels, 0 for none; None for the bundle's.
        target_bpp: in place of `quality`, the best whose file is not above this rate. target_psnr: the lowest that is
        not below it, in dB. Effort 6 improves the side information by gradient descent (`export` extra), 7 to 9 all
        symbols, towards a target too, and take `roi`: weights of the squared error, [height, width], from 0 up; and
        `ms_ssim_weight`: the share of MS-SSIM in the distortion, 0..1.
        Raises ValueError or TypeError for arguments out of range, LimitError for too large a picture, UnsupportedError
        for what the bundle cannot do.
        """
        if lanes not in LANES:
            raise ValueError(f"lanes is one of {', '.join(LANES)}, not {lanes!r}")
        pixels = from_array(picture)
        weights = None if roi is None else normalised_weights(roi, pixels.shape[:2])
        edit = Edit(target_bpp, target_psnr, weights, ms_ssim_weight)
        check_request(effort, edit, like is not None)
        goal: Goal | None = None
        if like is None:
            wish = Wish(quality, variant, scales, parameters or {})
            wish, goal = self._resolve(pixels, wish, edit, effort)
            name, values = choose(self._bundle.manifest, wish, pixels.shape[:2])
            open_parameters = values.keys() - wish.parameters.keys()
        else:
            name, values = self._parameters_of(parse(like, self._limits))
            open_parameters = set()
        return self._encode(pixels, name, values, open_parameters, goal, effort=effort, lanes=lanes, tile=tile)

    def _encode(
        self,
        pixels: Rgb,
        name: str,
        values: dict[str, list[int]],
        open_parameters: Collection[str],
        goal: Goal | None,
        *,
        effort: int,
        lanes: str,
        tile: int | None,
    ) -> bytes:
        """Encode with a variant and its parameters, all checked here; the encoder may change the open ones."""
        height, width = pixels.shape[:2]
        variant = self._bundle.manifest.variants[name]
        stages = variant.program.stages
        if not variant.program.encodes:
            raise UnsupportedError(f"bundle {self.name!r} only decodes: it was made without its encoder graphs")
        check_parameters(variant.program, values, self._limits)
        self._check_size(variant, values, (height, width), encoding=True)
        tile = max(stage.tile for stage in stages) if tile is None else tile
        if tile < 0 or any(tile % stage.align for stage in stages):
            raise ValueError(f"tile {tile} is not a multiple of the bundle's {stages[0].align} pixels")
        with _memory_as_limit():
            given = None
            if goal is not None:
                given = edited_symbols(self._bundle, variant.program, values, pixels, goal, effort, self._threads)
            runner, per_lane = self._interpreter(name), LANES[lanes]
            values, streams = encode_looking(runner, pixels, values, open_parameters, tile, per_lane, effort, given)
            ids = bytes.fromhex(variant.symbol_id), bytes.fromhex(variant.picture_id)
            return _core.write(*ids, width, height, tile, [values[p.name] for p in variant.program.parameters], streams)

    def _file_of(self, pixels: Rgb, wish: Wish, effort: int) -> bytes:
        return self.encode(
            pixels,
            quality=wish.quality,
            effort=effort,
            variant=wish.variant,
            scales=wish.scales,
            parameters=wish.parameters,
        )

    def _resolve(self, pixels: Rgb, wish: Wish, edit: Edit, effort: int) -> tuple[Wish, Goal | None]:
        """The wish at its target, and for an effort that iterates what it is to reach: measured by single passes."""
        area = int(pixels.shape[0] * pixels.shape[1])

        def rate(data: bytes) -> float:
            return 8 * len(data) / area

        def error(data: bytes) -> float:
            return mean_squared_error(self.decode(data), pixels)

        start, searched = (start_of(edit), SINGLE_PASS_EFFORT) if steers(effort) else (edit, effort)

        def candidate(wish: Wish) -> bytes:
            return self._file_of(pixels, wish, searched)

        def probe(wish: Wish) -> Point:
            data = self._file_of(pixels, wish, SINGLE_PASS_EFFORT)
            return Point(rate(data), error(data))

        wish = at_target(wish, start.bpp, start.psnr, lambda w: rate(candidate(w)), lambda w: error(candidate(w)))
        if effort <= SINGLE_PASS_EFFORT:
            return wish, None
        goal = edit if steers(effort) else Edit()
        return prepare(probe, wish, self._bundle.manifest, pixels.shape[:2], goal)

    def decode(
        self,
        data: Buffer,
        *,
        stage: int | None = None,
        partial: bool = False,
        strict: bool = False,
        region: tuple[int, int, int, int] | None = None,
        scale: float | None = None,
        trace: Trace | None = None,
    ) -> Pixels:
        """Decode a .nic file → uint8 array [height, width, 3], sRGB.

        stage: stop after this stage (from 1). partial: of a truncated file, decode the whole stages that are there.
        strict: refuse a file whose float graphs are not the bundle's, and any fallback to a less preferred backend.
        region: x, y, width, height of the part to decode, in pixels of the shown stage; only what it needs is read and
        run where the bundle's graphs give a halo. scale: 0..1, decode the lowest stage that is large enough and
        resample it to that share of the picture's size. trace: called with the name and the seconds of every step.
        Raises TruncatedError, CorruptError, UnsupportedError, LimitError or WrongBundleError; never returns a wrong
        picture.
        """
        if scale is not None:
            if stage is not None or region is not None or not 0 < scale <= 1:
                raise ValueError("scale is above 0 and at most 1, and goes without stage and region")
            stage, size = self._stage_for(parse(data, self._limits), scale)
        pixels = self._run(data, stage=stage, partial=partial, strict=strict, region=region, trace=trace)
        assert pixels is not None
        return pixels if scale is None else resize(pixels, size)

    def decode_many(self, files: Iterable[Buffer], *, jobs: int = 2) -> Iterator[Pixels]:
        """Decode files side by side, `jobs` at a time, and give the pictures in order. Raises as `decode` does, at the
        place of the file that failed. For most pictures a second load the codec with `threads=1`.
        """
        with ThreadPoolExecutor(jobs) as pool:
            waiting: deque[Future[Pixels]] = deque()
            for data in files:
                waiting.append(pool.submit(self.decode, data))
                if len(waiting) > 2 * jobs:  # as far ahead as keeps every worker busy
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def verify(self, data: Buffer) -> FileInfo:
        """Check all of a file but its pixels: container, ids, checksums, entropy decoding. Raises as `decode` does."""
        self._run(data, pixels=False)
        return info(data, limits=self._limits)

    def symbols(self, data: Buffer) -> list[npt.NDArray[np.int32]]:
        """The symbols of every stream of a file, [channels, height, width] each, in file order. Raises as `decode`
        does.
        """
        found: list[npt.NDArray[np.int32]] = []
        self._run(data, pixels=False, watch=lambda _, symbols: found.append(symbols))
        return found

    def same_pixels(self, file: FileInfo) -> bool:
        """Whether the file was made with the very float graphs of this bundle."""
        found = self._bundle.variant_of(file.symbol_id)
        return found is not None and found[1].picture_id == file.picture_id

    def _run(
        self,
        data: Buffer,
        *,
        stage: int | None = None,
        partial: bool = False,
        strict: bool = False,
        pixels: bool = True,
        region: tuple[int, int, int, int] | None = None,
        watch: Watch | None = None,
        trace: Trace | None = None,
    ) -> Pixels | None:
        start = perf_counter()
        opened = self.opened(data, stage=stage, partial=partial, strict=strict and pixels, pixels=pixels)
        rect = None if region is None else _rect(region, opened.rounds[-1].size)
        with _memory_as_limit():
            interpreter = self._interpreter(opened.variant)
            if trace is not None:
                trace("parse", perf_counter() - start)
            shown = interpreter.decode(
                opened.file,
                data,
                opened.parameters,
                stages=len(opened.rounds),
                pixels=pixels,
                region=rect,
                watch=watch,
                trace=trace,
            )
        if strict and self._graphs.refusals:
            graph, reasons = next(iter(self._graphs.refusals.items()))
            raise UnsupportedError(f"graph {graph!r} fell back to another backend: {reasons[0]}")
        return shown

    def opened(
        self,
        data: Buffer,
        *,
        stage: int | None = None,
        partial: bool = False,
        strict: bool = False,
        pixels: bool = True,
    ) -> Opened:
        """Header and parameters of a file, held against the bundle and the limits: what decoding it will run. Raises as
        `decode` does.
        """
        file = parse(data, self._limits)
        name, values = self._parameters_of(file)
        variant = self._bundle.manifest.variants[name]
        stages = stages_to_run(file, len(data), stage, partial)
        self._check_size(variant, values, (file.height, file.width), encoding=False)
        items = list(rounds(variant.program, values, (file.height, file.width)))
        if len(items) != len(file.stages):
            raise CorruptError(f"the file has {len(file.stages)} stages, its program {len(items)}")
        if pixels:
            self._check_picture_id(file, variant, strict)
        return Opened(file, name, values, items[:stages])

    def _stage_for(self, file: _core.File, scale: float) -> tuple[int, tuple[int, int]]:
        """The lowest stage (from 1) that is not smaller than `scale` of the picture, and that size (height, width)."""
        name, values = self._parameters_of(file)
        size = max(1, round(file.height * scale)), max(1, round(file.width * scale))
        items = list(rounds(self._bundle.manifest.variants[name].program, values, (file.height, file.width)))
        large = [item.number for item in items if item.size[0] >= size[0] and item.size[1] >= size[1]]
        fine = [number for number in large if items[number].size != items[-1].size]
        return (fine[0] if fine else len(items) - 1) + 1, size

    def _check_picture_id(self, file: _core.File, variant: Variant, strict: bool) -> None:
        if file.picture_id.hex() == variant.picture_id:
            return
        message = (
            f"the file was made with another version of bundle {self.name!r} (picture id {file.picture_id.hex()}, here "
            f"{variant.picture_id}): the pixels may differ slightly"
        )
        if strict:
            raise WrongBundleError(message)
        warnings.warn(message, PictureIdWarning, stacklevel=5)

    def _interpreter(self, variant: str) -> Interpreter:
        with self._lock:
            if variant not in self._interpreters:
                program = self._bundle.manifest.variants[variant].program
                self._interpreters[variant] = Interpreter(self._bundle, program, self._graphs, self._threads)
            return self._interpreters[variant]

    def _parameters_of(self, file: _core.File) -> tuple[str, dict[str, list[int]]]:
        """Variant and checked parameter values of a file."""
        found = self._bundle.variant_of(file.symbol_id.hex())
        if found is None:
            raise WrongBundleError(
                f"the file was made with codec bundle {file.symbol_id.hex()}, not with {self.name!r}; "
                "leave the bundle out to have it found, or install that bundle"
            )
        name, variant = found
        names = [p.name for p in variant.program.parameters]
        if len(names) != len(file.parameters):
            raise CorruptError(f"the file sets {len(file.parameters)} parameters, its program has {len(names)}")
        values = dict(zip(names, (list(v) for v in file.parameters), strict=True))
        try:
            check_parameters(variant.program, values, self._limits)
        except ValueError as error:
            raise CorruptError(f"the file's parameters do not fit its program: {error}") from None
        return name, values

    def _check_size(self, variant: Variant, values: Parameters, size: tuple[int, int], *, encoding: bool) -> None:
        if size[0] * size[1] > self._limits.pixels:
            raise LimitError(
                f"the picture has {size[1]} x {size[0]} pixels, more than the limit of {self._limits.pixels} "
                "(--max-pixels, Limits.pixels)"
            )

        def estimate(workspace: Callable[[str], float] | None) -> int:
            plan = rounds(variant.program, values, size)
            graphs = self._bundle.manifest.graphs
            return estimated_bytes(variant.program, graphs, plan, encoding=encoding, workspace=workspace)

        needed = estimate(None)
        if needed > self._limits.memory_bytes:
            needed = estimate(self._graphs.workspace)  # backends may need less; asking loads their graphs
        if needed > self._limits.memory_bytes:
            raise LimitError(
                f"the picture needs about {needed >> 20} MiB, more than the limit of "
                f"{self._limits.memory_bytes >> 20} MiB (--max-memory, Limits.memory_bytes)"
            )


def _rect(region: tuple[int, int, int, int], size: tuple[int, int]) -> Rect:
    x, y, width, height = region
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > size[1] or y + height > size[0]:
        raise ValueError(f"region {x},{y},{width},{height} does not lie in the picture of {size[1]} x {size[0]}")
    return Rect(y, x, y + height, x + width)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    backend: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
) -> Codec:
    """Open a codec bundle by name ("shallow"; NICRT_BUNDLE_PATH adds places) or by the path of its folder.

    threads: for graphs and entropy coder, None for all processors. backend: "auto" or one of `nicrt.backend_names()`.
    Raises UnsupportedError when there is no such bundle, it is not valid, or the backend is not installed.
    """
    threads = cpu_count() if threads is None else threads
    if not 1 <= threads <= MAX_WORKERS:
        raise ValueError(f"threads is 1..{MAX_WORKERS}, not {threads}")
    return Codec(Bundle.open(find(name_or_path)), threads=threads, backend=backend, limits=limits)


def load_for(
    data: Buffer, *, threads: int | None = None, backend: str = AUTO, limits: Limits = DEFAULT_LIMITS
) -> Codec:
    """Open the bundle that a .nic file was made with, found by the file's symbol id. Raises WrongBundleError if there
    is none.
    """
    symbol = parse(data, limits).symbol_id.hex()
    folder = find_by_symbol_id(symbol)
    if folder is None:
        raise WrongBundleError(
            f"the file was made with codec bundle {symbol}, which is not installed; "
            "put its folder into NICRT_BUNDLE_PATH"
        )
    return load(folder, threads=threads, backend=backend, limits=limits)


_loaded: dict[str, Codec] = {}
_loaded_lock = threading.Lock()


def decode(data: Buffer) -> Pixels:
    """Decode a .nic file with the bundle that its id names → uint8 [height, width, 3]. Keeps the bundle loaded."""
    symbol = parse(data, DEFAULT_LIMITS).symbol_id.hex()
    with _loaded_lock:
        codec = _loaded.get(symbol)
        if codec is None:
            codec = _loaded[symbol] = load_for(data)
    return codec.decode(data)

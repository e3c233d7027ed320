"""The public Python API: load a codec bundle, encode and decode with it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .backends import AUTO, GraphSet
from .bundle import Bundle
from .choose import DEFAULT_QUALITY, Wish
from .encoding import Encoding
from .errors import ImageError, LimitError, UnsupportedError, WrongBundleError
from .fileinfo import Buffer, FileInfo, info, parse, stages_to_run
from .installed import open_bundle, open_by_symbol_id
from .interpreter import Interpreter
from .iterative import Edit, check_request, normalised_weights
from .job import Trace, Watch
from .limits import DEFAULT_LIMITS, MAX_WORKERS, Limits, cpu_count
from .manifest import Variant
from .opened import Opened, held_against
from .pictures import Rgb, from_array, resize
from .plan import Round, decoding_graphs, estimated_bytes
from .sampling import sample_of
from .saturation import SaturationWarning
from .session import Coding, Session
from .target import Encoded, TargetWarning, Trial, psnr_of
from .warn import warn_caller
from .windows import Rect

Pixels = npt.NDArray[np.uint8]

# Symbols per lane of the entropy coder: fewer bytes, or more lanes that work side by side
LANES = {"compact": 16384, "balanced": 2048, "parallel": 512}
DEFAULT_EFFORT = 5


class PictureIdWarning(UserWarning):
    """The file's float graphs are not the bundle's: the symbols are right, pixels are those of these graphs."""


@contextmanager
def _memory_as_limit() -> Iterator[None]:
    """What C++ reports as LimitError Python raises as MemoryError: one failure, one error."""
    try:
        yield
    except MemoryError:
        raise LimitError("not enough memory on this machine") from None


class Codec:
    """A codec bundle ready to encode and decode; made by `nicrt.load`. One Codec serves many threads at once."""

    def __init__(self, bundle: Bundle, *, threads: int, backend: str, limits: Limits) -> None:
        self._bundle = bundle
        self._limits = limits
        self._threads = threads
        self._graphs = GraphSet.open(bundle, backend, threads, limits)
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

    @_memory_as_limit()
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
        report: Callable[[Encoded], None] | None = None,
    ) -> bytes:
        """Encode one picture → the bytes of a .nic file.

        picture: uint8, uint16, uint32 or float (0..1) array [height, width, 3] or [height, width], sRGB; white is an
        unsigned type's largest value, and 1.0; floats beyond 0..1 are clipped, with a ClippingWarning.
        quality: 0 (smallest) .. 100 (best). effort: 1 (fastest) .. 9. lanes: "compact" (smallest), "balanced",
        "parallel" (fastest to decode on a GPU). variant: one of the bundle's, in place of the one that `quality` picks.
        scales: sizes of the layers relative to the first, for bundles with layers. parameters: values of the program's
        parameters, over those that `quality` sets. like: a .nic file whose variant and parameters are taken, in place
        of all of these; layers keep their shares of the picture's size. tile: tile edge in pixels, 0 for none; None
        for the bundle's.
        target_bpp: in place of `quality`, the best whose file is not above this rate. target_psnr: the lowest that is
        not below it, in dB; some symbols are lessened where no quality has that very rate or PSNR. It costs about
        three encodes at most. Where no quality meets the target, the nearest file that was found is the result, with
        a TargetWarning. report: told the quality, rate and PSNR that came out. Effort 6 improves the side information
        by gradient descent (`export` extra), 7 to 9 all symbols, towards a target too, and take `roi`: weights of the
        squared error, [height, width], from 0 up; and `ms_ssim_weight`: the share of MS-SSIM in the distortion, 0..1.
        Raises ValueError or TypeError for arguments out of range, LimitError for too large a picture, UnsupportedError
        for what the bundle cannot do.
        """
        if lanes not in LANES:
            raise ValueError(f"lanes is one of {', '.join(LANES)}, not {lanes!r}")
        pixels = from_array(picture)
        weights = None if roi is None else normalised_weights(roi, pixels.shape[:2])
        edit = Edit(target_bpp, target_psnr, weights, ms_ssim_weight)
        check_request(effort, edit, like is not None)

        session = self._session(pixels, tile, LANES[lanes])
        part = sample_of(pixels) if edit.target.is_set else None
        sample = None if part is None else self._session(part, tile, LANES[lanes])
        manifest = self._bundle.manifest
        encoding = Encoding(manifest, session, sample, effort)
        if like is None:
            trial = encoding.best(Wish(quality, variant, scales, parameters or {}), edit)
        else:
            trial = encoding.like(held_against(parse(like, self._limits), manifest, self._limits))
        return self._told(trial, edit, None if like is not None else trial.wish.quality, report)

    def _session(self, pixels: Rgb, tile: int | None, symbols_per_lane: int) -> Session:
        memory = partial(self._check_memory, encoding=True)
        coding = Coding(self._bundle, self._limits, self._threads, self._interpreter, memory)
        return Session(coding, pixels, tile, symbols_per_lane)

    def _told(self, trial: Trial, edit: Edit, quality: float | None, report: Callable[[Encoded], None] | None) -> bytes:
        """The trial's file, after what is to be said of it has been said."""
        assert trial.data is not None
        missed = edit.target.missed(trial)
        if report is not None:
            psnr = psnr_of(trial.mse) if edit.target.is_set else None
            report(
                Encoded(
                    trial.variant, trial.parameters, quality, len(trial.data), trial.bpp, psnr, missed, trial.clipped
                )
            )
        if missed is not None:
            warn_caller(missed, TargetWarning)
        for line in trial.clipped:
            warn_caller(line, SaturationWarning)
        return trial.data

    @_memory_as_limit()
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
            file = parse(data, self._limits)
            stage, size = held_against(file, self._bundle.manifest, self._limits).stage_for(scale)
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

    @_memory_as_limit()
    def verify(self, data: Buffer) -> FileInfo:
        """Check all of a file but its pixels: container, ids, checksums, entropy decoding. Raises as `decode` does."""
        self._run(data, pixels=False)
        return info(data, limits=self._limits)

    @_memory_as_limit()
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
        variant = self._bundle.manifest.variants[opened.variant]
        self._check_memory(variant, opened.rounds, encoding=False)
        rect = None if region is None else _rect(region, opened.rounds[-1].size)
        if strict:
            refuse_fallbacks(self._graphs, opened, "fell back to another backend")
        interpreter = self._interpreter(opened.variant)
        if trace is not None:
            trace("parse", perf_counter() - start)
        return interpreter.decode(
            opened.file,
            data,
            opened.parameters,
            stages=len(opened.rounds),
            pixels=pixels,
            region=rect,
            watch=watch,
            trace=trace,
        )

    def opened(
        self,
        data: Buffer,
        *,
        stage: int | None = None,
        partial: bool = False,
        strict: bool = False,
        pixels: bool = True,
        limits: Limits | None = None,
    ) -> Opened:
        """A file held against the bundle: what decoding it will run. limits: in place of the codec's. Raises as
        `decode` does, but for the memory that decoding needs.
        """
        limits = self._limits if limits is None else limits
        file = parse(data, limits)
        whole = held_against(file, self._bundle.manifest, limits)
        stages = stages_to_run(file, len(data), stage, partial)
        if pixels:
            self._check_picture_id(file, self._bundle.manifest.variants[whole.variant], strict)
        return replace(whole, rounds=whole.rounds[:stages])

    def _check_picture_id(self, file: _core.File, variant: Variant, strict: bool) -> None:
        if file.picture_id.hex() == variant.picture_id:
            return
        message = (
            f"the file was made with another version of bundle {self.name!r} (picture id {file.picture_id.hex()}, here "
            f"{variant.picture_id}): the pixels may differ from those that its maker saw"
        )
        if strict:
            raise WrongBundleError(message)
        warn_caller(message, PictureIdWarning)

    def _interpreter(self, variant: str) -> Interpreter:
        with self._lock:
            if variant not in self._interpreters:
                program = self._bundle.manifest.variants[variant].program
                self._interpreters[variant] = Interpreter(self._bundle, program, self._graphs, self._threads)
            return self._interpreters[variant]

    def _check_memory(self, variant: Variant, items: Sequence[Round], *, encoding: bool) -> int:
        """Bytes that these rounds need. Raises LimitError."""

        def estimate(workspace: Callable[[str], float] | None) -> int:
            graphs = self._bundle.manifest.graphs
            return estimated_bytes(variant.program, graphs, items, encoding=encoding, workspace=workspace)

        needed = estimate(None)
        if needed > self._limits.memory_bytes:
            needed = estimate(self._graphs.workspace)  # backends may need less; asking loads their graphs
        if needed > self._limits.memory_bytes:
            raise LimitError(
                f"the picture needs about {needed >> 20} MiB, more than the limit of "
                f"{self._limits.memory_bytes >> 20} MiB (--max-memory, Limits.memory_bytes)"
            )
        return needed


def refuse_fallbacks(graphs: GraphSet, opened: Opened, what: str) -> None:
    """Raise UnsupportedError where a graph that decoding this file runs has fallen back. what: has happened to it."""
    for graph, reasons in graphs.fallbacks_of(decoding_graphs(opened.rounds)).items():
        raise UnsupportedError(f"graph {graph!r} {what}: {reasons[0]}")


def _rect(region: tuple[int, int, int, int], size: tuple[int, int]) -> Rect:
    x, y, width, height = region
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > size[1] or y + height > size[0]:
        raise ValueError(f"region {x},{y},{width},{height} does not lie in the picture of {size[1]} x {size[0]}")
    return Rect(y, x, y + height, x + width)


def load(
    bundle: str | os.PathLike[str] | Buffer,
    *,
    threads: int | None = None,
    backend: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
) -> Codec:
    """Open a codec bundle by name ("shallow"; NICRT_BUNDLE_PATH adds places), by the path of its folder or packed file,
    or from the bytes of a packed one.

    threads: for graphs and entropy coder, None for all processors. backend: "auto" or one of `nicrt.backend_names()`.
    Raises UnsupportedError when there is no such bundle, it is not valid, or the backend is not installed.
    """
    opened = open_bundle(bundle) if isinstance(bundle, str | os.PathLike) else Bundle.of_bytes(bundle)
    return _codec(opened, threads, backend, limits)


def _codec(bundle: Bundle, threads: int | None, backend: str, limits: Limits) -> Codec:
    threads = cpu_count() if threads is None else threads
    if not 1 <= threads <= MAX_WORKERS:
        raise ValueError(f"threads is 1..{MAX_WORKERS}, not {threads}")
    return Codec(bundle, threads=threads, backend=backend, limits=limits)


def load_for(
    data: Buffer, *, threads: int | None = None, backend: str = AUTO, limits: Limits = DEFAULT_LIMITS
) -> Codec:
    """Open the bundle that a .nic file was made with, found by the file's symbol id. Raises WrongBundleError if there
    is none.
    """
    symbol = parse(data, limits).symbol_id.hex()
    bundle = open_by_symbol_id(symbol)
    if bundle is None:
        raise WrongBundleError(
            f"the file was made with codec bundle {symbol}, which is not installed; "
            "put its folder into NICRT_BUNDLE_PATH"
        )
    return _codec(bundle, threads, backend, limits)


_loaded: dict[str, Codec] = {}
_loaded_lock = threading.Lock()


def decode(source: Buffer | str | os.PathLike[str]) -> Pixels:
    """Decode a .nic file, given by its bytes or its path, with the bundle that its id names → uint8 [height, width, 3].
    Keeps the bundle loaded. Raises as `Codec.decode` does, ImageError for a file that cannot be read.
    """
    data = _bytes_of(source)
    symbol = parse(data, DEFAULT_LIMITS).symbol_id.hex()
    with _loaded_lock:
        codec = _loaded.get(symbol)
        if codec is None:
            codec = _loaded[symbol] = load_for(data)
    return codec.decode(data)


def _bytes_of(source: Buffer | str | os.PathLike[str]) -> Buffer:
    if not isinstance(source, str | os.PathLike):
        try:
            return memoryview(source)
        except TypeError:
            raise TypeError(f"a file is given as bytes or a path, not as {type(source).__name__}") from None
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        raise ImageError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from None

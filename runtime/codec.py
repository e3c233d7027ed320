"""The public Python API: encode and decode with a codec bundle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .backends import GraphSet
from .bundle import Bundle
from .choose import DEFAULT_QUALITY, Wish
from .device.picture import Format, check_format, converted
from .encoding import Encoding
from .errors import LimitError, UnsupportedError, WrongBundleError
from .fileinfo import Buffer, FileInfo, info, parse, stages_to_run
from .iterative import Edit, check_request, normalised_weights
from .limits import Limits
from .opened import Opened, held_against
from .pictures import Rgb, from_array, resize
from .rect import Rect
from .sampling import sample_of
from .saturation import SaturationWarning
from .session import Coding, Session
from .target import Encoded, TargetWarning, Trial, psnr_of
from .warn import warn_caller

Pixels = npt.NDArray[np.uint8]
Trace = Callable[[str, float], None]  # told the name of every decoding step and its seconds
Watch = Callable[[_core.Coded], None]  # sees the symbols of every stream, zeros where not coded

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
        encoding = Encoding(self._bundle, session, sample, effort)
        if like is None:
            trial = encoding.best(Wish(quality, variant, scales, parameters or {}), edit)
        else:
            trial = encoding.like(held_against(parse(like, self._limits), self._bundle, self._limits))
        return self._told(trial, edit, None if like is not None else trial.wish.quality, report)

    def _session(self, pixels: Rgb, tile: int | None, symbols_per_lane: int) -> Session:
        coding = Coding(self._bundle, self._limits, self._graphs.engine)
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
        format: Format = "rgb",
        stage: int | None = None,
        partial: bool = False,
        strict: bool = False,
        region: tuple[int, int, int, int] | None = None,
        scale: float | None = None,
        trace: Trace | None = None,
    ) -> Pixels:
        """Decode a .nic file → uint8 array [height, width, 3], sRGB.

        format: "rgb", or "planar" or "nv12", in the shapes that DevicePicture has for them. stage: stop after this
        stage (from 1). partial: of a truncated file, decode the whole stages that are there. strict: refuse a file
        whose float graphs are not the bundle's, and any fallback to a less preferred backend. region: x, y, width,
        height of the part to decode, in pixels of the shown stage; only what it needs is read and run where the
        bundle's graphs give a halo. scale: 0..1, decode the lowest stage that is large enough and resample it to that
        share of the picture's size. trace: called with the name and the seconds of every step.
        Raises TruncatedError, CorruptError, UnsupportedError, LimitError or WrongBundleError; never returns a wrong
        picture.
        """
        check_format(format)
        if scale is not None:
            if stage is not None or region is not None or not 0 < scale <= 1:
                raise ValueError("scale is above 0 and at most 1, and goes without stage and region")
            file = parse(data, self._limits)
            stage, size = held_against(file, self._bundle, self._limits).stage_for(scale)
        pixels = self._run(data, stage=stage, partial=partial, strict=strict, region=region, trace=trace)
        assert pixels is not None
        return converted(pixels if scale is None else resize(pixels, size), format)

    @_memory_as_limit()
    def decode_batch(
        self,
        files: Sequence[Buffer],
        *,
        format: Format = "rgb",
        stage: int | None = None,
        strict: bool = False,
        trace: Trace | None = None,
    ) -> Pixels:
        """Decode files of one size, as `decode` does each → one array with an axis for them in front. Raises ValueError
        where sizes differ, or without any file.
        """
        check_format(format)
        if len({self.opened(data, stage=stage, pixels=False).rounds[-1].size for data in files}) != 1:
            raise ValueError("a batch has at least one file, and pictures of one size")
        pictures = (self._run(data, stage=stage, strict=strict, trace=trace) for data in files)
        return converted(np.stack([picture for picture in pictures if picture is not None]), format)

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
        return [coded.symbols for coded in self.coded(data)]

    def coded(self, data: Buffer) -> list[_core.Coded]:
        """What was coded in every stream of a file, in file order."""
        found: list[_core.Coded] = []
        self._run(data, pixels=False, watch=found.append)
        return found

    def same_pixels(self, file: FileInfo) -> bool:
        """Whether the file was made with the very float graphs of this bundle."""
        found = self._bundle.manifest.variant_of(file.symbol_id)
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
        engine, limits = self._graphs.engine, self._limits
        file = parse(data, limits)
        opened = engine.open(file, limits.pixels, limits.stages)
        stages = stages_to_run(file, len(data), stage, partial)
        if pixels:
            self._check_picture_id(file, opened.picture_id, strict)
        rect = None if region is None else _rect(region, opened.size(stages))
        if strict:
            refuse_fallbacks(self._graphs, opened.graphs(stages), "fell back to another backend")
        if trace is not None:
            trace("parse", perf_counter() - start)
        return engine.decode(opened, data, stages, rect, pixels, trace, watch)

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
        whole = held_against(file, self._bundle, limits)
        stages = stages_to_run(file, len(data), stage, partial)
        if pixels:
            self._check_picture_id(file, self._bundle.manifest.variants[whole.variant].picture_id, strict)
        return replace(whole, rounds=whole.rounds[:stages])

    def _check_picture_id(self, file: _core.File, picture_id: str, strict: bool) -> None:
        if file.picture_id.hex() == picture_id:
            return
        message = (
            f"the file was made with another version of bundle {self.name!r} (picture id {file.picture_id.hex()}, here "
            f"{picture_id}): the pixels may differ from those that its maker saw"
        )
        if strict:
            raise WrongBundleError(message)
        warn_caller(message, PictureIdWarning)


def refuse_fallbacks(graphs: GraphSet, names: Collection[str], what: str) -> None:
    """Raise UnsupportedError where one of these graphs has fallen back. what: has happened to it."""
    for graph, reasons in graphs.fallbacks_of(names).items():
        raise UnsupportedError(f"graph {graph!r} {what}: {reasons[0]}")


def _rect(region: tuple[int, int, int, int], size: tuple[int, int]) -> Rect:
    x, y, width, height = region
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > size[1] or y + height > size[0]:
        raise ValueError(f"region {x},{y},{width},{height} does not lie in the picture of {size[1]} x {size[0]}")
    return Rect(y, x, y + height, x + width)

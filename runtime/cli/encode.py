"""`nicrt encode`."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from .files import STANDARD, about, check_free, read, write
from .jobs import Job, jobs_to_do, replaces, run_jobs
from .json_lines import write_json
from .options import limits_of, threads_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..target import Encoded

DEFAULT_BUNDLE = "shallow"
SUFFIX = ".nic"
EXIT_TARGET_MISSED = 11


def _weights(path: str, max_pixels: int) -> npt.NDArray[np.float32]:
    """Grey values of a mask, float32 [height, width] in [0, 1]."""
    from ..pictures import load_picture

    with about(path):
        weights: npt.NDArray[np.float32] = load_picture(read(path), max_pixels).pixels.mean(axis=2)
    return weights


def _settings_file(path: str) -> bytes:
    with about(path):
        return read(path)


def _refuse_pictures(jobs: Sequence[Job]) -> None:
    """A picture is not what a .nic file may replace: whoever asks for that has mistaken the order of names. Raises
    ValueError for the name of a picture, ImageError for a file that is one.
    """
    from ..picture_types import is_picture, picture_suffixes

    for job in jobs:
        path = Path(job.target)
        suffix = path.suffix.lower()
        if job.target == STANDARD or (suffix == SUFFIX and not path.is_file()):
            continue
        if suffix != SUFFIX and suffix in picture_suffixes():
            raise ValueError(f"{path}: this is the name of a picture, not of a {SUFFIX} file; inputs come first")
        try:
            if path.is_file() and is_picture(path):
                raise ImageError(f"{path}: a picture, which a {SUFFIX} file does not replace; name another output")
        except OSError:
            pass  # what cannot be read is written or refused by its own rules


def _quality_by_region(
    pixels: npt.NDArray[np.uint8], original: npt.NDArray[np.float32], roi: npt.NDArray[np.float32]
) -> str:
    from ..target import mean_squared_error, psnr_of

    inside = roi >= 0.5
    parts = [
        f"{psnr_of(mean_squared_error(pixels, original, where)):.2f} dB {name}"
        for name, where in (("inside", inside), ("outside", ~inside))
        if where.any()
    ]
    return f"{', '.join(parts)} the mask (grey values from 128 on)"


def _figures(encoded: Encoded) -> str:
    """Size and rate, and what a search for a target chose and reached."""
    figures = f"{encoded.bytes} bytes, {encoded.bpp:.3f} bpp"
    if encoded.psnr is None:
        return figures
    return f"{figures}, {encoded.psnr:.2f} dB at quality {encoded.quality:.2f}"


def _facts(encoded: Encoded) -> dict[str, Any]:
    from ..evaluate import PSNR_OF_EQUAL

    psnr = None if encoded.psnr is None else round(min(PSNR_OF_EQUAL, encoded.psnr), 4)
    return {**asdict(encoded), "bpp": round(encoded.bpp, 5), "psnr": psnr}


def run(options: argparse.Namespace) -> int:
    from ..codec import load
    from ..pictures import READ_SUFFIXES, load_picture
    from ..saturation import SaturationWarning
    from ..target import TargetWarning

    jobs, report = jobs_to_do(options, SUFFIX, lambda: READ_SUFFIXES)
    if options.json and any(job.target == STANDARD for job in jobs):
        raise ValueError("--json and the file cannot both go to standard output; name the output file")
    _refuse_pictures(jobs)
    if not jobs:
        return 0
    codec = load(
        DEFAULT_BUNDLE if options.bundle is None else options.bundle,
        threads=threads_of(options),
        backend=options.backend,
        limits=limits_of(options),
    )

    like = _settings_file(options.like) if options.like else None

    roi = None if options.roi is None else _weights(options.roi, options.max_pixels)

    for said_below in (TargetWarning, SaturationWarning):  # with the file's name
        warnings.simplefilter("ignore", said_below)

    def work(job: Job) -> int:
        if options.no_clobber:
            check_free(job.target)
        told: list[Encoded] = []
        picture = load_picture(read(job.source), options.max_pixels)
        data = codec.encode(
            picture.pixels,
            quality=options.quality,
            effort=options.effort,
            lanes=options.lanes,
            variant=options.variant,
            scales=options.scales,
            parameters=dict(options.parameter),
            like=like,
            target_bpp=options.bpp,
            target_psnr=options.psnr,
            roi=roi,
            ms_ssim_weight=options.ms_ssim_weight,
            report=told.append,
        )
        write(job.target, data, replace=replaces(options))
        (encoded,) = told
        height, width = picture.pixels.shape[:2]
        report.add_pixels(width * height)
        report.note(f"{job.source}: {width} x {height}, {_figures(encoded)}")
        if roi is not None:
            report.note(f"{job.source}: {_quality_by_region(codec.decode(data), picture.pixels, roi)}")
        for line in encoded.clipped:
            report.note(f"{job.source}: {line}")
        for what in picture.dropped:
            report.note(f"{job.source}: not kept: {what}")
        if options.json:
            write_json({"file": job.target, "source": job.source, "width": width, "height": height, **_facts(encoded)})
        if encoded.missed is not None:
            report.error(f"{job.source}: {encoded.missed}")
            return EXIT_TARGET_MISSED
        return 0

    return run_jobs(jobs, work, options.jobs, report)

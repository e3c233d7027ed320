"""`nicrt encode`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageError
from .files import STANDARD, about, check_free, read, write
from .jobs import Job, jobs_to_do, replaces, run_jobs
from .options import limits_of, threads_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEFAULT_BUNDLE = "shallow"
SUFFIX = ".nic"


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


def run(options: argparse.Namespace) -> int:
    from ..codec import load
    from ..picture_types import readable_suffixes
    from ..pictures import load_picture

    jobs, report = jobs_to_do(options, SUFFIX, readable_suffixes)
    _refuse_pictures(jobs)
    if not jobs:
        return 0
    codec = load(
        options.bundle or DEFAULT_BUNDLE,
        threads=threads_of(options),
        backend=options.backend,
        limits=limits_of(options),
    )

    like = _settings_file(options.like) if options.like else None

    roi = None if options.roi is None else _weights(options.roi, options.max_pixels)

    def work(job: Job) -> int:
        if options.no_clobber:
            check_free(job.target)
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
        )
        write(job.target, data, replace=replaces(options))
        height, width = picture.pixels.shape[:2]
        bpp = 8 * len(data) / (width * height)
        report.add_pixels(width * height)
        report.note(f"{job.source}: {width} x {height}, {len(data)} bytes, {bpp:.3f} bpp")
        if roi is not None:
            report.note(f"{job.source}: {_quality_by_region(codec.decode(data), picture.pixels, roi)}")
        for what in picture.dropped:
            report.note(f"{job.source}: not kept: {what}")
        return 0

    return run_jobs(jobs, work, options.jobs, report)

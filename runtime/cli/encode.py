"""`nicrt encode`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .files import Job, Report, jobs_of, read, run_jobs, write
from .options import limits_of, threads_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEFAULT_BUNDLE = "shallow"


def _weights(path: str, max_pixels: int) -> npt.NDArray[np.float32]:
    """Grey values of a mask, float32 [height, width] in [0, 1]."""
    from ..pictures import load_picture

    weights: npt.NDArray[np.float32] = load_picture(read(path), max_pixels).pixels.mean(axis=2)
    return weights


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
    from ..pictures import load_picture
    from ..saturation import saturations

    jobs = jobs_of(options.paths, ".nic")
    report = Report(options.quiet, len(jobs))
    codec = load(
        options.bundle or DEFAULT_BUNDLE,
        threads=threads_of(options),
        backend=options.backend,
        limits=limits_of(options),
    )

    like = read(options.like) if options.like else None

    roi = None if options.roi is None else _weights(options.roi, options.max_pixels)

    def work(job: Job) -> int:
        picture = load_picture(read(job.source), options.max_pixels)
        with saturations() as clipped:
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
        write(job.target, data)
        height, width = picture.pixels.shape[:2]
        bpp = 8 * len(data) / (width * height)
        report.note(f"{job.source}: {width} x {height}, {len(data)} bytes, {bpp:.3f} bpp")
        if roi is not None:
            report.note(f"{job.source}: {_quality_by_region(codec.decode(data), picture.pixels, roi)}")
        for stream in clipped:
            report.note(f"{job.source}: {stream}")
        for what in picture.dropped:
            report.note(f"{job.source}: not kept: {what}")
        return 0

    return run_jobs(jobs, work, options.jobs, report)

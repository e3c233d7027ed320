"""`nicrt encode`."""

from __future__ import annotations

import argparse

from .files import Job, Report, jobs_of, read, run_jobs, write
from .options import limits_of, threads_of

DEFAULT_BUNDLE = "shallow"


def run(options: argparse.Namespace) -> int:
    from ..codec import load
    from ..pictures import load_picture

    jobs = jobs_of(options.paths, ".nic")
    report = Report(options.quiet, len(jobs))
    codec = load(
        options.bundle or DEFAULT_BUNDLE,
        threads=threads_of(options),
        backend=options.backend,
        limits=limits_of(options),
    )

    like = read(options.like) if options.like else None

    def work(job: Job) -> int:
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
        )
        write(job.target, data)
        height, width = picture.pixels.shape[:2]
        bpp = 8 * len(data) / (width * height)
        report.note(f"{job.source}: {width} x {height}, {len(data)} bytes, {bpp:.3f} bpp")
        for what in picture.dropped:
            report.note(f"{job.source}: not kept: {what}")
        return 0

    return run_jobs(jobs, work, options.jobs, report)

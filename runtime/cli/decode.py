"""`nicrt decode`."""

from __future__ import annotations

import argparse
import warnings

from .codecs import CodecSource
from .files import STANDARD, Job, Report, jobs_of, read, run_jobs, write
from .options import limits_of, threads_of

EXIT_PARTIAL = 3


def run(options: argparse.Namespace) -> int:
    from ..codec import PictureIdWarning
    from ..fileinfo import info
    from ..pictures import output_format, save_picture

    jobs = jobs_of(options.paths, f".{options.format or 'png'}")
    report = Report(options.quiet, len(jobs))
    limits = limits_of(options)
    codecs = CodecSource(options.bundle, threads_of(options), options.backend, limits)
    # refused before any work; standard output gets what needs no name
    formats = {
        job.target: output_format(
            options.format or ("ppm" if job.target == STANDARD else job.target),
            quality=options.output_quality,
            allow_palette=options.allow_palette,
        )
        for job in jobs
    }
    warnings.simplefilter("ignore", PictureIdWarning)  # said below, with the file's name

    def work(job: Job) -> int:
        data = read(job.source)
        header = info(data, limits=limits)
        codec = codecs.codec_for(data, header.symbol_id)
        pixels = codec.decode(
            data,
            stage=options.stage,
            partial=options.partial,
            strict=options.strict,
            region=options.region,
            scale=options.scale,
        )
        write(job.target, save_picture(pixels, formats[job.target], quality=options.output_quality))
        if not codec.same_pixels(header):
            report.note(f"{job.source}: made with another version of bundle {codec.name!r}: pixels may differ slightly")
        if options.stage is None and header.complete_stages < header.stages:
            report.note(f"{job.source}: partial: {header.complete_stages} of {header.stages} stages")
            return EXIT_PARTIAL
        return 0

    return run_jobs(jobs, work, options.jobs, report)

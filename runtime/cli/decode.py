"""`nicrt decode`."""

from __future__ import annotations

import argparse
import warnings

from .codecs import CodecSource, on_host
from .files import STANDARD, check_free, read, write
from .jobs import Job, jobs_to_do, replaces, run_jobs
from .options import device_of, limits_of, threads_of
from .report import own_warnings

EXIT_PARTIAL = 3


def run(options: argparse.Namespace) -> int:
    from ..codec import PictureIdWarning
    from ..fileinfo import info
    from ..pictures import output_format, save_picture
    from ..private_folder import CacheWarning

    jobs, report = jobs_to_do(options, f".{options.format or 'png'}", lambda: {".nic"})
    if not jobs:
        return 0
    limits = limits_of(options)
    codecs = CodecSource(options.bundle, threads_of(options), options.backend, limits, device_of(options))
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
        if options.no_clobber:
            check_free(job.target)
        data = read(job.source)
        header = info(data, limits=limits)
        codec = codecs.codec_for(data, header.symbol_id)
        pixels = on_host(
            codec.decode(
                data,
                stage=options.stage,
                partial=options.partial,
                strict=options.strict,
                region=options.region,
                scale=options.scale,
            )
        )
        data = save_picture(pixels, formats[job.target], quality=options.output_quality)
        write(job.target, data, replace=replaces(options))
        report.add_pixels(pixels.shape[0] * pixels.shape[1])
        if not codec.same_pixels(header):
            report.note(f"{job.source}: made with another version of bundle {codec.name!r}: pixels may differ")
        if options.stage is None and header.complete_stages < header.stages:
            report.note(f"{job.source}: partial: {header.complete_stages} of {header.stages} stages")
            return EXIT_PARTIAL
        return 0

    with own_warnings(report, CacheWarning):
        return run_jobs(jobs, work, options.jobs, report)

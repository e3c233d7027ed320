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
from .json_lines import facts_or_error
from .options import limits_of, threads_of
from .report import Report, own_warnings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..codec import Codec
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


def _facts(width: int, height: int, encoded: Encoded) -> dict[str, Any]:
    from ..evaluate import PSNR_OF_EQUAL

    psnr = None if encoded.psnr is None else round(min(PSNR_OF_EQUAL, encoded.psnr), 4)
    return {"width": width, "height": height, **asdict(encoded), "bpp": round(encoded.bpp, 5), "psnr": psnr}


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What `Codec.encode` takes beside the picture."""
    return {
        "quality": options.quality,
        "effort": options.effort,
        "lanes": options.lanes,
        "variant": options.variant,
        "scales": options.scales,
        "parameters": dict(options.parameter),
        "like": _settings_file(options.like) if options.like else None,
        "target_bpp": options.bpp,
        "target_psnr": options.psnr,
        "roi": None if options.roi is None else _weights(options.roi, options.max_pixels),
        "ms_ssim_weight": options.ms_ssim_weight,
    }


def _encode(
    job: Job, codec: Codec, settings: dict[str, Any], options: argparse.Namespace, report: Report
) -> dict[str, Any]:
    """Make one file and report on it. Returns its facts for JSON."""
    from ..pictures import load_picture

    if options.no_clobber:
        check_free(job.target)
    told: list[Encoded] = []
    picture = load_picture(read(job.source), options.max_pixels)
    data = codec.encode(picture.pixels, **settings, report=told.append)
    write(job.target, data, replace=replaces(options))
    (encoded,) = told
    height, width = picture.pixels.shape[:2]
    report.add_pixels(width * height)
    report.note(f"{job.source}: {width} x {height}, {_figures(encoded)}")
    if settings["roi"] is not None:
        report.note(f"{job.source}: {_quality_by_region(codec.decode(data), picture.pixels, settings['roi'])}")
    for line in encoded.clipped:
        report.note(f"{job.source}: {line}")
    for what in picture.dropped:
        report.note(f"{job.source}: not kept: {what}")
    return _facts(width, height, encoded)


def run(options: argparse.Namespace) -> int:
    from ..loading import load
    from ..pictures import READ_SUFFIXES
    from ..private_folder import CacheWarning
    from ..saturation import SaturationWarning
    from ..target import TargetWarning

    beside = [path for path in (options.like, options.roi) if path]
    jobs, report = jobs_to_do(options, SUFFIX, lambda: READ_SUFFIXES, beside)
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
    settings = _settings(options)
    for said_below in (TargetWarning, SaturationWarning):  # with the file's name
        warnings.simplefilter("ignore", said_below)

    def work(job: Job) -> int:
        facts = facts_or_error(
            {"file": job.target, "source": job.source},
            lambda: _encode(job, codec, settings, options, report),
            as_json=options.json,
        )
        if facts["missed"] is not None:
            report.error(f"{job.source}: {facts['missed']}")
            return EXIT_TARGET_MISSED
        return 0

    with own_warnings(report, CacheWarning):
        return run_jobs(jobs, work, options.jobs, report)

"""`nicrt evaluate`."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import STANDARD, about, check_outputs, named, read, write
from .jobs import files_below, said_of
from .options import limits_of, threads_of
from .report import Report, own_warnings

if TYPE_CHECKING:
    from ..evaluate import Coder, Pixels


def run(options: argparse.Namespace) -> int:
    if options.compare:
        check_outputs([options.plot, options.output], options.compare, replace=not options.no_clobber)
        return _compare(options)
    if not options.paths:
        raise ValueError("a bundle (or jpeg, webp, avif) and pictures are needed, or --compare")
    return _evaluate(options)


def _evaluate(options: argparse.Namespace) -> int:
    from ..evaluate import Measurement, measure, plot, results

    name, *sources = options.paths
    note = Report(options.quiet, 1).note
    files, left_out = _files(sources)
    check_outputs([options.plot, options.output], files, replace=not options.no_clobber)
    for line in left_out:
        note(line)
    pictures = _pictures(files, options.max_pixels, note)
    coder = _coder(name, options)
    qualities = options.qualities or coder.qualities
    report = Report(options.quiet, len(pictures) * len(qualities))

    def seen(item: Measurement) -> None:
        report.note(
            f"{item.picture} quality {item.quality:g}: {item.bpp:.4f} bpp, {item.psnr:.2f} dB, "
            f"encode {item.encode_ms:.0f} ms, decode {item.decode_ms:.0f} ms"
        )
        report.finished()

    with own_warnings(report):
        found = results(coder, measure(coder, pictures, qualities, seen))
    replace = not options.no_clobber
    if options.plot:
        write(options.plot, plot([found], options.plot), replace=replace)
    if options.output:
        write(options.output, _text(found), replace=replace)
    if options.output != STANDARD:
        _print_table(found)
    return 0


def _text(found: dict[str, Any]) -> bytes:
    """JSON with a line per picture."""
    pictures = ",\n".join(f"    {json.dumps(item)}" for item in found["pictures"])
    head = json.dumps({key: value for key, value in found.items() if key != "pictures"}, indent=2)
    return f'{head[:-2]},\n  "pictures": [\n{pictures}\n  ]\n}}\n'.encode()


def _print_table(found: dict[str, Any]) -> None:
    columns = {"quality": found["qualities"], **found["results"]}
    print("  ".join(f"{title:>13}" for title in columns))
    for row in zip(*columns.values(), strict=True):
        print("  ".join(f"{value:>13.4f}" for value in row))


def _files(sources: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files that are named, and all pictures in the trees of the folders; lines on what those have besides. Raises
    ValueError when there are none, and as `files_below`.
    """
    from ..pictures import READ_SUFFIXES

    files, left_out = list[str](), list[str]()
    for source in sources:
        if Path(source).is_dir():
            skipped = Counter[str]()
            files += map(str, files_below(Path(source), READ_SUFFIXES, skipped))
            left_out += said_of(source, skipped)
        else:
            files.append(source)
    if not files:
        raise ValueError("no pictures to evaluate on")
    return files, left_out


def _pictures(files: Sequence[str], max_pixels: int, note: Callable[[str], None]) -> dict[str, Pixels]:
    """Name → pixels of each file; notes what they lose."""
    from ..pictures import load_picture, rounded

    stems = [Path(file).stem for file in files]
    pictures: dict[str, Pixels] = {}
    for stem, file in zip(stems, files, strict=True):
        with about(named(file, "standard input")):
            picture = load_picture(read(file), max_pixels)
        for what in picture.dropped:
            note(f"{file}: not measured: {what}")
        pictures[stem if stems.count(stem) == 1 else file] = rounded(picture.pixels)
    return pictures


def _coder(name: str, options: argparse.Namespace) -> Coder:
    from ..evaluate import BundleCoder
    from ..loading import load
    from ..peers import PILLOW

    if name in PILLOW:
        return PILLOW[name]
    codec = load(name, threads=threads_of(options), backend=options.backend, limits=limits_of(options))
    settings = {
        "effort": options.effort,
        "variant": options.variant,
        "scales": options.scales,
        "parameters": dict(options.parameter),
    }
    return BundleCoder(codec, options.name or codec.name, settings)


def _compare(options: argparse.Namespace) -> int:
    from ..evaluate import check_same_pictures, compare, plot, read_results

    if options.paths or len(options.compare) < 2:
        raise ValueError("--compare takes two result files or more, and nothing is encoded then")
    anchor, *others = (read_results(Path(path)) for path in options.compare)
    report = Report(options.quiet, len(others))
    for other in others:
        if not check_same_pictures(anchor, other):
            report.note(f"{other['name']} against {anchor['name']}: not both list their pictures: are they the same?")
    deltas = {other["name"]: compare(anchor, other) for other in others}
    replace = not options.no_clobber
    if options.plot:
        write(options.plot, plot([anchor, *others], options.plot), replace=replace)
    if options.output:
        text = json.dumps({"anchor": anchor["name"], "deltas": deltas}, indent=2)
        write(options.output, text.encode() + b"\n", replace=replace)
    if options.output != STANDARD:
        for name, values in deltas.items():
            facts = [f"BD-rate {values['bd_rate_psnr']:+.1f}%", f"BD-PSNR {values['bd_psnr']:+.2f} dB"]
            if "bd_rate_ms_ssim" in values:
                facts.append(f"BD-rate by MS-SSIM {values['bd_rate_ms_ssim']:+.1f}%")
            print(f"{name} against {anchor['name']}: {', '.join(facts)}")
    return 0

"""Which file becomes which: names, folders and their trees; what is refused before any work; many files at a time."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError
from .files import STANDARD, identity, named, reason
from .report import Report, explain

EXIT_FAILED = 1


@dataclass(frozen=True)
class Job:
    """One input and its output, each a path or `-`."""

    source: str
    target: str


def jobs_of(
    paths: Sequence[str], suffix: str, taken: Callable[[], Collection[str]], beside: Sequence[str] = ()
) -> tuple[list[Job], list[str]]:
    """`IN OUT` or `IN... FOLDER`; in a folder an output has its input's name with `suffix`.

    An input that is a folder stands for the files below it whose suffix is one of `taken()`; the output has the same
    tree. beside: files that the command reads besides. Also returns lines on what was left out. Raises ValueError, also
    for jobs that would destroy each other's files or those `beside`, and ImageError.
    """
    if len(paths) < 2:
        raise ValueError("an input and an output are needed")
    if "" in paths:  # of a variable that is not set; the system would take it for the working directory
        raise ValueError("the name of an input or of the output is empty")
    *sources, target = paths
    folders = [source for source in sources if source != STANDARD and Path(source).is_dir()]
    to_folder = Path(target).is_dir() or target.endswith(("/", os.sep))
    if len(sources) == 1 and not folders and not to_folder:
        return _checked([Job(sources[0], target)], beside), []
    if target == STANDARD or (not to_folder and (Path(target).exists() or (not folders and Path(target).suffix))):
        raise ValueError(f"several inputs need a folder as output, and {target} is none")
    if STANDARD in sources:
        raise ValueError("standard input has no name for a file in a folder; name the output file")
    jobs, left_out = list[Job](), list[str]()
    for source in sources:
        if source not in folders:
            jobs.append(Job(source, str(Path(target) / (Path(source).stem + suffix))))
            continue
        skipped = Counter[str]()
        for file in files_below(Path(source), taken(), skipped):
            place = Path(target) / file.relative_to(source).parent
            jobs.append(Job(str(file), str(place / (file.stem + suffix))))
        left_out += said_of(source, skipped)
    if not jobs:
        raise ValueError(f"{', '.join(folders)}: no file of a type that this command takes")
    return _checked(jobs, beside), left_out


def said_of(folder: str, skipped: Counter[str]) -> list[str]:
    """A line on what `files_below` left out of a folder; none where that is nothing."""
    counts = ", ".join(f"{count} {what}" for what, count in sorted(skipped.items()))
    return [f"{folder}: left out: {counts}"] if skipped else []


def jobs_to_do(
    options: argparse.Namespace, suffix: str, taken: Callable[[], Collection[str]], beside: Sequence[str] = ()
) -> tuple[list[Job], Report]:
    """What `jobs_of` makes of the paths, without those that `--skip-existing` leaves out, and where to report on them.
    Raises as `jobs_of` does.
    """
    jobs, left_out = jobs_of(options.paths, suffix, taken, beside)
    to_do = [job for job in jobs if not (options.skip_existing and Path(job.target).is_file())]
    report = Report(options.quiet, len(to_do))
    for line in left_out:
        report.note(line)
    if len(to_do) < len(jobs):
        report.note(f"skipped: {len(jobs) - len(to_do)} of {len(jobs)}, whose outputs exist")
    return to_do, report


def replaces(options: argparse.Namespace) -> bool:
    """Whether an output may take the place of a file."""
    return not (options.no_clobber or options.skip_existing)


def files_below(folder: Path, suffixes: Collection[str], skipped: Counter[str]) -> Iterator[Path]:
    """Files of these types in the tree of a folder, by name; counts the rest. Links are followed. Raises ImageError for
    a folder that cannot be listed, and for a link to a folder above it.
    """
    status = folder.stat()
    waiting = [(folder, (status.st_dev, status.st_ino), frozenset[tuple[int, int]]())]
    while waiting:
        folder, this, above = waiting.pop()
        if this in above:
            raise ImageError(f"{folder}: it links to a folder above it, so its tree has no end")
        inside = []
        try:
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    skipped["hidden"] += 1
                elif entry.is_dir():
                    status = entry.stat()
                    inside.append((folder / entry.name, (status.st_dev, status.st_ino), above | {this}))
                elif not entry.is_file():
                    skipped["neither files nor folders"] += 1
                elif Path(entry.name).suffix.lower() in suffixes:
                    yield folder / entry.name
                else:
                    skipped["of other types"] += 1
        except OSError as error:
            raise ImageError(f"{error.filename or folder}: cannot read the folder: {reason(error)}") from None
        waiting += reversed(inside)


def _checked(jobs: list[Job], beside: Sequence[str]) -> list[Job]:
    """Refuse, by ValueError, two inputs with one output and outputs that are inputs."""
    by_target = dict[object, Job]()
    for job in jobs:
        other = by_target.setdefault(identity(job.target, 1) or os.path.realpath(job.target), job)
        if other is not job:
            raise ValueError(f"{other.source} and {job.source} would both be written to {job.target}")
    for path in [*(job.source for job in jobs), *beside]:
        source = identity(path, 0)
        if source is not None and source in by_target:
            raise ValueError(f"{named(by_target[source].target, 'standard output')} is an input: it stays as it is")
    return jobs


def run_jobs(jobs: Sequence[Job], work: Callable[[Job], int], workers: int, report: Report) -> int:
    """Run `work` on every job; a failure is one line and does not stop the others. Returns the first exit code that is
    not 0. Raises BrokenPipeError.
    """

    def guarded(job: Job) -> int:
        try:
            return work(job)
        except BrokenPipeError:
            raise
        except Exception as error:
            text, code = explain(error, EXIT_FAILED)
            report.error(f"{named(job.source, 'standard input')}: {text}")
            return code

    codes = []
    with ThreadPoolExecutor(workers) as pool:
        for code in pool.map(guarded, jobs):
            codes.append(code)
            report.finished()
    return next((code for code in codes if code), 0)

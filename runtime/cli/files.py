"""Where inputs come from and outputs go: files, folders, standard streams; atomic writes; many files at a time."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError, NicrtError

STANDARD = "-"
EXIT_FAILED = 1


@dataclass(frozen=True)
class Job:
    """One input and its output, each a path or `-`."""

    source: str
    target: str


def jobs_of(paths: Sequence[str], suffix: str) -> list[Job]:
    """`IN OUT` or `IN... FOLDER`; in a folder an output has its input's name with `suffix`. Raises ValueError."""
    if len(paths) < 2:
        raise ValueError("an input and an output are needed")
    *sources, target = paths
    folder = Path(target).is_dir() or target.endswith(("/", os.sep))
    if len(sources) > 1 and not folder and (target == STANDARD or Path(target).suffix):
        raise ValueError(f"several inputs need a folder as output, and {target} is none")
    if len(sources) == 1 and not folder:
        return [Job(sources[0], target)]
    if STANDARD in sources:
        raise ValueError("standard input has no name for a file in a folder; name the output file")
    jobs = [Job(source, str(Path(target) / (Path(source).stem + suffix))) for source in sources]
    if len({job.target for job in jobs}) < len(jobs):
        raise ValueError("two inputs would be written to one output; their names differ in folder or type alone")
    return jobs


def read(source: str) -> bytes:
    """All bytes of a file or of standard input. Raises ImageError."""
    try:
        return sys.stdin.buffer.read() if source == STANDARD else Path(source).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read it: {error.strerror or error}") from None


def write(target: str, data: bytes) -> None:
    """Write a file whole or not at all; `-` is standard output. Raises ImageError."""
    try:
        if target == STANDARD:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            _write_atomically(Path(target), data)
    except OSError as error:
        raise ImageError(f"cannot write {target}: {error.strerror or error}") from None


def _write_atomically(path: Path, data: bytes) -> None:
    if path.exists() and not path.is_file():  # a device or a pipe: nothing to replace
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)  # mkstemp's 0600 is for secrets
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


class Report:
    """Messages on standard error: errors always, the rest unless quiet."""

    def __init__(self, quiet: bool, total: int) -> None:
        self._quiet = quiet
        self._progress = total > 1 and not quiet and sys.stderr.isatty()
        self._total = total
        self._done = 0

    def note(self, text: str) -> None:
        if not self._quiet:
            self._line(text)

    def error(self, text: str) -> None:
        self._line(f"nicrt: {text}")

    def finished(self) -> None:
        self._done += 1
        if self._progress:
            end = "\n" if self._done == self._total else ""
            print(f"\r\x1b[K{self._done}/{self._total} files", end=end, file=sys.stderr, flush=True)

    def _line(self, text: str) -> None:
        clear = "\r\x1b[K" if self._progress else ""
        print(clear + text, file=sys.stderr, flush=True)


def run_jobs(jobs: Sequence[Job], work: Callable[[Job], int], workers: int, report: Report) -> int:
    """Run `work` on every job; a failure is one line and does not stop the others. Returns the first exit code that is
    not 0.
    """

    def guarded(job: Job) -> int:
        try:
            return work(job)
        except NicrtError as error:
            report.error(f"{job.source}: {error}")
            return error.exit_code
        except ValueError as error:
            report.error(f"{job.source}: {error}")
            return EXIT_FAILED

    codes = []
    with ThreadPoolExecutor(workers) as pool:
        for code in pool.map(guarded, jobs):
            codes.append(code)
            report.finished()
    return next((code for code in codes if code), 0)

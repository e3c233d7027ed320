"""What a person reads: messages and progress on standard error, and what a failure is called."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import ImageError, InternalError, LimitError, NicrtError, one_line, plain
from .files import reason

TRACEBACK_VARIABLE = "NICRT_TRACEBACK"

# Control characters, line separators, overrides of the writing direction, and bytes that are no text (surrogates)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CLEAR_LINE = "\r\x1b[K"


def printable(text: str) -> str:
    """Text as one line that does nothing to a terminal: names of files may have anything in them."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def explain(error: Exception, value_error_code: int) -> tuple[str, int]:
    """As `described`, after the traceback for those who ask for it."""
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    return described(error, value_error_code)


def described(error: Exception, value_error_code: int) -> tuple[str, int]:
    """A failure as one line and an exit code. A ValueError is a mistake of whoever called; its code depends on when it
    showed.
    """
    if isinstance(error, NicrtError):
        return plain(str(error)), error.exit_code
    if type(error) is ValueError:  # its subclasses (text that cannot be decoded, ...) are not raised on purpose
        return str(error), value_error_code
    if isinstance(error, MemoryError):
        return "not enough memory", LimitError.exit_code
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename is not None else ""
        return f"{name}{reason(error)}", ImageError.exit_code
    what = f"{type(error).__name__}: {one_line(error)}"
    how = f"please report it with what {TRACEBACK_VARIABLE}=1 prints"
    return f"internal error ({what}); {how}", InternalError.exit_code


def say_error(text: str) -> None:
    """One line on standard error; where that is closed or full, nothing: the exit code tells."""
    _print(f"nicrt: {printable(text)}\n")


def _print(text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text)
        sys.stderr.flush()


class Report:
    """Messages on standard error: errors always, the rest unless quiet. Several threads may use it."""

    def __init__(self, quiet: bool, total: int) -> None:
        terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._quiet = quiet
        self._progress = total > 1 and not quiet and terminal
        self._total = total
        self._done = 0
        self._pixels = 0
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        if not self._quiet:
            self._line(printable(text))

    def error(self, text: str) -> None:
        self._line(f"nicrt: {printable(text)}")

    def add_pixels(self, count: int) -> None:
        """Pixels that were coded, for the speed."""
        with self._lock:
            self._pixels += count

    def finished(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress:
                end = "\n" if self._done == self._total else ""
                _print(f"{_CLEAR_LINE}{self._standing()}{end}")

    def _standing(self) -> str:
        seconds = max(1e-9, time.monotonic() - self._start)
        parts = [f"{self._done}/{self._total} files"]
        if self._pixels:
            parts.append(f"{self._pixels / seconds / 1e6:.1f} MP/s")
        if self._done < self._total:
            left = round(seconds / self._done * (self._total - self._done))
            parts.append(f"{left // 60}:{left % 60:02d} left")
        return ", ".join(parts)

    def _line(self, text: str) -> None:
        with self._lock:
            _print(f"{_CLEAR_LINE if self._progress else ''}{text}\n")


@contextmanager
def own_warnings(report: Report, *categories: type[Warning]) -> Iterator[None]:
    """What nicrt warns of inside becomes notes, each text once. categories: which of its warnings, all by default."""
    from ..codec import PictureIdWarning
    from ..private_folder import CacheWarning
    from ..saturation import SaturationWarning

    said = set[str]()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = str(message)
        if text not in said:
            said.add(text)
            report.note(f"warning: {text}")

    with warnings.catch_warnings():
        for category in categories or (CacheWarning, PictureIdWarning, SaturationWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield

"""The `nicrt` process around `main`: signals that end it at once, standard streams in any condition."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from types import FrameType

from ..errors import InternalError
from ..whole_files import discard_scratch, write_all
from . import main

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_POLL_S = 0.05


def run() -> int:
    """Run the command line of this process; returns the exit code.

    The command runs in a thread of its own: Python handles signals in the main thread alone, between its instructions,
    and a call into C++ may take seconds. The main thread waits, so that it can handle them at any time.
    """
    _prepare_streams()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # other libraries' are for programmers
    codes: list[int] = []

    def work() -> None:
        try:
            codes.append(main())
        except SystemExit as ended:
            codes.append(int(ended.code or 0))

    command = threading.Thread(target=work, daemon=True)
    for number in _ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, _end)
    command.start()
    while command.is_alive():  # a signal that comes just before the main thread falls asleep does not wake it
        command.join(_POLL_S)
    return codes[0] if codes else InternalError.exit_code


def _end(number: int, frame: FrameType | None) -> None:
    """Leave no scratch, then die of the signal itself: shells end their loops for that, not for an exit code of 130."""
    discard_scratch()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


class _WholeWriter(io.RawIOBase):
    """An open file whose `write` takes everything: Python drops what a short write leaves over where it does not
    buffer.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: memoryview) -> int:  # type: ignore[override] # what BufferedWriter hands over
        try:
            write_all(self._descriptor, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None
        return len(data)


def _prepare_streams() -> None:
    """A stream that is closed gets a descriptor nonetheless, one that fails: the next file to be opened would get its
    number and what is meant for the stream. Text that the terminal's encoding lacks is written as escapes.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    raw = _WholeWriter(1)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=raw.isatty()
    )
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for the life of the process

"""Where bytes come from and go: files and standard streams."""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import ImageError, LimitError, NicrtError
from ..limits import MAX_INPUT_BYTES
from ..whole_files import write_file

STANDARD = "-"


def read(source: str) -> bytes:
    """All bytes of a file, a pipe or standard input. Raises ImageError, or LimitError beyond MAX_INPUT_BYTES."""
    try:
        if source == STANDARD:
            if sys.stdin is None:
                raise OSError("it is closed")
            return _read_all(sys.stdin.buffer)
        with Path(source).open("rb") as file:
            return _read_all(file)
    except OSError as error:
        raise ImageError(f"cannot read it: {reason(error)}") from None


def write(target: str, data: bytes, *, replace: bool = True) -> None:
    """Write a file whole or not at all; `-` is standard output. Raises ImageError, and BrokenPipeError when whoever
    reads standard output has gone.
    """
    if sys.stdout is not None:
        # What was printed comes first, also where target is /dev/stdout. Text that cannot be written stays in the
        # buffer: it is no failure of this file, and the command says so when it ends.
        with suppress(OSError):
            sys.stdout.flush()
    try:
        if target != STANDARD:
            write_file(target, data, replace=replace)
        elif sys.stdout is None:
            raise OSError("it is closed")
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ImageError(f"cannot write {named(target, 'standard output')}: {reason(error)}") from None


def check_free(target: str) -> None:
    """For `--no-clobber`, before any work. Raises ImageError for a target that is a file."""
    if target != STANDARD and Path(target).is_file():
        raise ImageError(f"cannot write {target}: it exists")


def check_outputs(outputs: Sequence[str | None], inputs: Sequence[str], *, replace: bool) -> None:
    """Before any work of a command that writes besides what it is for. Raises ValueError for an output that is an input
    or another output, and as `check_free` unless `replace`.
    """
    taken = {identity(path, 0): path for path in inputs} | {os.path.realpath(path): path for path in inputs}
    for output in filter(None, outputs):
        keys = [os.path.realpath(output), identity(output, 1)]
        if any(key is not None and key in taken for key in keys) and output != STANDARD:
            raise ValueError(f"{output} is an input or another output: it stays as it is")
        taken |= {key: output for key in keys}
        if not replace:
            check_free(output)


def identity(path: str, standard: int) -> tuple[int, int] | None:
    """Device and number of a regular file, whatever name it goes by; `standard`: descriptor that `-` stands for."""
    try:
        status = os.stat(standard if path == STANDARD else path)  # noqa: PTH116 - of a descriptor too
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def regular_file(path: str) -> None:
    """Raises ImageError for what cannot be read as a file: to open a pipe would wait for a writer."""
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise ImageError(f"{path}: cannot read it: {reason(error)}") from None
    if not stat.S_ISREG(mode):
        raise ImageError(f"{path}: {'a folder' if stat.S_ISDIR(mode) else 'a pipe or device'}, but a file is needed")


@contextmanager
def about(name: str) -> Iterator[None]:
    """Errors get the name of the file that they are about."""
    try:
        yield
    except NicrtError as error:
        raise type(error)(f"{name}: {error}") from error


def named(path: str, standard: str) -> str:
    """A path as messages call it."""
    return standard if path == STANDARD else path


def reason(error: OSError) -> str:
    """What the system says, without the number and the path."""
    if error.errno == errno.EBADF:
        return "it is closed"
    return error.strerror or str(error) or type(error).__name__


def _read_all(stream: BinaryIO) -> bytes:
    data = io.BytesIO()  # which gives away what it has gathered without a copy
    while True:
        part = stream.read(1 << 20)
        if part is None:  # whoever gave us the pipe made it non-blocking
            select.select([stream], [], [])
        elif not part:
            return data.getvalue()
        elif data.tell() + len(part) > MAX_INPUT_BYTES:
            raise LimitError(f"it has more than {MAX_INPUT_BYTES >> 30} GiB")
        else:
            data.write(part)

"""Every error that nicrt raises on purpose.

    NicrtError
    ├── TruncatedError      the data ends too early: more input may help
    ├── CorruptError        the bytes are damaged
    ├── UnsupportedError    not a .nic file, or something this version cannot do
    ├── LimitError          larger than a limit that the caller can raise
    ├── WrongBundleError    the file was made with another codec bundle
    ├── ImageError          the input picture cannot be read or the output not written
    ├── InternalError       a defect in nicrt
    └── CancelledError      the caller has ended the work

Mistakes of the caller (a wrong type, a quality of 200) are ValueError and TypeError. `exit_code` is what the command
line ends with; 11 goes with no error: `nicrt encode` has written a file, but missed its target. `Code` in
cpp_ext/include/nicrt/status.hpp is the same list in C++.
"""

from __future__ import annotations

import re


class NicrtError(Exception):
    """Base of all errors; the message is one line for a person and says what to do where there is something to do."""

    exit_code = 1


class TruncatedError(NicrtError):
    """The data ends too early: more input may help."""

    exit_code = 4


class CorruptError(NicrtError):
    """The bytes are damaged."""

    exit_code = 5


class UnsupportedError(NicrtError):
    """Not a .nic file or bundle, or something that this version cannot do."""

    exit_code = 6


class LimitError(NicrtError):
    """Larger than a limit that the caller can raise."""

    exit_code = 7


class WrongBundleError(NicrtError):
    """Made with another codec bundle."""

    exit_code = 8


class ImageError(NicrtError):
    """A picture or file that cannot be read or written."""

    exit_code = 9


class InternalError(NicrtError):
    """A defect in nicrt, or a library that failed."""

    exit_code = 10


class CancelledError(NicrtError):
    """The caller has ended the work."""

    exit_code = 130  # what an interrupted command ends with


_FROM_STATUS: dict[int, type[Exception]] = {
    1: TruncatedError,
    2: CorruptError,
    3: UnsupportedError,
    4: LimitError,
    5: WrongBundleError,
    6: ValueError,
    7: InternalError,
    8: CancelledError,
}


def from_status(code: int, message: str) -> Exception:
    """The exception for a C++ status; called by nicrt._core when a call fails."""
    return _FROM_STATUS.get(code, InternalError)(message)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory failed: Python's and numpy's error, or Pillow's, whose codecs say it in the text of an OSError."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and "out of memory" in str(error))


_ESCAPE_CODE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MOST_CHARACTERS = 200


def plain(text: str) -> str:
    """Text without escape codes and objects' addresses, which tell a person nothing."""
    return _ADDRESS.sub("", _ESCAPE_CODE.sub("", text))


def one_line(error: BaseException | str) -> str:
    """Another library's message, for use inside one of ours: one line of plain text, cut where it is long; the error's
    type where it has none.
    """
    text = " ".join(plain(str(error)).split())
    if len(text) > _MOST_CHARACTERS:
        text = text[:_MOST_CHARACTERS].rstrip() + "..."
    return text or type(error).__name__

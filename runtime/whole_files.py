"""Files that appear whole or not at all, and scratch that does not outlive the process.

Scratch files and folders lie beside their target, for that is where a rename can put them in its place. Their names are
random, they are created exclusively, and links are never followed to them.
"""

from __future__ import annotations

import os
import re
import select
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_scratch: set[Path] = set()
_lock = threading.Lock()  # held while scratch is created and folders are swapped: `discard_scratch` waits for both
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_MOST_LINKS = 40  # as many as Linux follows


def write_file(path: str | os.PathLike[str], data: bytes, *, replace: bool = True) -> None:
    """Write a file whole or not at all, and the folders above it.

    Links are followed: what they lead to is written, and they stay. A file that is replaced hands on its mode, its
    owner (where the system permits) and its extended attributes; one without any write permission is left alone, by
    root too. Devices and pipes are written to as they are, and so is an open file of this process (`/dev/stdout`).
    Raises OSError; FileExistsError where there is a file and `replace` is false.
    """
    descriptor = _own_descriptor(path)
    if descriptor is not None:
        write_all(descriptor, data)
        return
    old = _status(path)
    if old is not None and not stat.S_ISREG(old.st_mode):
        _write_special(path, old, data)
        return
    target = Path(os.path.realpath(path))
    if old is None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    elif not replace:
        raise FileExistsError("it exists")
    elif not (old.st_mode & 0o222 and os.access(target, os.W_OK)):
        raise PermissionError("it is read-only")
    with scratch_file(target.parent, 0o666 if old is None else 0o600) as (handle, scratch):
        try:
            write_all(handle, data)
            if old is not None:
                _hand_on(handle, target, old)
        finally:
            os.close(handle)  # outside `suppress`: network file systems report a full disk here
        if replace:
            scratch.replace(target)
        else:
            _link(scratch, target)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write to an open file until everything is out. Raises OSError."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # whoever gave us the pipe made it non-blocking
            select.select([], [descriptor], [])


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder inside `parent`, removed with all that is in it at the end. Raises OSError."""
    scratch = _name_in(parent)
    with _lock:
        scratch.mkdir(0o700)
        _scratch.add(scratch)
    try:
        yield scratch
    finally:
        _discard(scratch)


def swap_folder(new: Path, target: Path, old: Path) -> None:
    """Rename `new` to `target`, and what is there to `old` first. When the second rename fails, the first is undone.
    Raises OSError.
    """
    with _lock:  # a signal that ends the process between the renames would take the old folder along
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise


def discard_scratch() -> None:
    """Remove all scratch; the process ends right after this and makes no more."""
    _lock.acquire(timeout=1)  # and keeps it
    for scratch in list(_scratch):
        _discard(scratch)


def _own_descriptor(path: str | os.PathLike[str]) -> int | None:
    """Which open file of this process a path names (`/dev/stdout`, `/dev/fd/3`), if any: a file put in the place of
    what it leads to would be another one.
    """
    name = os.fspath(path)
    for _ in range(_MOST_LINKS):
        folder = os.path.realpath(os.path.dirname(name))  # noqa: PTH120 - `..` behind a link is what the system says
        name = os.path.join(folder, os.path.basename(name))  # noqa: PTH118, PTH119
        found = re.fullmatch(rf"(?:/proc/{os.getpid()}(?:/task/\d+)?|/dev)/fd/(\d+)", name)
        if found:
            return int(found[1])
        try:
            name = os.path.join(folder, os.readlink(name))  # noqa: PTH115, PTH118
        except OSError:
            break
    return None


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None


def _write_special(path: str | os.PathLike[str], old: os.stat_result, data: bytes) -> None:
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError("it is a folder")
    handle = os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))
    try:
        write_all(handle, data)
    finally:
        os.close(handle)


def _name_in(folder: Path) -> Path:
    """Short whatever the target is called: names of 255 bytes are the longest."""
    return folder / f".nicrt-{os.urandom(8).hex()}"


@contextmanager
def scratch_file(folder: Path, mode: int) -> Iterator[tuple[int, Path]]:
    """A new file, open for writing (the caller closes it); it is gone at the end unless it was renamed."""
    scratch = _name_in(folder)
    with _lock:
        handle = os.open(scratch, _CREATE, mode)
        _scratch.add(scratch)
    try:
        yield handle, scratch
    finally:
        _discard(scratch)


def _hand_on(handle: int, target: Path, old: os.stat_result) -> None:
    """Give a new file the owner, mode and extended attributes (access lists are such) of the one it replaces, as far as
    the system lets us.
    """
    try:
        os.fchown(handle, old.st_uid, old.st_gid)
    except OSError:
        with suppress(OSError):
            os.fchown(handle, -1, old.st_gid)
    with suppress(OSError):
        os.fchmod(handle, old.st_mode & 0o777)
    with suppress(OSError, AttributeError):  # not every system and file system has them
        for name in os.listxattr(target):
            with suppress(OSError):
                os.setxattr(handle, name, os.getxattr(target, name))


def _link(scratch: Path, target: Path) -> None:
    """Give scratch its name unless that is taken."""
    try:
        target.hardlink_to(scratch)
    except FileExistsError:
        raise FileExistsError("it exists") from None
    except OSError:  # no hard links here: check, then rename
        if os.path.lexists(target):
            raise FileExistsError("it exists") from None
        scratch.replace(target)


def _discard(scratch: Path) -> None:
    if scratch.is_dir():
        import shutil  # here: most commands have no scratch folders, and start 3 ms sooner

        shutil.rmtree(scratch, ignore_errors=True)
    else:
        with suppress(OSError):
            scratch.unlink()
    _scratch.discard(scratch)

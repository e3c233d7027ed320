"""Folders of this user alone, for what nicrt keeps and later believes: marks of passed proofs, and engines, which are
programs of a GPU.

What another user could have put there is not read. That takes a folder of this user (or of root) that nobody else may
write to, folders above it in which nobody else can put another one in its place, and files of the same kind in it.
Links are followed on the way to the folder, where this user or root made them, and never inside of it. A pipe or a
device is not waited for. Where a system has no such owners and modes (Windows), links and pipes alone are refused: the
folders of a user are private there unless somebody opened them.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from .warn import warn_caller
from .whole_files import scratch_file, write_all

CACHE_VARIABLE = "NICRT_CACHE"
ROOT_USER = 0
_HAS_OWNERS = hasattr(os, "getuid")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40  # as many as Linux follows
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


def cache_folder() -> Path:
    """Where nicrt keeps what it can make again; $NICRT_CACHE, else the user's cache folder. Raises RuntimeError where
    there is no home folder."""
    if named := os.environ.get(CACHE_VARIABLE):  # an empty one would be the current folder
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nicrt"


class NotPrivateError(OSError):
    """Somebody else could have written there. The message is one line that says what to do."""


class CacheWarning(UserWarning):
    """A cache is not used, because somebody else could have written to it. Everything works without one, slower."""


class PrivateFolder:
    """A folder that has been checked. Its methods raise OSError: NotPrivateError for files of others, FileNotFoundError
    for those that are not there."""

    def __init__(self, path: Path) -> None:
        """The folder of that path. Raises FileNotFoundError where there is none, NotPrivateError or another OSError."""
        self.path = Path(_resolved(path, create=False))
        self._check(path)

    @classmethod
    def create(cls, path: Path) -> PrivateFolder:
        """The folder of that path, made with those above it (mode 0700) where they are not there. Raises as the
        constructor."""
        _resolved(path, create=True)
        return cls(path)

    def names(self) -> list[str]:
        """Names of all that is in it, sorted."""
        return sorted(path.name for path in self.path.iterdir())

    def read(self, name: str, most_bytes: int) -> bytes:
        """The first `most_bytes` of a file."""
        with os.fdopen(self._open(name), "rb") as file:
            return file.read(most_bytes)

    def has(self, name: str) -> bool:
        """Whether a file is there that may be believed. Never raises."""
        try:
            os.close(self._open(name))
        except OSError:
            return False
        return True

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all. What has its name is replaced, and never written into."""
        with scratch_file(self.path, 0o600) as (handle, scratch):
            try:
                write_all(handle, data)
            finally:
                os.close(handle)
            scratch.replace(self.path / name)

    def _check(self, asked: Path) -> None:
        """Of the folder itself, as it was opened: what the path led to may have changed since."""
        if not _HAS_OWNERS:
            return
        handle = os.open(self.path, _FOLDER)
        try:
            _check_owner(os.fstat(handle), asked, "name a folder of your own")
        finally:
            os.close(handle)

    def _open(self, name: str) -> int:
        """An open regular file that only this user or root can have written."""
        if os.open in os.supports_dir_fd:
            folder = os.open(self.path, _FOLDER)
            try:
                handle = os.open(name, _READ, dir_fd=folder)
            finally:
                os.close(folder)
        else:
            if (self.path / name).is_symlink():
                raise NotPrivateError(f"{self.path / name}: a link; remove it")
            handle = os.open(self.path / name, _READ)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise NotPrivateError(f"{self.path / name}: not a regular file; remove it")
            _check_owner(status, self.path / name, "remove it")
        except OSError:
            os.close(handle)
            raise
        return handle


def _check_owner(status: os.stat_result, path: Path, remedy: str) -> None:
    if not _HAS_OWNERS:
        return
    if status.st_uid not in (ROOT_USER, os.getuid()):
        raise NotPrivateError(f"{path}: belongs to another user (id {status.st_uid}); {remedy}")
    if status.st_mode & _OTHERS_WRITE:
        raise NotPrivateError(f"{path}: other users may write to it; chmod go-w, after a look at what is in it")


def _resolved(path: Path, *, create: bool) -> str:
    """The path without links, every folder on the way to it checked, made where it is missing with `create`."""
    if not _HAS_OWNERS:
        if create:
            path.mkdir(parents=True, exist_ok=True)
        return os.path.realpath(path)
    rest = list(reversed((Path.cwd() / path).parts[1:]))
    current, links = os.sep, 0
    while rest:
        _check_way(current)
        part = rest.pop()
        if part == os.pardir:
            current = os.path.dirname(current)  # noqa: PTH120 - it has no links in it
            continue
        following = os.path.join(current, part)  # noqa: PTH118
        try:
            status = os.lstat(following)
        except FileNotFoundError:
            if not create:
                raise
            with suppress(FileExistsError):  # another process was quicker
                os.mkdir(following, 0o700)  # noqa: PTH102
            status = os.lstat(following)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS or status.st_uid not in (ROOT_USER, os.getuid()):
                raise NotPrivateError(f"{following}: a link of another user, or one of too many; name a folder itself")
            target = Path(os.readlink(following))  # noqa: PTH115
            current = os.sep if target.is_absolute() else current
            rest.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        else:
            current = following
    return current


def _check_way(folder: str) -> None:
    """In a folder on the way nobody else may put something in another's place: it is root's or this user's, and what
    others may write to is sticky (`/tmp`), or of a group that has this user alone."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{folder}: not a folder")
    if status.st_uid not in (ROOT_USER, os.getuid()):
        raise NotPrivateError(f"{folder}: belongs to another user (id {status.st_uid}); name a folder of your own")
    if status.st_mode & stat.S_ISVTX:
        return
    # a group with the user's number has no other members, but for root's
    own_group = status.st_gid == os.getuid() == os.getgid() != ROOT_USER
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not own_group):
        raise NotPrivateError(f"{folder}: other users may write to it; name a folder that is yours alone")


_said = threading.Event()


def say_once(problem: OSError) -> None:
    """Warn that a cache is not used, the first time only: the next picture has the same cache."""
    if isinstance(problem, NotPrivateError) and not _said.is_set():
        _said.set()
        warn_caller(f"a cache is not used: {problem}", CacheWarning)

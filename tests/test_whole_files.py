"""`whole_files`: what is there before and after a write, whatever the target is and whatever goes wrong."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nicrt.runtime import whole_files
from nicrt.runtime.whole_files import scratch_folder, swap_folder, write_file


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which no scratch may be left."""
    yield tmp_path
    assert [path for path in tmp_path.rglob(".nicrt-*")] == []


def test_new_files_follow_the_umask(folder: Path) -> None:
    for umask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        old = os.umask(umask)
        try:
            write_file(folder / "deep" / f"{umask}", b"new")
        finally:
            os.umask(old)
        assert stat.S_IMODE((folder / "deep" / f"{umask}").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o200])
def test_mode_is_kept(folder: Path, mode: int) -> None:
    target = folder / "a"
    target.write_bytes(b"old")
    target.chmod(mode)
    before = target.stat().st_ino
    write_file(target, b"new")
    assert target.read_bytes() == b"new" and stat.S_IMODE(target.stat().st_mode) == mode
    assert target.stat().st_ino != before  # replaced whole, not written into


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_is_kept(folder: Path) -> None:
    target = folder / "a"
    target.write_bytes(b"old")
    os.chown(target, 1234, 2345)
    write_file(target, b"new")
    assert (target.stat().st_uid, target.stat().st_gid) == (1234, 2345)


def test_extended_attributes_are_kept(folder: Path) -> None:
    target = folder / "a"
    target.write_bytes(b"old")
    try:
        os.setxattr(target, "user.note", b"mine")
    except OSError:
        pytest.skip("this file system has none")
    write_file(target, b"new")
    assert os.getxattr(target, "user.note") == b"mine"


def test_a_links_target_is_written(folder: Path) -> None:
    (folder / "real").mkdir()
    target, link, second = folder / "real" / "a", folder / "link", folder / "second"
    target.write_bytes(b"old")
    link.symlink_to("real/a")
    second.symlink_to(link)
    write_file(second, b"new")
    assert link.is_symlink() and second.is_symlink() and target.read_bytes() == b"new"
    target.unlink()
    write_file(second, b"dangling")
    assert link.is_symlink() and second.is_symlink() and target.read_bytes() == b"dangling"


def test_a_link_to_itself_is_an_error(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        write_file(folder / "loop", b"new")
    assert (folder / "loop").is_symlink()


def test_read_only_files_are_left_alone_by_root_too(folder: Path) -> None:
    target = folder / "a"
    target.write_bytes(b"old")
    target.chmod(0o444)
    with pytest.raises(PermissionError, match="read-only"):
        write_file(target, b"new")
    assert target.read_bytes() == b"old"


def test_replace_may_be_forbidden(folder: Path) -> None:
    target = folder / "a"
    write_file(target, b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_file(target, b"second", replace=False)
    assert target.read_bytes() == b"first"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    target = folder / "a"
    write_all = whole_files.write_all

    def slow(descriptor: int, data: bytes) -> None:
        write_all(descriptor, data)
        target.write_bytes(b"theirs")

    monkeypatch.setattr(whole_files, "write_all", slow)
    if not links:  # as on FAT

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "no links")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(FileExistsError):
        write_file(target, b"ours", replace=False)
    assert target.read_bytes() == b"theirs"


def test_devices_pipes_and_folders(folder: Path) -> None:
    write_file("/dev/null", b"gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(IsADirectoryError):
        write_file(folder, b"no")
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_file, args=(pipe, b"x" * 300_000))
    writer.start()
    assert pipe.read_bytes() == b"x" * 300_000
    writer.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_open_file_by_way_of_dev_is_appended_to(folder: Path) -> None:
    """As `>> file` and `/dev/stdout` together mean it."""
    with (folder / "a").open("ab") as file:
        file.write(b"first ")
        file.flush()
        write_file(f"/dev/fd/{file.fileno()}", b"second")
    assert (folder / "a").read_bytes() == b"first second"


def test_a_full_disk_leaves_the_old_file_and_no_scratch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = folder / "a"
    target.write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="space"):
        write_file(target, b"new")
    with pytest.raises(OSError, match="space"):
        write_file(folder / "other", b"new")
    monkeypatch.undo()
    assert target.read_bytes() == b"old" and not (folder / "other").exists()


def test_short_and_refused_writes_are_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    parts: list[bytes] = []

    def drain() -> None:
        while part := os.read(reader, 4096):
            parts.append(part)

    thread = threading.Thread(target=drain)
    thread.start()
    data = os.urandom(1_000_000)
    whole_files.write_all(writer, data)
    os.close(writer)
    thread.join()
    os.close(reader)
    assert b"".join(parts) == data


def test_scratch_is_random_exclusive_and_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {whole_files._name_in(folder).name for _ in range(100)}
    assert len(names) == 100 and max(map(len, names)) < 32
    monkeypatch.setattr(os, "urandom", lambda count: b"\0" * count)  # someone guessed it
    victim, guessed = folder / "victim", whole_files._name_in(folder)
    victim.write_bytes(b"old")
    guessed.symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_file(folder / "a", b"new")
    assert victim.read_bytes() == b"old" and guessed.is_symlink()
    guessed.unlink()


@pytest.mark.parametrize("name", ["a" * 255, "\N{FULL MOON WITH FACE}" * 62, "a\nb\x1b[31m", os.fsdecode(b"\xff\xfe")])
def test_any_name_the_system_takes(folder: Path, name: str) -> None:
    for data in (b"first", b"second"):
        write_file(folder / name, data)
        assert (folder / name).read_bytes() == data


def test_scratch_folders_end_with_all_that_is_in_them(folder: Path) -> None:
    with scratch_folder(folder) as scratch:
        (scratch / "deep").mkdir()
        (scratch / "deep" / "file").write_bytes(b"x")
        assert stat.S_IMODE(scratch.stat().st_mode) == 0o700


def test_a_swap_that_fails_is_undone(folder: Path) -> None:
    target, old = folder / "target", folder / "old"
    target.mkdir()
    (target / "precious").touch()
    with pytest.raises(FileNotFoundError):
        swap_folder(folder / "missing", target, old)
    assert (target / "precious").exists() and not old.exists()
    (folder / "new").mkdir()
    swap_folder(folder / "new", target, old)
    assert (old / "precious").exists() and list(target.iterdir()) == []

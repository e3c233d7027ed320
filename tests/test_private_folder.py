"""Folders of this user alone: what somebody else could have written is not read, and decoding goes on without it."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

import nicrt
from nicrt.runtime import private_folder
from nicrt.runtime.backends import proving
from nicrt.runtime.backends.onnxruntime_tensorrt import cache_options
from nicrt.runtime.backends.tensorrt_engines import (
    Key,
    engines_folder,
    find_engines,
    has_engines,
    read_engine,
    write_engine,
)
from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.private_folder import CACHE_VARIABLE, CacheWarning, NotPrivateError, PrivateFolder, cache_folder
from nicrt.runtime.profiles import Profile

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes of a Unix")

KEY = Key(graph="a" * 64, library="tensorrt 1", target="gpu", tf32=True)
PROFILE = Profile({"h": (1, 2, 3)}, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "own"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(autouse=True)
def _unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_folder, "_said", type(private_folder._said)())


def test_what_is_made_is_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = PrivateFolder.create(tmp_path / "a" / "b")
        made.write("mark", b"data")
    finally:
        os.umask(old)
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((made.path / "mark").stat().st_mode) == 0o600
    assert made.names() == ["mark"] and made.has("mark") and made.read("mark", 3) == b"dat"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PrivateFolder(tmp_path / "nothing")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_write_to_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    for open_it in (PrivateFolder, PrivateFolder.create):
        with pytest.raises(NotPrivateError, match="own: other users may write to it; chmod go-w"):
            open_it(folder)


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_in_one_that_others_write_to_is_refused(folder: Path, mode: int) -> None:
    folder.parent.chmod(mode)
    with pytest.raises(NotPrivateError, match="other users may write to it"):
        PrivateFolder(folder)
    folder.parent.chmod(mode | stat.S_ISVTX)  # as /tmp is
    PrivateFolder(folder)


def test_a_folder_of_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    monkeypatch.setattr(private_folder, "ROOT_USER", -1)  # tests may run as root
    with pytest.raises(NotPrivateError, match=f"belongs to another user .id {Path('/').stat().st_uid}"):
        PrivateFolder(folder)


def owned_by(monkeypatch: pytest.MonkeyPatch, function: str, path: Path) -> None:
    """os.lstat or os.fstat say that this file is another user's."""
    real, number = getattr(os, function), path.lstat().st_ino

    def stranger(of: object, **options: object) -> os.stat_result:
        status = real(of, **options)
        if status.st_ino != number:
            return status  # type: ignore[no-any-return]
        return os.stat_result((*status[:4], os.getuid() + 1000, *status[5:10]))

    monkeypatch.setattr(os, function, stranger)


@pytest.mark.parametrize("absolute", [True, False])
def test_links_on_the_way(folder: Path, absolute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder if absolute else Path("..") / folder.parent.name / "own")
    PrivateFolder(folder).write("a", b"1")
    assert PrivateFolder(link).read("a", 9) == b"1"  # this user's own link
    monkeypatch.chdir(folder)
    assert PrivateFolder(Path("../link")).path == folder.resolve()
    owned_by(monkeypatch, "lstat", link)
    with pytest.raises(NotPrivateError, match="link: a link of another user"):
        PrivateFolder(link)


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(NotPrivateError, match="too many"):
        PrivateFolder(tmp_path / "a")


def make_link(path: Path) -> None:
    (path.parent.parent / "elsewhere").write_bytes(b"")
    path.symlink_to(path.parent.parent / "elsewhere")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_shared(path: Path) -> None:
    path.write_bytes(b"")
    path.chmod(0o666)


FOREIGN = [make_link, make_pipe, make_folder, make_shared]


@pytest.mark.parametrize("make", FOREIGN)
def test_files_that_are_not_believed(folder: Path, make: Callable[[Path], None]) -> None:
    private = PrivateFolder(folder)
    make(folder / "mark")
    assert not private.has("mark")
    with pytest.raises(OSError):
        private.read("mark", 1)
    if make is not make_folder:  # what is there is replaced, not written into
        private.write("mark", b"own")
        assert private.read("mark", 9) == b"own"
    if make is make_link:
        assert (folder.parent / "elsewhere").read_bytes() == b""


def test_a_file_of_somebody_else_is_not_believed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = PrivateFolder(folder)
    private.write("mark", b"")
    owned_by(monkeypatch, "fstat", folder / "mark")
    assert not private.has("mark")
    with pytest.raises(NotPrivateError, match="mark: belongs to another user"):
        private.read("mark", 1)


def test_without_owners(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which has neither owners of this kind nor descriptors of folders."""
    monkeypatch.setattr(private_folder, "_HAS_OWNERS", False)
    monkeypatch.setattr(os, "supports_dir_fd", set())
    private = PrivateFolder.create(folder / "deeper")
    private.write("a", b"data")
    assert private.read("a", 2) == b"da" and not private.has("b")
    for make in (make_link, make_pipe):
        make(private.path / make.__name__)
        assert not private.has(make.__name__)


def test_a_variable_without_a_value_names_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (CACHE_VARIABLE, "NICRT_ENGINES"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nicrt"
    assert engines_folder() == tmp_path / "nicrt" / "engines"


def decoded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts of the warnings while two codecs decode with this cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.delenv("NICRT_ENGINES", raising=False)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            codec = nicrt.load("shallow", threads=1, backend="onnxruntime")  # whose graphs are proven here
            assert codec.decode(codec.encode(np.zeros((8, 8, 3), np.uint8))).shape == (8, 8, 3)
    return [str(warning.message) for warning in seen if issubclass(warning.category, CacheWarning)]


def test_decoding_goes_on_without_a_cache_that_is_open_to_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o777)
    (warning,) = decoded(folder, monkeypatch)
    assert warning.startswith("a cache is not used: ") and "other users may write to it" in warning
    assert not list(folder.iterdir())


def test_decoding_goes_on_without_a_cache_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(os, "mkdir", refuse)  # root may write to what is read-only
    assert decoded(folder / "new", monkeypatch) == []
    (folder / "file").write_bytes(b"")
    assert decoded(folder / "file", monkeypatch) == []


@pytest.mark.parametrize("make", FOREIGN)
def test_only_our_own_marks_save_a_proof(
    folder: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    assert decoded(folder, monkeypatch) == []
    proofs = folder / proving.MARKS
    (mark,) = proofs.iterdir()
    runs: list[object] = []
    inputs = proving.proof_inputs
    monkeypatch.setattr(proving, "proof_inputs", lambda *given: runs.append(given) or inputs(*given))
    decoded(folder, monkeypatch)
    assert not runs
    mark.unlink()
    make(proofs / mark.name)
    decoded(folder, monkeypatch)
    assert runs


@pytest.mark.parametrize("make", FOREIGN)
def test_only_our_own_plans_are_loaded(folder: Path, make: Callable[[Path], None]) -> None:
    path = write_engine(folder, "synthesis", KEY, PROFILE, b"engine")
    assert has_engines(folder, {KEY.graph})
    path.unlink()
    make(path)
    for call in (lambda: list(find_engines(folder, "synthesis", KEY)), lambda: read_engine(path, KEY)):
        with pytest.raises(UnsupportedError, match=path.name):
            call()


def test_plans_in_a_folder_that_is_open_to_others(folder: Path) -> None:
    path = write_engine(folder, "synthesis", KEY, PROFILE, b"engine")
    folder.chmod(0o777)
    for call in (
        lambda: list(find_engines(folder, "synthesis", KEY)),
        lambda: read_engine(path, KEY),
        lambda: write_engine(folder, "synthesis", msgspec.structs.replace(KEY, tf32=False), PROFILE, b"engine"),
    ):
        with pytest.raises(UnsupportedError, match=r"own: other users may write to it; chmod go-w"):
            call()
    with pytest.warns(CacheWarning, match="other users may write"):
        assert not has_engines(folder, {KEY.graph})


def test_engines_of_onnx_runtime_s_provider(folder: Path) -> None:
    options = cache_options(folder / "engines")
    assert options["trt_engine_cache_enable"] == "1" and Path(options["trt_engine_cache_path"]).is_dir()
    folder.chmod(0o777)
    with pytest.warns(CacheWarning):
        options = cache_options(folder / "engines")
    assert options == {"trt_engine_cache_enable": "0", "trt_timing_cache_enable": "0"}

"""Built engines on disk: what each is for stands in front of it, and none is loaded for anything else.

A file is MAGIC, the header as one line of JSON, and the engine. Engines are not byte-reproducible, so the header has
the hash of these very bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from ..errors import UnsupportedError, one_line
from ..private_folder import NotPrivateError, PrivateFolder, cache_folder, say_once
from ..profiles import Profile

ENGINES_VARIABLE = "NICRT_ENGINES"
MAGIC = b"nicrt engine 1\n"
MAX_HEADER_BYTES = 1 << 16
MAX_ENGINE_BYTES = 4 << 30


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """All that decides whether an engine may be run. graph: SHA-256 of the ONNX file. library: name and version.
    target: the GPU, or the compute capabilities of a build ahead of time. tf32: whether float32 products may be
    rounded."""

    graph: str
    library: str
    target: str
    tf32: bool


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    key: Key
    profile: Profile
    engine_bytes: int
    engine_sha256: str


class NotPrivateEnginesError(UnsupportedError):
    """Engines that somebody else could have written."""

    def __init__(self, problem: NotPrivateError) -> None:
        super().__init__(str(problem))
        self.problem = problem


def engines_folder() -> Path:
    """$NICRT_ENGINES, else a folder of the cache. Raises UnsupportedError where there is no home folder."""
    if named := os.environ.get(ENGINES_VARIABLE):
        return Path(named)
    try:
        return cache_folder() / "engines"
    except RuntimeError:
        raise UnsupportedError(f"there is no home folder to keep engines in: set {ENGINES_VARIABLE}") from None


def engine_path(folder: Path, stem: str, key: Key, profile: Profile) -> Path:
    """Where an engine is kept: its key and profile decide the name."""
    name = hashlib.sha256(msgspec.json.encode([key, profile])).hexdigest()[:24]
    return folder / f"{stem}-{name}.engine"


def write_engine(folder: Path, stem: str, key: Key, profile: Profile, engine: bytes) -> Path:
    """Write an engine to its `engine_path`, whole or not at all. Raises UnsupportedError."""
    header = Header(key, profile, len(engine), hashlib.sha256(engine).hexdigest())
    path = engine_path(folder, stem, key, profile)
    write_private(path, MAGIC + msgspec.json.encode(header) + b"\n" + engine)
    return path


def write_private(path: Path, data: bytes) -> None:
    """Whole or not at all, into a folder of this user, which is made where it is missing. Raises UnsupportedError where
    that cannot be: what is written to a folder that is open to others would not be read from there."""
    try:
        PrivateFolder.create(path.parent).write(path.name, data)
    except OSError as error:
        raise _refusal(path, error) from None


def read_private(path: Path, most_bytes: int) -> bytes:
    """The first bytes of a file that nobody else can have written. Raises FileNotFoundError, and UnsupportedError for
    any other."""
    try:
        return PrivateFolder(path.parent).read(path.name, most_bytes)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refusal(path, error) from None


def find_engines(folder: Path, stem: str, key: Key) -> Iterator[tuple[Path, Profile]]:
    """The engines of a graph that this key admits, and what shapes each is for. Raises UnsupportedError when there is
    none, saying what the ones that are there are for."""
    others, found = set[str](), False
    for path in _engines_in(folder, f"{stem}-"):
        header = _header(path)
        if header.key == key:
            found = True
            yield path, header.profile
        else:
            others.update(_differences(header.key, key))
    if not found:
        stale = f" (there are ones made for another {' or '.join(sorted(others))})" if others else ""
        raise UnsupportedError(f"no engine is built for it{stale}: nicrt build BUNDLE --backend tensorrt")


def has_engines(folder: Path, graphs: set[str]) -> bool:
    """Whether any engine of these graphs (hashes) is there, be it for another library or target. Raises
    UnsupportedError for a file that is no engine. A folder that others could have written to is as good as none, with
    a warning."""
    try:
        return any(_header(path).key.graph in graphs for path in _engines_in(folder))
    except NotPrivateEnginesError as error:
        say_once(error.problem)
        return False


def read_engine(path: Path, key: Key) -> bytes:
    """The engine's bytes. Raises UnsupportedError for one that is not for this key, or not as it was written."""
    data = _read(path, MAX_ENGINE_BYTES)
    header = _header(path)
    if header.key != key:
        raise UnsupportedError(f"{path}: stale: made for another {' or '.join(_differences(header.key, key))}")
    engine = data[data.index(b"\n", len(MAGIC)) + 1 :]
    if len(engine) != header.engine_bytes or hashlib.sha256(engine).hexdigest() != header.engine_sha256:
        raise UnsupportedError(f"{path}: not the engine that was written there; build it again")
    return engine


def _differences(a: Key, b: Key) -> list[str]:
    return [name for name in Key.__struct_fields__ if getattr(a, name) != getattr(b, name)]


def _header(path: Path) -> Header:
    line = _read(path, len(MAGIC) + MAX_HEADER_BYTES).removeprefix(MAGIC).partition(b"\n")[0]
    try:
        return msgspec.json.decode(line, type=Header)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise UnsupportedError(f"{path}: not an engine of this nicrt ({one_line(error)}); build it again") from None


def _engines_in(folder: Path, start: str = "") -> list[Path]:
    try:
        checked = PrivateFolder(folder)
        return [folder / name for name in checked.names() if name.startswith(start) and name.endswith(".engine")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _refusal(folder, error) from None


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        return read_private(path, most_bytes)
    except FileNotFoundError as error:
        raise _refusal(path, error) from None


def _refusal(path: Path, error: OSError) -> UnsupportedError:
    if isinstance(error, NotPrivateError):
        return NotPrivateEnginesError(error)
    return UnsupportedError(f"{path}: {error.strerror or error}")

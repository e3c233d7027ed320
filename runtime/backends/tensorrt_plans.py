"""Built plans on disk: what each is for stands in front of it, and none is loaded for anything else.

A file is MAGIC, the header as one line of JSON, and the plan. Plans are not byte-reproducible, so the header has the
hash of these very bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from ..errors import UnsupportedError, one_line
from ..profiles import Profile
from ..whole_files import write_file
from .proving import cache_folder

PLANS_VARIABLE = "NICRT_PLANS"
MAGIC = b"nicrt plan 1\n"
MAX_HEADER_BYTES = 1 << 16
MAX_PLAN_BYTES = 4 << 30


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """All that decides whether a plan may be run. graph: SHA-256 of the ONNX file. library: name and version. target:
    the GPU, or the compute capabilities of a build ahead of time. tf32: whether float32 products may be rounded."""

    graph: str
    library: str
    target: str
    tf32: bool


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    key: Key
    profile: Profile
    plan_bytes: int
    plan_sha256: str


def plans_folder() -> Path:
    """$NICRT_PLANS, else a folder of the cache. Raises UnsupportedError where there is no home folder."""
    if PLANS_VARIABLE in os.environ:
        return Path(os.environ[PLANS_VARIABLE])
    try:
        return cache_folder() / "plans"
    except RuntimeError:
        raise UnsupportedError(f"there is no home folder to keep plans in: set {PLANS_VARIABLE}") from None


def plan_path(folder: Path, stem: str, key: Key, profile: Profile) -> Path:
    """Where a plan is kept: its key and profile decide the name."""
    name = hashlib.sha256(msgspec.json.encode([key, profile])).hexdigest()[:24]
    return folder / f"{stem}-{name}.plan"


def write_plan(folder: Path, stem: str, key: Key, profile: Profile, plan: bytes) -> Path:
    """Write a plan to its `plan_path`, whole or not at all."""
    header = Header(key, profile, len(plan), hashlib.sha256(plan).hexdigest())
    path = plan_path(folder, stem, key, profile)
    write_atomically(path, MAGIC + msgspec.json.encode(header) + b"\n" + plan)
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Whole or not at all, whoever else writes it. Raises UnsupportedError where that cannot be."""
    try:
        write_file(path, data)
    except OSError as error:
        raise UnsupportedError(f"{path}: cannot write it: {error.strerror or error}") from None


def find_plans(folder: Path, stem: str, key: Key) -> Iterator[tuple[Path, Profile]]:
    """The plans of a graph that this key admits, and what shapes each is for. Raises UnsupportedError when there is
    none, saying what the ones that are there are for."""
    others, found = set[str](), False
    for path in sorted(folder.glob(f"{stem}-*.plan")):
        header = _header(path)
        if header.key == key:
            found = True
            yield path, header.profile
        else:
            others.update(_differences(header.key, key))
    if not found:
        stale = f" (there are ones made for another {' or '.join(sorted(others))})" if others else ""
        raise UnsupportedError(f"no plan is built for it{stale}: nicrt build BUNDLE --backend tensorrt")


def has_plans(folder: Path, graphs: set[str]) -> bool:
    """Whether any plan of these graphs (hashes) is there, be it for another library or target. Raises UnsupportedError
    for a file that is no plan."""
    return any(_header(path).key.graph in graphs for path in folder.glob("*.plan"))


def read_plan(path: Path, key: Key) -> bytes:
    """The plan's bytes. Raises UnsupportedError for one that is not for this key, or not as it was written."""
    data = _read(path, MAX_PLAN_BYTES)
    header = _header(path)
    if header.key != key:
        raise UnsupportedError(f"{path}: stale: made for another {' or '.join(_differences(header.key, key))}")
    plan = data[data.index(b"\n", len(MAGIC)) + 1 :]
    if len(plan) != header.plan_bytes or hashlib.sha256(plan).hexdigest() != header.plan_sha256:
        raise UnsupportedError(f"{path}: not the plan that was written there; build it again")
    return plan


def _differences(a: Key, b: Key) -> list[str]:
    return [name for name in Key.__struct_fields__ if getattr(a, name) != getattr(b, name)]


def _header(path: Path) -> Header:
    line = _read(path, len(MAGIC) + MAX_HEADER_BYTES).removeprefix(MAGIC).partition(b"\n")[0]
    try:
        return msgspec.json.decode(line, type=Header)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise UnsupportedError(f"{path}: not a plan of this nicrt ({one_line(error)}); build it again") from None


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most_bytes)
    except OSError as error:
        raise UnsupportedError(f"{path}: {error.strerror or error}") from None

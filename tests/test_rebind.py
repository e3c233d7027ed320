"""Golden files are bound to new ids, and to nothing else."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

import golden.rebind as tool
from conftest import GOLDEN, ROOT
from nicrt import _core

FILES = [
    *sorted(path for path in GOLDEN.glob("**/*.nic") if path.parent.name != "bad"),
    *sorted((ROOT / "tests" / "cases" / "files").glob("*.nic")),
]
NEW = bytes(range(100, 112))


def ids_in(data: bytes) -> bytes:
    place = tool.places(data).ids
    return data[place : place + tool.IDS_BYTES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_exactly_ids_and_checksum_change(path: Path) -> None:
    before = path.read_bytes()
    name, after = tool.rebound(before, {"a/b": ids_in(before)}, {"a/b": NEW})
    assert name == "a/b" and len(after) == len(before) and ids_in(after) == NEW
    changed = [i for i in range(len(after)) if after[i] != before[i]]
    at = tool.places(before)
    assert set(changed) <= {*range(at.ids, at.ids + 12), *range(at.crc, at.crc + 4)}
    assert struct.unpack_from("<I", after, at.crc)[0] == _core.crc32c(after[: at.crc])
    assert tool.rebound(after, {"a/b": ids_in(before)}, {"a/b": NEW}) == ("a/b", after)
    assert tool.rebound(after, {"a/b": NEW}, {"a/b": ids_in(before)}) == ("a/b", before)


def test_what_it_refuses() -> None:
    data = (GOLDEN / "shallow" / "pixel.nic").read_bytes()
    old, new = {"a/b": ids_in(data)}, {"a/b": NEW}
    at = tool.places(data)
    with pytest.raises(tool.RebindError, match="neither old nor new"):
        tool.rebound(data, {"a/b": bytes(12)}, new)
    with pytest.raises(tool.RebindError, match="no new a/b"):
        tool.rebound(data, old, {"a/c": NEW})
    with pytest.raises(tool.RebindError, match="inside its header"):
        tool.rebound(data[: at.crc + 3], old, new)
    with pytest.raises(tool.RebindError, match="checksum is wrong"):
        tool.rebound(data[: at.crc] + bytes(4) + data[at.crc + 4 :], old, new)
    for after in (data + b"\0", data[:-1] + bytes([data[-1] ^ 1]), data[: at.crc - 1] + b"\0" + data[at.crc :]):
        with pytest.raises(tool.RebindError, match="more than ids"):
            tool.prove(data, after, at)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(GOLDEN, tmp_path / "golden")
    monkeypatch.setattr(tool, "BAD", tmp_path / "golden" / "bad")
    monkeypatch.setattr(tool, "GOOD_OF_BAD", tmp_path / "golden" / "shallow" / "harbour-q20.nic")
    return tmp_path / "golden"


def test_a_folder_with_its_damaged_files(copies: Path) -> None:
    files = sorted(copies.glob("**/*.nic"))
    known = {ids_in(path.read_bytes()): path.parent.name for path in files if path.parent.name != "bad"}
    old = {f"{name}/{ids.hex()}": ids for ids, name in known.items()}
    new = {name: bytes([number]) * 12 for number, name in enumerate(old, 1)}
    counts = tool.rebind(files, old, new)
    assert counts.keys() == old.keys() and sum(counts.values()) == sum(path.parent.name != "bad" for path in files)
    errors = json.loads((copies / "bad" / "bad.json").read_text())
    good = tool.GOOD_OF_BAD.read_bytes()
    for name, (data, error, _) in tool.bad_files(good).items():
        assert (copies / "bad" / f"{name}.nic").read_bytes() == data and errors[name]["error"] == error
    assert tool.rebind(files, old, new) == counts


def test_nothing_is_written_where_one_file_is_refused(copies: Path) -> None:
    files = sorted(copies.glob("**/*.nic"))
    before = {path: path.read_bytes() for path in files}
    pixel = ids_in((copies / "shallow" / "pixel.nic").read_bytes())
    with pytest.raises(tool.RebindError, match="neither old nor new"):
        tool.rebind(files, {"shallow/shallow": pixel}, {"shallow/shallow": NEW})
    assert before == {path: path.read_bytes() for path in files}
    damaged = copies / "bad" / "half.nic"
    damaged.write_bytes(b"?" + damaged.read_bytes()[1:])
    shallow = [path for path in files if path.parent.name in ("bad", "shallow")]
    with pytest.raises(tool.RebindError, match=r"half.nic: not what make.py makes"):
        tool.rebind(shallow, {"shallow/shallow": pixel}, {"shallow/shallow": NEW})
    assert all(path.read_bytes() == data for path, data in before.items() if path != damaged)


def test_ids_of_a_folder_and_of_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = tool.ids_of(str(ROOT / "engines"))
    assert {name.split("/")[0] for name in now} == {path.parent.name for path in GOLDEN.glob("*/good.json")}
    assert all(len(ids) == 12 for ids in now.values())
    for manifest in (ROOT / "engines").glob("*/manifest.json"):
        (tmp_path / "engines" / manifest.parent.name).mkdir(parents=True)
        shutil.copy(manifest, tmp_path / "engines" / manifest.parent.name)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "bundles"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    assert tool.ids_of("HEAD") == now

"""One bad neighbour on the bundle path is left out with a note, and disturbs nobody else."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nicrt
from nicrt.runtime import bundle as bundles
from nicrt.runtime.bundle import MANIFEST
from nicrt.runtime.cli import main
from nicrt.runtime.installed import SHIPPED, read_listing
from nicrt.runtime.loading import load_for

NOBODY = 65534
PLAIN: dict[str, Any] = json.loads((SHIPPED / "shallow" / MANIFEST).read_text())


def with_text(text: str | bytes) -> Callable[[Path], None]:
    data = text.encode() if isinstance(text, str) else text
    return lambda path: path.write_bytes(data) and None  # type: ignore[func-returns-value]


def with_number(number: str) -> Callable[[Path], None]:
    """The shipped manifest with this number where a graph's figure is."""
    changed = json.loads(json.dumps(PLAIN))
    changed["graphs"]["synthesis"]["workspace_bytes_per_pixel"] = "@"
    return with_text(json.dumps(changed).replace('"@"', number))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


MANIFESTS: dict[str, Callable[[Path], None]] = {
    "deeply nested": with_text("[" * 200_000),
    "deeply nested objects": with_text('{"graphs":' * 20_000),
    "deep provenance": with_text(json.dumps({**PLAIN, "provenance": nested(33)})),
    "1e308": with_number("1e308"),
    "1e999": with_number("1e999"),
    "-1e308": with_number("-1e308"),
    "NaN": with_number("NaN"),
    "300 digits": with_number("9" * 300),
    "not UTF-8": with_text(json.dumps(PLAIN).encode().replace(b'"shallow"', b'"sh\xff\xfeallow"')),
    "lone surrogate": with_text(json.dumps({**PLAIN, "summary": "\ud800"})),
    "too large": with_text(b" " * ((1 << 20) + 1)),
    "empty": with_text(b""),
    "pipe": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "link to nothing in itself": lambda path: path.symlink_to(path),
    "endless": lambda path: path.symlink_to("/dev/zero"),
}


def assert_undisturbed(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nicrt.runtime.loading._loaded", {})
    assert nicrt.load("shallow", threads=1).bundle.path == SHIPPED / "shallow"
    assert load_for(data, threads=1).bundle.path == SHIPPED / "shallow"
    assert nicrt.decode(data).shape == (24, 40, 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and links as Unix has them")
@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_that_cannot_be_read(
    kind: str, tmp_path: Path, small_file: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").mkdir()
    MANIFESTS[kind](tmp_path / "bad" / MANIFEST)
    shutil.copytree(SHIPPED / "flow", tmp_path / "good")
    monkeypatch.setenv("NICRT_BUNDLE_PATH", str(tmp_path))
    assert main(["bundles"]) == 0
    listed, notes = capsys.readouterr()
    assert str(tmp_path / "good") in listed and listed.count("\n") == 6
    assert notes.count("\n") == 1 and notes.startswith(f"nicrt: left out: {tmp_path / 'bad'}")
    assert_undisturbed(small_file, monkeypatch)
    with pytest.raises(nicrt.UnsupportedError):
        nicrt.load(tmp_path / "bad")
    with pytest.raises(nicrt.UnsupportedError, match="1 places are left out"):
        nicrt.load("absent")


def test_what_a_place_may_be(
    tmp_path: Path, small_file: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there, a file, a name too long for any file system."""
    file = tmp_path / "file"
    file.touch()
    places = [tmp_path / "absent", file, tmp_path / ("x" * 300)]
    monkeypatch.setenv("NICRT_BUNDLE_PATH", os.pathsep.join(map(str, places)))
    assert main(["bundles"]) == 0
    listed, notes = capsys.readouterr()
    assert listed.count("\n") == 5
    assert [line.split(": ")[2] for line in notes.splitlines()] == list(map(str, places))
    assert_undisturbed(small_file, monkeypatch)
    for name in ("x" * 300, "\N{GRINNING FACE}" * 62, "a\0b"):
        with pytest.raises(nicrt.UnsupportedError, match="there is no codec bundle"):
            nicrt.load(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links as Unix has them")
def test_a_link_that_leads_nowhere_hides_no_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SHIPPED / "flow", tmp_path / "good")
    (tmp_path / "long.nicb").symlink_to("x" * 300)
    monkeypatch.setenv("NICRT_BUNDLE_PATH", str(tmp_path))
    assert main(["bundles"]) == 0
    listed, notes = capsys.readouterr()
    assert str(tmp_path / "good") in listed
    assert notes.startswith(f"nicrt: left out: {tmp_path / 'long.nicb'}: ") and notes.count("\n") == 1


def test_a_name_that_is_there_twice_among_many_is_found_at_once(tmp_path: Path) -> None:
    """Quadratic work would take a minute here, in every command that looks for a bundle."""
    fields = b",".join(b'"%x":0' % number for number in range(90_000))
    (tmp_path / MANIFEST).write_bytes(b"{" + fields + b',"zz":1,"zz":2}')
    start = time.process_time()
    with pytest.raises(nicrt.UnsupportedError, match="'zz' is there twice"):
        read_listing(tmp_path)
    assert time.process_time() - start < 5


def test_a_long_key_of_provenance_pads_no_other_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {"x" * 100_000: 0} | dict.fromkeys(map(str, range(1000)), 0)
    shutil.copytree(SHIPPED / "flow", tmp_path / "flow")
    manifest = json.loads((tmp_path / "flow" / MANIFEST).read_text()) | {"provenance": keys}
    (tmp_path / "flow" / MANIFEST).write_text(json.dumps(manifest))
    assert main(["info", str(tmp_path / "flow")]) == 0
    assert len(capsys.readouterr().out) < 300_000


@pytest.fixture
def place_of_a_user() -> Iterator[Path]:
    """A new folder, of a user whom modes stop: the superuser becomes another one for a while."""
    with tempfile.TemporaryDirectory() as name:
        place, is_superuser = Path(name), os.geteuid() == 0
        if is_superuser:
            os.chown(place, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            (SHIPPED / "shallow" / MANIFEST).read_bytes()
            yield place
        except PermissionError:
            pytest.skip("this checkout lies where only the superuser can read it")
        finally:
            if is_superuser:
                os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="users and modes as Unix has them")
@pytest.mark.filterwarnings("ignore::nicrt.CacheWarning")  # in that place nothing can be kept
@pytest.mark.parametrize("inside", [False, True])
def test_a_forbidden_folder(
    inside: bool,
    place_of_a_user: Path,
    small_file: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of mode 000."""
    bad = place_of_a_user / "bad" if inside else place_of_a_user
    bad.mkdir(exist_ok=True)
    shutil.copy(SHIPPED / "shallow" / MANIFEST, bad)
    monkeypatch.setenv("NICRT_BUNDLE_PATH", str(place_of_a_user))
    bad.chmod(0)
    try:
        assert main(["bundles"]) == 0
        listed, notes = capsys.readouterr()
        assert listed.count("\n") == 5 and notes.count("\n") == 1 and "Permission denied" in notes and str(bad) in notes
        assert_undisturbed(small_file, monkeypatch)
        with pytest.raises(nicrt.UnsupportedError, match="Permission denied"):
            nicrt.load(bad)
    finally:
        bad.chmod(0o700)


@pytest.mark.parametrize("broken", ["tables.safetensors", "graphs/synthesis.onnx", "graphs/hyper.onnx"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_broken_twin_does_not_hide_the_whole_bundle(
    broken: str, missing: bool, tmp_path: Path, small_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same name and ids, found first, but a file is missing or damaged."""
    twins = [tmp_path / name / "shallow" for name in "ab"]
    for twin in twins:
        shutil.copytree(SHIPPED / "shallow", twin)
    if missing:
        (twins[0] / broken).unlink()
    else:
        (twins[0] / broken).write_bytes((twins[0] / broken).read_bytes()[:-1])
    (tmp_path / "none").mkdir()
    monkeypatch.setattr("nicrt.runtime.installed.SHIPPED", tmp_path / "none")
    monkeypatch.setenv("NICRT_BUNDLE_PATH", os.pathsep.join(str(twin.parent) for twin in twins))
    assert load_for(small_file).bundle.path == nicrt.load("shallow").bundle.path == twins[1]


def test_shipped_bundles_come_first(tmp_path: Path, small_file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's folder can take their place, by name or by id."""
    shutil.copytree(SHIPPED / "shallow", tmp_path / "shallow")
    monkeypatch.setenv("NICRT_BUNDLE_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load_for(small_file).bundle.path == nicrt.load("shallow").bundle.path == SHIPPED / "shallow"
    for path in (tmp_path / "shallow", "./shallow", str(tmp_path / "shallow")):
        assert nicrt.load(path).bundle.path == Path(path)


def test_a_bare_name_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(SHIPPED / "flow", tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nicrt.UnsupportedError, match=r"write \./mine$"):
        nicrt.load("mine")
    assert nicrt.load("./mine").name == "flow"


def test_a_summary_cannot_write_lines_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SHIPPED / "flow", tmp_path / "flow")
    (tmp_path / "flow" / MANIFEST).write_text(
        json.dumps({**json.loads((SHIPPED / "flow" / MANIFEST).read_text()), "summary": "a\nshallow\t\x1b[31m"})
    )
    monkeypatch.setenv("NICRT_BUNDLE_PATH", str(tmp_path))
    assert main(["bundles"]) == 0 and main(["info", str(tmp_path / "flow")]) == 0
    out = capsys.readouterr().out
    assert r"flow	a\nshallow\t\x1b[31m	" in out and "\x1b" not in out and "\nshallow\t\x1b" not in out


def test_finding_by_id_reads_manifests_only(small_file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    plain = bundles.Bundle.open
    monkeypatch.setattr(bundles.Bundle, "open", lambda folder: opened.append(Path(folder)) or plain(folder))
    codec = load_for(small_file, threads=1)
    assert opened == [SHIPPED / "shallow"]
    assert np.asarray(codec.decode(small_file)).shape == (24, 40, 3)

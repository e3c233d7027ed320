"""Where `export -o` may put a bundle, and what it never takes away."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import nicrt
import synthetic
from nicrt.export import bundle
from nicrt.export.bundle import check_output
from nicrt.runtime.bundle import SHIPPED, Bundle
from nicrt.runtime.cli import main

REFUSED = nicrt.ImageError.exit_code


def export(out: Path, *arguments: str) -> int:
    return main(["export", "shallow", "--checkpoint", __file__, "-o", str(out), *arguments])


def test_a_folder_with_other_things_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert export(tmp_path) == REFUSED
    assert "neither empty nor a bundle" in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text("{}")  # of something else
    assert export(tmp_path) == REFUSED
    assert (tmp_path / "thesis.tex").read_text() == "years of work" and len(list(tmp_path.iterdir())) == 2


def test_a_bundle_with_other_things_beside_it_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(SHIPPED / "shallow", out)
    check_output(out)
    (out / "graphs" / "notes.txt").touch()
    with pytest.raises(nicrt.ImageError, match=r"graphs/notes\.txt"):
        check_output(out)


def test_files_are_refused_and_new_or_empty_folders_taken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(nicrt.ImageError, match="it is a file"):
        check_output(tmp_path / "file")
    check_output(tmp_path / "new")
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    check_output(tmp_path / "empty")


def test_a_bundle_is_replaced_whole_and_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: object, folder: Path) -> object:
        synthetic.layered(folder)
        return Bundle.open(folder).manifest

    monkeypatch.setattr(bundle, "_write", write)
    out, link = tmp_path / "bundle", tmp_path / "link"
    shutil.copytree(SHIPPED / "slim", out)
    link.symlink_to(out)
    assert export(link, "--no-clobber") == REFUSED
    bundle.write_bundle(SimpleNamespace(graphs=[]), link)  # type: ignore[arg-type]
    assert link.is_symlink() and Bundle.open(out).manifest.name == "layered"
    assert sorted(os.listdir(tmp_path)) == ["bundle", "link"]  # noqa: PTH208


def test_a_bundle_that_cannot_be_made_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, folder: Path) -> object:
        (folder / "graphs").mkdir(parents=True)
        raise OSError("no space")

    monkeypatch.setattr(bundle, "_write", fail)
    out = tmp_path / "bundle"
    shutil.copytree(SHIPPED / "slim", out)
    with pytest.raises(OSError, match="no space"):
        bundle.write_bundle(SimpleNamespace(graphs=[]), out)  # type: ignore[arg-type]
    assert Bundle.open(out).manifest.name == "slim" and [path.name for path in tmp_path.iterdir()] == ["bundle"]

"""Where `export -o` may put a bundle, and what it never takes away."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

import nicrt  # noqa: E402
import synthetic  # noqa: E402
from nicrt.export import bundle  # noqa: E402
from nicrt.export.bundle import check_output  # noqa: E402
from nicrt.runtime.bundle import Bundle  # noqa: E402
from nicrt.runtime.cli import main  # noqa: E402
from nicrt.runtime.installed import SHIPPED  # noqa: E402

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


def test_a_packed_bundle_is_a_new_file_or_replaces_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: object, folder: Path) -> object:
        synthetic.layered(folder)
        return Bundle.open(folder).manifest

    monkeypatch.setattr(bundle, "_write", write)
    out = tmp_path / "codec.nicb"
    for _ in range(2):
        bundle.write_bundle(SimpleNamespace(graphs=[]), out, packed=True)  # type: ignore[arg-type]
        assert Bundle.open(out).manifest.name == "layered" and [path.name for path in tmp_path.iterdir()] == [out.name]
    assert export(out, "--pack", "--no-clobber") == REFUSED


@pytest.mark.parametrize(
    ("name", "message"),
    [("codec", "by the end of their names, .nicb"), ("folder.nicb", "a folder"), ("thesis.nicb", "no packed bundle")],
)
def test_nothing_else_is_replaced_by_a_packed_bundle(
    tmp_path: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.nicb").write_text("years of work")
    (tmp_path / "folder.nicb").mkdir()
    assert export(tmp_path / name, "--pack") == REFUSED
    assert message in capsys.readouterr().err
    assert (tmp_path / "thesis.nicb").read_text() == "years of work"


def test_a_codec_is_exported_into_one_file_with_its_card(tmp_path: Path) -> None:
    """Twice, to the same bytes, which are those of the packed folder."""
    from compressai_models import random_model, state_dict_of

    arch, checkpoint, card = "bmshj2018-factorized", tmp_path / "mine.pth", tmp_path / "mine.md"
    torch.save(state_dict_of(random_model(arch)), checkpoint)
    card.write_text("# Mine\n\nTrained on ünseen pictures.\n")
    command = ["export", "compressai", "--arch", arch, "--checkpoint", str(checkpoint), "--card", str(card)]
    assert main([*command, "--pack", "-o", str(tmp_path / "mine.nicb")]) == 0
    assert main([*command, "-o", str(tmp_path / "mine")]) == 0
    data = (tmp_path / "mine.nicb").read_bytes()
    assert data == Bundle.open(tmp_path / "mine").packed() and Bundle.of_bytes(data).card() == card.read_text()
    forms = Bundle.of_bytes(data).manifest.graphs.values()
    assert all(graph.native is not None and graph.onnx is not None for graph in forms)


@pytest.mark.parametrize(("text", "message"), [(b"\xff", "UTF-8"), (b"a" * ((1 << 20) + 1), "1048576 at most")])
def test_what_is_no_card_is_refused(
    tmp_path: Path, text: bytes, message: str, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = tmp_path / "card"
    card.write_bytes(text)
    given = ["--checkpoint", str(shipped_checkpoint), "--card", str(card)]
    assert main(["export", "shallow", *given, "-o", str(tmp_path / "out")]) == nicrt.UnsupportedError.exit_code
    assert message in capsys.readouterr().err


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

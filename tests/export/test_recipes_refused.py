"""What recipes refuse, in one line, and how they write files."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from safetensors.torch import load_file, save_file  # noqa: E402

from nicrt.export.models.flow import Flow  # noqa: E402
from nicrt.export.models.shallow import Shallow  # noqa: E402
from nicrt.export.recipes import data, loop  # noqa: E402
from nicrt.export.recipes.__main__ import main  # noqa: E402
from nicrt.export.recipes.data import Photos  # noqa: E402
from nicrt.export.recipes.families import RECIPES  # noqa: E402
from nicrt.runtime import whole_files  # noqa: E402
from nicrt.runtime.errors import ImageError  # noqa: E402

Bases = dict[str, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(3).integers(0, 256, (256, 256, 3), np.uint8)
    Image.fromarray(pixels).save(path / "0.png")
    return path


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return Photos(folder)


@pytest.fixture(scope="module")
def bases() -> Bases:
    """Untrained models."""
    torch.manual_seed(0)
    return {"shallow": Shallow().state_dict(), "flow": Flow().state_dict()}


def _trainer(photos: Photos, bases: Bases) -> loop.Trainer:
    recipe = RECIPES["shallow"](photos, bases["shallow"])
    return loop.Trainer(recipe, torch.device("cpu"), loop.State(loop.Schedule("steps", 1)), {})


@pytest.mark.parametrize(
    "length",
    [
        ["--steps", "0"],
        ["--steps=-3"],
        ["--minutes", "0"],
        ["--minutes=-1"],
        ["--minutes", "nan"],
        ["--minutes", "inf"],
    ],
)
def test_lengths_that_would_never_end_are_refused(
    length: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["shallow", "--data", str(folder), "--out", str(tmp_path / "out.safetensors"), *length])
    assert "a number above 0 is needed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_photograph_that_is_refused_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ImageError("no picture")

    monkeypatch.setattr(data, "load_picture", refuse)
    with pytest.raises(ImageError, match=r"^\S+0\.png: no picture$"):
        Photos(folder).crops(np.random.default_rng(0), 1, 64)


def test_what_a_run_cannot_start_from_is_one_line(folder: Path, bases: Bases, tmp_path: Path) -> None:
    damaged, other = tmp_path / "damaged", tmp_path / "other.safetensors"
    damaged.write_bytes(b"\x80\x02.")
    save_file(bases["flow"], other)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    for data_folder, options, reason in (
        (folder, ["--base", str(damaged)], "not a safetensors file"),
        (folder, ["--base", str(other)], "do not fit this recipe .*state_dict"),
        (folder, ["--resume", str(damaged)], "not a PyTorch checkpoint"),
        (folder, ["--resume", str(other)], "damaged|not"),
        (tmp_path / "photos", [], "broken.png: not a picture"),
    ):
        with pytest.raises(SystemExit, match=reason) as ended:
            main(["mean-scale", "--data", str(data_folder), "--steps", "1", "--out", str(tmp_path / "o"), *options])
        assert len(str(ended.value).splitlines()) == 1


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    photos: Photos, bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _trainer(photos, bases)
    trainer.save(tmp_path / "out.safetensors")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_files, "write_all", full)
    with pytest.raises(ImageError, match=r"out\.safetensors: cannot write it: No space left"):
        trainer.save(tmp_path / "out.safetensors")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_links_modes_and_long_names_are_kept(photos: Photos, bases: Bases, tmp_path: Path) -> None:
    out = tmp_path / f"{'a' * 243}.safetensors"
    (tmp_path / "elsewhere").write_bytes(b"old")
    (tmp_path / "elsewhere").chmod(0o640)
    out.symlink_to("elsewhere")
    _trainer(photos, bases).save(out)
    assert out.is_symlink() and load_file(tmp_path / "elsewhere").keys() == bases["shallow"].keys()
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o640
    assert {file.name for file in tmp_path.iterdir()} == {"elsewhere", out.name, loop.resume_file(out).name}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shallow-jpeg"], "is trained on a checkpoint of family shallow"),
        (["compass"], "give its checkpoint"),
        (["slim-scalable"], "needs a trained base"),
        (["flow-side"], "give its checkpoint"),
        (["slim-side", "--base", "BASE"], "it lacks enc.0.weight"),
        (["mean-scale", "--base", "BASE"], "Missing key"),
        (["shallow", "--base", "missing.safetensors"], "No such file"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(
    arguments: list[str], message: str, folder: Path, bases: Bases, tmp_path: Path
) -> None:
    save_file(bases["shallow"], tmp_path / "base.safetensors")
    named = [str(tmp_path / "base.safetensors") if part == "BASE" else part for part in arguments]
    with pytest.raises(SystemExit, match=message):
        main([*named, "--data", str(folder), "--steps", "1", "--out", str(tmp_path / "out.safetensors")])


def test_folders_without_photographs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no picture of at least 256 x 256"):
        Photos(tmp_path)

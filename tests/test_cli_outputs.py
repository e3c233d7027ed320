"""What `encode` and `decode` may write and what they refuse; folders and their trees; --no-clobber, --skip-existing."""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nicrt
from conftest import GOLDEN
from nicrt.runtime.cli import main

EXIT_USAGE = 2
UNWRITABLE = nicrt.ImageError.exit_code
NIC = GOLDEN / "shallow" / "pixel.nic"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(path)
    return path


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nicrt: ")
    return str(line)


# What would be lost


@pytest.mark.parametrize("spelling", ["a.png", "./a.png", "sub/../a.png", "link", "hard", "dir-link/a.png"])
def test_encode_refuses_its_source(picture: Path, spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sub").mkdir()
    Path("link").symlink_to("a.png")
    Path("hard").hardlink_to("a.png")
    Path("dir-link").symlink_to(".")
    before = picture.read_bytes()
    assert main(["encode", "a.png", spelling]) == EXIT_USAGE
    assert "is an input" in error_line(capsys) and picture.read_bytes() == before


def test_decode_refuses_its_source_and_replaces_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.png").write_bytes(NIC.read_bytes())  # a .nic file by another name
    assert main(["decode", "a.png", "./a.png"]) == EXIT_USAGE
    assert "is an input" in error_line(capsys) and Path("a.png").read_bytes() == NIC.read_bytes()
    Path("b.png").write_bytes(b"old")
    Path("b.png").chmod(0o640)
    assert main(["decode", "a.png", "b.png"]) == 0
    assert Image.open("b.png").size == (1, 1) and stat.S_IMODE(Path("b.png").stat().st_mode) == 0o640


def test_an_output_that_is_another_input_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("one").mkdir()
    for name in ("one/b.nic", "b.png"):
        Path(name).write_bytes(NIC.read_bytes())
    assert main(["decode", "one/b.nic", "b.png", "."]) == EXIT_USAGE
    assert Path("b.png").read_bytes() == NIC.read_bytes() and "b.png" in error_line(capsys)


@pytest.mark.parametrize("name", ["new.png", "new.JPG", "new.heic", "new.jxl", "sub/new.tiff"])
def test_encode_refuses_the_name_of_a_picture(picture: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", "a.png", name]) == EXIT_USAGE
    assert name in error_line(capsys) and not Path(name).exists()


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "tiff", "webp", "bmp", "ppm", "avif", "heic", "jxl"])
@pytest.mark.parametrize("name", ["old.nic", "old"])
def test_encode_refuses_a_file_that_is_a_picture(
    picture: Path, kind: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    begins = {"heic": b"\0\0\0\x18ftypheic", "jxl": b"\xff\x0a\x00\x10"}
    if kind in begins:
        Path(name).write_bytes(begins[kind])
    else:
        Image.open(picture).save(name, kind)
    before = Path(name).read_bytes()
    assert main(["encode", "a.png", name]) == UNWRITABLE
    assert name in error_line(capsys) and Path(name).read_bytes() == before


def test_encode_does_not_replace_a_huge_picture(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beyond the size at which Pillow refuses to open a picture it is one nonetheless, of whatever type."""
    header = struct.pack(">4sIIBBBBB", b"IHDR", 30_000, 30_000, 1, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    psd = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 30_000, 30_000, 8, 3) + bytes(64)
    for name, data in (("png", png), ("psd", psd)):
        Path(name).write_bytes(data)
        assert main(["encode", "a.png", name]) == UNWRITABLE
        assert "a picture" in error_line(capsys) and Path(name).read_bytes() == data


def test_files_that_encode_reads_besides_are_inputs(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = NIC.read_bytes()
    Path("like.nic").write_bytes(before)
    Path("mask.nic").write_bytes(picture.read_bytes())
    for option, name in (("--like", "like.nic"), ("--roi", "mask.nic")):
        kept = Path(name).read_bytes()
        assert main(["encode", "a.png", f"./{name}", option, name]) == EXIT_USAGE
        assert "is an input" in error_line(capsys) and Path(name).read_bytes() == kept


def test_encode_replaces_its_own_files(picture: Path) -> None:
    for quality in ("20", "90"):
        assert main(["encode", "a.png", "a.nic", "-q", quality, "--quiet"]) == 0
        assert nicrt.decode(Path("a.nic").read_bytes()).shape == (16, 24, 3)


def test_two_inputs_with_one_output_are_refused(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.open(picture).save("a.bmp")
    assert main(["encode", "a.png", "a.bmp", "out/"]) == EXIT_USAGE
    line = error_line(capsys)
    assert "a.png" in line and "a.bmp" in line and not Path("out").exists()


def test_read_only_outputs_are_refused(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.nic").write_bytes(b"old")
    Path("a.nic").chmod(0o444)
    assert main(["encode", "a.png", "a.nic"]) == UNWRITABLE
    assert "a.nic: it is read-only" in error_line(capsys) and Path("a.nic").read_bytes() == b"old"


def test_links_are_written_through(picture: Path) -> None:
    Path("store").mkdir()
    Path("a.nic").symlink_to("store/real")
    assert main(["encode", "a.png", "a.nic", "--quiet"]) == 0
    assert Path("a.nic").is_symlink() and Path("store/real").is_file()


# Outputs that exist


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_no_clobber(picture: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = ("a.png", "b.nic") if command == "encode" else (str(NIC), "b.png")
    Path(target).write_bytes(b"old")
    assert main([command, source, target, "--no-clobber"]) == UNWRITABLE
    assert f"{target}: it exists" in error_line(capsys) and Path(target).read_bytes() == b"old"
    Path(target).unlink()
    assert main([command, source, target, "--no-clobber", "--quiet"]) == 0
    assert main([command, source, "/dev/null", "--no-clobber", "--quiet", *_format(command)]) == 0


def _format(command: str) -> list[str]:
    return ["--format", "png"] if command == "decode" else []


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "--compare", "x.json", "y.json", "--json", "old"],
        ["bench", "shallow", "--json", "old"],
        ["bench", "shallow", "--plot", "old"],
        ["evaluate", "shallow", "a.png", "-o", "old"],
        ["evaluate", "shallow", "a.png", "--plot", "old"],
        ["export", "shallow", "--checkpoint", "a.png", "-o", "old"],
    ],
)
def test_no_clobber_everywhere_before_any_work(
    picture: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("old").write_bytes(b"old")
    assert main([*arguments, "--no-clobber"]) == UNWRITABLE
    assert "old: it exists" in error_line(capsys) and Path("old").read_bytes() == b"old"


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "in.nic", "--json", "in.nic"],
        ["bench", "in.nic", "--plot", "link"],
        ["bench", "shallow", "--json", "new", "--plot", "new"],
        ["evaluate", "jpeg", "a.png", "--plot", "./a.png"],
        ["evaluate", "jpeg", ".", "-o", "a.png"],
        ["evaluate", "--compare", "in.nic", "in.nic", "-o", "hard"],
    ],
)
def test_outputs_that_are_inputs_are_refused_everywhere(
    picture: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.nic").write_bytes(NIC.read_bytes())
    Path("link").symlink_to("in.nic")
    Path("hard").hardlink_to("in.nic")
    before = picture.read_bytes()
    assert main(arguments) == EXIT_USAGE
    assert "it stays as it is" in error_line(capsys)
    assert picture.read_bytes() == before and Path("in.nic").read_bytes() == NIC.read_bytes()


def test_an_empty_name_is_not_the_working_directory(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for paths in (["", "out"], ["a.png", ""]):
        assert main(["encode", *paths]) == EXIT_USAGE
        assert "empty" in error_line(capsys)
    assert [path.name for path in Path.cwd().iterdir()] == ["a.png"]


def test_skip_existing_says_how_many(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.open(picture).save("b.png")
    Path("out").mkdir()
    Path("out/a.nic").write_bytes(b"old")
    assert main(["encode", "a.png", "b.png", "out", "--skip-existing"]) == 0
    err = capsys.readouterr().err
    assert "skipped: 1 of 2" in err and "b.png: 24 x 16" in err
    assert Path("out/a.nic").read_bytes() == b"old" and Path("out/b.nic").stat().st_size > 20
    assert main(["encode", "a.png", "b.png", "out", "--skip-existing", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_skip_and_refuse_exclude_each_other(picture: Path) -> None:
    with pytest.raises(SystemExit, match=str(EXIT_USAGE)):
        main(["encode", "a.png", "a.nic", "--skip-existing", "--no-clobber"])


# Folders


def test_a_tree_is_mirrored_there_and_back(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("in/a.png", "in/deep/b.PNG", "in/deep/er/c.bmp", "in/notes.txt", "in/.hidden/d.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            Path(name).touch()
        else:
            Image.open(picture).save(name)
    os.mkfifo("in/pipe.png")
    Path("in/deep/linked").symlink_to("../../in/deep/er")
    assert main(["encode", "in", "out", "--jobs", "2"]) == 0
    found = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert found == {"a.nic", "deep/b.nic", "deep/er/c.nic", "deep/linked/c.nic"}
    left_out = "in: left out: 1 hidden, 1 neither files nor folders, 1 of other types"
    assert left_out in capsys.readouterr().err.splitlines()
    assert main(["decode", "out/", "back", "--format", "ppm"]) == 0
    found = {str(path.relative_to("back")) for path in Path("back").rglob("*") if path.is_file()}
    assert found == {"a.ppm", "deep/b.ppm", "deep/er/c.ppm", "deep/linked/c.ppm"}


def test_a_folder_beside_files(picture: Path) -> None:
    Path("in").mkdir()
    Image.open(picture).save("in/b.png")
    assert main(["encode", "in", "a.png", "out", "--quiet"]) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.nic", "b.nic"]


def test_loops_of_links_are_refused(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/deep").mkdir(parents=True)
    Image.open(picture).save("in/a.png")
    Path("in/deep/up").symlink_to("../../in")
    assert main(["encode", "in", "out"]) == UNWRITABLE
    assert "in/deep/up: it links to a folder above it" in error_line(capsys) and not Path("out").exists()
    Path("in/deep/up").unlink()
    Path("in/self").symlink_to("self")
    assert main(["encode", "in", "out"]) == UNWRITABLE
    assert "in/self" in error_line(capsys)


@pytest.mark.parametrize("out", ["a.png", "-"])
def test_folders_need_a_folder(picture: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    Image.open(picture).save("in/b.png")
    assert main(["encode", "in", out]) == EXIT_USAGE
    assert re.search("need a folder", error_line(capsys))


def test_an_empty_folder_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    assert main(["encode", "in", "out"]) == EXIT_USAGE
    assert "in: no file of a type" in error_line(capsys)

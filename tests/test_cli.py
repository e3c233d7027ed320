"""The command line as a user meets it: whole processes, exit codes, what is on standard error, what files are left."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nicrt
from conftest import GOLDEN, PICTURES
from nicrt.runtime.cli import main
from nicrt.runtime.evaluate import psnr

HARBOUR = str(PICTURES / "harbour.png")


def run(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nicrt.runtime.cli", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def test_encode_decode_files(tmp_path: Path, harbour: np.ndarray) -> None:
    nic = tmp_path / "a.nic"
    assert run("encode", HARBOUR, nic, "-q", 60).returncode == 0
    for kind in ("png", "ppm", "webp", "jpg", "tiff"):
        out = tmp_path / f"a.{kind}"
        result = run("decode", nic, out)
        assert result.returncode == 0 and result.stderr == b"", result.stderr
        assert psnr(np.asarray(Image.open(out).convert("RGB")), harbour) > 30


def test_pipes(harbour: np.ndarray) -> None:
    nic = run("encode", "-", "-", "-q", 60, "--quiet", stdin=Path(HARBOUR).read_bytes())
    assert nic.returncode == 0 and nic.stderr == b""
    ppm = run("decode", "-", "-", stdin=nic.stdout)
    assert ppm.stdout.startswith(b"P6\n240 160\n255\n")
    png = run("decode", "-", "-", "--format", "png", stdin=nic.stdout)
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(png.stdout))), np.asarray(Image.open(io.BytesIO(ppm.stdout)))
    )


def test_many_files_into_a_folder(tmp_path: Path, harbour: np.ndarray) -> None:
    sources = []
    for i in range(5):
        sources.append(tmp_path / f"p{i}.png")
        Image.fromarray(harbour[: 40 + i]).save(sources[-1])
    assert run("encode", *sources, tmp_path / "nic", "--jobs", 2).returncode == 0
    files = sorted((tmp_path / "nic").iterdir())
    assert [f.name for f in files] == [f"p{i}.nic" for i in range(5)]
    broken = files[2]
    broken.write_bytes(broken.read_bytes()[:-1])
    result = run("decode", *files, tmp_path / "png", "--jobs", 2)
    assert result.returncode == nicrt.TruncatedError.exit_code
    assert result.stderr.decode().splitlines() == [f"nicrt: {broken}: {_message(broken)}"]
    assert sorted(f.name for f in (tmp_path / "png").iterdir()) == ["p0.png", "p1.png", "p3.png", "p4.png"]


def _message(path: Path) -> str:
    with pytest.raises(nicrt.NicrtError) as error:
        nicrt.decode(path.read_bytes())
    return str(error.value)


BAD = json.loads((GOLDEN / "bad" / "bad.json").read_text())


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["decode", "verify", "info"])
def test_bad_files_are_one_line_and_no_output(tmp_path: Path, name: str, command: str) -> None:
    out = tmp_path / "out.png"
    start = time.monotonic()
    source = GOLDEN / "bad" / f"{name}.nic"
    result = run(command, source, *([out] if command == "decode" else []))
    seconds = time.monotonic() - start
    if command == "info" and name in ("half", "bit-flip", "trailing", "other-bundle", "four-gigabytes"):
        assert result.returncode == 0  # the header is fine, and info looks no further
        return
    assert result.returncode == getattr(nicrt, BAD[name]["error"]).exit_code
    assert len(result.stderr.decode().splitlines()) == 1 and b"Traceback" not in result.stderr
    assert result.stdout == b"" and list(tmp_path.iterdir()) == []
    assert seconds < 10  # a hang, not a speed: speed is for benchmarks/


def test_failures_leave_the_old_output(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    assert run("decode", GOLDEN / "bad" / "half.nic", out).returncode == nicrt.TruncatedError.exit_code
    assert out.read_bytes() == b"precious" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["decode", "only-one"],
        ["decode", "a.nic", "b.nic", "c.png"],
        ["encode", HARBOUR, "x.nic", "-q", "101"],
        ["encode", HARBOUR, "x.nic", "--lanes", "many"],
        ["encode", HARBOUR, "x.nic", "--jobs", "200", "--threads", "200"],
        ["encode", HARBOUR, "x.nic", "--backend", "abacus"],
        ["nothing"],
        ["export", "shallow"],
    ],
)
def test_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    os.chdir(tmp_path)
    result = run(*arguments)
    assert result.returncode == 2
    assert len(result.stderr.decode().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["decode", "missing.nic", "out.png"], nicrt.ImageError.exit_code),
        (["encode", str(GOLDEN / "bad" / "bad.json"), "out.nic"], nicrt.ImageError.exit_code),
        (["decode", str(GOLDEN / "shallow" / "pixel.nic"), "out.unknown"], nicrt.ImageError.exit_code),
        (["decode", str(GOLDEN / "shallow" / "pixel.nic"), "/proc/no/such/out.png"], nicrt.ImageError.exit_code),
        (
            ["decode", str(GOLDEN / "shallow" / "harbour-q20.nic"), "out.png", "--max-pixels", "9"],
            nicrt.LimitError.exit_code,
        ),
        (["encode", HARBOUR, "out.nic", "--max-pixels", "9"], nicrt.LimitError.exit_code),
        (["encode", HARBOUR, "out.nic", "-b", "nowhere"], nicrt.UnsupportedError.exit_code),
        (["export", "shallow", "--checkpoint", "x", "-o", "y"], nicrt.ImageError.exit_code),
    ],
)
def test_other_failures(arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.returncode == code, result.stderr
    assert 1 <= len(result.stderr.decode().splitlines()) <= 3 and b"Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_info_of_a_file_and_a_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(GOLDEN / "shallow" / "harbour-q90.nic"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["width"], facts["height"], facts["bundle"]) == (240, 160, "shallow")
    assert facts["parameters"]["gain"] == [630]
    assert main(["info", "shallow", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["decoder_bytes"] < 9_000_000 and facts["decoder_bytes"] < facts["bytes"]
    assert main(["info", "shallow"]) == 0
    assert "symbol_id" in capsys.readouterr().out


def test_info_says_how_large_pictures_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    def most(*arguments: str) -> int:
        assert main(["info", "flow", "--json", *arguments]) == 0
        found: int = json.loads(capsys.readouterr().out)["variants"]["flow"]["most_pixels"]
        return found

    whole, half = most(), most("--max-memory", "4096")
    assert 0.4 * whole < half < 0.6 * whole  # it has no halo: memory grows with the picture
    assert most("--max-pixels", "10000") == 10_000


def test_bundles_one_per_line_name_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundles"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "shallow" in [line.split("\t")[0] for line in lines]


def test_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(GOLDEN / "shallow" / "harbour-tiles.nic"), str(GOLDEN / "parrots.nic")]) == 0
    assert capsys.readouterr().err.count(": ok, ") == 2


def test_what_is_dropped_is_said(tmp_path: Path, harbour: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    rgba = np.dstack([harbour, np.full(harbour.shape[:2], 128, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert main(["encode", str(tmp_path / "a.png"), str(tmp_path / "a.nic")]) == 0
    assert "not kept: transparency" in capsys.readouterr().err


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith(b"nicrt ")
    assert b"exit codes" in run("--help").stdout
    assert run().returncode == 2

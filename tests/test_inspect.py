"""`info`, `verify` and `bundles`: many files, JSON, and that they agree with `decode` on what a file holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nicrt
from conftest import GOLDEN, ROOT
from nicrt import _core
from nicrt.runtime.cli import main
from nicrt.runtime.saturation import SaturationWarning

LYING = ROOT / "tests" / "cases" / "files"
BUNDLES = ("shallow", "slim", "mean-scale", "compass", "flow")


def changed(data: bytes, **fields: object) -> bytes:
    """A file's header written anew with other fields, its payload kept and its checksum right."""
    file = _core.parse(data)
    values = {
        "picture_id": file.picture_id,
        "size": (file.width, file.height),
        "tile": file.tile_size,
        "parameters": file.parameters,
        "stages": list(file.stages),
        **fields,
    }
    header = bytearray(b"\0") + file.symbol_id + values["picture_id"]  # type: ignore[operator]
    for number in (*values["size"], values["tile"], len(values["parameters"])):  # type: ignore[misc, arg-type]
        header += varint(number)
    for parameter in values["parameters"]:  # type: ignore[attr-defined]
        header += varint(len(parameter))
        for value in parameter:
            header += varint(2 * value if value >= 0 else -2 * value - 1)
    directory = stages_of(data)
    header += varint(len(values["stages"]))  # type: ignore[arg-type]
    header += directory if values["stages"] else b""
    head = data[:8] + varint(1) + varint(len(header)) + header
    payload = data[file.header_size :] if values["stages"] else b""
    return bytes(head) + _core.crc32c(bytes(head)).to_bytes(4, "little") + payload


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def stages_of(data: bytes) -> bytes:
    """The bytes of the header behind stage_count."""
    offset = 8

    def read() -> int:
        nonlocal offset
        value = shift = 0
        while True:
            byte = data[offset]
            offset += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    read(), read()
    offset += 13
    for _ in range(3):
        read()
    for _ in range(read()):
        for _ in range(read()):
            read()
    read()
    return data[offset : _core.parse(data).header_size - 4]


def refusals(data: bytes, path: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """What decode, verify and info say, of the API and of the command line."""
    path.write_bytes(data)
    out = path.with_suffix(".png")
    said = set()
    for call in (["decode", str(path), str(out)], ["decode", "--scale", "0.5", str(path), str(out)]):
        assert main(call) == nicrt.CorruptError.exit_code
        said.add(capsys.readouterr().err)
    for command in ("verify", "info"):
        assert main([command, str(path)]) == nicrt.CorruptError.exit_code
        printed, error = capsys.readouterr()
        assert printed == ""
        said.add(error)
    assert not out.exists()
    with pytest.raises(nicrt.CorruptError):
        nicrt.decode(data)
    with pytest.raises(nicrt.CorruptError):
        nicrt.load(json_of("info", path.parent / "good.nic", capsys)["bundle"], threads=1).verify(data)
    return said


def json_of(command: str, path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main([command, "--json", str(path)]) == 0
    facts: dict[str, object] = json.loads(capsys.readouterr().out)
    return facts


@pytest.mark.parametrize("name", sorted(path.name for path in LYING.glob("*.nic")))
def test_files_that_contradict_themselves(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (LYING / name).read_bytes()
    family = "compass" if name.startswith("compass") else "shallow"
    (tmp_path / "good.nic").write_bytes(next((GOLDEN / family).glob("*.nic")).read_bytes())
    said = refusals(data, tmp_path / name, capsys)
    assert len(said) == 1 and said.pop().count("\n") == 1  # the same line everywhere


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_picture_has_the_size_that_the_header_promises(
    bundle: str, harbour: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of every family: whatever header a file may have, what is decoded is as large as `info` and `verify` say."""
    codec = nicrt.load(bundle, threads=1)
    good = codec.encode(harbour[:72, :100], quality=30)
    (tmp_path / "good.nic").write_bytes(good)
    assert changed(good) == good
    for size in ((100, 72), (101, 73), (99, 72), (100, 64), (128, 128), (4096, 4096), (72, 100), (1, 1)):
        data = changed(good, size=size)
        try:
            pixels = codec.decode(data)
        except nicrt.CorruptError:
            with pytest.raises(nicrt.CorruptError):
                codec.verify(data)
            continue
        assert pixels.shape == (size[1], size[0], 3)
        verified = codec.verify(data)
        (tmp_path / "file.nic").write_bytes(data)
        facts = json_of("info", tmp_path / "file.nic", capsys)
        assert (verified.width, verified.height) == (facts["width"], facts["height"]) == size
    refusals(changed(good, stages=[]), tmp_path / "none.nic", capsys)
    if bundle == "compass":
        base, layers, *rest = _core.parse(good).parameters
        for sizes in ([*layers[:-2], 71, 100], [*layers[:-2], 100, 72], [72, 100, *layers[:2]], layers[:-2]):
            refusals(changed(good, parameters=[base, sizes, *rest]), tmp_path / "sizes.nic", capsys)


def test_an_encoder_refuses_to_make_such_a_file(harbour: np.ndarray) -> None:
    compass = nicrt.load("compass", threads=1)
    with pytest.raises(ValueError, match="its last layer 60 x 40"):
        compass.encode(harbour, parameters={"layers": [40, 60]})


def test_info_without_the_bundle_says_so(
    tmp_path: Path, small_file: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nicrt.runtime.installed.SHIPPED", tmp_path)
    (tmp_path / "a.nic").write_bytes(small_file)
    facts = json_of("info", tmp_path / "a.nic", capsys)
    assert facts["bundle"] is None and "header's figures" in str(facts["note"])
    assert main(["info", str(tmp_path / "a.nic")]) == 0 and "header's figures" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "a.nic")]) == nicrt.WrongBundleError.exit_code


def test_many_files(tmp_path: Path, small_file: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """One line of JSON for each, broken ones included; the first failure decides the exit code."""
    names = ["a.nic", "cut.nic", "b.nic", "absent.nic"]
    for name, data in zip(names, (small_file, small_file[:-1], small_file), strict=False):
        (tmp_path / name).write_bytes(data)
    files = [str(tmp_path / name) for name in names]
    assert main(["verify", "--json", *files]) == nicrt.TruncatedError.exit_code
    printed, said = capsys.readouterr()
    facts = [json.loads(line) for line in printed.splitlines()]
    assert [fact["file"] for fact in facts] == files
    assert facts[0] == {"file": files[0], "width": 40, "height": 24, "segments": 2}
    assert [fact.get("exit_code") for fact in facts] == [None, 4, None, 9]
    assert said.count("nicrt: ") == 2 and facts[1]["error"] in said

    assert main(["info", "--json", *files[:3], "flow"]) == 0  # a header is whole in a truncated file
    facts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [fact["bundle"] for fact in facts] == ["shallow", "shallow", "shallow", "flow"]
    assert facts[1]["complete_stages"] == 0
    assert main(["info", files[0], files[3], files[2]]) == nicrt.UnsupportedError.exit_code
    printed, said = capsys.readouterr()
    assert printed.count("bundle") == 2 and files[0] in printed and files[2] in printed
    assert "absent.nic" in said and said.count("\n") == 1


def test_names_that_no_file_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["\N{GRINNING FACE}" * 70, "x" * 5000]
    assert main(["info", *names]) == nicrt.UnsupportedError.exit_code
    assert main(["verify", *names]) == nicrt.ImageError.exit_code
    said = capsys.readouterr().err
    assert said.count("\n") == 4 and "Traceback" not in said


def test_version_is_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert version("nicrt") == nicrt.__version__
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"nicrt {nicrt.__version__}\n"
    script = "import sys, nicrt; nicrt.__version__; print({'importlib.metadata', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", f"import site; site.main(); {script}"], capture_output=True)
    assert done.stdout == b"set()\n", done.stderr
    assert "version =" not in (ROOT / "pyproject.toml").read_text().split("[tool.")[0].replace("dynamic", "")


def test_decoding_by_path(tmp_path: Path, small_file: bytes) -> None:
    path = tmp_path / "a.nic"
    path.write_bytes(small_file)
    expected = nicrt.decode(small_file)
    for source in (path, str(path), memoryview(small_file)):
        np.testing.assert_array_equal(nicrt.decode(source), expected)
    for source in (tmp_path / "absent.nic", str(tmp_path), "a\0b", "x" * 300):
        with pytest.raises(nicrt.ImageError, match="cannot read"):
            nicrt.decode(source)
    assert os.fspath(path) == str(path)


def test_encode_has_a_line_of_json_for_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.png").write_bytes(b"no picture")
    Image.new("RGB", (16, 16)).save("good.png")
    assert main(["encode", "bad.png", "good.png", "out/", "--json"]) == nicrt.ImageError.exit_code
    bad, good = map(json.loads, capsys.readouterr().out.splitlines())
    assert bad["source"] == "bad.png" and bad["file"] == "out/bad.nic" and "not a picture" in bad["error"]
    assert bad["exit_code"] == nicrt.ImageError.exit_code
    assert good["source"] == "good.png" and good["bytes"] == Path("out/good.nic").stat().st_size


@pytest.mark.parametrize(("error", "code"), [(MemoryError(), 7), (KeyError("x"), 10), (ValueError("wrong"), 1)])
def test_json_tells_of_failures_of_any_kind(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise type(error)(*error.args)  # a new one: its traceback holds what ran

    monkeypatch.setattr(nicrt.Codec, "verify", fails)
    monkeypatch.setenv("NICRT_TRACEBACK", "1")
    assert main(["verify", "--json", str(GOLDEN / "shallow" / "pixel.nic")]) == code
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["exit_code"] == code and found["error"] in shown.err
    assert shown.err.count("Traceback") == 1


def test_warnings_are_said_once_by_commands_that_measure(
    tmp_path: Path, small_file: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.nic"
    other.write_bytes(changed(small_file, picture_id=b"none"))
    assert main(["bench", str(other), "--repeat", "2", "--threads", "1"]) == 0
    assert capsys.readouterr().err.count("warning: the file was made with another version") == 1

    encode = nicrt.Codec.encode

    def saturating(*arguments: Any, **settings: Any) -> bytes:
        warnings.warn("clipped", SaturationWarning, stacklevel=1)
        return encode(*arguments, **settings)

    monkeypatch.setattr(nicrt.Codec, "encode", saturating)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    assert main(["evaluate", "shallow", str(tmp_path / "a.png"), "--qualities", "20,50"]) == 0
    assert capsys.readouterr().err.count("warning: clipped") == 1

"""`nicrt` as a process: standard streams in any condition, names of any kind, what failures are called."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nicrt
from conftest import GOLDEN, PICTURES
from nicrt.runtime.cli import main, report
from nicrt.runtime.cli.options import EPILOG
from nicrt.runtime.errors import one_line

NIC = GOLDEN / "shallow" / "pixel.nic"
HARBOUR = PICTURES / "harbour.png"
UNWRITABLE = nicrt.ImageError.exit_code
COMMAND = [sys.executable, "-m", "nicrt"]
SHELL = " ".join(COMMAND)


def run(*arguments: object, env: dict[str, str] | None = None, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *map(os.fsencode, map(str, arguments))]
    settings = {"capture_output": True, **options}
    return subprocess.run(command, check=False, env={**os.environ, **(env or {})}, **settings)  # type: ignore[call-overload,no-any-return]


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["bash", "-c", line], capture_output=True, check=False, cwd=cwd)


def assert_one_line(result: subprocess.CompletedProcess[bytes], code: int, text: str) -> None:
    assert result.returncode == code, result.stderr
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("nicrt: ") and text in line


# Standard output


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_limit_on_file_size_is_said_not_a_short_file(tmp_path: Path, unbuffered: str) -> None:
    """The system writes what fits and refuses the next write: a short write is not the end."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    with (tmp_path / "out").open("wb") as out:
        arguments = ("decode", GOLDEN / "shallow" / "harbour-q20.nic", "-")
        result = run(
            *arguments,
            env={"PYTHONUNBUFFERED": unbuffered},
            capture_output=False,
            stdout=out,
            stderr=subprocess.PIPE,
            preexec_fn=limit,
        )
    assert_one_line(result, UNWRITABLE, "cannot write standard output: File too large")


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    (tmp_path / "old.ppm").write_bytes(b"old")
    for name in ("old.ppm", "new.ppm"):
        result = run("decode", GOLDEN / "shallow" / "harbour-q20.nic", tmp_path / name, preexec_fn=limit)
        assert_one_line(result, UNWRITABLE, f"{name}: File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["old.ppm"]
    assert (tmp_path / "old.ppm").read_bytes() == b"old"
    result = run("decode", NIC, "/dev/full", "--format", "png")
    assert_one_line(result, UNWRITABLE, "cannot write /dev/full: No space left on device")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_pipes_that_do_not_block_get_everything(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    source = str(GOLDEN / "shallow" / "harbour-q20.nic")
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen([*COMMAND, "decode", source, "-"], stdout=writer, env=environment) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            assert len(pipe.read()) == len(b"P6\n240 160\n255\n") + 240 * 160 * 3
        assert process.wait() == 0


@pytest.mark.parametrize(
    "arguments", [f"decode {NIC} -", f"encode {HARBOUR} - --quiet", "info shallow", "bundles", "--help", "--version"]
)
@pytest.mark.parametrize(("to", "text"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
def test_standard_output_full_or_closed(tmp_path: Path, arguments: str, to: str, text: str) -> None:
    assert_one_line(shell(f"{SHELL} {arguments} {to}", tmp_path), UNWRITABLE, f"cannot write standard output: {text}")


def test_standard_input_closed(tmp_path: Path) -> None:
    assert_one_line(shell(f"{SHELL} decode - x.png <&-", tmp_path), UNWRITABLE, "cannot read it: it is closed")


@pytest.mark.parametrize("to", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_closed_streams_do_not_touch_the_work(tmp_path: Path, to: str) -> None:
    """The first file to be opened would get the number of a closed stream, and what others write there."""
    result = shell(f"{SHELL} decode {NIC} a.png {to}; echo $?; {SHELL} decode missing b.png {to}; echo $?", tmp_path)
    assert result.stdout.split() == [b"0", str(UNWRITABLE).encode()] and result.stderr == b""
    assert Image.open(tmp_path / "a.png").size == (1, 1) and not (tmp_path / "b.png").exists()


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    source = GOLDEN / "shallow" / "harbour-q20.nic"
    result = shell(f"{SHELL} decode {source} - | head -c 5 > start; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert result.stdout == b"141\n" and result.stderr == b"" and (tmp_path / "start").read_bytes() == b"P6\n24"


def test_output_by_way_of_dev(tmp_path: Path) -> None:
    result = shell(f"echo first > a; {SHELL} decode {NIC} /dev/stdout --format ppm >> a; wc -c < a", tmp_path)
    assert int(result.stdout) == len(b"first\n" + b"P6\n1 1\n255\n") + 3


# Terminals and names


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}],
)
def test_terminals_without_unicode(tmp_path: Path, environment: dict[str, str]) -> None:
    assert run("--help", env=environment).returncode == 0
    name = tmp_path / "bäume\N{EVERGREEN TREE}.png"
    name.write_bytes(HARBOUR.read_bytes())
    result = run("encode", name, tmp_path / "bäume\N{EVERGREEN TREE}.nic", env=environment)
    assert result.returncode == 0 and b"240 x 160" in result.stderr, result.stderr
    assert (tmp_path / "bäume\N{EVERGREEN TREE}.nic").is_file()
    result = run("info", tmp_path / "fehlt\N{EVERGREEN TREE}.nic", env=environment)
    assert result.returncode == nicrt.UnsupportedError.exit_code and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "stem", ["\N{PERSON WITH FOLDED HANDS}" * 62, "a\nb", "a\x1b[31mred", "a\u202eb", os.fsdecode(b"\xff\xfe"), "-x"]
)
def test_names(tmp_path: Path, stem: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"{stem}.png").write_bytes(HARBOUR.read_bytes())
    assert main(["encode", f"./{stem}.png", f"./{stem}.nic"]) == 0
    assert main(["decode", f"./{stem}.nic", "out/"]) == 0
    assert (tmp_path / "out" / f"{stem}.png").is_file()
    assert main(["decode", f"./{stem}-missing.nic", "out/"]) == UNWRITABLE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and not re.search("[\x00-\x1f\u202e\ud800-\udfff]", "".join(lines))


def test_measurements_outlive_standard_output(tmp_path: Path) -> None:
    result = shell(f"{SHELL} bench {NIC} --repeat 1 --threads 1 --json b.json >/dev/full", tmp_path)
    assert_one_line(result, UNWRITABLE, "cannot write standard output: No space left on device")
    assert json.loads((tmp_path / "b.json").read_text())["runs"]


def test_a_failure_of_standard_output_is_not_one_of_the_files(tmp_path: Path) -> None:
    """What cannot be printed of the first picture does not keep the second from being written."""
    for name in "ab":
        Image.new("RGB", (16, 16)).save(tmp_path / f"{name}.png")
    result = shell(f"{SHELL} encode a.png b.png out/ --json --quiet >/dev/full", tmp_path)
    assert result.returncode == UNWRITABLE
    assert all(b"cannot write standard output" in line for line in result.stderr.splitlines())
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"a.nic", "b.nic"}


# Failures


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 9 GiB"), OSError("out of memory when writing")])
def test_want_of_memory_for_a_picture_is_a_limit(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise type(error)(*error.args)  # a new one: its traceback holds what ran

    monkeypatch.setattr(Image.Image, "save", fails)
    monkeypatch.setattr("nicrt.runtime.pictures.reading.read_samples", fails)
    for command in (["decode", NIC, tmp_path / "a.png"], ["encode", HARBOUR, tmp_path / "a.nic"]):
        assert main([*map(str, command)]) == nicrt.LimitError.exit_code
        assert "not enough memory" in capsys.readouterr().err


def test_an_unexpected_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("\x1b[31mred\x1b[0m\n<object at 0x7f00deadbeef>")

    monkeypatch.setattr("nicrt.runtime.codec.Codec.decode", broken)
    monkeypatch.setattr("nicrt.runtime.installed.installed", broken)
    code = nicrt.InternalError.exit_code
    for arguments in (["decode", str(NIC), str(tmp_path / "a.png"), "-b", "shallow"], ["bundles"]):
        monkeypatch.delenv(report.TRACEBACK_VARIABLE, raising=False)
        assert main(arguments) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert "internal error (KeyError: " in line and report.TRACEBACK_VARIABLE in line
        assert "\x1b" not in line and "0x7f" not in line
        monkeypatch.setenv(report.TRACEBACK_VARIABLE, "1")
        assert main(arguments) == code
        assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), nicrt.LimitError.exit_code),
        (PermissionError(13, "Permission denied", "/some/file"), nicrt.ImageError.exit_code),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), nicrt.InternalError.exit_code),
        (RecursionError("too deep"), nicrt.InternalError.exit_code),
        (nicrt.CorruptError("damaged"), nicrt.CorruptError.exit_code),
        (ValueError("wrong"), 2),
    ],
)
def test_every_failure_has_a_documented_code(error: Exception, code: int) -> None:
    text, found = report.explain(error, 2)
    assert found == code and text and re.search(rf"\b{code} ", EPILOG)
    assert getattr(error, "filename", None) is None or "/some/file" in text


def test_every_code_is_documented() -> None:
    codes = {each.exit_code for each in nicrt.NicrtError.__subclasses__()} | {0, 1, 2, 3, 130, 141, 143}
    assert all(re.search(rf"\b{code}\b", EPILOG) for code in codes)


def test_other_libraries_messages() -> None:
    text = "\x1b[1;31mbad\x1b[0m thing\n  <_io.BytesIO object at 0x7f33c0ffee00>\n" + "x" * 1000
    line = one_line(ValueError(text))
    assert line.startswith("bad thing <_io.BytesIO object> xxx") and len(line) < 210
    assert one_line(KeyError()) == "KeyError"


@pytest.mark.parametrize("option", ["--like", "--roi"])
def test_messages_name_the_file_that_failed(tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "a.nic")
    assert main(["encode", str(HARBOUR), out, option, "missing-file", "-e", "7"]) == UNWRITABLE
    assert "nicrt: missing-file: cannot read it" in capsys.readouterr().err
    (tmp_path / "text").write_text("no picture")
    if option == "--roi":
        assert main(["encode", str(HARBOUR), out, option, str(tmp_path / "text"), "-e", "7"]) == UNWRITABLE
        assert f"{tmp_path / 'text'}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["evaluate", "jpeg", "text"], UNWRITABLE),
        (["bench", "text"], nicrt.UnsupportedError.exit_code),
        (["bench", "--compare", "text", "text"], nicrt.UnsupportedError.exit_code),
        (["bench", "--compare", "list", "list"], nicrt.UnsupportedError.exit_code),
        (["bench", "--compare", "gone", "text"], UNWRITABLE),
        (["evaluate", "--compare", "text", "text"], nicrt.UnsupportedError.exit_code),
        (["export", "shallow", "--checkpoint", "gone", "-o", "x"], UNWRITABLE),
    ],
)
def test_messages_of_other_commands_name_the_file(
    tmp_path: Path,
    arguments: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("neither a picture nor JSON")
    Path("list").write_text("[1]")
    assert main(arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search("text|gone|list", line) and " at 0x" not in line and "Errno" not in line


def test_huge_bench_sizes_are_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "shallow", "--size", "20000x20000"]) == nicrt.LimitError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert "20000 x 20000" in line and "--max-pixels" in line
    assert main(["bench", "shallow", "--size", "100x100", "--max-pixels", "9999"]) == nicrt.LimitError.exit_code


def test_pipes_where_files_are_needed_are_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe, out = tmp_path / "pipe", str(tmp_path / "out")
    os.mkfifo(pipe)
    for option in ("--checkpoint", "--base", "--calibrate"):
        arguments = {"--checkpoint": str(HARBOUR), option: str(pipe)}
        flat = [text for pair in arguments.items() for text in pair]
        assert main(["export", "shallow", "-o", out, *flat]) == UNWRITABLE
        assert f"{pipe}: a pipe or device" in capsys.readouterr().err
    assert main(["info", str(tmp_path), "--json"]) == nicrt.UnsupportedError.exit_code
    assert main(["encode", str(HARBOUR), out, "-b", str(pipe)]) == nicrt.UnsupportedError.exit_code


@pytest.mark.parametrize("name", ["tables.safetensors", "graphs/analysis.onnx"])
def test_pipes_in_a_bundle_are_refused_at_once(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from nicrt.runtime.installed import SHIPPED, read_listing

    files = ["manifest.json", *read_listing(SHIPPED / "shallow").files]
    replaced = name if name in files else next(file for file in files if file.endswith(".onnx"))
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        if file == replaced:
            os.mkfifo(tmp_path / file)
        else:
            (tmp_path / file).symlink_to(SHIPPED / "shallow" / file)
    bad = main(["encode", str(HARBOUR), str(tmp_path / "a.nic"), "-b", str(tmp_path), "-e", "5"])
    err = capsys.readouterr().err
    assert bad in (0, nicrt.UnsupportedError.exit_code) and (bad == 0 or "not a regular file" in err)
    assert name.endswith(".onnx") or bad


# As a module; progress


def test_python_m_nicrt_is_the_command() -> None:
    result = run("--version")
    assert result.returncode == 0 and result.stdout.startswith(b"nicrt ")
    assert run("info", NIC, "--json").stdout == run("info", NIC, "--json").stdout != b""
    assert json.loads(run("info", NIC, "--json").stdout)["width"] == 1


def on_a_terminal(arguments: list[str], cwd: Path) -> str:
    """What a terminal shows of standard error."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen([*COMMAND, *arguments], stderr=slave, cwd=cwd, env=environment) as process:
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 4096):
                shown += part
        except OSError:  # the last process has closed it
            pass
        assert process.wait() == 0
    os.close(master)
    return shown.decode()


def test_progress_on_a_terminal_only(tmp_path: Path) -> None:
    for name in "abc":
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    arguments = ["encode", "a.png", "b.png", "c.png", "out"]
    shown = on_a_terminal(arguments, tmp_path)
    assert re.search(r"1/3 files, \d+\.\d MP/s, \d+:\d\d left", shown), shown
    assert re.search(r"3/3 files, \d+\.\d MP/s\r?\n$", shown), shown
    assert "/3 files" not in on_a_terminal([*arguments, "--quiet"], tmp_path)
    assert b"/3 files" not in run(*arguments, cwd=tmp_path).stderr


@pytest.mark.parametrize("command", [["decode", "/dev/zero", "o.png"], ["encode", "/dev/zero", "o.nic"]])
def test_input_without_an_end_is_a_limit(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nicrt.runtime.cli.files.MAX_INPUT_BYTES", 3 << 20)
    assert main(command) == 7
    assert "/dev/zero: it has more than" in capsys.readouterr().err


def test_outputs_without_a_type_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (str(tmp_path / "x"), "/dev/null"):
        assert main(["decode", str(GOLDEN / "parrots.nic"), name]) == 9
        assert "has no type; try .png" in capsys.readouterr().err

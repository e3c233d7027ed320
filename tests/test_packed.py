"""Packed bundles: one file, or bytes in memory, with the ids and the results of the folder; and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import nicrt
import synthetic
from nicrt import _core
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.cli import main
from nicrt.runtime.installed import SHIPPED
from nicrt.runtime.manifest import Run

PACKED_MANIFEST = "nicrt.manifest"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.layered(tmp_path_factory.mktemp("bundles") / "layered")


@pytest.fixture(scope="module")
def packed(folder: Path) -> bytes:
    return Bundle.open(folder).packed()


def nicrt_command(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nicrt", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)


def files_of(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    return load(data), header_of(data)["__metadata__"]


def header_of(data: bytes) -> dict[str, Any]:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # type: ignore[no-any-return]


def test_the_same_bundle_from_folder_file_and_memory(
    folder: Path, packed: bytes, tmp_path: Path, harbour: np.ndarray
) -> None:
    path = tmp_path / "mine.nicb"
    path.write_bytes(packed)
    whole = nicrt.load(folder)
    data = whole.encode(harbour)
    for codec in (nicrt.load(path), nicrt.load(packed), nicrt.load(bytearray(packed)), nicrt.load(memoryview(packed))):
        assert codec.encode(harbour) == data
        assert np.array_equal(codec.decode(data), whole.decode(data))
        assert codec.bundle.manifest == whole.bundle.manifest
        assert codec.bundle.packed() == packed  # the same bytes for the same bundle


def test_files_are_in_it_as_they_are(folder: Path, packed: bytes) -> None:
    files, metadata = files_of(packed)
    assert metadata[PACKED_MANIFEST].encode() == (folder / "manifest.json").read_bytes()
    for name, array in files.items():
        assert array.tobytes() == (folder / name).read_bytes()


def test_what_is_read_was_checked(packed: bytes, tmp_path: Path, harbour: np.ndarray) -> None:
    """A file that changes after it was opened is refused where a changed part is read."""
    path = tmp_path / "mine.nicb"
    path.write_bytes(packed)
    codec = nicrt.load(path)
    start, end = header_of(packed)["graphs/analysis.onnx"]["data_offsets"]
    start, end = (8 + int.from_bytes(packed[:8], "little") + place for place in (start, end))
    changed = bytearray(packed)
    changed[end - 20] ^= 1
    path.write_bytes(changed)
    with pytest.raises(nicrt.UnsupportedError, match="not the file that the manifest lists"):
        codec.encode(harbour)
    path.write_bytes(packed[: start + 9])
    with pytest.raises(nicrt.UnsupportedError, match="not all of its data"):
        nicrt.load(packed[: start + 9])
    with pytest.raises(nicrt.UnsupportedError, match="ends before"):
        codec.encode(harbour)


def test_what_is_packed_is_what_was_checked(folder: Path, tmp_path: Path) -> None:
    """A file that has changed since the bundle was opened is not packed. (That each file is read once for it is tested
    in cpp_ext/tests/bundle_test.cpp.)"""
    copy = shutil.copytree(folder, tmp_path / "copy")
    bundle = Bundle.open(copy)
    with (copy / "graphs" / "analysis.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(nicrt.UnsupportedError, match=r"copy: graphs/analysis\.onnx: not the file that the manifest"):
        bundle.packed()


def test_pieces_that_lack_or_do_not_belong(packed: bytes) -> None:
    files, metadata = files_of(packed)
    with pytest.raises(nicrt.UnsupportedError, match="packed codec bundle"):
        nicrt.load(save(files))
    more = {**files, "notes.txt": np.zeros(3, np.uint8)}
    with pytest.raises(nicrt.UnsupportedError, match=r"notes\.txt"):
        nicrt.load(save(more, metadata))
    fewer = {name: array for name, array in files.items() if not name.endswith("show.onnx")}
    with pytest.raises(nicrt.UnsupportedError, match="lacks"):
        Bundle.of_bytes(save(fewer, metadata)).check_parts()


def test_no_mutation_gets_through(packed: bytes) -> None:
    """Whatever bytes change: the bundle is refused, or every part of it is what the manifest lists."""
    generator = np.random.default_rng(1)
    header_bytes = 8 + int.from_bytes(packed[:8], "little")
    before = Bundle.of_bytes(packed).manifest
    for _ in range(400):
        changed = bytearray(packed)
        for place in generator.integers(0, header_bytes if generator.integers(2) else len(packed), 1 + _ % 3):
            changed[place] = generator.integers(256)
        try:
            bundle = Bundle.of_bytes(changed)
            bundle.check_parts()
        except nicrt.UnsupportedError:
            continue
        ids = [(v.symbol_id, v.picture_id) for v in bundle.manifest.variants.values()]
        assert ids == [(v.symbol_id, v.picture_id) for v in before.variants.values()]


@pytest.mark.parametrize("no_bundle", [5, 10**13, [1, 2], None, 3.5])
def test_what_is_neither_path_nor_bytes(no_bundle: object) -> None:
    with pytest.raises(TypeError):
        nicrt.load(no_bundle)  # type: ignore[arg-type]


def test_a_path_with_a_zero() -> None:
    with pytest.raises(nicrt.UnsupportedError, match="a zero in its path"):
        nicrt.load("./a\0b")


HEADER = b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'
BAD_FILES = {
    "nothing": b"",
    "short": b"\1\2\3",
    "long header": (1 << 40).to_bytes(8, "little") + b"{}",
    "no JSON": (2).to_bytes(8, "little") + b"xx",
    "no object": (2).to_bytes(8, "little") + b"[]",
    "left over": len(HEADER).to_bytes(8, "little") + HEADER + b"abc",
    "too short": len(HEADER).to_bytes(8, "little") + HEADER + b"a",
    **{
        name: len(header).to_bytes(8, "little") + header + b"ab"
        for name, header in {
            "twice": HEADER[:-1] + b',"a":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}',
            "another type": HEADER.replace(b"U8", b"U4"),
            "a gap": HEADER.replace(b"[0,2]", b"[1,2]").replace(b"[2]", b"[1]"),
            "an overlap": HEADER[:-1] + b',"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
            "another size": HEADER.replace(b"[2]", b"[3]"),
            "negative": HEADER.replace(b"[0,2]", b"[-2,0]"),
            "an unknown field": HEADER.replace(b'"shape"', b'"more":1,"shape"'),
            "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "half of a surrogate pair": HEADER[:-1] + b',"__metadata__":{"a":"\\ud800"}}',
            "a name with half of a surrogate pair": HEADER.replace(b'"a"', b'"\\udc00"'),
            "metadata of numbers": HEADER[:-1] + b',"__metadata__":{"a":1}}',
        }.items()
    },
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(name: str) -> None:
    with pytest.raises(nicrt.UnsupportedError, match="the bundle in memory"):
        _core.Bundle.of_bytes(BAD_FILES[name])


def test_the_command(folder: Path, packed: bytes, tmp_path: Path, harbour: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(harbour).save(tmp_path / "a.png")
    result = nicrt_command("pack", folder, "mine.nicb", cwd=tmp_path)
    assert result.returncode == 0 and result.stdout == f"mine.nicb: layered, {len(packed)} bytes\n"
    assert (tmp_path / "mine.nicb").read_bytes() == packed
    assert nicrt_command("pack", folder, "mine.nicb", "--no-clobber", cwd=tmp_path).returncode == 9
    assert nicrt_command("pack", "mine.nicb", "mine.nicb", cwd=tmp_path).returncode == 9
    assert nicrt_command("pack", folder, "mine.bin", cwd=tmp_path).returncode == 9
    (tmp_path / "notes.nicb").write_text("precious")
    (tmp_path / "folder.nicb").mkdir()
    os.mkfifo(tmp_path / "pipe.nicb")
    for other in ("notes.nicb", "folder.nicb", "pipe.nicb"):
        refused = nicrt_command("pack", folder, other, cwd=tmp_path)
        assert refused.returncode == 9 and len(refused.stderr.splitlines()) == 1, refused
    assert (tmp_path / "notes.nicb").read_text() == "precious"
    facts = json.loads(nicrt_command("info", "mine.nicb", "--json", cwd=tmp_path).stdout)
    assert facts["bundle"] == "layered" and facts["path"] == "mine.nicb"
    for bundle in ("mine.nicb", "./mine.nicb"):
        assert nicrt_command("encode", "a.png", "a.nic", "-b", bundle, cwd=tmp_path).returncode == 0
    assert nicrt_command("decode", "a.nic", "b.png", cwd=tmp_path).returncode == 8
    for place in (tmp_path, tmp_path / "mine.nicb"):
        found = nicrt_command("decode", "a.nic", "b.png", cwd=tmp_path, NICRT_BUNDLE_PATH=str(place))
        assert found.returncode == 0, found.stderr


def test_changed_contents_under_the_shipped_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels that are not the shipped ones cannot have the shipped ids: neither by a changed part, nor by a manifest
    that lists the changed part, nor by one that lists it and claims the ids."""
    copy = Path(shutil.copytree(SHIPPED / "shallow", tmp_path / "shallow"))
    manifest = json.loads((copy / "manifest.json").read_text())
    entry = manifest["graphs"]["synthesis"]["onnx"]
    path = copy / entry["file"]
    model = bytearray(path.read_bytes())
    model[len(model) // 2] ^= 0x80  # a weight's sign
    path.write_bytes(model)
    with pytest.raises(nicrt.UnsupportedError, match="not the file that the manifest lists"):
        Bundle.open(copy).check_parts()
    entry["sha256"] = hashlib.sha256(model).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(nicrt.UnsupportedError, match="picture id"):
        Bundle.open(copy)
    monkeypatch.setenv("NICRT_BUNDLE_PATH", str(tmp_path))
    assert nicrt.load("shallow").bundle.path == SHIPPED / "shallow"


def test_info_knows_a_packed_bundle_of_any_name(
    packed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "shallow", "a.nic"):  # neither the name of a bundle nor an ending counts
        Path(name).write_bytes(packed)
        assert main(["info", name, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["bundle"] == "layered" and facts["path"] == name
    Path("no bundle").write_bytes(b"12345678{}")
    assert main(["info", "no bundle"]) == nicrt.UnsupportedError.exit_code
    assert capsys.readouterr().err.startswith("nicrt: no bundle: ")


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names of any bytes, as Linux has them")
def test_a_path_that_is_no_unicode(packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.nicb")
    path.write_bytes(packed)
    assert nicrt.load(path).name == "layered"
    path.write_bytes(packed[:100])
    with pytest.raises(nicrt.UnsupportedError) as error:
        nicrt.load(path)
    assert str(error.value).startswith(str(path))


def test_what_decoding_reads_counts_once(folder: Path) -> None:
    """Of two forms the native one, and nothing of the encoder."""
    bundle = Bundle.open(SHIPPED / "shallow")
    stored = load((SHIPPED / "shallow" / "weights.safetensors").read_bytes())
    program = bundle.manifest.variants["shallow"].program
    steps = [step for stage in program.stages for step in (*stage.steps, *stage.show_runs)]
    graphs = {step.graph for step in steps if isinstance(step, Run) and not step.enc}
    forms = [bundle.manifest.graphs[name].native for name in graphs]
    tensors = {tensor for form in forms if form is not None for tensor in form.tensors}
    files = sum((SHIPPED / "shallow" / name).stat().st_size for name in ("manifest.json", "tables.safetensors"))
    assert None not in forms and bundle.decoder_bytes == files + sum(stored[name].nbytes for name in tensors)
    only_onnx = Bundle.open(folder)
    assert 0 < only_onnx.decoder_bytes < only_onnx.size_bytes

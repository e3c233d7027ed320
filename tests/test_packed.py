"""Packed bundles: one file, or bytes in memory, with the ids and the results of the folder; and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nicrt
import synthetic
from nicrt.runtime import safetensors_file
from nicrt.runtime.bundle import PACKED_MANIFEST, Bundle
from nicrt.runtime.byte_range import ByteRange
from nicrt.runtime.installed import SHIPPED
from nicrt.runtime.safetensors_file import TensorFile


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
    file = TensorFile.open(ByteRange.of_memory(data))
    return {name: file.read(name) for name in file.tensors}, dict(file.metadata)


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


def test_the_library_reads_it_too(packed: bytes) -> None:
    from safetensors.numpy import load

    assert {n: a.tobytes() for n, a in load(packed).items()} == {n: a.tobytes() for n, a in files_of(packed)[0].items()}


def test_what_is_read_was_checked(packed: bytes, tmp_path: Path, harbour: np.ndarray) -> None:
    """A file that changes after it was opened is refused where a changed part is read."""
    path = tmp_path / "mine.nicb"
    path.write_bytes(packed)
    codec = nicrt.load(path)
    entry = TensorFile.open(ByteRange.of_memory(packed)).tensors["graphs/analysis.onnx"]
    changed = bytearray(packed)
    changed[entry.start + entry.size - 20] ^= 1
    path.write_bytes(changed)
    with pytest.raises(nicrt.UnsupportedError, match="not the file that the manifest lists"):
        codec.encode(harbour)
    path.write_bytes(packed[: entry.start + 9])
    with pytest.raises(nicrt.UnsupportedError, match="not all of its data"):
        nicrt.load(packed[: entry.start + 9])
    with pytest.raises(nicrt.UnsupportedError, match="ends before"):
        codec.encode(harbour)


def test_what_is_packed_is_what_was_checked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes after it was read, or before, is not what is packed."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    bundle, opened = Bundle.open(copy), []
    plain = bundle.files.open
    monkeypatch.setattr(bundle.files, "open", lambda name: opened.append(name) or plain(name))
    bundle.packed()
    assert sorted(opened) == bundle.manifest.files, "each file is read once"
    with (copy / "graphs" / "analysis.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(nicrt.UnsupportedError, match=r"copy: graphs/analysis\.onnx: not the file that the manifest"):
        bundle.packed()


def test_pieces_that_lack_or_do_not_belong(packed: bytes) -> None:
    files, metadata = files_of(packed)
    with pytest.raises(nicrt.UnsupportedError, match="packed codec bundle"):
        nicrt.load(safetensors_file.write(files))
    more = {**files, "notes.txt": np.zeros(3, np.uint8)}
    with pytest.raises(nicrt.UnsupportedError, match=r"notes\.txt"):
        nicrt.load(safetensors_file.write(more, metadata))
    fewer = {name: array for name, array in files.items() if not name.endswith("show.onnx")}
    with pytest.raises(nicrt.UnsupportedError, match="lacks"):
        Bundle.of_bytes(safetensors_file.write(fewer, metadata)).check_parts()


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


def test_corners(packed: bytes) -> None:
    wide = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    file = TensorFile.open(ByteRange.of_memory(safetensors_file.write({"a": wide, "b": np.zeros(2, np.float32)})))
    assert np.array_equal(file.read_corner("a", [2, 4, 3]), wide[:2, :, :3])
    for shape in ([4, 4, 5], [3, 4], [3, 4, 5, 1]):
        with pytest.raises(nicrt.UnsupportedError, match="no corner"):
            file.read_corner("a", shape)


@pytest.mark.parametrize("no_bundle", [5, 10**13, [1, 2], None, 3.5])
def test_what_is_neither_path_nor_bytes(no_bundle: object) -> None:
    with pytest.raises(TypeError):
        nicrt.load(no_bundle)  # type: ignore[arg-type]


def test_a_path_with_a_zero() -> None:
    with pytest.raises(nicrt.UnsupportedError, match="null byte"):
        nicrt.load("./a\0b")


def test_shapes_without_elements_that_no_array_can_have() -> None:
    for shape in ([0, 1 << 40, 1 << 40], [1 << 40, 1 << 40, 0, 1 << 40]):
        header = json.dumps({"a": {"dtype": "U8", "shape": shape, "data_offsets": [0, 0]}}).encode()
        file = TensorFile.open(ByteRange.of_memory(len(header).to_bytes(8, "little") + header))
        with pytest.raises(nicrt.UnsupportedError, match="no shape"):
            file.read("a")


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
        TensorFile.open(ByteRange.of_memory(BAD_FILES[name]))


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

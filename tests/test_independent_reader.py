"""A reader written from the documents alone agrees with nicrt: on ids, on pictures, and on what must be refused."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bundle_refusals_graphs  # its cases are put beside those of bundle_refusals
import bundle_refusals_programs
import numpy as np
import pytest
from bundle_refusals import CASES, Make
from independent_reader.container import crc32c
from PIL import Image
from tiny_bundle import tiny

import nicrt
from conftest import GOLDEN, ROOT
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.errors import UnsupportedError

ENGINES = sorted(path.parent for path in (ROOT / "engines").glob("*/manifest.json"))
BAD = json.loads((GOLDEN / "bad" / "bad.json").read_text())
NATIVE = ("shallow", "slim", "mean-scale")
GOOD = {bundle: json.loads((GOLDEN / bundle / "good.json").read_text()) for bundle in NATIVE}
DECODED = [(bundle, name) for bundle in NATIVE for name in GOOD[bundle]]
TINY = tiny()
assert bundle_refusals_graphs.CASES is bundle_refusals_programs.CASES is CASES


class Reader:
    """The independent reader in a process of its own, where importing nicrt is an error."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "independent_reader"]
        self._process = subprocess.Popen(
            command, cwd=ROOT / "tests", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, do: str, bundle: Path | None = None, **more: object) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"do": do, "bundle": str(bundle)} | {key: str(value) for key, value in more.items()}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait() == 0
        self._process.stdout.close()


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


def test_the_process_cannot_import_nicrt() -> None:
    script = """
import importlib, independent_reader.__main__
for name in ("nicrt", "onnx", "onnxruntime", "torch", "msgspec", "safetensors"):
    try:
        importlib.import_module(name)
    except AssertionError as error:
        print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "tests", capture_output=True, text=True, check=True
    )
    assert result.stdout.count("the independent reader imports") == 6


@pytest.mark.parametrize("folder", ENGINES, ids=lambda folder: folder.name)
def test_ids_of_shipped_bundles(reader: Reader, folder: Path, tmp_path: Path) -> None:
    variants = json.loads((folder / "manifest.json").read_text())["variants"]
    expected = {"error": None, "ids": {name: [v["symbol_id"], v["picture_id"]] for name, v in variants.items()}}
    assert reader("ids", folder) == expected
    assert reader("check", folder) == {"error": None}
    packed = tmp_path / "packed.nicb"
    packed.write_bytes(Bundle.open(folder).packed())
    assert reader("ids", packed) == expected
    assert reader("check", packed) == {"error": None}


@pytest.mark.parametrize(("bundle", "name"), DECODED)
def test_decodes_golden_files(reader: Reader, bundle: str, name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    answer = reader("decode", ROOT / "engines" / bundle, file=GOLDEN / bundle / f"{name}.nic", to=out)
    assert answer == {"error": None, "symbols": GOOD[bundle][name]}
    picture = np.load(out)
    expected = np.asarray(Image.open(GOLDEN / bundle / f"{name}.png").convert("RGB"))
    assert picture.dtype == np.uint8 and picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).max() <= 1
    if name == "row":
        decoded = nicrt.decode((GOLDEN / bundle / f"{name}.nic").read_bytes())
        assert np.abs(picture.astype(int) - decoded).max() <= 1


@pytest.mark.parametrize("bundle", NATIVE)
def test_proofs_of_native_forms(reader: Reader, bundle: str) -> None:
    answer = reader("prove", ROOT / "engines" / bundle)
    assert answer["error"] is None and answer["proved"] > 0 and answer["missed"] == []


@pytest.mark.parametrize("name", BAD)
def test_bad_golden_files(reader: Reader, name: str, tmp_path: Path) -> None:
    file = GOLDEN / "bad" / f"{name}.nic"
    answer = reader("decode", ROOT / "engines" / "shallow", file=file, to=tmp_path / "out.npy")
    assert answer["error"] == BAD[name]["error"]


def with_items(data: bytes) -> bytes:
    """A file of one stage with XMP behind it (FORMAT.md, section 8)."""
    body = b"<x/>"
    size_end = 10  # of signature, version and a header size of one byte
    header = data[size_end : size_end + data[9]]
    segments = data[size_end + data[9] + 4 :]
    changed = b"\x01" + header[1:] + bytes([1, 6, 1, len(body) + 4])
    start = data[:9] + bytes([len(changed)]) + changed
    item = body + struct.pack("<I", crc32c(body))
    return start + struct.pack("<I", crc32c(start)) + segments + item


@pytest.mark.parametrize("change", [with_items, lambda data: with_flags(data, 2), lambda data: with_flags(data, 3)])
def test_files_with_items_are_unsupported(reader: Reader, change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = tmp_path / "items.nic"
    file.write_bytes(change((GOLDEN / "shallow" / "pixel.nic").read_bytes()))
    answer = reader("decode", ROOT / "engines" / "shallow", file=file, to=tmp_path / "out.npy")
    assert answer["error"] == "UnsupportedError"
    with pytest.raises(UnsupportedError, match="later version"):
        nicrt.decode(file.read_bytes())
    with pytest.raises(UnsupportedError, match="later version"):
        nicrt.info(file.read_bytes())


def with_flags(data: bytes, flags: int) -> bytes:
    start = data[:10] + bytes([flags]) + data[11 : 10 + data[9]]
    return start + struct.pack("<I", crc32c(start)) + data[len(start) + 4 :]


def test_both_read_the_tiny_bundle(reader: Reader, tmp_path: Path) -> None:
    for path in (tiny().write(tmp_path / "tiny"), tiny().pack(tmp_path / "tiny.nicb")):
        assert reader("check", path) == {"error": None}
        assert reader("prove", path) == {"error": None, "proved": 1, "missed": []}
        Bundle.open(path).check_parts()


def test_every_entry_of_the_table_has_cases() -> None:
    text = (ROOT / "docs" / "BUNDLE.md").read_text().split("## 11.")[1]
    entries = [entry for entry in re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE) if entry not in ("what", "---")]
    assert set(entries) == {entry for entry, _, _ in CASES} and len(entries) == len(set(entries)) > 10


@pytest.mark.parametrize(("entry", "what", "make"), CASES, ids=[f"{entry}: {what}" for entry, what, _ in CASES])
def test_both_refuse(reader: Reader, entry: str, what: str, make: Make, tmp_path: Path) -> None:
    path = make(TINY.copy(), tmp_path / "tiny")
    assert reader("check", path)["error"] == "UnsupportedError"
    with pytest.raises(UnsupportedError) as caught:
        Bundle.open(path).check_parts()
    assert "\n" not in str(caught.value)

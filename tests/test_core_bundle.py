"""The reader of bundles and the one of `independent_reader`, which was written from the documents alone: the same ids
and contents of every honest bundle, and of damaged ones both refuse what either does."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bundle_refusals
import bundle_refusals_graphs  # its cases are put beside those of bundle_refusals
import bundle_refusals_programs
import numpy as np
import pytest
from independent_reader import errors, fields
from independent_reader.bundle import Bundle as IndependentBundle
from independent_reader.identity import graph_hash
from tiny_bundle import Tiny, tiny

import synthetic
from nicrt import _core
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.installed import SHIPPED

assert bundle_refusals_graphs.CASES is bundle_refusals_programs.CASES is bundle_refusals.CASES
MUTANTS = 800
NUMBERS: list[Any] = [0, 1, -1, 2, 3, 7, 63, 64, 65, 255, 256, 257, 1024, 1025, 4096, 1 << 14, (1 << 14) + 1, 1 << 16]
NUMBERS += [1 << 20, 1 << 24, (1 << 24) + 1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**32, 2**63, 2**64, 10**30]
NUMBERS += [0.0, -0.0, 1.0, 0.5, 1e-9, 1e30, 1.0000001e30, -1e30, 1e308, 1e-320, 100.0, 100.5]
TEXTS = ["", "a", "x", "n", "h", "64h", "0h", "1h", "12345678h", "a\n", "é", "\x00", "@x", "@size", "@rows", "$step"]
TEXTS += ["$step[i]", "$nothing", "../a", "a/b", "a/b/c", ".a", "-a", "0" * 64, "0" * 16, "0" * 8, "A" * 64, "a" * 65]
TEXTS += ["float32", "float16", "int32", "int16", "int8", "uint8", "uint16", "channel", "graph", "entropy", "constant"]


def _filled(text: bytes) -> dict[str, Any]:
    """A manifest with all defaults."""
    manifest: dict[str, Any] = json.loads(text)
    fields.manifest.check(manifest, "manifest")
    return manifest


def _compare(core: _core.Bundle, other: IndependentBundle) -> None:
    assert _filled(core.manifest) == other.manifest
    for name, graph in other.graphs.items():
        assert core.graph_hash(name) == graph_hash(graph)
        if graph["onnx"] is not None:
            assert core.onnx(name) == _core.OnnxModel.read(other.files.read(graph["onnx"]["file"], 1 << 29)).write()
        if graph["native"] is not None:
            mine, theirs = core.weights(name), other.form(name).tensors
            assert list(mine) == list(theirs)
            for tensor in mine:
                assert mine[tensor].dtype == graph["native"]["tensors"][tensor]["dtype"]
                np.testing.assert_array_equal(mine[tensor], theirs[tensor])
    card = other.manifest["card"]
    assert core.card() == (None if card is None else other.files.read(card["file"], 1 << 20).decode())
    core.check_parts()


def _folders(tmp_path: Path) -> Iterator[Path]:
    yield from sorted(path.parent for path in SHIPPED.glob("*/manifest.json"))
    yield synthetic.layered(tmp_path / "layered")
    yield synthetic.banded(tmp_path / "banded")
    yield tiny().write(tmp_path / "tiny")


def test_honest_bundles(tmp_path: Path) -> None:
    for folder in _folders(tmp_path):
        core, other = _core.Bundle.open(str(folder)), IndependentBundle(folder)
        _compare(core, other)
        packed = core.packed()
        (tmp_path / "packed.nicb").write_bytes(packed)
        _compare(_core.Bundle.open(str(tmp_path / "packed.nicb")), other)
        _compare(_core.Bundle.of_bytes(packed), IndependentBundle(tmp_path / "packed.nicb"))


@pytest.mark.parametrize("place", range(len(bundle_refusals.CASES)), ids=lambda i: bundle_refusals.CASES[i][1])
def test_refusals(place: int, tmp_path: Path) -> None:
    path = bundle_refusals.CASES[place][2](tiny(), tmp_path / "bundle")
    with pytest.raises(UnsupportedError) as error:
        _core.Bundle.open(str(path)).check_parts()
    assert "\n" not in str(error.value)


def _answer(read: Callable[[], object]) -> str | None:
    """The message of a refusal. Any other error fails the test."""
    try:
        read()
    except (UnsupportedError, errors.UnsupportedError) as error:
        return str(error)
    return None


def _both(folder: Path, what: object) -> bool:
    """Whether the bundle is accepted, as the same by both."""
    other = _answer(lambda: IndependentBundle(folder).check_leaves())
    core = _answer(lambda: _core.Bundle.open(str(folder)).check_parts())
    assert (other is None) == (core is None), f"{what}\nindependent: {other}\ncore: {core}"
    if core is None:
        bundle = Bundle.open(folder)
        assert _filled(bundle.core.manifest) == IndependentBundle(folder).manifest
        assert set(bundle.manifest.graphs) == set(IndependentBundle(folder).graphs)  # Python's types have all of it
    return core is None


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value below."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*way, key)
        yield from _places(item, (*way, key))


def _at(value: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        value = value[key]
    return value


def _mutate(manifest: dict[str, Any], draw: random.Random, ways: list[tuple[Any, ...]]) -> str:
    way = draw.choice(ways)
    parent, key = _at(manifest, way[:-1]), way[-1]
    kind = draw.choice(["delete", "number", "text", "type", "swap", "rename", "double", "near"])
    other = _at(manifest, draw.choice(ways))
    if kind == "delete":
        del parent[key]
    elif kind == "number":
        parent[key] = draw.choice(NUMBERS)
    elif kind == "text":
        parent[key] = draw.choice([*TEXTS, draw.choice(draw.choice(ways)[:1])])
    elif kind == "type":
        parent[key] = draw.choice([None, True, False, [], {}, [parent[key]], {"a": parent[key]}, str(parent[key])])
    elif kind == "swap":
        parent[key] = copy.deepcopy(other)
    elif kind == "rename" and isinstance(parent, dict):
        items = list(parent.items())
        parent.clear()
        parent.update((draw.choice([*TEXTS, str(way[0])]) if name == key else name, value) for name, value in items)
    elif kind == "double" and isinstance(parent, list):
        parent.insert(draw.randrange(len(parent) + 1), parent[key])
    elif isinstance(parent[key], int):
        parent[key] += draw.choice([-1, 1])
    elif isinstance(parent[key], str):  # another name that is there
        names = [way[-1] for way in ways if isinstance(way[-1], str)]
        parent[key] = draw.choice(names)
    return f"{kind} at {way}: {json.dumps(parent)[:200]}"


@pytest.mark.parametrize("part", range(4))
def test_mutated_manifests(part: int, tmp_path: Path) -> None:
    """Once with the old ids, and, where those alone were wrong, with the right ones."""
    draw = random.Random(part)
    honest = tiny()
    folder = honest.write(tmp_path / "tiny")
    ways = list(_places(honest.manifest))
    accepted = 0
    for _ in range(MUTANTS // 4):
        mutant = Tiny(json.loads(json.dumps(honest.manifest)), honest.weights, honest.tables, honest.onnx)
        what = _mutate(mutant.manifest, draw, ways)
        if draw.random() < 0.7:
            mutant._write_ids()
        (folder / "manifest.json").write_bytes(mutant.text())
        accepted += _both(folder, what)
    assert accepted > MUTANTS // 80  # it is not all about ids


def test_mutated_texts(tmp_path: Path) -> None:
    """Bytes of the manifest, which is mostly no JSON any more."""
    draw = random.Random(4)
    folder = tiny().write(tmp_path / "tiny")
    text = (folder / "manifest.json").read_bytes()
    pieces = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\u0041", b"\\ud83d\\ude00", b"\\ud83d", b"\\x", b"\xc3\xa9"]
    pieces += [b"\xff", b"\xed\xa0\x80", b"\x00", b"\n", b" ", b"null", *b"1e400 -0 01 1. NaN Infinity".split()]
    for _ in range(400):
        place = draw.randrange(len(text))
        piece = draw.choice(pieces)
        changed = text[:place] + piece + text[place + draw.choice([0, 1, len(piece)]) :]
        (folder / "manifest.json").write_bytes(changed)
        _both(folder, (place, piece))


def test_mutated_packed_bytes(tmp_path: Path) -> None:
    draw = random.Random(5)
    honest = tiny().pack(tmp_path / "tiny.nicb").read_bytes()
    header = 8 + int.from_bytes(honest[:8], "little")
    mutant = tmp_path / "mutant.nicb"
    for i in range(600):
        data = bytearray(honest)
        place = draw.randrange(8 if i % 8 == 0 else header if i % 2 else len(data))
        if i % 5 == 0:
            del data[place : place + draw.choice([1, 8, 1 << 20])]
        elif i % 5 == 1:
            data[place:place] = draw.randbytes(draw.choice([1, 8]))
        else:
            data[place] = draw.choice([data[place] ^ 1 << draw.randrange(8), 0, 0xFF, *b'"{}[],:019 '])
        mutant.write_bytes(data)
        _both(mutant, (i, place))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder = tiny().write(tmp_path / "tiny")
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")
    bundle = _core.Bundle.open(str(folder))
    with pytest.raises(UnsupportedError, match="not a regular file"):
        bundle.weights("hyper")


def test_a_path_with_a_zero(tmp_path: Path) -> None:
    folder = tiny().write(tmp_path / "tiny")
    with pytest.raises(UnsupportedError, match="a zero in its path"):
        _core.Bundle.open(f"{folder}\0more")


def test_graphs_that_are_not_there() -> None:
    bundle = _core.Bundle.open(str(next(SHIPPED.glob("*/manifest.json")).parent))
    with pytest.raises(ValueError, match="no graph 'nothing'"):
        bundle.onnx("nothing")

"""Bundles are untrusted input: whatever is wrong with one is said, and nothing of it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest

import nicrt
import synthetic
from conftest import ROOT
from nicrt import _core
from nicrt.runtime import manifest as m
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.installed import SHIPPED

SCHEMA = ROOT / "runtime" / "manifest.schema.json"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.layered(tmp_path_factory.mktemp("bundles") / "layered")


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "layered"))


def test_schema_is_that_of_the_types() -> None:
    assert SCHEMA.read_bytes() == m.schema(), "run: python -m nicrt.runtime.manifest > runtime/manifest.schema.json"


@pytest.mark.parametrize("folder", sorted(p.parent for p in SHIPPED.glob("*/manifest.json")), ids=lambda p: p.name)
def test_shipped_bundles(folder: Path) -> None:
    jsonschema.validate(json.loads((folder / "manifest.json").read_text()), json.loads(SCHEMA.read_text()))
    bundle = Bundle.open(folder)
    bundle.check_parts()
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there == {"manifest.json", *_core.Listing.read(str(folder)).files}
    assert bundle.manifest.license and bundle.manifest.provenance


def test_shipped_bundles_are_small() -> None:
    assert (
        sum(p.stat().st_size for p in SHIPPED.rglob("*") if p.is_file()) < 135_000_000
    )  # weights are there twice, for each form of a graph


def edited(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    manifest = json.loads((bundle / "manifest.json").read_text())
    edit(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def steps(manifest: dict[str, Any], stage: int = 1) -> list[dict[str, Any]]:
    return manifest["variants"]["only"]["program"]["stages"][stage]["steps"]  # type: ignore[no-any-return]


def parameters(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return manifest["variants"]["only"]["program"]["parameters"]  # type: ignore[no-any-return]


def _index_from_the_round_before(manifest: dict[str, Any]) -> None:
    """Exact in the first round; in the second it is what a float graph left."""
    layer = steps(manifest)
    index = layer.pop(2)
    steps(manifest, 0).append({**index, "in": {"y": "y", "floor": "$floor"}})
    layer.append({**layer[-1], "out": {"picture": "which"}})


def _encoder_sees_a_float(manifest: dict[str, Any]) -> None:
    """Which a graph made that the symbol id does not cover."""
    manifest["graphs"]["show_fine"]["outputs"]["picture"]["dtype"] = "float32"
    steps(manifest).insert(3, {"op": "graph", "graph": "show_fine", "in": {"y": "u"}, "out": {"picture": "shown"}})
    steps(manifest)[4]["in"] = {"x": "shown"}


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown field": (lambda d: d.update(surprise=1), "surprise"),
    "later format": (lambda d: d.update(bundle_format=3, surprise=1), "format 3"),
    "earlier format": (lambda d: d.update(bundle_format=1), "export it again"),
    "feature that is not known": (lambda d: d.update(requires=["hologram"]), "hologram"),
    "path outside": (lambda d: d["graphs"]["show"]["onnx"].update(file="../show.onnx"), "file"),
    "absolute path": (lambda d: d["tables"].update(file="/etc/passwd"), "file"),
    "wrong table hash": (lambda d: d["tables"]["groups"].update(base="0" * 64), "not those"),
    "tables that are not there": (lambda d: d["tables"]["groups"].update(more="0" * 64), "missing"),
    "other symbol id": (lambda d: d["variants"]["only"].update(symbol_id="0" * 16), "symbol id"),
    "other picture id": (lambda d: d["variants"]["only"].update(picture_id="0" * 8), "picture id"),
    "hash of an exact graph": (lambda d: d["graphs"]["index"]["onnx"].update(sha256="0" * 64), "symbol id"),
    "hash of a float graph": (lambda d: d["graphs"]["show"]["onnx"].update(sha256="0" * 64), "picture id"),
    "halo of a float graph": (lambda d: d["graphs"]["show"].update(halo=0), "picture id"),
    "range of an exact graph": (lambda d: d["graphs"]["index"]["inputs"]["y"].update(range=[-9, 9]), "symbol id"),
    "graph without a form": (lambda d: d["graphs"]["show"].pop("onnx"), "neither"),
    "index from a float graph": (lambda d: d["graphs"]["index"].update(exact=False), "not exact"),
    "exact without proofs": (lambda d: d["graphs"]["index"].pop("proofs"), "proof"),
    "exact without range": (lambda d: d["graphs"]["index"]["inputs"]["y"].pop("range"), "range"),
    "index by encoder tensor": (lambda d: steps(d)[4].update(by="t"), "not exact"),
    "picture when decoding": (lambda d: steps(d)[0].pop("enc"), "would run when decoding"),
    "unknown tables": (lambda d: steps(d)[1].update(tables="nothing"), "no tables"),
    "unknown graph": (lambda d: steps(d)[2].update(graph="nothing"), "no graph"),
    "unknown input": (lambda d: steps(d)[2]["in"].update(y="nothing"), "not there"),
    "unknown parameter": (lambda d: steps(d)[2]["in"].update(floor="$nothing"), "not there"),
    "missing port": (lambda d: steps(d)[2]["in"].pop("y"), "ports"),
    "wrong channels": (lambda d: steps(d)[1].update(channels=4), "channel map"),
    "stride of no tile": (lambda d: steps(d)[1].update(stride=3), "stride"),
    "each of no list": (
        lambda d: d["variants"]["only"]["program"]["stages"][1].update(each="floor"),
        "list of sizes",
    ),
    "two parameters": (
        lambda d: parameters(d).append({"name": "set", "min": 0, "max": 0, "default": 0}),
        "one name",
    ),
    "set beyond the tables": (
        lambda d: parameters(d)[1].update(max=2),
        "sets",
    ),
    "default sizes of another number": (lambda d: parameters(d)[0].update(length=3), "default sizes"),
    "index that a round before made": (lambda d: _index_from_the_round_before(d), "not exact"),
    "float in the loop": (_encoder_sees_a_float, "in_loop"),
    "tensor of a loop that may not run": (
        lambda d: d["variants"]["only"]["program"]["stages"].append({"align": 8, "steps": [], "show": "pixels"}),
        "not there",
    ),
    "quality out of range": (lambda d: d["quality"][0]["parameters"].update(floor=5), "not allow"),
    "falling quality": (lambda d: d["quality"].reverse(), "rise"),
    "show without its op": (lambda d: d["variants"]["only"]["program"]["stages"][0]["show"].pop("op"), "field `op`"),
    "show of int32": (lambda d: d["variants"]["only"]["program"]["stages"][1].update(show="t"), "uint8"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_edited_manifests_are_refused(bundle: Path, name: str) -> None:
    edit, said = EDITS[name]
    with pytest.raises(nicrt.UnsupportedError, match=said):
        Bundle.open(edited(bundle, edit))


def test_a_field_twice_is_refused(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace('"license"', '"name": "other", "license"', 1))
    with pytest.raises(nicrt.UnsupportedError, match="'name' is there twice"):
        Bundle.open(bundle)


def test_many_fields_with_one_twice_are_refused_at_once(bundle: Path) -> None:
    """Comparing each name with all others would take minutes."""
    names = [f"{i:x}" for i in range(90_000)]
    text = "{" + ",".join(f'"{name}":0' for name in [*names, names[-1]]) + "}"
    (bundle / "manifest.json").write_text(text)
    start = perf_counter()
    with pytest.raises(nicrt.UnsupportedError, match="is there twice"):
        Bundle.open(bundle)
    assert perf_counter() - start < 5


@pytest.mark.parametrize("path", ["./a\0b", "a\0b", "a\0b.nicb"])
def test_paths_with_a_zero_are_refused(path: str) -> None:
    with pytest.raises(nicrt.UnsupportedError):
        nicrt.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 10, b"{}" * 10, b" " * (2 << 20)])
def test_junk_manifests_are_refused(bundle: Path, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(nicrt.UnsupportedError):
        Bundle.open(bundle)


def test_changed_graph_file_is_refused(bundle: Path, harbour: np.ndarray) -> None:
    path = bundle / "graphs" / "analysis.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(nicrt.UnsupportedError, match="not the file"):
        nicrt.load(bundle).encode(harbour)


def test_wrong_proof_refuses_the_backend(bundle: Path, harbour: np.ndarray) -> None:
    edited(bundle, lambda d: d["graphs"]["index"]["proofs"][0].update(sha256="0" * 64))
    codec = nicrt.load(bundle)  # a proof is no part of the id
    data = b""
    with pytest.raises(nicrt.UnsupportedError, match="proof"):
        data = with_layer(codec, harbour)
    assert data == b""


def with_layer(codec: nicrt.Codec, picture: np.ndarray) -> bytes:
    from test_program import encode_layers

    return encode_layers(codec, picture, [picture.shape[:2]])


def test_name_path_and_environment(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nicrt.load(str(pristine)).name == "layered"
    with pytest.raises(nicrt.UnsupportedError):
        nicrt.load("layered")
    for place in (pristine, pristine.parent):
        monkeypatch.setenv("NICRT_BUNDLE_PATH", str(place))
        assert nicrt.load("layered").name == "layered"


def test_models_that_bundles_may_not_have_are_refused(pristine: Path) -> None:
    import onnx
    from onnx import helper

    good = (pristine / "graphs" / "show.onnx").read_bytes()
    _core.OnnxModel.read(good)
    model = onnx.load_from_string(good)

    def variant(change: Callable[[onnx.ModelProto], object]) -> bytes:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        change(copy)
        return copy.SerializeToString()

    def external(copy: onnx.ModelProto) -> None:
        copy.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL

    branch = helper.make_graph([], "b", [], [])
    for change in (
        lambda c: c.graph.node.append(helper.make_node("NonMaxSuppression", [], [])),
        lambda c: c.graph.node.append(helper.make_node("Add", ["a", "b"], ["c"], domain="evil")),
        lambda c: c.graph.node.append(helper.make_node("Add", ["a"], ["c"], body=branch)),
        lambda c: c.graph.node.append(helper.make_node("If", ["a"], ["c"], then_branch=branch, else_branch=branch)),
        lambda c: c.graph.ClearField("node"),
        lambda c: c.functions.append(helper.make_function("d", "f", [], [], [], [])),
        external,
    ):
        with pytest.raises(nicrt.UnsupportedError):
            _core.OnnxModel.read(variant(change))
    for junk in (b"", b"\x08", b"\xff" * 30, good[:-1], good[: len(good) // 2]):
        with pytest.raises(nicrt.UnsupportedError):
            _core.OnnxModel.read(junk)


def test_manifest_bytes_are_stable(pristine: Path) -> None:
    data = (pristine / "manifest.json").read_bytes()
    manifest = msgspec.json.decode(data, type=m.Manifest)
    assert synthetic.finished(manifest, pristine) == data
    assert msgspec.json.decode(data)["name"] == "layered"

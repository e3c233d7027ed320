"""The written bundle: the same bytes always, checked before it replaces anything, refused when tampered with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from onnx import numpy_helper  # noqa: E402

from nicrt import _core  # noqa: E402
from nicrt.export.bundle import GraphSource, exact_graph  # noqa: E402
from nicrt.export.cli import export_family  # noqa: E402
from nicrt.export.exact import lower_hyper_synthesis  # noqa: E402
from nicrt.export.models.shallow import Shallow  # noqa: E402
from nicrt.export.onnx_export import operators  # noqa: E402
from nicrt.export.proving import check_forms  # noqa: E402
from nicrt.runtime.bundle import MANIFEST, Bundle  # noqa: E402
from nicrt.runtime.errors import ImageError, InternalError, UnsupportedError  # noqa: E402
from nicrt.runtime.installed import SHIPPED  # noqa: E402

MAX_DECODER_BYTES = 6_000_000


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_shipped_bundle_is_the_export_of_the_weights(
    shipped_checkpoint: Path, shipped: Path, tmp_path: Path
) -> None:
    export_family("shallow", shipped_checkpoint, tmp_path / "again")
    assert _files(tmp_path / "again") == _files(shipped)


def test_another_process_writes_the_same_bytes(fresh: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    code = (
        "import sys; from pathlib import Path; from nicrt.export.cli import export_family; "
        "export_family('shallow', Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, str(checkpoint), str(out)], check=True, env={"OMP_NUM_THREADS": "1"})
    assert _files(out) == _files(fresh)


def test_the_shipped_bundle_is_sound(shipped: Path) -> None:
    bundle = Bundle.open(shipped)
    decoder = 0
    for name, graph in bundle.manifest.graphs.items():
        data = bundle.graph_bytes(name)
        assert set(operators(data)) <= set(_core.onnx_operators())
        model = onnx.load_from_string(data)
        assert not model.metadata_props and not model.graph.value_info and not model.doc_string
        assert not model.producer_name and not any(node.metadata_props or node.doc_string for node in model.graph.node)
        decoder += 0 if graph.encoder else len(data)
    assert decoder < MAX_DECODER_BYTES
    assert {proof.seed % 2 for proof in bundle.manifest.graphs["hyper"].proofs} == {0, 1}


def test_a_changed_graph_is_refused(shipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(shipped, folder)
    graph = folder / "graphs" / "synthesis.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    with pytest.raises(UnsupportedError, match="not the file that the manifest lists"):
        Bundle.open(folder).graph_bytes("synthesis")


@pytest.mark.parametrize("key", ["halo", "symbol_id", "picture_id"])
def test_a_changed_manifest_is_refused(shipped: Path, tmp_path: Path, key: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(shipped, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    if key == "halo":
        manifest["graphs"]["hyper"][key] += 1
    else:
        place = manifest["variants"]["shallow"]
        place[key] = place[key][::-1]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UnsupportedError, match="id says"):
        Bundle.open(folder)


def _hyper(model: Shallow) -> GraphSource:
    return exact_graph("hyper", lower_hyper_synthesis(model.hyper_synthesis, 127), {}, {})


def test_the_proofs_find_one_changed_number(model: Shallow, fresh: Path) -> None:
    bundle = Bundle.open(fresh)
    data = bundle.graph_bytes("hyper")
    entry = bundle.manifest.graphs["hyper"]
    source = _hyper(model)
    check_forms("hyper", data, entry, source.native, source.reference)
    changed = onnx.load_from_string(data)
    weight = next(tensor for tensor in changed.graph.initializer if tensor.data_type == onnx.TensorProto.UINT8)
    values = numpy_helper.to_array(weight).copy()
    values.flat[np.argmax(values == 128)] += 40
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(InternalError, match="not exact"):
        check_forms("hyper", changed.SerializeToString(), entry, source.native, source.reference)


def test_a_failed_export_leaves_what_was_there(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(SHIPPED / "flow", out)
    before = (out / MANIFEST).read_bytes()

    def fail(*_: object) -> None:
        raise InternalError("no")

    monkeypatch.setattr("nicrt.export.bundle.check_forms", fail)
    with pytest.raises(InternalError):
        export_family("shallow", checkpoint, out)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (out / MANIFEST).read_bytes() == before and Bundle.open(out).manifest.name == "flow"


def test_what_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    junk = tmp_path / "junk"
    junk.write_bytes(b"not tensors")
    other = tmp_path / "other"
    save_file({"weight": torch.zeros(3)}, other)
    for family, path in (
        ("nothing", other),
        ("shallow", tmp_path / "absent"),
        ("shallow", junk),
        ("shallow", other),
    ):
        with pytest.raises(ImageError if path.name == "absent" else UnsupportedError):
            export_family(family, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""Native forms that the families write, against NumPy, which has them from docs/BUNDLE.md alone, and in phases."""

from __future__ import annotations

from collections.abc import Iterator

import native_graphs
import native_reference
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import nn  # noqa: E402

from compressai_models import random_model  # noqa: E402
from nicrt.export import compass, factorized, mean_scale, shallow, slim  # noqa: E402
from nicrt.export.bundle import GraphSource, exact_graph  # noqa: E402
from nicrt.export.compressai import ARCHITECTURES  # noqa: E402
from nicrt.export.described import Description, stored_tensors  # noqa: E402
from nicrt.export.exact import lower_hyper_synthesis  # noqa: E402
from nicrt.export.lowering import draw  # noqa: E402
from nicrt.export.models.compass import Compass  # noqa: E402
from nicrt.export.models.entropy import HyperSynthesis  # noqa: E402
from nicrt.export.models.mean_scale import Hyperprior, MeanScale  # noqa: E402
from nicrt.export.models.shallow import Shallow  # noqa: E402
from nicrt.export.models.slim import WIDTHS, Slim  # noqa: E402
from nicrt.export.proving import Run, check_exact, check_float, drawn_inputs, native_runs, proofs  # noqa: E402
from nicrt.runtime.errors import InternalError  # noqa: E402
from nicrt.runtime.manifest import Graph, Port  # noqa: E402


def _shallow(kind: str) -> Iterator[GraphSource]:
    model = Shallow(**shallow.KINDS[kind], deep=True).eval().requires_grad_(False)
    with torch.no_grad():
        for logarithms in (model.log_gain, model.log_inv):
            logarithms.normal_(0, 0.5)
        model.deep.joint[-1].weight.normal_(0, 0.1)
    yield from shallow._graphs(model)


def _slim(side: bool) -> Iterator[GraphSource]:
    model = Slim(side).eval().requires_grad_(False)
    with torch.no_grad():
        for layer in (*model.enc, *model.dec):
            layer.weight.normal_(0, 0.05)
    form = slim.Form(side)
    graphs = [*slim._graphs(model, form), *slim._scalable_graphs(form)]
    kept = {slim.variant(width) for width in (WIDTHS[0], WIDTHS[2])}
    yield from (graph for graph in graphs if graph.name.rpartition("_")[2] in kept or "_w" not in graph.name)


def _mean_scale(arch: str) -> Iterator[GraphSource]:
    model = random_model(arch)
    if isinstance(model, Hyperprior):
        yield from mean_scale._graphs(model, isinstance(model, MeanScale), draw(model, 127))
    else:
        source = factorized.factorized(model, arch, "")
        yield from source.graphs
        shift = np.array([0, 3, -2] * 3)
        described = factorized._synthesis(model, shift)
        (plain,) = (graph for graph in source.graphs if graph.name == "synthesis")
        yield factorized.described_graph("shifted", described, plain.inputs, plain.outputs)


def _compass() -> Iterator[GraphSource]:
    model = Compass().eval().requires_grad_(False)
    yield from (graph for graph in compass._layer_graphs(model) if graph.native is not None)


FAMILIES = {
    **{kind: lambda kind=kind: _shallow(kind) for kind in shallow.KINDS},
    "slim": lambda: _slim(side=False),
    "slim with side information": lambda: _slim(side=True),
    **{arch: lambda arch=arch: _mean_scale(arch) for arch in ARCHITECTURES},
    "compass": _compass,
}


def _entry(source: GraphSource) -> Graph:
    assert source.native is not None
    return Graph(source.inputs, source.outputs, exact=source.reference is not None, native=source.native.form)


def _by_numpy(source: GraphSource) -> Run:
    assert source.native is not None
    form, arrays = source.native.form, source.native.arrays
    return lambda inputs: native_reference.run(form, arrays, inputs, list(source.outputs))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_native_form_computes_what_its_graph_does(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    monkeypatch.setattr("nicrt.export.proving.FLOAT_SIZES", (1, 2))
    for source in FAMILIES[family]():
        entry = _entry(source)
        native_graphs.check(source.name, entry)
        runs = native_runs(source.name, entry, source.native)
        if source.reference is None:
            check_float(source.name, entry, _by_numpy(source), runs)
            with torch.no_grad():  # as ONNX Runtime gets it: in phases, where there is GDN
                traced = source.module(*map(torch.from_numpy, drawn_inputs(entry).values()))
            shown = dict(zip(source.outputs, (tensor.numpy() for tensor in traced), strict=True))
            check_float(source.name, entry, _by_numpy(source), {"the module": lambda _, shown=shown: shown})
            continue
        for name, run in {"NumPy": _by_numpy(source), **runs}.items():
            inputs = {port: array[:1] for port, array in drawn_inputs(entry).items()}
            expected, got = source.reference(inputs), run(inputs)
            for port in source.outputs:
                np.testing.assert_array_equal(got[port], expected[port], err_msg=f"{source.name} by {name}: {port}")


def test_widths_share_stored_weights() -> None:
    torch.manual_seed(3)
    sources = [source for source in _slim(side=False) if source.native is not None]
    stored = stored_tensors(source.native.arrays for source in sources)
    assert stored["enc.1.weight"].shape == (96, 96, 5, 5)  # of the widths 48 and 96 that there are
    narrow = next(source for source in sources if source.name == "analysis_w48").native
    assert narrow.form.tensors["enc.1.weight"].shape == [48, 48, 5, 5]
    np.testing.assert_array_equal(stored["enc.1.weight"][:48, :48], narrow.arrays["enc.1.weight"])


def test_one_name_means_one_tensor() -> None:
    with pytest.raises(InternalError, match="two graphs mean different tensors by 'a'"):
        stored_tensors([{"a": np.zeros(3, np.float32)}, {"a": np.ones(2, np.float32)}])


def test_a_wrong_form_is_named() -> None:
    """Of an exact graph and of a float one."""
    torch.manual_seed(5)
    network = lower_hyper_synthesis(HyperSynthesis(4, 3, hidden=(5, 6)), z_limit=127)
    z = Port("int32", ["n", 4, "h", "w"], (-127, 127))
    numbers = {"step": (-128, 128), "skip": (0, 64), "dz": (0, 6)}
    inputs = {"z": z, **{name: Port("int32", [1], limits) for name, limits in numbers.items()}}
    outputs = {name: Port(kind, ["n", 3, "4h", "4w"]) for name, kind in (("index", "uint8"), ("mean", "float32"))}
    source = exact_graph("hyper", network, inputs, outputs)
    graph = Graph(inputs, outputs, exact=True, native=source.native.form)
    graph.proofs = list(proofs(graph, source.reference))
    check_exact("hyper", graph, {"NumPy": _by_numpy(source)}, source.reference)
    source.native.arrays["hyper.0.bias"][0] += 40
    with pytest.raises(InternalError, match=r"graph 'hyper' is not exact in NumPy"):
        check_exact("hyper", graph, {"NumPy": _by_numpy(source)}, source.reference)

    described = Description()
    described.affine("b", ["a"], [described.constant("offset", 1.0)])
    places = Port("float32", ["n", 2, "h", "w"])
    moved = Graph({"a": places}, {"b": places}, native=described.form())
    with pytest.raises(InternalError, match=r"graph 'moved': 'b' is off by 1 in NumPy"):
        check_float("moved", moved, lambda inputs: {"b": inputs["a"]}, {"NumPy": lambda i: {"b": i["a"] + 1}})


def test_what_has_no_native_form_is_not_described() -> None:
    with pytest.raises(InternalError, match="has no native form"):
        Description().layer("odd", nn.Conv2d(2, 2, 3))
    with pytest.raises(InternalError, match=r"a\.0: a Sigmoid has no native form"):
        Description().chain("a", nn.Sequential(nn.Sigmoid()).named_children())

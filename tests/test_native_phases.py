"""The native backend on synthesis transforms with GDN in phases: shipped ones, as they are and changed, against ONNX
Runtime."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from conftest import ROOT
from nicrt import _core
from nicrt.runtime.backends.base import OtherKindError
from nicrt.runtime.backends.native import NativeCpu
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.manifest import Graph

Tensors = dict[str, np.ndarray]


def _shipped(bundle: str, name: str) -> tuple[Graph, onnx.ModelProto]:
    opened = Bundle.open(ROOT / "engines" / bundle)
    return opened.manifest.graphs[name], onnx.load_from_string(opened.graph_bytes(name))


@pytest.fixture(params=[("slim", "synthesis_w48"), ("slim", "synthesis_w192"), ("mean-scale", "synthesis")])
def shipped(request: pytest.FixtureRequest) -> tuple[Graph, onnx.ModelProto]:
    return _shipped(*request.param)


@pytest.fixture
def slim() -> tuple[Graph, onnx.ModelProto]:
    return _shipped("slim", "synthesis_w48")


def _inputs(graph: Graph, height: int, width: int) -> Tensors:
    random = np.random.default_rng(height)
    made: Tensors = {}
    for name, port in graph.inputs.items():
        if len(port.dims) == 1:
            made[name] = np.zeros(1, np.int32)
            continue
        scale = int(str(port.dims[2])[:-1] or 1)
        shape = (1, port.dims[1], scale * height, scale * width)
        symbols = random.laplace(0, 0.6, shape).round()
        made[name] = symbols.astype(np.int32) if port.dtype == "int32" else random.normal(0, 0.5, shape).astype("f4")
    return made


def _compare(graph: Graph, model: onnx.ModelProto, arithmetic: str, height: int = 3, width: int = 5) -> None:
    """Values of these made-up latents span all grey levels and beyond."""
    data, inputs = model.SerializeToString(), _inputs(graph, height, width)
    (expected,) = OnnxRuntimeCpu(1).load(graph, data).run(inputs, ["picture"])
    (found,) = NativeCpu(1, arithmetic).load(graph, data).run(inputs, ["picture"])
    apart = np.abs(found.astype(int) - expected)
    assert found.shape == expected.shape
    assert apart.max() <= 1
    assert (apart > 0).mean() < (0.1 if arithmetic == "avx512_bf16" else 1e-3)
    assert len(np.unique(expected)) > 20


@pytest.mark.parametrize("arithmetic", _core.arithmetics())
def test_shipped_graphs(shipped: tuple[Graph, onnx.ModelProto], arithmetic: str) -> None:
    for height, width in ((1, 1), (2, 9), (7, 17)):
        _compare(*shipped, arithmetic, height, width)


@pytest.mark.parametrize("arithmetic", _core.arithmetics())
def test_threads_do_not_change_a_byte(slim: tuple[Graph, onnx.ModelProto], arithmetic: str) -> None:
    graph, model = slim
    inputs = _inputs(graph, 13, 6)
    pictures = [
        NativeCpu(threads, arithmetic).load(graph, model.SerializeToString()).run(inputs, ["picture"])[0]
        for threads in (1, 2, 3, 13)
    ]
    assert all(np.array_equal(pictures[0], other) for other in pictures[1:])


def _nodes(model: onnx.ModelProto, operator: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == operator]


def _set(node: onnx.NodeProto, **values: object) -> None:
    kept = [a for a in node.attribute if a.name not in values]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in values.items())])


def _convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Those of several taps."""
    return [n for n in _nodes(model, "Conv") if helper.get_node_attr_value(n, "kernel_shape") != [1, 1]]


def _constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def _swap_phases(model: onnx.ModelProto) -> None:
    concat = _nodes(model, "Concat")[0]
    concat.input[0], concat.input[1] = concat.input[1], concat.input[0]


def _swap_columns(model: onnx.ModelProto) -> None:
    """Of the phases, both rows of them: taps of 3 and 2 change places, which is a layer of its own."""
    concat = _nodes(model, "Concat")[0]
    a, b, c, d = concat.input
    concat.input[:] = [b, a, d, c]


def _other_gamma(model: onnx.ModelProto) -> None:
    """Of one phase."""
    first = _nodes(model, "Conv")[5]
    (beta,) = (t for t in model.graph.initializer if t.name == first.input[2])
    model.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(beta) * 1.5, "other"))
    first.input[2] = "other"


def _drop_a_share(model: onnx.ModelProto) -> None:
    clip, last = _nodes(model, "Clip")[0], _nodes(model, "Add")[-1]
    clip.input[0] = last.input[0]


def _share_twice(model: onnx.ModelProto) -> None:
    *_, first, _, last = _nodes(model, "Add")  # of four shares
    last.input[1] = first.input[1]


def _other_root(model: onnx.ModelProto) -> None:
    roots = {node.output[0] for node in _nodes(model, "Sqrt")}
    products = [node for node in _nodes(model, "Mul") if node.input[1] in roots]
    products[2].input[1] = products[1].input[1]


def _longer_slice(model: onnx.ModelProto) -> None:
    _constant(model, _nodes(model, "Slice")[0].input[2], np.array([-7], np.int64))


def _tall(model: onnx.ModelProto) -> None:
    """Both phases of the first rows read 61 rows, all but one of them above."""
    for node in _convolutions(model)[:2]:
        columns = helper.get_node_attr_value(node, "kernel_shape")[1]
        model.graph.initializer.append(
            numpy_helper.from_array(np.zeros((48, 48, 61, columns), np.float32), f"tall{columns}")
        )
        node.input[1] = f"tall{columns}"
        _, left, _, right = helper.get_node_attr_value(node, "pads")
        _set(node, kernel_shape=[61, columns], pads=[60, left, 0, right])


def _two_clips(model: onnx.ModelProto) -> None:
    """Each would put the layers together from their phases."""
    clip = _nodes(model, "Clip")[0]
    place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Clip")
    model.graph.node.insert(place, helper.make_node("Clip", list(clip.input), ["twice"]))


ANOTHER_LAYER: dict[str, Callable[[onnx.ModelProto], None]] = {"columns in another order": _swap_columns}
"""Still a chain: the picture is ONNX Runtime's."""

REFUSED: dict[str, Callable[[onnx.ModelProto], None]] = {
    "phases in another order": _swap_phases,
    "another normalisation of one phase": _other_gamma,
    "a share that is missing": _drop_a_share,
    "a share that is there twice": _share_twice,
    "the root of another phase": _other_root,
    "more cut off": _longer_slice,
    "a kernel of 122 rows": _tall,
    "two clips": _two_clips,
    "a stride that no picture has": lambda model: _set(
        _nodes(model, "ConvTranspose")[0], strides=[1 << 40, 8], output_padding=[(1 << 40) - 1, 7]
    ),
    "a root with an attribute": lambda model: _set(_nodes(model, "Sqrt")[0], colour=1),
    "another order of depth": lambda model: _set(_nodes(model, "DepthToSpace")[0], mode="CRD"),
    "another size of blocks": lambda model: _set(_nodes(model, "DepthToSpace")[0], blocksize=1),
    "phases side by side": lambda model: _set(_nodes(model, "Concat")[0], axis=2),
    "a convolution with dilations": lambda model: _set(_convolutions(model)[0], dilations=[2, 2]),
    "a convolution that shrinks": lambda model: _set(_convolutions(model)[0], pads=[1, 1, 1, 0]),
    "a convolution moved sideways": lambda model: _set(_convolutions(model)[1], pads=[1, 1, 1, 0]),
    "a share that begins elsewhere": lambda model: _set(_nodes(model, "ConvTranspose")[0], pads=[3, 4, 4, 4]),
    "no root": lambda model: setattr(_nodes(model, "Sqrt")[0], "op_type", "Exp"),
    "a root twice": lambda model: setattr(_nodes(model, "Conv")[0], "op_type", "Sqrt"),
}


@pytest.mark.parametrize("name", ANOTHER_LAYER)
def test_other_placings_are_other_layers(slim: tuple[Graph, onnx.ModelProto], name: str) -> None:
    graph, model = slim
    ANOTHER_LAYER[name](model)
    _compare(graph, model, "scalar")


@pytest.mark.parametrize("name", REFUSED)
def test_other_graphs_are_left_to_other_backends(slim: tuple[Graph, onnx.ModelProto], name: str) -> None:
    graph, model = slim
    REFUSED[name](model)
    with pytest.raises(OtherKindError):
        NativeCpu(1, "scalar").load(graph, model.SerializeToString())


def test_damaged_models_never_fail_otherwise(slim: tuple[Graph, onnx.ModelProto]) -> None:
    """Names and numbers changed anywhere but in the weights."""
    graph, model = slim
    random = np.random.default_rng(2)
    names = [name for node in model.graph.node for name in node.output]
    for _ in range(150):
        damaged = onnx.ModelProto()
        damaged.CopyFrom(model)
        node = damaged.graph.node[random.integers(len(damaged.graph.node))]
        choice = random.integers(4)
        if choice == 0:
            node.input[random.integers(len(node.input))] = str(random.choice(names))
        elif choice == 1:
            node.op_type = str(random.choice(sorted({n.op_type for n in model.graph.node})))
        elif choice == 2 and len(node.input) > 1:
            del node.input[-1]
        elif node.attribute:
            attribute = node.attribute[random.integers(len(node.attribute))]
            attribute.i = int(random.integers(-3, 9))
            attribute.ints[:] = [int(n) for n in random.integers(-2, 9, len(attribute.ints))]
        with suppress(UnsupportedError):
            NativeCpu(1, "scalar").load(graph, damaged.SerializeToString())

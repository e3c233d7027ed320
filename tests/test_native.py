"""The native backend: what it computes against ONNX Runtime, and what it must leave to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import nicrt
from conftest import ROOT
from nicrt import _core
from nicrt.runtime.backends.base import OtherKindError
from nicrt.runtime.backends.native import NativeCpu
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.errors import InternalError, UnsupportedError
from nicrt.runtime.evaluate import psnr
from nicrt.runtime.manifest import Graph, Port
from nicrt.runtime.onnx_graph import read_graph
from synthetic import port

Array = np.ndarray[Any, Any]
TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "uint8": TensorProto.UINT8}


@dataclass
class Case:
    """A chain as an ONNX graph: x = (y * exp(step / 8) + mean) * gain, then transposed convolutions, then uint8."""

    rng: np.random.Generator
    channels: list[int]
    kernels: list[tuple[int, int]]
    strides: list[tuple[int, int]]
    slopes: list[float | None]
    half: bool = False
    opset: int = 20
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        inputs = self.channels[0]
        self.constants = {
            "eighth": np.float32(0.125).reshape(()),
            "gain": self.rng.uniform(0.5, 1.5, (1, inputs, 1, 1)).astype(np.float32),
            "low": np.float32(3).reshape(()),
            "high": np.float32(250).reshape(()),
        }
        self._add("Cast", "y", "yf", to=TensorProto.FLOAT)
        self._add("Cast", "step", "stepf", to=TensorProto.FLOAT)
        self._add("Mul", "stepf eighth", "exponent")
        self._add("Exp", "exponent", "size")
        self._add("Mul", "yf size", "scaled")
        self._add("Add", "scaled mean", "shifted")
        self._add("Mul", "gain shifted", "x0")
        for number in range(len(self.kernels)):
            self._layer(number)
        self._add("Clip", f"x{len(self.kernels)} low high", "clipped")
        self._add("Transpose", "clipped", "nhwc", perm=[0, 2, 3, 1])
        self._add("Cast", "nhwc", "picture", to=TensorProto.UINT8)

    def _add(self, operator: str, inputs: str, output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs.split(), [output], **attributes))

    def _layer(self, number: int) -> None:
        before, after = self.channels[number : number + 2]
        kernel, stride = self.kernels[number], self.strides[number]
        last = number == len(self.kernels) - 1
        spread = (30 if last else 1) / np.sqrt(before * max(1, np.prod(kernel) / np.prod(stride)))
        weights = self.rng.normal(0, spread, (before, after, *kernel)).astype(np.float32)
        self.constants[f"b{number}"] = self.rng.normal(120 if last else 0, 0.5, after).astype(np.float32)
        if self.half:
            self.constants[f"w{number}_half"] = weights.astype(np.float16)
            self._add("Cast", f"w{number}_half", f"w{number}", to=TensorProto.FLOAT)
        else:
            self.constants[f"w{number}"] = weights
        # what the output has more than stride * input is cut off in front and behind, what it lacks is added behind
        over = [k - s for k, s in zip(kernel, stride, strict=True)]
        front = [int(self.rng.integers(0, max(0, o) + 1)) for o in over]
        extra = [max(0, -o) for o in over]
        behind = [o + e - f for o, e, f in zip(over, extra, front, strict=True)]
        raw = f"x{number + 1}" if self.slopes[number] is None else f"raw{number}"
        self._add(
            "ConvTranspose",
            f"x{number} w{number} b{number}",
            raw,
            kernel_shape=kernel,
            strides=stride,
            pads=[*front, *behind],
            output_padding=extra,
        )
        if self.slopes[number] is not None:
            self._add("LeakyRelu", raw, f"x{number + 1}", alpha=self.slopes[number])

    def node(self, operator: str) -> onnx.NodeProto:
        return next(node for node in self.nodes if node.op_type == operator)

    def build(self) -> tuple[Graph, bytes]:
        scale = [int(np.prod([s[axis] for s in self.strides])) for axis in (0, 1)]
        inputs = {
            "y": port("int32", 1, self.channels[0], "h", "w"),
            "mean": port("float32", 1, self.channels[0], "h", "w"),
            "step": port("int32", 1),
        }
        outputs = {"picture": port("uint8", 1, f"{scale[0]}h", f"{scale[1]}w", self.channels[-1])}

        def values(ports: dict[str, Port]) -> list[onnx.ValueInfoProto]:
            shapes = {name: [str(d) for d in p.dims] for name, p in ports.items()}
            return [helper.make_tensor_value_info(n, TYPES[p.dtype], shapes[n]) for n, p in ports.items()]

        initializers = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "g", values(inputs), values(outputs), initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        return Graph("g.onnx", "0" * 64, "0" * 64, inputs, outputs), model.SerializeToString()

    def tensors(self, height: int, width: int) -> dict[str, Array]:
        shape = (1, self.channels[0], height, width)
        return {
            "y": self.rng.integers(-4, 5, shape).astype(np.int32),
            "mean": self.rng.normal(0, 0.3, shape).astype(np.float32),
            "step": self.rng.integers(-8, 3, 1).astype(np.int32),
        }


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    layers = int(rng.integers(1, 4))

    def pairs(high: int) -> list[tuple[int, int]]:
        return [(int(a), int(b)) for a, b in rng.integers(1, high, (layers, 2))]

    channels = [int(n) for n in rng.integers(1, 40, layers)] + [int(rng.integers(1, 5))]
    slopes = [None if rng.random() < 0.3 else float(rng.uniform(0, 0.9)) for _ in range(layers)]
    return Case(rng, channels, pairs(10), pairs(6 if layers < 3 else 4), slopes, half=bool(rng.integers(2)))


def small_case(**options: Any) -> Case:
    return Case(np.random.default_rng(1), [6, 4, 3], [(5, 5), (5, 5)], [(2, 2), (2, 2)], [0.2, None], **options)


def difference(a: Array, b: Array) -> Array:
    return np.abs(a.astype(int) - b)


@pytest.mark.parametrize("arithmetic", _core.arithmetics())
def test_the_same_picture_as_onnxruntime(arithmetic: str) -> None:
    for seed in range(24):
        case = random_case(seed)
        graph, data = case.build()
        inputs = case.tensors(int(case.rng.integers(1, 20)), int(case.rng.integers(1, 70)))
        (expected,) = OnnxRuntimeCpu(1).load(graph, data).run(inputs, ["picture"])
        (found,) = NativeCpu(1, arithmetic).load(graph, data).run(inputs, ["picture"])
        assert found.shape == expected.shape and found.dtype == expected.dtype
        assert difference(found, expected).max() <= 1, seed
        if arithmetic != "avx512_bf16":
            assert (found != expected).mean() < 1e-3, seed


@pytest.mark.parametrize("arithmetic", _core.arithmetics())
def test_threads_do_not_change_a_byte(arithmetic: str) -> None:
    for seed in (3, 4, 5):
        case = random_case(seed)
        graph, data = case.build()
        inputs = case.tensors(37, 29)
        pictures = [NativeCpu(n, arithmetic).load(graph, data).run(inputs, ["picture"])[0] for n in (1, 2, 3, 64)]
        assert all(np.array_equal(pictures[0], other) for other in pictures[1:])


def test_one_graph_on_many_threads_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    case = small_case()
    graph, data = case.build()
    executable = NativeCpu(2).load(graph, data)
    inputs = [case.tensors(h, 9) for h in range(1, 17)]
    alone = [executable.run(tensors, ["picture"])[0] for tensors in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda tensors: executable.run(tensors, ["picture"])[0], inputs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_values_that_are_not_numbers_do_no_harm() -> None:
    case = small_case()
    graph, data = case.build()
    inputs = case.tensors(5, 7)
    inputs["mean"][0, 2, 1:3] = np.nan
    inputs["mean"][0, 3, 4] = np.inf
    for arithmetic in _core.arithmetics():
        NativeCpu(1, arithmetic).load(graph, data).run(inputs, ["picture"])


def _attribute(operator: str, **values: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        node = case.node(operator)
        kept = [a for a in node.attribute if a.name not in values]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in values.items())])

    return change


def _constant(name: str, value: Any) -> Callable[[Case], None]:
    return lambda case: case.constants.update({name: np.asarray(value)})


def _operator(old: str, new: str) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.node(old).op_type = new

    return change


def _input(operator: str, place: int, name: str) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.node(operator).input[place] = name

    return change


def _twice(case: Case) -> None:
    place = next(i for i, node in enumerate(case.nodes) if node.op_type == "LeakyRelu")
    case.nodes.insert(place + 1, helper.make_node("LeakyRelu", [case.nodes[place].output[0]], ["again"]))
    case.nodes[place + 2].input[0] = "again"


REFUSED: dict[str, Callable[[Case], None]] = {
    "dilations": _attribute("ConvTranspose", dilations=[2, 2]),
    "groups": _attribute("ConvTranspose", group=2),
    "automatic padding": _attribute("ConvTranspose", auto_pad="SAME_UPPER"),
    "output shape": _attribute("ConvTranspose", output_shape=[8, 8]),
    "larger output": _attribute("ConvTranspose", pads=[0, 0, 0, 0]),
    "smaller output": _attribute("ConvTranspose", pads=[3, 3, 3, 3]),
    "negative pads": _attribute("ConvTranspose", pads=[-1, 2, 4, 1]),
    "one dimension": _attribute("ConvTranspose", strides=[2]),
    "no stride": _attribute("ConvTranspose", strides=[0, 2]),
    "kernel of another size": _attribute("ConvTranspose", kernel_shape=[4, 4]),
    "an attribute nobody knows": _attribute("ConvTranspose", colour=1),
    "weights for other channels": _constant("w0", np.zeros((5, 4, 5, 5), np.float32)),
    "empty weights": _constant("w0", np.zeros((6, 0, 5, 5), np.float32)),
    "weights of three dimensions": _constant("w0", np.zeros((6, 4, 5), np.float32)),
    "half weights": _constant("w0", np.zeros((6, 4, 5, 5), np.float16)),
    "bias of another length": _constant("b0", np.zeros(5, np.float32)),
    "clipped too high": _constant("high", np.float32(256)),
    "clipped too low": _constant("low", np.float32(-1)),
    "clipped to nothing": _constant("high", np.float32(np.nan)),
    "limit that is an array": _constant("high", np.zeros(2, np.float32)),
    "another order": _attribute("Transpose", perm=[0, 3, 2, 1]),
    "two slopes": _twice,
    "no activation of ours": _operator("LeakyRelu", "Sigmoid"),
    "not affine": _operator("Add", "Mul"),
    "gain per place": _constant("gain", np.ones((1, 6, 5, 7), np.float32)),
    "gain along the rows": _constant("gain", np.ones((6, 1), np.float32)),
    "gain of double precision": _constant("gain", np.ones((1, 6, 1, 1), np.float64)),
    "integers without a Cast": _input("Mul", 0, "y"),
    "a value from nowhere": _input("Add", 0, "nothing"),
    "a value from later on": _input("Add", 0, "nhwc"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_graphs_are_left_to_other_backends(name: str) -> None:
    case = small_case()
    REFUSED[name](case)
    graph, data = case.build()
    with pytest.raises(OtherKindError):
        NativeCpu(1).load(graph, data)


def test_old_operators_are_refused() -> None:
    with pytest.raises(OtherKindError, match="operator set 12"):
        NativeCpu(1).load(*small_case(opset=12).build())


def test_damaged_models_never_fail_otherwise() -> None:
    graph, data = small_case(half=True).build()
    rng = random.Random(5)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        end = rng.choice([len(damaged), rng.randrange(len(damaged))])
        with suppress(UnsupportedError):
            NativeCpu(1).load(graph, bytes(damaged[:end]))


def test_the_core_checks_what_it_is_given() -> None:
    weights, bias = np.zeros((4, 3, 5, 5), np.float32), np.zeros(3, np.float32)
    layer = (weights, bias, (2, 2), (2, 2), 1.0, None)
    norm = (np.ones(4, np.float32), np.ones((4, 3), np.float32))
    for bad in ([], [(weights, bias[:2], *layer[2:])], [layer, layer], [(*layer[:-1], norm)]):
        with pytest.raises((ValueError, UnsupportedError)):
            _core.Chain(bad)
    for strides, pads in (((0, 2), (2, 2)), ((2, 65), (2, 2)), ((2, 2), (65, 2)), ((1, 1), (40, 40))):
        with pytest.raises(UnsupportedError):
            _core.Chain([(weights, bias, strides, pads, 1.0, None)])
    chain = _core.Chain([layer])
    y, scale = np.zeros((1, 4, 6, 5), np.float32), np.ones(4, np.float32)
    assert chain.run([(y, scale)], scale * 0, 0, 255, 1).shape == (1, 12, 10, 3)
    for terms, offset, low, high in (
        ([], scale, 0.0, 255.0),
        ([(y[:, :3].copy(), scale)], scale, 0.0, 255.0),
        ([(y, scale[:3].copy())], scale, 0.0, 255.0),
        ([(y, scale)], scale[:3].copy(), 0.0, 255.0),
        ([(y, scale), (y[:, :, :5].copy(), scale)], scale, 0.0, 255.0),
        ([(y[:, :, :0].copy(), scale)], scale, 0.0, 255.0),
        ([(y, scale)], scale, 0.0, 256.0),
        ([(y, scale)], scale, float("nan"), 255.0),
    ):
        with pytest.raises(ValueError):
            chain.run(terms, offset, low, high, 1)
    with pytest.raises(TypeError):
        chain.run([(y.astype(np.float64), scale)], scale, 0, 255, 1)


def test_inputs_that_do_not_fit_are_the_caller_s_defect() -> None:
    graph, data = small_case().build()
    inputs = small_case().tensors(3, 4)
    inputs["y"] = inputs["y"][:, :5]
    with pytest.raises(InternalError):
        NativeCpu(1).load(graph, data).run(inputs, ["picture"])


def test_the_reader_reads_what_onnx_reads() -> None:
    for path in sorted((ROOT / "engines").glob("shallow/graphs/*.onnx")):
        data = path.read_bytes()
        ours, theirs = read_graph(data), onnx.load_from_string(data)
        assert ours.inputs == [v.name for v in theirs.graph.input]
        assert ours.outputs == [v.name for v in theirs.graph.output]
        for a, b in zip(ours.nodes, theirs.graph.node, strict=True):
            assert (a.operator, a.inputs, a.outputs) == (b.op_type, list(b.input), list(b.output))
            assert a.attributes == {x.name: helper.get_attribute_value(x) for x in b.attribute}
        for tensor in theirs.graph.initializer:
            np.testing.assert_array_equal(ours.constants[tensor.name], numpy_helper.to_array(tensor))


@pytest.mark.skipif(_core.arithmetics()[-1] == "scalar", reason="the native backend needs AVX2")
@pytest.mark.parametrize("quality", [10, 50, 100])
@pytest.mark.parametrize("name", ["shallow", "slim", "mean-scale"])
def test_shipped_bundle(harbour: Array, name: str, quality: int) -> None:
    native, reference = nicrt.load(name), nicrt.load(name, backend="onnxruntime")
    data = reference.encode(harbour[:151, :237], quality=quality)
    found, expected = native.decode(data, strict=True), reference.decode(data)
    (synthesis,) = (graph for graph in reference.backends if graph.startswith("synthesis"))
    used = "native" if name == "shallow" or _core.arithmetics()[-1] != "avx2" else "onnxruntime"
    assert native.backends[synthesis] == used and reference.backends[synthesis] == "onnxruntime"
    assert not native.fallbacks
    assert difference(found, expected).max() <= 1
    original = harbour[:151, :237]
    assert psnr(expected, original) - psnr(found, original) < 0.01

"""Exact graphs on the native backend: the integers of ONNX Runtime, and what it must leave to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import nicrt
from nicrt import _core
from nicrt.runtime.backends.base import OtherKindError
from nicrt.runtime.backends.native import NativeCpu
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.errors import InternalError, UnsupportedError
from nicrt.runtime.manifest import Graph
from synthetic import onnx_bytes, port

Array = np.ndarray[Any, Any]
FLOAT32, UINT8, INT32, INT64 = 1, 2, 6, 7
Z_RANGE = (-127, 127)
ROWS = 3


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "leaky": {"leaky": True},
    "kernel 3": {"reach": 1},
    "kernel 5, leaky": {"reach": 2, "leaky": True},
    "all": {"reach": 1, "leaky": True, "table": True},
}


class Case:
    """z → one or two hidden transposed convolutions, the first one's bias and multiplier a row chosen by `dz` → float
    `mean` and uint8 `index` heads. leaky: ReLUs with a slope; reach: of the heads' kernels; table: between the sums of
    `index` and its eighths."""

    def __init__(self, seed: int = 0, *, leaky: bool = False, reach: int = 0, table: bool = False) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.leaky = leaky
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {
            "flat": np.array([-1], np.int64),
            "axes": np.array([2, 3], np.int64),
            "zero": np.float32(0).reshape(()),
            "top": np.float32(255).reshape(()),
            "most": np.float32(63).reshape(()),
            "half": np.int32(4).reshape(()),
            "eighth": np.float32(0.125).reshape(()),
        }
        self.channels = int(rng.integers(1, 40))
        self.strides = [tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(int(rng.integers(1, 3)))]
        self._add("Cast", "z", "x0", to=FLOAT32)
        self._add("Reshape", "dz flat", "row32")
        self._add("Cast", "row32", "row", to=INT64)
        channels = self.channels
        for number in range(len(self.strides)):
            channels = self._hidden(number, channels)
        last = f"x{len(self.strides)}"
        if reach:
            last, channels = self._moved(last, reach), channels * (2 * reach + 1) ** 2
        self.outputs = int(rng.integers(1, 50)), int(rng.integers(1, 50))
        self._head("mean", last, channels, self.outputs[0], "mean")
        self._head("index", last, channels, self.outputs[1], "scaled")
        self._add("Round", "scaled", "values" if table else "eighths")
        if table:
            self._table()
        for operator, inputs, output in (
            ("Sub", "half step", "less"),
            ("Cast", "less", "lessf"),
            ("Add", "eighths lessf", "shifted"),
            ("Mul", "shifted eighth", "divided"),
            ("Floor", "divided", "floor"),
            ("Clip", "floor zero most", "clipped"),
            ("Cast", "skip", "skipf"),
            ("Less", "clipped skipf", "below"),
            ("Where", "below top clipped", "chosen"),
            ("Cast", "chosen", "index"),
        ):
            self._add(
                operator,
                inputs,
                output,
                **({"to": UINT8 if output == "index" else FLOAT32} if operator == "Cast" else {}),
            )

    def _add(self, operator: str, inputs: str, output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs.split(), [output], **attributes))

    def _integers(self, name: str, limit: int, *shape: int) -> str:
        self.constants[name] = self.rng.integers(-limit, limit + 1, shape).astype(np.float32)
        return name

    def _multipliers(self, name: str, spread: float, *shape: int) -> str:
        self.constants[name] = (self.rng.uniform(0.2, 1.0, shape) * spread).astype(np.float32)
        return name

    def _hidden(self, number: int, channels: int) -> int:
        out, stride = int(self.rng.integers(1, 70)), self.strides[number]
        kernel = [s + int(self.rng.integers(0, 4)) for s in stride]
        front = [int(self.rng.integers(0, k - s + 1)) for k, s in zip(kernel, stride, strict=True)]
        behind = [k - s - f for k, s, f in zip(kernel, stride, front, strict=True)]
        weights = self._integers(f"w{number}", 60, channels, out, *kernel)
        name, spread = f"{number}", 3.0 / np.sqrt(channels * np.prod(kernel))
        attributes = dict(kernel_shape=kernel, strides=stride, pads=[*front, *behind])
        if number == 0:
            self._add("ConvTranspose", f"x0 {weights}", "raw0", **attributes)
            self._add("Gather", f"{self._integers('b0', 3000, ROWS, out)} row", "bias0")
            self._add("Unsqueeze", "bias0 axes", "bias0_4d")
            self._add("Add", "raw0 bias0_4d", "sum0")
            self._add("Gather", f"{self._multipliers('m0', spread / 10, ROWS, out, 1, 1)} row", "by0")
        else:
            self._add("ConvTranspose", f"x{number} {weights} {self._integers('b1', 3000, out)}", "sum1", **attributes)
            self._multipliers("by1", spread / 10, 1, out, 1, 1)
        self._add("Round", f"sum{name}", f"integers{name}")
        self._add("Mul", f"integers{name} by{name}", f"scaled{name}")
        if self.leaky:
            self.constants["bottom"] = -self.constants["top"]
            self.constants[f"less{name}"] = self.rng.uniform(0.01, 0.1, (1, out, 1, 1)).astype(np.float32) / 40
            self._add("Mul", f"integers{name} less{name}", f"negative{name}")
            self._add("Max", f"scaled{name} negative{name}", f"larger{name}")
        self._add("Round", f"larger{name}" if self.leaky else f"scaled{name}", f"rounded{name}")
        self._add("Clip", f"rounded{name} {'bottom' if self.leaky else 'zero'} top", f"x{number + 1}")
        return out

    def _moved(self, x: str, reach: int) -> str:
        """All moved inputs, as an exact graph has them in place of a larger kernel."""
        self.constants["pads"] = np.array([0, 0, reach, reach, 0, 0, reach, reach], np.int64)
        self.constants |= {"rows_axis": np.array([2]), "columns_axis": np.array([3]), "one": np.array([1])}
        self._add("Pad", f"{x} pads", "padded")
        names = []
        for place in range(2 * reach + 1):
            end = place - 2 * reach or np.iinfo(np.int64).max
            self.constants |= {f"start{place}": np.array([place]), f"end{place}": np.array([end])}
        for row in range(2 * reach + 1):
            self._add("Slice", f"padded start{row} end{row} rows_axis one", f"row{row}")
            for column in range(2 * reach + 1):
                names.append(f"moved{row}{column}")
                self._add("Slice", f"row{row} start{column} end{column} columns_axis one", names[-1])
        self._add("Concat", " ".join(names), "moved", axis=1)
        return "moved"

    def _table(self) -> None:
        """Scales 0..199, from 100 on every second one."""
        numbers = {"t_high": 199.0, "t_unit": 0.5, "t_add": 50.0, "t_limit": 100.0}
        self.constants |= {name: np.float32(value).reshape(()) for name, value in numbers.items()}
        self.constants["t_values"] = self.rng.integers(-20, 600, (150, 1)).astype(np.float32)
        self.constants["last"] = np.array([-1])
        self._add("Clip", "values zero t_high", "scale")
        self._add("Mul", "scale t_unit", "halves")
        self._add("Floor", "halves", "whole")
        self._add("Add", "whole t_add", "coarse")
        self._add("Less", "scale t_limit", "fine")
        self._add("Where", "fine scale coarse", "place")
        self._add("Cast", "place", "place32", to=INT32)
        self._add("Gather", "t_values place32", "column", axis=0)
        self._add("Squeeze", "column last", "eighths")

    def _head(self, name: str, x: str, channels: int, out: int, result: str) -> None:
        weights = self._integers(f"w_{name}", 60, out, channels, 1, 1)
        self._add("Conv", f"{x} {weights} {self._integers(f'b_{name}', 3000, out)}", f"sum_{name}", kernel_shape=[1, 1])
        self._add("Round", f"sum_{name}", f"integers_{name}")
        self._add("Mul", f"integers_{name} {self._multipliers(f'by_{name}', 0.1, 1, out, 1, 1)}", result)

    def build(self) -> tuple[Graph, bytes]:
        rows, columns = (int(np.prod([s[axis] for s in self.strides])) for axis in (0, 1))
        inputs = {
            "z": port("int32", "n", self.channels, "h", "w", low=Z_RANGE[0], high=Z_RANGE[1]),
            "step": port("int32", 1, low=-128, high=128),
            "skip": port("int32", 1, low=0, high=64),
            "dz": port("int32", 1, low=0, high=ROWS - 1),
        }
        outputs = {
            "index": port("uint8", "n", self.outputs[1], f"{rows}h", f"{columns}w"),
            "mean": port("float32", "n", self.outputs[0], f"{rows}h", f"{columns}w"),
        }
        data = onnx_bytes(self.nodes, inputs, outputs, self.constants)
        return Graph("g.onnx", "0" * 64, "0" * 64, inputs, outputs, exact=True), data

    def tensors(self, batch: int = 1) -> dict[str, Array]:
        shape = batch, self.channels, *(int(n) for n in self.rng.integers(1, 12, 2))
        return {
            "z": self.rng.integers(*Z_RANGE, shape, np.int32, endpoint=True),
            "step": self.rng.integers(-128, 129, 1, np.int32),
            "skip": self.rng.integers(0, 20, 1, np.int32),
            "dz": self.rng.integers(0, ROWS, 1, np.int32),
        }


@pytest.mark.parametrize("isa", _core.integer_isas())
@pytest.mark.parametrize("form", FORMS)
def test_the_same_integers_as_onnxruntime(isa: str, form: str) -> None:
    for seed in range(12):
        case = Case(seed, **FORMS[form])
        graph, data = case.build()
        native, other = NativeCpu(1, isa=isa).load(graph, data), OnnxRuntimeCpu(1).load(graph, data)
        for batch in (1, 3):
            inputs = case.tensors(batch)
            (mean, index), expected = native.run(inputs, ["mean", "index"]), other.run(inputs, ["mean", "index"])
            assert mean.dtype == np.float32 and index.dtype == np.uint8
            np.testing.assert_array_equal(mean, expected[0])
            np.testing.assert_array_equal(index, expected[1])


def test_threads_do_not_change_a_byte() -> None:
    case = Case(3)
    graph, data = case.build()
    inputs = case.tensors()
    results = [NativeCpu(n, isa="best").load(graph, data).run(inputs, ["index", "mean"]) for n in (1, 2, 64)]
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def _constant(name: str, change: Callable[[Array], Array]) -> Callable[[Case], None]:
    return lambda case: case.constants.update({name: change(case.constants[name])})


def _without(output: str) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        (node,) = [node for node in case.nodes if node.output[0] == output]
        case.nodes.remove(node)
        for other in case.nodes:
            other.input[:] = [node.input[0] if name == output else name for name in other.input]

    return change


def _operator(output: str, new: str) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        (node,) = [node for node in case.nodes if node.output[0] == output]
        node.op_type = new

    return change


REFUSED: dict[str, Callable[[Case], None]] = {
    "weights between integers": _constant("w0", lambda w: w + np.float32(0.5)),
    "weights beyond int8": _constant("w0", lambda w: w + np.float32(128)),
    "activations beyond bytes and shorts": _constant("top", lambda t: t * np.float32(1000)),
    "activations clipped between integers": _constant("top", lambda t: t - np.float32(0.5)),
    "an activation that is not rounded": _without("rounded0"),
    "sums that are not rounded": _without("integers0"),
    "no activation": _without("x1"),
    "another activation": _operator("rounded0", "Ceil"),
    "an index that is not divided": _without("divided"),
    "a ceiling in place of a floor": _operator("floor", "Ceil"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_graphs_are_left_to_other_backends(name: str) -> None:
    case = Case(1)
    REFUSED[name](case)
    graph, data = case.build()
    with pytest.raises(OtherKindError):
        NativeCpu(1).load(graph, data)


MOVED: dict[str, Callable[[Case], None]] = {
    "more zeros on one side": _constant("pads", lambda p: p + np.array([0, 0, 1, 0, 0, 0, 0, 0])),
    "zeros between pictures": _constant("pads", lambda p: p + np.array([1, 0, 0, 0, 1, 0, 0, 0])),
    "a move twice": _constant("start2", lambda s: s - 1),
    "a larger step": _constant("one", lambda s: s + 1),
    "another axis": _constant("rows_axis", lambda a: a - 1),
    "a table of places that are not there": _constant("t_high", lambda h: h + np.float32(3)),
    "a table of two columns": _constant("t_values", lambda v: np.concatenate([v, v], 1)),
}


@pytest.mark.parametrize("name", MOVED)
def test_other_kernels_and_tables_are_refused(name: str) -> None:
    case = Case(1, reach=1, leaky=True, table=True)
    MOVED[name](case)
    graph, data = case.build()
    with pytest.raises((OtherKindError, InternalError)):
        NativeCpu(1).load(graph, data).run(case.tensors(), ["index"])


def test_damaged_models_never_fail_otherwise() -> None:
    graph, data = Case(1, reach=1, leaky=True, table=True).build()
    rng = random.Random(5)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        with suppress(UnsupportedError):
            NativeCpu(1).load(graph, bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])]))


def test_numbers_that_appear_only_in_a_run_are_checked_there() -> None:
    case = Case(1)
    case.constants["b0"][1] += np.float32(0.25)  # the row of dz 1
    graph, data = case.build()
    executable, inputs = NativeCpu(1).load(graph, data), case.tensors()
    executable.run({**inputs, "dz": np.zeros(1, np.int32)}, ["index"])
    with pytest.raises(InternalError, match="biases"):
        executable.run({**inputs, "dz": np.ones(1, np.int32)}, ["index"])
    with pytest.raises(InternalError, match="range"):
        executable.run({**inputs, "z": inputs["z"] + np.int32(1000), "dz": np.zeros(1, np.int32)}, ["index"])


@pytest.mark.skipif(_core.integer_isas()[-1] == "scalar", reason="the native backend needs AVX2")
def test_shipped_bundle(harbour: Array) -> None:
    native, reference = nicrt.load("shallow"), nicrt.load("shallow", backend="onnxruntime")
    for quality in (10, 50, 100):
        data = reference.encode(harbour[:151, :237], quality=quality)
        assert all(np.array_equal(a, b) for a, b in zip(native.symbols(data), reference.symbols(data), strict=True))
        assert native.encode(harbour[:151, :237], quality=quality) == data
    assert native.backends["hyper"] == "native" and reference.backends["hyper"] == "onnxruntime"

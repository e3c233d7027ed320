"""Networks of integers on the native backend: the integers of the definition, and what the kernels must leave to
others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from native_graphs import Array, Arrays, expected, native_graph

import nicrt
from nicrt import _core
from nicrt.runtime.backends.base import OtherKindError
from nicrt.runtime.backends.native import NativeCpu
from nicrt.runtime.bundle import StoredGraph
from nicrt.runtime.errors import InternalError, UnsupportedError
from nicrt.runtime.native_form import Head, IndexRule, IntegerLayer, IntegerNetwork, ScaleTable
from synthetic import port

ROWS = 3

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "leaky": {"leaky": True},
    "kernel 3": {"reach": 1},
    "kernel 5, leaky": {"reach": 2, "leaky": True},
    "all": {"reach": 1, "leaky": True, "table": True},
}


class Case:
    """z → one or two hidden layers, the first one's bias and multiplier a row chosen by `dz` → float `mean` and uint8
    `index` heads. leaky: ReLUs with a slope; reach: of the heads' kernels; table: between the sums of `index` and its
    eighths."""

    def __init__(self, seed: int = 0, *, leaky: bool = False, reach: int = 0, table: bool = False) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.leaky, self.range = leaky, (-127, 127)
        self.arrays: Arrays = {}
        self.channels = channels = int(rng.integers(1, 40))
        self.hidden = []
        for number in range(int(rng.integers(1, 3))):
            layer, channels = self._hidden(number, channels)
            self.hidden.append(layer)
        self.outputs = int(rng.integers(1, 50)), int(rng.integers(1, 50))
        rule = IndexRule(
            add=4, unit=0.125, low=0, high=63, skip="skip", skipped=255, minus="step", scales=self._table(table)
        )
        self.heads = [
            self._head("mean", channels, self.outputs[0], reach),
            msgspec.structs.replace(self._head("index", channels, self.outputs[1], reach), index=rule),
        ]

    def _integers(self, name: str, limit: int, dtype: str, *shape: int) -> str:
        self.arrays[name] = self.rng.integers(-limit, limit + 1, shape).astype(dtype)
        return name

    def _multipliers(self, name: str, spread: float, *shape: int) -> str:
        self.arrays[name] = (self.rng.uniform(0.2, 1.0, shape) * spread).astype(np.float32)
        return name

    def _hidden(self, number: int, channels: int) -> tuple[IntegerLayer, int]:
        out, stride = int(self.rng.integers(1, 70)), tuple(int(n) for n in self.rng.integers(1, 4, 2))
        kernel = [s + int(self.rng.integers(0, 4)) for s in stride]
        pad = tuple(int(self.rng.integers(0, k)) for k in kernel)
        rows = [ROWS] if number == 0 else []
        spread = 0.3 / np.sqrt(channels * np.prod(kernel))
        layer = IntegerLayer(
            weight=self._integers(f"w{number}", 60, "int8", channels, out, *kernel),
            bias=self._integers(f"b{number}", 3000, "int32", *rows, out),
            multiplier=self._multipliers(f"m{number}", spread, *rows, out),
            negative=self._multipliers(f"n{number}", spread / 40, *rows, out) if self.leaky else None,
            low=-255 if self.leaky else 0,
            high=255,
            stride=stride,
            pad=pad,
            row="dz" if rows else None,
        )
        return layer, out

    def _table(self, there: bool) -> ScaleTable | None:
        """Scales 0..199, from 100 on every second one."""
        if not there:
            return None
        self.arrays["scales"] = self.rng.integers(-20, 600, 150).astype(np.int16)
        return ScaleTable(tensor="scales", low=0, high=199, limit=100, unit=0.5, add=50)

    def _head(self, name: str, channels: int, out: int, reach: int) -> Head:
        return Head(
            out=name,
            weight=self._integers(f"w_{name}", 60, "int8", channels, out, 2 * reach + 1, 2 * reach + 1),
            bias=self._integers(f"b_{name}", 3000, "int32", out),
            multiplier=self._multipliers(f"m_{name}", 0.1, out),
            pad=(reach, reach),
        )

    def network(self) -> IntegerNetwork:
        return IntegerNetwork(value="z", hidden=self.hidden, heads=self.heads)

    def build(self) -> StoredGraph:
        rows, columns = (
            int(np.prod([layer.stride[axis] for layer in (*self.hidden, self.heads[0])])) for axis in (0, 1)
        )
        inputs = {
            "z": port("int32", "n", self.channels, "h", "w", low=self.range[0], high=self.range[1]),
            "step": port("int32", 1, low=-128, high=128),
            "skip": port("int32", 1, low=0, high=64),
            "dz": port("int32", 1, low=0, high=ROWS - 1),
        }
        outputs = {
            "index": port("uint8", "n", self.outputs[1], f"{rows}h", f"{columns}w"),
            "mean": port("float32", "n", self.outputs[0], f"{rows}h", f"{columns}w"),
        }
        return native_graph([self.network()], self.arrays, inputs, outputs, exact=True)

    def tensors(self, batch: int = 1) -> Arrays:
        shape = batch, self.channels, *(int(n) for n in self.rng.integers(1, 12, 2))
        return {
            "z": self.rng.integers(-127, 127, shape, np.int32, endpoint=True),
            "step": self.rng.integers(-128, 129, 1, np.int32),
            "skip": self.rng.integers(0, 20, 1, np.int32),
            "dz": self.rng.integers(0, ROWS, 1, np.int32),
        }


@pytest.mark.parametrize("isa", _core.integer_isas())
@pytest.mark.parametrize("form", FORMS)
def test_the_integers_are_those_of_the_definition(isa: str, form: str) -> None:
    for seed in range(8):
        case = Case(seed, **FORMS[form])
        stored = case.build()
        native = NativeCpu(1, isa=isa).load(stored)
        for batch in (1, 3):
            inputs = case.tensors(batch)
            mean, index = native.run(inputs, ["mean", "index"])
            wanted = expected(stored, inputs)
            assert mean.dtype == np.float32 and index.dtype == np.uint8
            np.testing.assert_array_equal(mean, wanted["mean"])
            np.testing.assert_array_equal(index, wanted["index"])


def test_threads_do_not_change_a_byte() -> None:
    case = Case(3)
    stored, inputs = case.build(), case.tensors()
    results = [NativeCpu(n, isa="best").load(stored).run(inputs, ["index", "mean"]) for n in (1, 2, 64)]
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def _hidden(**changes: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.hidden[0] = msgspec.structs.replace(case.hidden[0], **changes)

    return change


def _head(**changes: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.heads = [msgspec.structs.replace(head, **changes) for head in case.heads]

    return change


def _rule(**changes: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        assert case.heads[1].index is not None
        rule = msgspec.structs.replace(case.heads[1].index, **changes)
        case.heads[1] = msgspec.structs.replace(case.heads[1], index=rule)

    return change


def _scales(**changes: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        assert case.heads[1].index is not None and case.heads[1].index.scales is not None
        _rule(scales=msgspec.structs.replace(case.heads[1].index.scales, **changes))(case)

    return change


def _array(name: str, change: Callable[[Array], Array]) -> Callable[[Case], None]:
    return lambda case: case.arrays.update({name: change(case.arrays[name])})


def _heavy_head(case: Case) -> None:
    """Sums that could leave 2^30."""
    case.hidden[-1] = msgspec.structs.replace(case.hidden[-1], high=32767)
    case.arrays["w_mean"] = np.full((len(case.arrays["w_mean"]), case.outputs[0], 63, 63), 127, np.int8)
    case.heads[0] = msgspec.structs.replace(case.heads[0], pad=(31, 31))


def _heavy_layer(case: Case) -> None:
    case.range = (-32767, 32767)
    case.arrays["w0"] = np.full((*case.arrays["w0"].shape[:2], 63, 63), 127, np.int8)


def _last_row(array: Array, value: float) -> Array:
    return np.concatenate([array[:-1], np.full_like(array[-1:], value)])


def _stretched(case: Case) -> None:
    for number, stride in enumerate((64, 8)):
        case.hidden[number] = msgspec.structs.replace(case.hidden[number], stride=(stride, 1))


def _none_hidden(case: Case) -> None:
    case.hidden = []
    for name, out in (("mean", case.outputs[0]), ("index", case.outputs[1])):
        case.arrays[f"w_{name}"] = np.ones((case.channels, out, 1, 1), np.int8)
    for name in [name for name in case.arrays if name[-1].isdigit()]:
        del case.arrays[name]
    case.heads = [msgspec.structs.replace(head, pad=(0, 0)) for head in case.heads]


LEFT: dict[str, Callable[[Case], None]] = {
    "no hidden layer": _none_hidden,
    "a head with a stride": _head(stride=(2, 1)),
    "a kernel of 65 rows": _array("w0", lambda w: np.zeros((*w.shape[:2], 65, 1), np.int8)),
    "a pad as large as the kernel": _hidden(pad=(9, 9)),
    "a stride of 65": _hidden(stride=(65, 1)),
    "strides of 512 in all": _stretched,
    "activations beyond bytes and shorts": _hidden(high=255000),
    "inputs beyond shorts": lambda case: setattr(case, "range", (-40000, 40000)),
    "sums of a head beyond 32 bits": _heavy_head,
    "sums of a layer beyond 32 bits": _heavy_layer,
    "biases beyond 32 bits": _array("b0", lambda b: _last_row(b, (1 << 30) + 1)),
    "multipliers that are not numbers": _array("m0", lambda m: _last_row(m, np.nan)),
    "multipliers of negative sums that are none": _array("n0", lambda n: _last_row(n, np.inf)),
    "scales beyond 2^20": _scales(high=(1 << 20) + 1, unit=2.0**-16),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_the_kernels_cannot_do_is_left_to_other_backends(name: str) -> None:
    case = Case(4, leaky=True, reach=1, table=True)
    assert len(case.hidden) == 2
    NativeCpu(1).load(case.build())
    LEFT[name](case)
    stored = case.build()  # valid, as a bundle's graph
    with pytest.raises(OtherKindError):
        NativeCpu(1).load(stored)


def test_inputs_outside_their_range_are_found_in_the_run() -> None:
    case = Case(1)
    executable, inputs = NativeCpu(1).load(case.build()), case.tensors()
    executable.run(inputs, ["index"])
    with pytest.raises(InternalError, match="range"):
        executable.run({**inputs, "z": inputs["z"] + np.int32(1000)}, ["index"])
    with pytest.raises(InternalError, match=f"row {ROWS} of {ROWS}"):
        executable.run({**inputs, "dz": np.array([ROWS], np.int32)}, ["index"])


def test_the_core_checks_what_it_is_given() -> None:
    weights = np.zeros((2, 3, 2, 2), np.int8)
    layer = _core.NetworkLayer(weights=weights, stride=(2, 2), pad=(0, 0), low=0, high=255)
    head = _core.NetworkHead(weights=np.zeros((3, 4, 1, 1), np.int8), pad=(0, 0))
    for hidden, heads in (([], [head]), ([layer], []), ([layer, layer], [head]), ([layer], [head, layer])):
        with pytest.raises((ValueError, UnsupportedError, TypeError)):
            _core.IntegerNetwork(hidden, heads, (-127, 127))
    network = _core.IntegerNetwork([layer], [head], (-127, 127))

    def rescale(channels: int, **changes: Any) -> _core.Rescale:
        values = {"bias": np.zeros(channels, np.int32), "multiplier": np.ones(channels, np.float32)}
        return _core.Rescale(**{**values, **changes})

    tensor, both = np.zeros((1, 2, 3, 3), np.int32), [rescale(3), rescale(4)]
    assert network.run(tensor, both, [None], 1)[0].shape == (1, 4, 6, 6)
    wrong = rescale(3, negative=np.ones(2, np.float32))
    for given, rescales, rules in (
        (tensor[:, :1].copy(), both, [None]),
        (tensor, both[:1], [None]),
        (tensor, both[::-1], [None]),
        (tensor, [wrong, both[1]], [None]),
        (tensor, both, []),
        (tensor, [rescale(3, bias=np.full(3, -(2**31), np.int32)), both[1]], [None]),
    ):
        with pytest.raises(ValueError):
            network.run(given, rescales, rules, 1)
    with pytest.raises(TypeError):
        _core.Rescale(bias=np.zeros(3), multiplier=np.ones(3, np.float32))
    with pytest.raises(TypeError):
        _core.NetworkHead(weights, (0, 0))  # type: ignore[misc]


def test_a_rule_beyond_what_the_kernels_take_cannot_be_made() -> None:
    rule = {"add": 4, "unit": 0.125, "low": 0, "high": 63, "skip": 5, "skipped": 255}
    table = {"values": np.zeros(10, np.float32), "low": 0, "high": 9, "limit": 10, "unit": 1, "add": 0}
    _core.IndexRule(**rule, scales=_core.ScaleTable(**table))
    for changes in ({"add": 2e6}, {"unit": 2}, {"low": -1}, {"high": 256}, {"low": 64}, {"add": float("nan")}):
        with pytest.raises(ValueError, match="rule"):
            _core.IndexRule(**{**rule, **changes})
    for changes in ({"high": 10}, {"low": -1}, {"limit": 5, "add": 1}, {"limit": 0, "unit": 0}, {"low": 0.5}):
        with pytest.raises(ValueError, match="rule"):
            _core.IndexRule(**rule, scales=_core.ScaleTable(**{**table, **changes}))
    with pytest.raises(ValueError, match="without values"):
        _core.ScaleTable(**{**table, "values": np.zeros(0, np.float32)})


@pytest.mark.skipif(_core.integer_isas()[-1] == "scalar", reason="the native backend needs AVX2")
def test_shipped_bundle(harbour: Array) -> None:
    native, reference = nicrt.load("shallow"), nicrt.load("shallow", backend="onnxruntime")
    for quality in (10, 50, 100):
        data = reference.encode(harbour[:151, :237], quality=quality)
        assert all(np.array_equal(a, b) for a, b in zip(native.symbols(data), reference.symbols(data), strict=True))
        assert native.encode(harbour[:151, :237], quality=quality) == data
    assert native.backends["hyper"] == "native" and reference.backends["hyper"] == "onnxruntime"

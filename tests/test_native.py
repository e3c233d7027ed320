"""Chains on the native backend: what they give against the definition, and what the kernels must leave to others."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from native_graphs import Array, Arrays, expected, native_graph

import nicrt
from conftest import ROOT
from nicrt import _core
from nicrt.runtime.backends import GraphSet
from nicrt.runtime.backends.base import OtherKindError
from nicrt.runtime.backends.native import NativeCpu
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.bundle import StoredGraph
from nicrt.runtime.errors import InternalError, UnsupportedError
from nicrt.runtime.evaluate import psnr
from nicrt.runtime.native_form import (
    Affine,
    Constant,
    Exponential,
    Layer,
    Normalisation,
    Operation,
    Picture,
    Term,
    TransposedChain,
)
from synthetic import port

STEPS = (-8, 8)


@dataclass
class Case:
    """A chain: x = y * exp(step / 8) * gain + mean * gain + offset, then transposed convolutions, then uint8."""

    rng: np.random.Generator
    channels: list[int]
    kernels: list[tuple[int, int]]
    strides: list[tuple[int, int]]
    slopes: list[float]
    half: bool = False
    norms: list[bool] = field(default_factory=list)
    arrays: Arrays = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    picture: Picture | None = field(default_factory=lambda: Picture(low=3, high=250))
    more: list[Operation] = field(default_factory=list)
    onnx: bytes | None = None

    def __post_init__(self) -> None:
        inputs = self.channels[0]
        self.arrays["gain"] = self.rng.uniform(0.5, 1.5, inputs).astype(np.float32)
        self.arrays["offset"] = self.rng.normal(0, 0.5, inputs).astype(np.float32)
        for number in range(len(self.kernels)):
            self._layer(number)

    def _layer(self, number: int) -> None:
        before, after = self.channels[number : number + 2]
        kernel, stride = self.kernels[number], self.strides[number]
        last = number == len(self.kernels) - 1
        spread = ((12 if self.norms else 30) if last else 1) / np.sqrt(
            before * max(1, np.prod(kernel) / np.prod(stride))
        )
        weights = self.rng.normal(0, spread, (before, after, *kernel))
        if self.norms:  # as trained: few channels, of smooth kernels, hold most of the energy
            weights[: max(4, before // 8)] = spread
            if not last:
                weights[:, max(4, after // 8) :] /= 10
        self.arrays[f"w{number}"] = weights.astype(np.float16 if self.half else np.float32)
        self.arrays[f"b{number}"] = self.rng.normal(120 if last else 0, 0.5, after).astype(np.float32)
        norm = None
        if self.norms and self.norms[number]:
            norm = Normalisation(beta=f"beta{number}", gamma=f"gamma{number}")
            self.arrays[norm.beta] = self.rng.uniform(0.5, 1, before).astype(np.float32)
            self.arrays[norm.gamma] = self.rng.uniform(0, 0.1 / before, (before, before)).astype(np.float32)
        pad = tuple(int(self.rng.integers(0, k + 1)) for k in kernel)
        bias = None if self.rng.random() < 0.2 and not last else f"b{number}"
        if bias is None:
            del self.arrays[f"b{number}"]
        self.layers.append(
            Layer(weight=f"w{number}", bias=bias, stride=stride, pad=pad, slope=self.slopes[number], norm=norm)
        )

    def chain(self) -> TransposedChain:
        gain = Constant(tensor="gain")
        terms = [
            Term(value="y", scale=[Exponential(parameter="step", factor=0.125), gain]),
            Term(value="mean", scale=[gain]),
        ]
        offset = [Constant(tensor="offset")]
        return TransposedChain(out="picture", terms=terms, offset=offset, layers=self.layers, picture=self.picture)

    def build(self) -> StoredGraph:
        scale = [int(np.prod([layer.stride[axis] for layer in self.layers])) for axis in (0, 1)]
        inputs = {
            "y": port("int32", "n", self.channels[0], "h", "w"),
            "mean": port("float32", "n", self.channels[0], "h", "w"),
            "step": port("int32", 1, low=STEPS[0], high=STEPS[1]),
        }
        rows, columns, channels = f"{scale[0]}h", f"{scale[1]}w", self.channels[-1]
        output = port("float32", "n", channels, rows, columns)
        if self.picture is not None:
            output = port(self.picture.dtype, "n", rows, columns, channels)
        operations = [self.chain(), *self.more]
        return native_graph(operations, self.arrays, inputs, {"picture": output}, onnx=self.onnx)

    def tensors(self, height: int, width: int, batch: int = 1) -> Arrays:
        shape = (batch, self.channels[0], height, width)
        return {
            "y": self.rng.integers(-4, 5, shape).astype(np.int32),
            "mean": self.rng.normal(0, 0.3, shape).astype(np.float32),
            "step": self.rng.integers(STEPS[0], 3, 1).astype(np.int32),
        }


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    layers = int(rng.integers(1, 4))

    def pairs(high: int) -> list[tuple[int, int]]:
        return [(int(a), int(b)) for a, b in rng.integers(1, high, (layers, 2))]

    channels = [int(n) for n in rng.integers(1, 40, layers)] + [int(rng.integers(1, 5))]
    slopes = [1.0 if rng.random() < 0.3 else float(rng.uniform(0, 0.9)) for _ in range(layers)]
    return Case(rng, channels, pairs(10), pairs(6 if layers < 3 else 4), slopes, half=bool(rng.integers(2)))


def small_case(**options: Any) -> Case:
    return Case(np.random.default_rng(1), [6, 4, 3], [(5, 5), (5, 5)], [(2, 2), (2, 2)], [0.2, 1.0], **options)


NORMED = {
    "as slim, narrow": ([48, 48, 48, 3], [(5, 5), (5, 5), (9, 9)], [(2, 2), (2, 2), (4, 4)], [True, True, True]),
    "as mean-scale": ([40, 32, 32, 32, 3], [(5, 5)] * 4, [(2, 2)] * 4, [False, True, True, True]),
    "wide": ([192, 192, 3], [(5, 5), (9, 9)], [(2, 2), (4, 4)], [True, True]),
    "oblong": ([33, 17, 3], [(3, 5), (4, 7)], [(3, 2), (1, 4)], [True, False]),
}


def normed_case(name: str) -> Case:
    channels, kernels, strides, norms = NORMED[name]
    return Case(np.random.default_rng(4), channels, kernels, strides, [1.0] * len(kernels), norms=norms)


def difference(a: Array, b: Array) -> Array:
    return np.abs(a.astype(int) - b)


def compare(case: Case, arithmetic: str, height: int, width: int, batch: int = 1) -> Array:
    """What a chain gives, as it should be but for rounding."""
    inputs = case.tensors(height, width, batch)
    stored = case.build()
    (found,) = NativeCpu(1, arithmetic).load(stored).run(inputs, ["picture"])
    picture = expected(stored, inputs)["picture"]
    assert found.shape == picture.shape and found.dtype == picture.dtype
    apart = difference(found, picture)
    assert apart.max() <= 1
    if arithmetic != "avx512_bf16":
        assert (apart > 0).sum() <= max(1, 1e-3 * apart.size)
    return picture


@pytest.mark.parametrize("arithmetic", _core.arithmetics())
def test_the_picture_is_that_of_the_definition(arithmetic: str) -> None:
    for seed in range(24):
        case = random_case(seed)
        compare(case, arithmetic, int(case.rng.integers(1, 20)), int(case.rng.integers(1, 50)))


@pytest.mark.parametrize("arithmetic", _core.arithmetics())
@pytest.mark.parametrize("name", NORMED)
def test_so_is_that_of_chains_with_normalisations(name: str, arithmetic: str) -> None:
    for height, width in ((1, 1), (2, 9), (5, 11)):
        picture = compare(normed_case(name), arithmetic, height, width)
    assert len(np.unique(picture)) > 20


@pytest.mark.skipif("avx512_bf16" not in _core.arithmetics(), reason="needs AVX512_BF16")
@pytest.mark.parametrize("normed", [True, False])
def test_only_where_few_channels_hold_most_are_products_of_bfloat16(normed: bool) -> None:
    """Which follows from the weights alone. Random ones were off by up to 3 levels."""
    case = normed_case("as slim, narrow") if normed else random_case(3)
    stored, inputs = case.build(), case.tensors(12, 30)
    coarse, fine = (NativeCpu(1, n).load(stored).run(inputs, ["picture"])[0] for n in ("avx512_bf16", "avx512"))
    assert np.any(coarse != fine) == normed


@pytest.mark.parametrize("arithmetic", _core.arithmetics())
def test_threads_do_not_change_a_byte(arithmetic: str) -> None:
    for case in (random_case(3), random_case(4), random_case(5), normed_case("as slim, narrow")):
        stored, inputs = case.build(), case.tensors(17, 11)
        pictures = [NativeCpu(n, arithmetic).load(stored).run(inputs, ["picture"])[0] for n in (1, 2, 3, 64)]
        assert all(np.array_equal(pictures[0], other) for other in pictures[1:])


def test_a_batch_is_its_pictures_one_by_one() -> None:
    case = small_case()
    executable, inputs = NativeCpu(1).load(case.build()), case.tensors(5, 7, batch=3)
    (together,) = executable.run(inputs, ["picture"])
    assert len(together) == 3
    for i in range(3):
        one = {name: array if name == "step" else array[i : i + 1] for name, array in inputs.items()}
        np.testing.assert_array_equal(executable.run(one, ["picture"])[0], together[i : i + 1])
    shared = {**inputs, "mean": inputs["mean"][:1]}  # one mean for all pictures
    np.testing.assert_array_equal(executable.run(shared, ["picture"])[0][0], together[0])


def test_parameters_of_a_run_decide_that_run() -> None:
    case = small_case()
    stored, inputs = case.build(), case.tensors(4, 4)
    executable = NativeCpu(1).load(stored)
    for step in (-3, 2, -3):
        inputs["step"] = np.array([step], np.int32)
        (found,) = executable.run(inputs, ["picture"])
        assert difference(found, expected(stored, inputs)["picture"]).max() <= 1


def test_one_graph_on_many_threads_at_once() -> None:
    case = small_case()
    executable = NativeCpu(2).load(case.build())
    inputs = [case.tensors(h, 9) for h in range(1, 17)]  # each with a step of its own
    alone = [executable.run(tensors, ["picture"])[0] for tensors in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda tensors: executable.run(tensors, ["picture"])[0], inputs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_values_that_are_not_numbers_do_no_harm() -> None:
    case = small_case()
    inputs = case.tensors(5, 7)
    inputs["mean"][0, 2, 1:3] = np.nan
    inputs["mean"][0, 3, 4] = np.inf
    for arithmetic in _core.arithmetics():
        NativeCpu(1, arithmetic).load(case.build()).run(inputs, ["picture"])


@pytest.mark.skipif("avx512_bf16" not in _core.arithmetics(), reason="needs AVX512_BF16")
@pytest.mark.parametrize("offset", [15, 17])
def test_latents_around_large_constants_are_multiplied_in_float32(offset: float) -> None:
    case = normed_case("as slim, narrow")
    case.arrays["offset"] = np.append(case.arrays["offset"][:-1], np.float32(offset))
    inputs = case.tensors(12, 30)
    pictures = [NativeCpu(1, a).load(case.build()).run(inputs, ["picture"])[0] for a in ("avx512_bf16", "avx512")]
    assert np.array_equal(*pictures) == (offset > 16)


def _layer(**changes: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.layers[0] = msgspec.structs.replace(case.layers[0], **changes)

    return change


def _weights(*shape: int) -> Callable[[Case], None]:
    """Of the first layer, for as many channels as there are."""
    return lambda case: case.arrays.update(w0=np.zeros(shape, np.float32))


def _deep(case: Case) -> None:
    case.arrays["w"] = np.zeros((3, 3, 1, 1), np.float32)
    case.layers += [Layer(weight="w")] * 7


def _wide(case: Case) -> None:
    case.channels[1] = 8193
    for name, shape in (("w0", (6, 8193, 1, 1)), ("b0", (8193,)), ("w1", (8193, 3, 1, 1))):
        case.arrays[name] = np.zeros(shape, np.float32)


def _stretched(case: Case) -> None:
    for number, stride in enumerate(((2, 64), (2, 8))):
        case.layers[number] = msgspec.structs.replace(case.layers[number], stride=stride)


def _picture(picture: Picture | None) -> Callable[[Case], None]:
    return lambda case: setattr(case, "picture", picture)


LEFT: dict[str, Callable[[Case], None]] = {
    "a kernel of 65 rows": _weights(6, 4, 65, 5),
    "a stride of 65": _layer(stride=(65, 2)),
    "strides of 512 in all": _stretched,
    "a pad of 65": _layer(pad=(65, 2)),
    "a kernel that reaches too far": _layer(stride=(1, 1), pad=(40, 40)),
    "nine layers": _deep,
    "8193 channels": _wide,
    "floats": _picture(None),
    "deep pictures": _picture(Picture(low=0, high=65535, dtype="uint16")),
    "pictures of floats": _picture(Picture(low=0, high=1, dtype="float32")),
    "two operations": lambda case: case.more.append(Affine(out="twice", terms=[Term(value="mean")])),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_the_kernels_cannot_do_is_left_to_other_backends(name: str) -> None:
    case = small_case()
    LEFT[name](case)
    stored = case.build()  # valid, as a bundle's graph
    with pytest.raises(OtherKindError):
        NativeCpu(1, "scalar").load(stored)


def test_a_graph_without_a_native_form_is_left_to_other_backends() -> None:
    stored = small_case(onnx=b"model").build()
    stored.entry.native = None
    with pytest.raises(OtherKindError, match="no native form"):
        NativeCpu(1).load(stored)


LEAVES = """
import sys
sys.path.insert(0, ".")
from nicrt.runtime.backends import native
from test_native import *
for normed in (False, True):
    case = normed_case("as slim, narrow") if normed else small_case()
    NativeCpu(1).load(case.build())
    case.onnx = b"model"
    try:
        NativeCpu(1).load(case.build())
        print("runs")
    except OtherKindError as error:
        print(error)
    native.has_onnxruntime = lambda: False
    NativeCpu(1).load(case.build())
    native.has_onnxruntime = lambda: True
"""


@pytest.mark.parametrize(
    ("best", "said"),
    [
        ("scalar", ["this processor has no AVX2"] * 2),
        ("avx2", ["runs", "this processor has no AVX-512"]),
        ("avx512", ["runs", "runs"]),
    ],
)
def test_what_onnx_runtime_does_faster_is_left_to_it_where_it_is(best: str, said: list[str]) -> None:
    if best not in _core.arithmetics():
        pytest.skip(f"needs {best}")
    environment = {**os.environ, "NICRT_ISA": best}
    command, tests = [sys.executable, "-c", LEAVES], Path(__file__).parent
    ended = subprocess.run(command, cwd=tests, env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.stdout.splitlines(), ended.stderr) == (said, "")


def test_a_part_that_is_not_the_manifest_s_is_never_made_up_for(tmp_path: Path) -> None:
    """The synthesis has an ONNX form as well, which is whole."""
    damaged = tmp_path / "shallow"
    shutil.copytree(ROOT / "engines" / "shallow", damaged)
    weights = bytearray((damaged / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (damaged / "weights.safetensors").write_bytes(weights)
    codec = nicrt.load(damaged, threads=1)
    with pytest.raises(UnsupportedError, match="not the manifest's"):
        for graph in codec.bundle.manifest.graphs:
            codec._graphs.get(graph)


def test_without_a_backend_the_graph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = nicrt.load("shallow").bundle
    with pytest.raises(UnsupportedError, match="'analysis' of this bundle: native: its native form is not"):
        GraphSet(bundle, [NativeCpu(1)]).get("analysis")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # not installed
    with pytest.raises(UnsupportedError, match=r"graph 'analysis'.*not installed: pip install 'nicrt\[cpu\]'"):
        GraphSet(bundle, [NativeCpu(1), OnnxRuntimeCpu(1)]).get("analysis")
    assert GraphSet.open(bundle, "auto", 1).report() == {}  # it takes a graph to ask for it


def test_inputs_that_do_not_fit_are_the_caller_s_defect() -> None:
    inputs = small_case().tensors(3, 4)
    inputs["y"] = inputs["y"][:, :5]
    with pytest.raises(InternalError):
        NativeCpu(1).load(small_case().build()).run(inputs, ["picture"])


def test_decoding_needs_no_onnx_runtime(small_file: bytes, tmp_path: Path) -> None:
    """Nor does it import what is there."""
    (tmp_path / "a.nic").write_bytes(small_file)
    script = """
import sys
from pathlib import Path
import nicrt
if sys.argv[2] == "missing":
    sys.modules["onnxruntime"] = None
data = Path(sys.argv[1]).read_bytes()
print(nicrt.decode(data).shape, "onnxruntime" in sys.modules)
try:
    nicrt.load("shallow").encode(nicrt.decode(data))
    print("encoded")
except nicrt.UnsupportedError as error:
    print(error)
"""
    said = {}
    for what in ("there", "missing"):
        command = [sys.executable, "-c", script, str(tmp_path / "a.nic"), what]
        said[what] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said["there"] == ["(24, 40, 3) False", "encoded"]
    assert said["missing"][0] == "(24, 40, 3) True"  # as what cannot be imported
    assert re.search(r"graph 'analysis'.*not installed: pip install 'nicrt\[cpu\]'", said["missing"][1])


@pytest.mark.skipif(_core.arithmetics()[-1] == "scalar", reason="the native backend needs AVX2")
@pytest.mark.parametrize("quality", [10, 50, 100])
@pytest.mark.parametrize("name", ["shallow", "slim", "mean-scale"])
def test_shipped_bundle(harbour: Array, name: str, quality: int) -> None:
    native, reference = nicrt.load(name), nicrt.load(name, backend="onnxruntime")
    data = reference.encode(harbour[:151, :237], quality=quality)
    found, wanted = native.decode(data, strict=True), reference.decode(data)
    (synthesis,) = (graph for graph in reference.backends if graph.startswith("synthesis"))
    used = "native" if name == "shallow" or _core.arithmetics()[-1] != "avx2" else "onnxruntime"
    assert native.backends[synthesis] == used and reference.backends[synthesis] == "onnxruntime"
    assert not native.fallbacks
    assert difference(found, wanted).max() <= 1
    original = harbour[:151, :237]
    assert psnr(wanted, original) - psnr(found, original) < 0.01

"""float16 as an option of the export: the same pictures, exact graphs and encoders as they were; TensorRT builds it.

Per family those of its graphs are exported that differ in kind; they stand in for the shipped ones in a real codec.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from wrapped_backend import WrappedBackend

from nicrt.runtime.backends import Backend, Executable, GraphSet
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.codec import Codec
from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.evaluate import psnr
from nicrt.runtime.limits import DEFAULT_LIMITS
from nicrt.runtime.profiles import Pictures, profiles

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

from nicrt.export import flow  # noqa: E402
from nicrt.export.bundle import BundleSource  # noqa: E402
from nicrt.export.families import FAMILIES  # noqa: E402
from nicrt.export.float16 import in_float16  # noqa: E402
from nicrt.export.onnx_export import export_module  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
HARBOUR = ROOT / "tests" / "pictures" / "harbour.png"
MAX_LOSS_DB = 0.02
LARGEST = Pictures((1, 1), (256, 256), (512, 512), batch=2)

# Family → file of its weights, variant, and the graphs that are cast here
FAMILY = {
    "shallow": ("shallow", "shallow", ("synthesis",)),
    "slim": ("slim", "w48", ("synthesis_w48",)),
    "mean-scale": ("mean-scale", "mean-scale", ("synthesis",)),
    "compass": ("compass", "compass", ("features", "filter")),
    "flow": ("flow", "flow", ("level0",)),
}


@pytest.fixture(scope="module", params=FAMILY)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def source(family: str, shipped_weights: Callable[[str], Path]) -> BundleSource:
    weights = safetensors.load_file(shipped_weights(FAMILY[family][0]))
    if family == "compass":
        base = safetensors.load_file(shipped_weights("mean-scale"))
        weights |= {f"base.{name}": tensor for name, tensor in base.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "_z0_tables", lambda prior: None)  # they take longer than everything else here
        return FAMILIES[family](weights)


@pytest.fixture(scope="module")
def cast(family: str, source: BundleSource) -> dict[str, bytes]:
    graphs = {graph.name: graph for graph in in_float16(source).graphs}
    with torch.no_grad():
        return {
            name: export_module(graphs[name].module, graphs[name].inputs, graphs[name].outputs)
            for name in FAMILY[family][2]
        }


def test_only_what_makes_pixels_is_cast(family: str, source: BundleSource) -> None:
    half = in_float16(source)
    assert half.name == f"{source.name}-float16" and half.tables is source.tables and half.programs is source.programs
    changed = {a.name for a, b in zip(source.graphs, half.graphs, strict=True) if a is not b}
    assert changed >= set(FAMILY[family][2])
    for before, after in zip(source.graphs, half.graphs, strict=True):
        assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
        if before.encoder or before.reference is not None:
            assert before is after
        if before.name in changed:
            assert after.native is None  # whose arithmetic is float32
        types = {parameter.dtype for parameter in before.module.parameters() if parameter.is_floating_point()}
        assert types <= {torch.float32}  # the one that was there is not touched


def test_normalisation_stays_in_float32(family: str, cast: dict[str, bytes]) -> None:
    for data in cast.values():
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data))
        types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
        roots = [types[node.input[0]] for node in model.graph.node if node.op_type == "Sqrt"]
        assert set(roots) <= {onnx.TensorProto.FLOAT} and (bool(roots) == (family in ("slim", "mean-scale")))
        products = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "MatMul")]
        assert onnx.TensorProto.FLOAT16 in {types[node.output[0]] for node in products}


def test_pictures_lose_nothing_to_see(family: str, cast: dict[str, bytes]) -> None:
    bundle = Bundle.open(ROOT / "engines" / family)
    picture = np.asarray(Image.open(HARBOUR).convert("RGB"))[:96, :136]

    def quality_of_pictures(*backends: Backend) -> float:
        codec = Codec(bundle, threads=1, backend="onnxruntime", limits=DEFAULT_LIMITS)
        codec._graphs = GraphSet(bundle, backends)
        data = codec.encode(picture, variant=FAMILY[family][1])
        return float(psnr(codec.decode(data), picture))

    used = set()

    def replaced(name: str, executable: Executable) -> Executable:
        if name not in cast:
            return executable
        used.add(name)
        return OnnxRuntimeCpu(1).load(replace(bundle.graph(name), onnx=lambda: cast[name]))

    expected = quality_of_pictures(OnnxRuntimeCpu(1))
    assert abs(quality_of_pictures(WrappedBackend(OnnxRuntimeCpu(1), replaced)) - expected) < MAX_LOSS_DB
    assert used == set(cast)


def test_tensorrt_builds_it(family: str, cast: dict[str, bytes]) -> None:
    from nicrt.runtime.backends.tensorrt_build import build_engine
    from nicrt.runtime.backends.tensorrt_library import gpu_name, library

    try:
        used = library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    if not used.ahead_of_time and gpu_name() is None:
        pytest.skip("`tensorrt` builds on a GPU only")
    bundle = Bundle.open(ROOT / "engines" / family)
    found = profiles(bundle, LARGEST)
    for name, data in cast.items():
        stored = replace(bundle.graph(name), onnx=lambda data=data: data)
        assert len(build_engine(stored, found[name], used)) > 10_000

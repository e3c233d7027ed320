"""The spatially scalable family: its prediction graphs, and the bundle against PyTorch's own evaluation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import nicrt

torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

from nicrt.export.exact import lower_hyper_synthesis  # noqa: E402
from nicrt.export.exact_reference import reference  # noqa: E402
from nicrt.export.implicit import CUBIC, Bicubic, Filter, cubic, nearest  # noqa: E402
from nicrt.export.models.compass import RESIDUAL_OFFSET, Compass, ImplicitFilter, bicubic, pad  # noqa: E402
from nicrt.export.models.entropy import DZ_DEFAULT, gaussian_bits  # noqa: E402
from nicrt.export.models.mean_scale import Z_LIMIT, MeanScale  # noqa: E402
from nicrt.export.proving import sessions  # noqa: E402
from nicrt.runtime.pictures import from_array, resample  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENGINES = Path(__file__).resolve().parents[2] / "engines"
SCALES = [1, 2, 3.7]


@pytest.fixture(scope="module")
def codec() -> nicrt.Codec:
    return nicrt.load(ENGINES / "compass", threads=1)


@pytest.fixture(scope="module")
def checkpoints(shipped_weights: Callable[[str], Path]) -> tuple[Path, Path]:
    """Of the layers and of their base."""
    return shipped_weights("compass"), shipped_weights("mean-scale")


@pytest.fixture(scope="module")
def trained(checkpoints: tuple[Path, Path]) -> Compass:
    """The float model that the bundle comes from."""
    from safetensors.torch import load_file

    layers, base = checkpoints
    state = {**load_file(layers), **{f"base.{name}": tensor for name, tensor in load_file(base).items()}}
    model = Compass()
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def filters() -> ImplicitFilter:
    """With random weights, large enough to matter."""
    torch.manual_seed(3)
    return ImplicitFilter().requires_grad_(False)


def numbers(count: int) -> Any:
    return torch.arange(count, dtype=torch.int32)


@pytest.mark.parametrize(
    ("low", "high"),
    [((20, 31), (37, 62)), ((1, 1), (5, 3)), ((3, 1), (17, 9)), ((40, 30), (23, 17)), ((5, 7), (32, 40))],
)
def test_prediction_graphs_are_the_models(filters: ImplicitFilter, low: tuple[int, int], high: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *low)
    size = torch.tensor(high, dtype=torch.int32)
    place = numbers(high[0] + 3), numbers(high[1] + 2), size  # the last row and column go on
    features = filters.features(x)
    for got, own in (
        (Filter(filters)(x, features, *place), filters(x, high)),
        (Bicubic()(x, *place), bicubic(x, high)),
    ):
        torch.testing.assert_close(got, torch.nn.functional.pad(own, (0, 2, 0, 3), mode="replicate"), atol=1e-5, rtol=0)


def test_positions_are_exact_for_any_size() -> None:
    """As fractions say, also where float32 and int32 would not do."""
    inputs, outputs = 15_000_001, 16_700_003
    some = [0, 1, 2, 999_999, 8_388_609, outputs - 2, outputs - 1, outputs, outputs + 60]
    rows, distance = nearest(torch.tensor(some, dtype=torch.int32), torch.tensor(outputs, dtype=torch.int32), inputs)
    taps, weights = cubic(torch.tensor(some, dtype=torch.int32), torch.tensor(outputs, dtype=torch.int32), inputs)
    for place, number in enumerate(some):
        centre = Fraction((2 * min(number, outputs - 1) + 1) * inputs, 2 * outputs)
        assert rows[place] == centre // 1
        assert distance[place] == pytest.approx(float(2 * (centre - centre // 1) - 1), abs=1e-6)
        first = (centre - Fraction(1, 2)) // 1
        assert taps[:, place].tolist() == [min(max(first + tap, 0), inputs - 1) for tap in (-1, 0, 1, 2)]
        t = float(centre - Fraction(1, 2) - first)
        near = [(CUBIC + 2) * d**3 - (CUBIC + 3) * d**2 + 1 for d in (t, 1 - t)]
        far = [CUBIC * (d**3 - 5 * d**2 + 8 * d - 4) for d in (1 + t, 2 - t)]
        assert weights[:, place].tolist() == pytest.approx([far[0], *near, far[1]], abs=1e-6)


def test_the_graph_counts_in_integers(codec: nicrt.Codec) -> None:
    """A long row through the exported graph, at every optimisation level."""
    inputs, outputs = 50_000, 70_001
    x = np.random.default_rng(0).random((1, 3, 1, inputs), np.float32)
    taps, weights = cubic(numbers(outputs), torch.tensor(outputs, dtype=torch.int32), inputs)
    expected = sum(x[0, :, 0, taps[tap].numpy()] * weights[tap].numpy()[:, None] for tap in range(4))
    feed = {
        "x": x,
        "rows": np.zeros(1, np.int32),
        "cols": np.arange(outputs, dtype=np.int32),
        "size": np.array([1, outputs], np.int32),
    }
    for _, session in sessions(codec.bundle.graph_bytes("bicubic")):
        (pred,) = session.run(None, feed)
        np.testing.assert_allclose(pred[0, :, 0].T, expected, atol=1e-5)


def test_bands_are_parts_of_the_whole(codec: nicrt.Codec) -> None:
    graphs = {name: ort.InferenceSession(codec.bundle.graph_bytes(name)) for name in ("features", "filter")}
    x = np.random.default_rng(0).random((1, 3, 23, 31), np.float32)
    (features,) = graphs["features"].run(None, {"x": x})
    rows, columns, size = np.arange(64, dtype=np.int32), np.arange(64, dtype=np.int32), np.array([50, 61], np.int32)
    feed = {"x": x, "features": features, "cols": columns, "size": size}
    (whole,) = graphs["filter"].run(None, {**feed, "rows": rows})
    for first, last in ((0, 7), (7, 40), (40, 64)):
        (band,) = graphs["filter"].run(None, {**feed, "rows": rows[first:last]})
        np.testing.assert_allclose(band, whole[:, :, first:last], atol=1e-5)


@dataclass
class _Layer:
    """One layer of a file: its picture as coded, its symbols, what the codec shows, and PyTorch's values given them."""

    x: Any
    z: NDArray[np.int32]
    y: NDArray[np.int32]
    shown: NDArray[np.uint8]
    own_z: Any
    own_y: Any
    own_picture: Any
    index: Any
    bits: float
    float_bits: float
    codec: MeanScale


@pytest.fixture(scope="module", params=["compass", "bicubic"])
def file(request: pytest.FixtureRequest, codec: nicrt.Codec, photographs: list[NDArray[Any]]) -> tuple[str, Any, bytes]:
    """Variant, picture and file of a part of a photograph, with nothing left out."""
    picture = photographs[1][0].transpose(1, 2, 0)[100:326, 200:549]
    data = codec.encode(picture, variant=request.param, scales=SCALES, parameters={"skip": 0})
    return request.param, picture, data


@pytest.fixture(scope="module")
def layers(file: tuple[str, Any, bytes], codec: nicrt.Codec, trained: Compass) -> list[_Layer]:
    """PyTorch follows the file's symbols, so that a layer is judged by itself."""
    variant, picture, data = file
    symbols = codec.symbols(data)
    graphs = {n: ort.InferenceSession(codec.bundle.graph_bytes(n)) for n in ("base_hyper", "residual_hyper")}
    found: list[_Layer] = []
    below = None
    for number in range(len(symbols) // 2):
        shown = codec.decode(data, stage=number + 1)
        size = shown.shape[:2]
        x = torch.from_numpy(resample(from_array(picture), size).transpose(2, 0, 1)[None].copy())
        model, graph = (trained.base, "base_hyper") if below is None else (trained.residual, "residual_hyper")
        prediction = None if below is None else trained.predict(below, size, implicit=variant == "compass")
        source = x if prediction is None else x - prediction + RESIDUAL_OFFSET
        z, y = symbols[2 * number][None], symbols[2 * number + 1][None]
        zero, dz = np.zeros(1, np.int32), np.array([DZ_DEFAULT], np.int32)
        index, mean = graphs[graph].run(None, {"z": z, "step": zero, "skip": zero, "dz": dz})
        v, continuous = model.analyse(pad(source))
        scale_index = torch.from_numpy(index).int()
        decoded = model.g_s(torch.from_numpy(y) + torch.from_numpy(mean))[:, :, : size[0], : size[1]]
        decoded = decoded if prediction is None else prediction + decoded - RESIDUAL_OFFSET
        below = decoded.clamp(0, 1)
        rounded = torch.round(continuous).clamp(-Z_LIMIT, Z_LIMIT)
        z_bits = float(model.prior.bits(torch.from_numpy(z)).sum())
        found.append(
            _Layer(
                x=x,
                z=z,
                y=y,
                shown=shown,
                own_z=rounded.int().numpy(),
                own_y=torch.round(v - torch.from_numpy(mean)).int().numpy(),
                own_picture=(below * 255).round().byte().numpy()[0].transpose(1, 2, 0),
                index=index,
                bits=z_bits + float(gaussian_bits(torch.from_numpy(y), scale_index).sum()),
                float_bits=z_bits + model.evaluate(pad(source)).symbol_bits,
                codec=model,
            )
        )
    return found


def test_encoder_symbols_are_those_of_torch(layers: list[_Layer]) -> None:
    for layer in layers:
        for symbols, own in ((layer.z, layer.own_z), (layer.y, layer.own_y)):
            difference = np.abs(symbols - own)
            assert difference.max() <= 1
            # a part of a photograph has too few symbols for the share of 1e-4: some one place may round the other way
            assert (difference > 0).sum() <= max(1, 1e-4 * difference.size)


def test_pixels_are_within_one_grey_level(layers: list[_Layer]) -> None:
    for layer in layers:
        difference = np.abs(layer.shown.astype(int) - layer.own_picture)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


def test_indices_are_the_integer_reference(layers: list[_Layer]) -> None:
    layer = layers[1]
    network = lower_hyper_synthesis(layer.codec.h_s, Z_LIMIT)
    index, _ = reference(network, layer.z, 0, 0, DZ_DEFAULT)
    np.testing.assert_array_equal(layer.index, index)


def test_lowering_and_file_cost_little(layers: list[_Layer], file: tuple[str, Any, bytes]) -> None:
    facts = nicrt.info(file[2])
    ideal = sum(layer.bits for layer in layers)
    assert ideal == pytest.approx(sum(layer.float_bits for layer in layers), rel=0.005)
    assert facts.total_bytes <= ideal / 8 * 1.002 + 96 + 12 * facts.segments


@pytest.mark.parametrize("variant", ["compass", "bicubic"])
def test_any_size(codec: nicrt.Codec, harbour: NDArray[np.uint8], variant: str) -> None:
    for height, width in [(1, 1), (1, 197), (65, 1), (2, 3), (63, 65)]:
        crop = harbour[:height, :width]
        assert codec.decode(codec.encode(crop, variant=variant)).shape == crop.shape


def test_windows_give_the_same(codec: nicrt.Codec, harbour: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a large picture is coded: every graph that knows its halo runs window by window."""
    whole = codec.encode(harbour)
    monkeypatch.setattr(codec._graphs.engine, "window_edge", 128)
    for a, b in zip(codec.symbols(codec.encode(harbour)), codec.symbols(whole), strict=True):
        assert np.abs(a - b).max() <= 1 and (a != b).mean() < 1e-3
    shown = codec.decode(whole)
    monkeypatch.undo()
    assert np.abs(shown.astype(int) - codec.decode(whole)).max() <= 1


def test_numbers_of_layers_and_factors(codec: nicrt.Codec, harbour: NDArray[np.uint8]) -> None:
    crop = harbour[60:100, 90:142]
    for scales in ([1], list(range(1, 11)), [1, 4.5], [1, 6], [1, 5.3, 28], list(range(1, 17))):
        data = codec.encode(crop, scales=scales)
        facts = nicrt.info(data)
        assert facts.stages == len(scales)
        sizes = [*facts.parameters[0], *facts.parameters[1]]
        for number in range(facts.stages):
            height, width = sizes[2 * number : 2 * number + 2]
            assert (height, width) == tuple(max(1, round(s * scales[number] / scales[-1])) for s in crop.shape[:2])
            assert codec.decode(data, stage=number + 1).shape == (height, width, 3)
    with pytest.raises(ValueError, match="16 layers"):
        codec.encode(crop, scales=list(range(1, 18)))
    for parameters in ({"base": []}, {"base": [4, 4, 8, 8]}):
        with pytest.raises(ValueError, match="base"):
            codec.encode(crop, parameters=parameters)


def test_a_step_for_each_layer(codec: nicrt.Codec, harbour: NDArray[np.uint8]) -> None:
    crop = harbour[:64, :96]
    plain = nicrt.info(codec.encode(crop)).stream_bytes
    coarser = nicrt.info(codec.encode(crop, parameters={"step": [0, 40]})).stream_bytes
    assert coarser[:2] == plain[:2] and sum(coarser[2]) < sum(plain[2])
    sizes = [nicrt.info(codec.encode(crop, quality=quality)).total_bytes for quality in (0, 50, 100)]
    assert sizes == sorted(sizes)


def test_every_layer_in_another_process(file: tuple[str, Any, bytes], codec: nicrt.Codec, tmp_path: Path) -> None:
    data = file[2]
    path = tmp_path / "a.nic"
    path.write_bytes(data)
    script = (
        "import sys, nicrt, numpy as np; data = open(sys.argv[1], 'rb').read(); "
        "codec = nicrt.load_for(data, threads=int(sys.argv[2])); "
        "np.savez(sys.argv[3], *[codec.decode(data, stage=k) for k in (1, 2, 3)], *codec.symbols(data))"
    )
    for threads in (1, 2):
        out = tmp_path / f"{threads}.npz"
        subprocess.run([sys.executable, "-c", script, str(path), str(threads), str(out)], check=True)
        arrays = list(np.load(out).values())
        for shown, stage in zip(arrays[:3], (1, 2, 3), strict=True):
            assert np.abs(shown.astype(int) - codec.decode(data, stage=stage)).max() <= 1
        for there, here in zip(arrays[3:], codec.symbols(data), strict=True):
            np.testing.assert_array_equal(there, here)


def test_what_feeds_the_next_layer_is_in_the_symbol_id(codec: nicrt.Codec) -> None:
    graphs = codec.bundle.manifest.graphs
    loop = {name for name, graph in graphs.items() if graph.in_loop}
    assert loop == {"base_synthesis", "features", "filter", "bicubic", "residual_synthesis", "crop"}
    variants = codec.bundle.manifest.variants
    assert variants["compass"].symbol_id != variants["bicubic"].symbol_id
    assert variants["compass"].picture_id == variants["bicubic"].picture_id


def test_the_shipped_bundle_is_the_export_of_the_weights(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    from nicrt.export.cli import export_family
    from nicrt.runtime.errors import UnsupportedError

    layers, base = checkpoints
    with pytest.raises(UnsupportedError, match="--base"):
        export_family("compass", layers, tmp_path / "none")
    export_family("compass", layers, tmp_path / "out", base=base)
    for path in sorted((ENGINES / "compass").rglob("*")):
        if path.is_file():
            assert (tmp_path / "out" / path.relative_to(ENGINES / "compass")).read_bytes() == path.read_bytes(), path

"""Code editing: bundles' graphs in PyTorch, rates from integer tables, annealing that pays, files for any decoder."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from engine_runs import encoded_streams  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import nicrt  # noqa: E402
from nicrt import _core  # noqa: E402
from nicrt.export.editing.distortion import ms_ssim, squared_error  # noqa: E402
from nicrt.export.editing.onnx_torch import TorchGraph  # noqa: E402
from nicrt.export.editing.optimise import ABOVE, BELOW, temperature_at, weight_at  # noqa: E402
from nicrt.export.editing.program import REACH, Rate, SoftProgram  # noqa: E402
from nicrt.runtime import iterative  # noqa: E402
from nicrt.runtime.bundle import Bundle  # noqa: E402
from nicrt.runtime.choose import Wish, choose  # noqa: E402
from nicrt.runtime.cli import main  # noqa: E402
from nicrt.runtime.manifest import Graph, factored  # noqa: E402
from nicrt.runtime.proofs import proof_inputs, shape_of  # noqa: E402
from nicrt.runtime.target import mean_squared_error, psnr_of  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
HARBOUR = ROOT / "tests" / "pictures" / "harbour.png"
BUNDLES = sorted(path.parent for path in (ROOT / "engines").glob("*/manifest.json"))
GRAPHS = [(folder, name) for folder in BUNDLES for name in Bundle.open(folder).manifest.graphs]
SIZE = 64
FEW_STEPS = 50


@pytest.fixture(scope="module")
def codec() -> nicrt.Codec:
    """On one backend: others may differ in a grey level."""
    return nicrt.load("shallow", threads=1, backend="onnxruntime")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.asarray(Image.open(HARBOUR).convert("RGB"))[20 : 20 + SIZE, 60 : 60 + SIZE]


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterative, "STEPS", {6: 0, 7: FEW_STEPS, 8: FEW_STEPS, 9: FEW_STEPS})


def _inputs(graph: Graph) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(4)
    sizes = {symbol: 2 for port in graph.inputs.values() for _, symbol in map(factored, port.dims)}
    inputs = {}
    for name, port in graph.inputs.items():
        shape = shape_of(port, sizes)
        if port.dtype.startswith("float"):
            inputs[name] = generator.uniform(0, 1, shape).astype(port.dtype)
        else:
            low, high = port.range or (1, 3)  # sizes are from 1 up
            inputs[name] = generator.integers(max(low, -50), min(high, 50) + 1, shape).astype(port.dtype)
    return inputs


@pytest.mark.parametrize(("folder", "name"), GRAPHS, ids=[f"{folder.name} {name}" for folder, name in GRAPHS])
def test_every_shipped_graph_is_the_same_in_torch(folder: Path, name: str) -> None:
    bundle = Bundle.open(folder)
    graph, data = bundle.manifest.graphs[name], bundle.graph_bytes(name)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    executor = TorchGraph(data)
    cases = [proof_inputs(graph, proof) for proof in graph.proofs] if graph.exact else [_inputs(graph)]
    for inputs in cases:
        expected = session.run(list(graph.outputs), inputs)
        with torch.no_grad():
            got = executor({port: torch.from_numpy(array) for port, array in inputs.items()})
        for port, values in zip(graph.outputs, expected, strict=True):
            own = got[port].numpy()
            assert own.dtype == values.dtype and own.shape == values.shape
            if graph.exact:
                np.testing.assert_array_equal(own, values)
            elif values.dtype.kind == "f":
                scale = max(1.0, float(np.abs(values).max()))
                assert np.abs(own - values).max() < 2e-4 * scale
            else:
                assert np.abs(own.astype(int) - values).max() <= 1


def _model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> TorchGraph:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "graph", ports[:1], ports[1:], tensors)
    return TorchGraph(helper.make_model(graph).SerializeToString())


def test_gradients_go_straight_through_rounding_and_casts() -> None:
    nodes = [
        helper.make_node("Round", ["x"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.INT32),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Clip", ["c", "low", "high"], ["y"]),
    ]
    graph = _model(nodes, {"low": np.float32(0), "high": np.float32(3)})
    x = torch.tensor([0.4, 1.6, 7.2], requires_grad=True)
    y = graph({"x": x})["y"]
    y.sum().backward()
    assert y.tolist() == [0, 2, 3] and x.grad is not None and x.grad.tolist() == [1, 1, 0]
    assert graph({"x": x}, relaxed=True)["y"].tolist() == pytest.approx([0.4, 1.6, 3])


def test_a_staircase_in_a_table_has_the_slope_of_its_line() -> None:
    table = np.repeat(np.arange(8, dtype=np.float32), 5)  # one step up in five places
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT32),
        helper.make_node("Gather", ["table", "i"], ["y"]),
    ]
    lined = [nodes[0], helper.make_node("Gather", ["table", "i"], ["y"], axis=1)]
    for graph in (_model(nodes, {"table": table}), _model(lined, {"table": table[None]})):
        x = torch.tensor([11.0, 12.7, 23.0], requires_grad=True)
        y = graph({"x": x})["y"]
        y.sum().backward()
        assert y.flatten().tolist() == [2, 2, 4]
        assert x.grad is not None and x.grad.tolist() == pytest.approx([0.2] * 3)


def test_rates_are_those_of_the_tables(codec: nicrt.Codec, pixels: np.ndarray) -> None:
    lengths = codec.bundle.core.codebook("y").code_lengths(REACH)
    rate = Rate(lengths)
    table = torch.tensor([3.0, 20.0, 20.0], requires_grad=True)
    symbols = torch.tensor([0.0, -2.0, 1.25], requires_grad=True)
    bits = rate(table, symbols)
    between = 0.75 * lengths[20, REACH + 1] + 0.25 * lengths[20, REACH + 2]
    expected = [lengths[3, REACH], lengths[20, REACH - 2], between]
    np.testing.assert_allclose(bits.detach(), expected, rtol=1e-6)
    bits.sum().backward()
    assert symbols.grad is not None and table.grad is not None
    assert float(symbols.grad[2]) == pytest.approx(float(lengths[20, REACH + 2] - lengths[20, REACH + 1]))
    assert float(table.grad[1]) == pytest.approx(float(lengths[21, REACH - 2] - lengths[19, REACH - 2]) / 2)
    latents = torch.tensor([0.0, -2.25, 0.75], requires_grad=True)
    table.grad = None
    bits = rate.rounded(table, latents)
    below, middle, above = lengths[20, REACH : REACH + 3]
    np.testing.assert_allclose(bits.detach(), [lengths[3, REACH], lengths[20, REACH - 2], middle], rtol=1e-6)
    bits.sum().backward()
    assert latents.grad is not None and table.grad is not None
    parabola = np.polynomial.Polynomial.fit([0, 1, 2], [below, middle, above], 2)
    assert float(latents.grad[2]) == pytest.approx(parabola.deriv()(0.75), rel=1e-4)
    assert float(table.grad[2]) == pytest.approx(float(lengths[21, REACH + 1] - lengths[19, REACH + 1]) / 2, rel=1e-4)
    # and of a real file: container, checksums and lanes cost less than the budget
    data = codec.encode(pixels, quality=60)
    outcome = _soft(codec, pixels, 60).run(torch.round)
    assert 0 < len(data) - float(outcome.bits.detach()) / 8 < 0.002 * len(data) + 96 + 12 * nicrt.info(data).segments


def _soft(codec: nicrt.Codec, pixels: np.ndarray, quality: float) -> SoftProgram:
    name, values = choose(codec.bundle, Wish(quality), pixels.shape[:2])
    return SoftProgram(codec.bundle, name, values, pixels.astype(np.float32) / 255)


def test_the_rounded_program_is_the_single_pass(codec: nicrt.Codec, pixels: np.ndarray) -> None:
    pixels = pixels[:50, :33]
    with torch.no_grad():
        outcome = _soft(codec, pixels, 45).run(torch.round)
    data = codec.encode(pixels, quality=45)
    for own, coded in zip(outcome.symbols, codec.symbols(data), strict=True):
        assert (own[0].numpy() != coded).mean() < 1e-3
    difference = np.abs(outcome.picture.numpy() - codec.decode(data))
    assert difference.max() <= 3 and difference.mean() < 0.1


def test_given_symbols_make_the_same_file(codec: nicrt.Codec, pixels: np.ndarray) -> None:
    data = codec.encode(pixels, quality=45)
    name, values = choose(codec.bundle, Wish(45), pixels.shape[:2])
    nothing = np.zeros((SIZE, SIZE, 3), np.float32)  # which nobody looks at
    streams = encoded_streams(codec, name, nothing, values, 512, 16384, given=codec.symbols(data))
    variant = codec.bundle.manifest.variants[name]
    ids = (bytes.fromhex(text) for text in (variant.symbol_id, variant.picture_id))
    assert data == _core.write(*ids, SIZE, SIZE, 512, list(values.values()), streams)


def _cost(codec: nicrt.Codec, data: bytes, pixels: np.ndarray) -> tuple[float, float]:
    """bpp and mean squared error of a file."""
    error = mean_squared_error(codec.decode(data), pixels.astype(np.float32) / 255)
    return 8 * len(data) / pixels[:, :, 0].size, error


def test_annealing_pays_and_any_decoder_reads_it(codec: nicrt.Codec, pixels: np.ndarray, tmp_path: Path) -> None:
    single = [_cost(codec, codec.encode(pixels, quality=q), pixels) for q in (40, 45, 50)]
    slope = (single[2][0] - single[0][0]) / (single[0][1] - single[2][1])
    data = codec.encode(pixels, quality=45, effort=7)
    rate, error = _cost(codec, data, pixels)
    assert rate + slope * error < 0.99 * (single[1][0] + slope * single[1][1])
    (tmp_path / "a.nic").write_bytes(data)
    code = (
        "import sys; sys.modules['torch'] = None; import nicrt; import numpy as np; "
        "codec = nicrt.load('shallow', threads=1, backend='onnxruntime'); "
        "np.save(sys.argv[2], codec.decode(open(sys.argv[1], 'rb').read()))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.nic"), str(tmp_path / "a.npy")], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), codec.decode(data))


def test_side_information_alone_pays(codec: nicrt.Codec, pixels: np.ndarray) -> None:
    single = [_cost(codec, codec.encode(pixels, quality=q), pixels) for q in (40, 45, 50)]
    slope = (single[2][0] - single[0][0]) / (single[0][1] - single[2][1])
    data = codec.encode(pixels, quality=45, effort=6)
    rate, error = _cost(codec, data, pixels)
    assert rate + slope * error < 0.99 * (single[1][0] + slope * single[1][1])
    rate, error = _cost(codec, codec.encode(pixels, target_bpp=0.9, effort=6), pixels)
    assert 0.87 < rate <= 0.9
    assert error < _cost(codec, codec.encode(pixels, target_bpp=0.9), pixels)[1]


def test_without_a_curve_of_rate_and_distortion_there_is_nothing_to_descend(
    static_slim: tuple[object, Path], pixels: np.ndarray
) -> None:
    with pytest.raises(nicrt.UnsupportedError, match="use 1 to 5"):
        nicrt.load(static_slim[1], threads=1, backend="onnxruntime").encode(pixels, effort=6)


def test_widths_with_side_information_can_be_edited() -> None:
    pixels = np.asarray(Image.open(HARBOUR).convert("RGB"))
    slim = nicrt.load("slim", threads=1, backend="onnxruntime")
    single = [_cost(slim, slim.encode(pixels, quality=q, variant="w48"), pixels) for q in (5, 10, 15)]
    slope = (single[2][0] - single[0][0]) / (single[0][1] - single[2][1])
    rate, error = _cost(slim, slim.encode(pixels, quality=10, variant="w48", effort=7), pixels)
    assert rate + slope * error < 0.995 * (single[1][0] + slope * single[1][1])


def test_targets_are_met(codec: nicrt.Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    # on 64 x 64 the steps between rates that a file can have decide which of the two is closer to its target
    pixels = np.asarray(Image.open(HARBOUR).convert("RGB"))[20:116, 60:156]
    monkeypatch.setattr(iterative, "STEPS", {7: 3 * FEW_STEPS})
    single, iterated = (
        (
            _cost(codec, codec.encode(pixels, target_bpp=0.9, effort=effort), pixels),
            _cost(codec, codec.encode(pixels, target_psnr=33, effort=effort), pixels),
        )
        for effort in (5, 7)
    )
    assert 0.88 < single[0][0] <= 0.9 and 32.999 < psnr_of(single[1][1]) < 33.2
    assert 0.85 < iterated[0][0] <= 0.9 and psnr_of(iterated[1][1]) >= 33
    assert iterated[0][1] < single[0][1] and iterated[1][0] < single[1][0]


def test_targets_are_met_with_lanes_and_tiles(codec: nicrt.Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both cost bytes, which the iterations only reckon with as the single pass has them."""
    pixels = np.asarray(Image.open(HARBOUR).convert("RGB"))[20:84, 60:188]
    monkeypatch.setattr(iterative, "STEPS", {7: FEW_STEPS})
    told: list[nicrt.Encoded] = []
    options = {"effort": 7, "lanes": "parallel", "tile": 64, "report": told.append}
    data = codec.encode(pixels, target_bpp=0.9, **options)
    assert 0.8 < 8 * len(data) / pixels[..., 0].size <= 0.9
    data = codec.encode(pixels, target_psnr=31, **options)
    reached = psnr_of(_cost(codec, data, pixels)[1])
    assert reached >= 30.999 and told[1].psnr == pytest.approx(reached, abs=1e-3)
    assert [encoded.missed for encoded in told] == [None, None]


def test_side_information_is_held_to_a_target_with_lanes(codec: nicrt.Codec) -> None:
    pixels = np.asarray(Image.open(HARBOUR).convert("RGB"))[20:84, 60:124]
    data = codec.encode(pixels, target_bpp=1.0, effort=6, lanes="parallel")
    assert 0.8 < 8 * len(data) / pixels[..., 0].size <= 1.0


def test_a_map_of_weights_moves_quality_inside(
    codec: nicrt.Codec, pixels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.full((SIZE, SIZE), 20, np.uint8)
    mask[16:48, 16:48] = 255
    inside = mask > 127
    original = pixels.astype(np.float32) / 255
    plain = codec.decode(codec.encode(pixels, quality=45, effort=7))
    data = codec.encode(pixels, quality=45, effort=7, roi=mask)
    weighted = codec.decode(data)
    assert mean_squared_error(weighted, original, inside) < 0.97 * mean_squared_error(plain, original, inside)
    assert mean_squared_error(weighted, original, ~inside) > mean_squared_error(plain, original, ~inside)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(pixels).save(tmp_path / "in.png")
    files = [str(tmp_path / name) for name in ("mask.png", "in.png", "out.nic")]
    assert main(["encode", "--backend", "onnxruntime", "--threads", "1", "-q", "45", "-e", "7", "--roi", *files]) == 0
    assert (tmp_path / "out.nic").read_bytes() == data  # the same again
    expected = psnr_of(mean_squared_error(weighted, original, inside))
    assert f"{expected:.2f} dB inside" in capsys.readouterr().err


def test_what_cannot_be_is_refused(codec: nicrt.Codec, pixels: np.ndarray) -> None:
    ones = np.ones((SIZE, SIZE))
    for options in (
        {"roi": ones},  # at an effort that does not iterate
        {"ms_ssim_weight": 0.5},
        {"effort": 7, "roi": ones[:5]},
        {"effort": 7, "roi": 0 * ones},
        {"effort": 7, "roi": -ones},
        {"effort": 7, "ms_ssim_weight": 2},
        {"effort": 7, "like": codec.encode(pixels)},
        {"effort": 6, "like": codec.encode(pixels)},
        {"effort": 6, "roi": ones},
        {"target_bpp": 1.0, "target_psnr": 30.0},
        {"target_bpp": 0.0},
    ):
        with pytest.raises(ValueError):
            codec.encode(pixels, **options)
    with pytest.raises(nicrt.UnsupportedError, match="176"):
        codec.encode(pixels, effort=7, ms_ssim_weight=0.5)


def test_without_torch_the_extra_is_named(
    codec: nicrt.Codec, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("nicrt.export.editing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(nicrt.UnsupportedError, match=r"nicrt\[export\]"):
        codec.encode(pixels, effort=6)


def test_ms_ssim() -> None:
    generator = np.random.default_rng(1)
    picture = torch.from_numpy(generator.uniform(0, 255, (192, 208, 3)).astype(np.float32))
    noise = torch.from_numpy(generator.normal(0, 1, picture.shape).astype(np.float32))
    assert float(ms_ssim(picture, picture)) == pytest.approx(1, abs=1e-5)
    values = [float(ms_ssim(picture + scale * noise, picture)) for scale in (5, 20, 60)]
    assert 1 > values[0] > values[1] > values[2] > 0
    peer = pytest.importorskip("pytorch_msssim")
    batch = [x.permute(2, 0, 1)[None] for x in (picture + 20 * noise, picture)]
    assert values[1] == pytest.approx(float(peer.ms_ssim(*batch, data_range=255)), abs=1e-5)


def test_weighted_squared_error() -> None:
    picture = torch.zeros(180, 190, 3)
    weights = torch.zeros(180, 190)
    weights[:90] = 2
    noisy = picture.clone()
    noisy[90:] += 9
    assert float(squared_error(noisy, picture, weights)) == 0
    assert float(squared_error(noisy, picture, None)) == pytest.approx(40.5)


def test_schedules() -> None:
    """Code editing's constants for 2000 steps; a target's weights from 0.25 to 4."""
    for step in (0, 700, 1200, 1999):
        assert temperature_at(step, 2000) == pytest.approx(0.5 * math.exp(-0.001 * max(0, step - 700)))
    assert (weight_at(0.5), weight_at(1.0), weight_at(1.5)) == (BELOW, 1.0, ABOVE)
    assert BELOW < weight_at(0.98) < 1 < weight_at(1.02) < ABOVE

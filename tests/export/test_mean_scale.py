"""The mean-scale hyperprior: lowering of its float hyper synthesis, and the bundle against PyTorch's own evaluation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from torch import nn  # noqa: E402

import nicrt  # noqa: E402
from nicrt.export import lowering  # noqa: E402
from nicrt.export.exact import (  # noqa: E402
    LOW_BITS,
    SCALE_BREAK,
    SCALE_SHIFT,
    SCALE_UNIT,
    ExactNetwork,
    FloatLayer,
    lower_layer,
    shares,
)
from nicrt.export.exact_form import exact_module  # noqa: E402
from nicrt.export.exact_reference import reference  # noqa: E402
from nicrt.export.integers_torch import int8_weights  # noqa: E402
from nicrt.export.models.entropy import (  # noqa: E402
    LOG_SCALE_STEP,
    SCALE_MIN,
    FactorizedPrior,
    gaussian_bits,
)
from nicrt.export.models.mean_scale import MeanScale, ScaleOnly  # noqa: E402
from nicrt.export.onnx_export import export_module  # noqa: E402
from nicrt.export.proving import sessions  # noqa: E402
from nicrt.runtime.errors import UnsupportedError  # noqa: E402
from nicrt.runtime.manifest import Port  # noqa: E402

if TYPE_CHECKING:
    from nicrt.export.models.mean_scale import Evaluation

ENGINE = Path(__file__).resolve().parents[2] / "engines" / "mean-scale"
SETTINGS = ((0, 0, 3), (-37, 9, 0), (50, 64, 6), (128, 3, 1))  # step, skip, dz


def _small(means: bool) -> tuple[nn.Sequential, list[lowering.Sample]]:
    """A random hyper synthesis of 4 channels, 6 latents, and samples with scales of about 1."""
    torch.manual_seed(5)
    model = (MeanScale if means else ScaleOnly)(4, 6)
    last = model.h_s[4]
    with torch.no_grad():
        last.bias[:6] += 0.8
    for parameter in model.prior.parameters():
        nn.init.normal_(parameter, 0, 0.5)
    return model.requires_grad_(False).h_s, lowering.draw(model, 127)


@pytest.mark.parametrize(("means", "planes"), [(True, 1), (False, 2)], ids=["one plane", "zero mean, two planes"])
def test_reference_torch_and_every_optimisation_level_agree(
    means: bool, planes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lowering, "COST_LIMIT", -1.0 if planes == 2 else 1.0)
    float_network, samples = _small(means)
    network, _ = lowering.lower_scales(float_network, samples, 127, means)
    assert {layer.low_bits for layer in network.layers[7:]} == {LOW_BITS if planes == 2 else 0}
    module = exact_module(network)
    inputs = {"z": Port("int32", [1, 4, "h", "w"]), **{name: Port("int32", [1]) for name in ("step", "skip", "dz")}}
    outputs = {"index": Port("uint8", [1, 6, "4h", "4w"])}
    if means:
        outputs["mean"] = Port("float32", [1, 6, "4h", "4w"])
    data = export_module(module, inputs, outputs, int8_weights(module))
    generator = np.random.default_rng(3)
    for size in ((1, 1), (3, 5)):
        z = generator.choice([-127, -3, 0, 2, 127], (1, 4, *size)).astype(np.int32)
        for setting in SETTINGS:
            expected = [array for array in reference(network, z, *setting) if array is not None]
            scalars = [np.array([value], np.int32) for value in setting]
            got = module(torch.from_numpy(z), *map(torch.from_numpy, scalars))
            feeds = {"z": z, **dict(zip(("step", "skip", "dz"), scalars, strict=True))}
            results = [[array.numpy() for array in got], *(s.run(list(outputs), feeds) for _, s in sessions(data))]
            for result in results:
                for array, wanted in zip(result, expected, strict=True):
                    np.testing.assert_array_equal(array, wanted)


def test_more_bits_bring_the_lowered_network_nearer_to_the_float_one() -> None:
    float_network, samples = _small(True)
    layers = lowering.chain(float_network)
    ranges = lowering._ranges(layers, samples)
    errors = []
    for bits in (0, LOW_BITS):
        network = lowering._lower(layers, ranges, 127, True, bits)
        assert max(network.shares().values()) < 1
        _, mean = reference(network, samples[0].z.int().numpy(), 0, 0, 3)
        errors.append(float(np.abs(mean - float_network(samples[0].z).chunk(2, 1)[1].numpy()).mean()))
        assert abs(lowering.cost(network, float_network, samples)) < 0.02
    assert errors[1] < errors[0] < 0.02


def test_scales_are_looked_up_to_an_eighth_of_a_table_step() -> None:
    table = lowering._scale_table()
    values = np.arange(SCALE_BREAK << SCALE_SHIFT)
    places = np.where(values < SCALE_BREAK, values, SCALE_BREAK + ((values - SCALE_BREAK) >> SCALE_SHIFT))
    assert places.max() + 1 == len(table) and np.all(np.diff(table) >= 0)
    scale = np.maximum(values * SCALE_UNIT, lowering.SCALE_FLOOR)
    eighths = np.log(scale / SCALE_MIN) * 8 / LOG_SCALE_STEP
    assert np.abs(table[places] - eighths).max() < 0.7


def test_weights_shrink_where_the_sums_would_not_be_exact() -> None:
    layer = nn.Conv2d(600, 3, 3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0] = layer.weight[1] = 1.0
    form = FloatLayer.of("head", layer)
    with pytest.raises(UnsupportedError, match="head: the sums of channel 1"):
        lower_layer(form, 1.0, 1.0, input_bound=255, activation=False)
    fitted = lower_layer(form, 1.0, 1.0, input_bound=255, activation=False, fit=True)
    assert 0.9 < shares(fitted, 255)[1] < 1
    assert np.abs(fitted.weight[0]).max() == 127
    np.testing.assert_allclose(fitted.weight[1] * fitted.multiplier[1], 1.0, rtol=0.1)


@pytest.mark.parametrize(
    "modules",
    [
        [nn.Conv2d(4, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 4, 1)],
        [nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)],
        [nn.Conv2d(4, 4, 1)],
    ],
    ids=["sigmoid", "nothing between", "one layer"],
)
def test_hyper_syntheses_of_another_kind_are_refused(modules: list[nn.Module]) -> None:
    with pytest.raises(UnsupportedError):
        lowering.chain(nn.Sequential(*modules))


def test_draws_follow_the_prior_and_are_the_same_every_time() -> None:
    torch.manual_seed(2)
    prior = FactorizedPrior(3)
    for parameter in prior.parameters():
        nn.init.normal_(parameter, 0, 0.5)
    prior.requires_grad_(False)
    one, two = (lowering.draw_integers(prior, 3, 64, 127, np.random.default_rng(1)) for _ in range(2))
    assert torch.equal(one, two)
    expected = torch.sigmoid(prior.logits(torch.full((3, 1), 0.5)))[:, 0]
    torch.testing.assert_close((one <= 0).double().mean((0, 2, 3)), expected, atol=0.03, rtol=0)


@pytest.fixture(scope="module")
def float_model(shipped_weights: Callable[[str], Path]) -> MeanScale:
    from safetensors.torch import load_file

    model = MeanScale()
    weights = load_file(shipped_weights("mean-scale"))
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def network(float_model: MeanScale) -> ExactNetwork:
    samples = lowering.draw(float_model, 127)
    return lowering.lower_scales(float_model.h_s, samples, 127, True)[0]


@dataclass
class _Case:
    """A piece of a photograph through the shipped graphs and through PyTorch."""

    x: np.ndarray
    v: np.ndarray
    z: np.ndarray
    index: np.ndarray
    mean: np.ndarray
    y: np.ndarray
    picture: np.ndarray
    own: Evaluation


@pytest.fixture(scope="module")
def cases(float_model: MeanScale, photographs: list[np.ndarray]) -> list[_Case]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    graphs = {
        name: ort.InferenceSession(ENGINE / "graphs" / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
        for name in ("analysis", "hyper", "quantise", "synthesis")
    }

    def run(name: str, **inputs: np.ndarray | int) -> list[np.ndarray]:
        feeds = {k: np.array([v], np.int32) if isinstance(v, int) else v for k, v in inputs.items()}
        return graphs[name].run(None, feeds)

    def make() -> Iterator[_Case]:
        for photograph in photographs:
            x = np.ascontiguousarray(photograph[:, :, 64:384, 128:512])
            v, z = run("analysis", x=x, dz=3)
            index, mean = run("hyper", z=z, step=0, skip=0, dz=3)
            (y,) = run("quantise", v=v, mean=mean, step=0)
            (picture,) = run("synthesis", y=y, mean=mean, step=0)
            yield _Case(x, v, z, index, mean, y, picture, float_model.evaluate(torch.from_numpy(x)))

    return list(make())


def test_indices_are_the_integer_reference(cases: list[_Case], network: ExactNetwork) -> None:
    for case in cases[:2]:
        index, mean = reference(network, case.z, 0, 0, 3)
        np.testing.assert_array_equal(case.index, index)
        np.testing.assert_array_equal(case.mean, mean)


def test_lowering_costs_less_than_half_a_percent_of_the_rate(cases: list[_Case]) -> None:
    lowered, own = [], []
    for case in cases:
        assert case.own.scale is not None
        nearest = torch.round((case.own.scale.double() / SCALE_MIN).clamp_min(1).log() / LOG_SCALE_STEP)
        own.append(case.own.z_bits + float(gaussian_bits(case.own.symbols, nearest).sum()))
        bits = gaussian_bits(torch.from_numpy(case.y), torch.from_numpy(case.index).int())
        lowered.append(case.own.z_bits + float(bits.sum()))
        assert lowered[-1] < 1.005 * own[-1]
        assert own[-1] == pytest.approx(case.own.z_bits + case.own.symbol_bits, rel=0.003)
    assert sum(lowered) < 1.002 * sum(own)


def test_a_white_sky_is_within_the_calibrated_ranges(
    float_model: MeanScale, network: ExactNetwork, photographs: list[np.ndarray]
) -> None:
    x = np.array(photographs[0][:, :, :256, :256])
    x[:, :, :128] = 1.0
    y, z = float_model.analyse(torch.from_numpy(x))
    assert lowering.cost(network, float_model.h_s, [lowering.Sample(z, y)]) < 0.005


def test_encoder_symbols_are_those_of_torch(cases: list[_Case], float_model: MeanScale) -> None:
    for case in cases:
        v, z = float_model.analyse(torch.from_numpy(case.x))
        for symbols, own in ((case.z, torch.round(z)), (case.y, torch.round(v - torch.from_numpy(case.mean)))):
            difference = np.abs(symbols - own.numpy())
            assert difference.max() <= 1
            assert (difference > 0).mean() < 1e-4


def test_pixels_are_within_one_grey_level(cases: list[_Case], float_model: MeanScale) -> None:
    for case in cases:
        own = float_model.g_s(torch.from_numpy(case.y) + torch.from_numpy(case.mean))
        difference = np.abs(case.picture[0].astype(np.float32) - _grey(own))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3
        original = case.x[0].transpose(1, 2, 0) * 255
        assert _psnr(case.picture[0], original) == pytest.approx(
            _psnr(_grey(case.own.reconstruction), original), abs=0.05
        )


def _grey(picture: torch.Tensor) -> np.ndarray:
    return picture.clamp(0, 1).mul(255).round().numpy()[0].transpose(1, 2, 0)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def test_quality_goes_from_coarse_to_fine_and_files_keep_to_the_budget(
    cases: list[_Case], float_model: MeanScale
) -> None:
    codec = nicrt.load(ENGINE, threads=1)
    pixels = np.rint(cases[0].x[0].transpose(1, 2, 0) * 255).astype(np.uint8)
    sizes, quality = [], []
    for asked in (0, 50, 100):
        data = codec.encode(pixels, quality=asked)
        sizes.append(len(data))
        quality.append(_psnr(codec.decode(data), pixels))
    assert sizes[0] < 0.6 * sizes[1] < 0.6 * 0.8 * sizes[2]
    assert quality[0] + 2 < quality[1] < quality[2] - 0.5
    data = codec.encode(pixels, parameters={"step": 0, "skip": 0})
    z, y = (torch.from_numpy(symbols)[None] for symbols in codec.symbols(data))
    case = cases[0]
    np.testing.assert_array_equal(z.numpy(), case.z)
    np.testing.assert_array_equal(y.numpy(), case.y)
    ideal = float(float_model.prior.bits(z).sum() + gaussian_bits(y, torch.from_numpy(case.index).int()).sum()) / 8
    assert len(data) <= 1.002 * ideal + 96 + 12 * nicrt.info(data).segments


def test_any_size_and_a_fresh_process_on_two_threads(photographs: list[np.ndarray], tmp_path: Path) -> None:
    codec = nicrt.load(ENGINE, threads=1)
    pixels = np.rint(photographs[0][0] * 255).astype(np.uint8).transpose(1, 2, 0)
    code = (
        "import sys, nicrt, numpy as np; from pathlib import Path; codec = nicrt.load(sys.argv[1], threads=2)\n"
        "for path in sys.argv[2:]: np.save(path + '.npy', codec.decode(Path(path).read_bytes()))"
    )
    decoded = {}
    for height, width in ((1, 1), (1, 67), (65, 1), (31, 130)):
        data = codec.encode(pixels[100 : 100 + height, 60 : 60 + width], quality=60)
        path = tmp_path / f"{height}x{width}"
        path.write_bytes(data)
        decoded[path] = codec.decode(data)
        assert decoded[path].shape == (height, width, 3)
    subprocess.run([sys.executable, "-c", code, str(ENGINE), *map(str, decoded)], check=True)
    for path, expected in decoded.items():
        assert np.abs(np.load(f"{path}.npy").astype(int) - expected).max() <= 1


def test_the_shipped_bundle_is_the_export_of_the_weights(
    shipped_weights: Callable[[str], Path], tmp_path: Path
) -> None:
    """In another process: the same bytes."""
    code = (
        "import sys; from pathlib import Path; from nicrt.export.cli import export_family; "
        "export_family('mean-scale', Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    weights, out = shipped_weights("mean-scale"), tmp_path / "again"
    subprocess.run([sys.executable, "-c", code, str(weights), str(out)], check=True, env={"OMP_NUM_THREADS": "1"})
    files = {path.relative_to(ENGINE) for path in ENGINE.rglob("*") if path.is_file()}
    assert files == {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    for file in files:
        assert (out / file).read_bytes() == (ENGINE / file).read_bytes(), file

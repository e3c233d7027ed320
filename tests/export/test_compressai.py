"""Import of CompressAI checkpoints: what their numbers become, bundles of all three architectures, what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import Tensor, nn  # noqa: E402

import nicrt  # noqa: E402
from compressai_models import HARBOUR, PEDESTAL, random_model, saved, state_dict_of  # noqa: E402
from nicrt.export import compressai  # noqa: E402
from nicrt.export.cli import export_family  # noqa: E402
from nicrt.export.factorized import merge, shifts, tables  # noqa: E402
from nicrt.export.models.entropy import FactorizedPrior, gaussian_bits  # noqa: E402
from nicrt.export.models.mean_scale import Hyperprior, MeanScale  # noqa: E402
from nicrt.export.tables import build, gaussian  # noqa: E402
from nicrt.runtime.bundle import Bundle  # noqa: E402
from nicrt.runtime.errors import UnsupportedError  # noqa: E402

CHECKPOINTS_FIGURES = {
    0: (33.93, 0.368),
    2: (31.94, 0.547),
}  # of `photographs`: dB, bpp, as the weights' README has them


@pytest.mark.parametrize("arch", compressai.ARCHITECTURES)
def test_a_state_dict_becomes_the_model_that_it_came_from(arch: str) -> None:
    model = random_model(arch)
    state = state_dict_of(model)
    for wrapped in (state, {"network": arch, "state_dict": {f"module.{name}": t for name, t in state.items()}}):
        loaded = compressai.load(arch, compressai.state_dict(saved(wrapped), arch))
        assert type(loaded) is type(model) and (loaded.channels, loaded.latents) == (6, 9)
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)
    old = {name.replace("matrices.", "_matrix").replace("biases.", "_bias"): tensor for name, tensor in state.items()}
    assert torch.equal(compressai.renamed(old)["prior.H.1"], model.prior.H[1])


def test_the_reparametrisation_is_undone_with_its_bounds() -> None:
    stored = torch.tensor([-3.0, 0.0, 0.5, 2.0])
    state = {
        "g_a.1.beta": stored,
        "g_a.1.beta_reparam.pedestal": torch.tensor([0.25]),
        "g_a.1.beta_reparam.lower_bound.bound": torch.tensor([0.75]),
    }
    values = compressai.renamed(state)["g_a.1.beta"]
    torch.testing.assert_close(values, torch.tensor([0.3125, 0.3125, 0.3125, 3.75]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("lacking", [("pedestal",), ("bound",), ("pedestal", "bound")])
def test_buffers_that_averaging_drops_are_those_of_compressai(lacking: tuple[str, ...]) -> None:
    stored = torch.tensor([-3.0, 0.0, 0.5, 2.0])
    state = {"g_a.1.beta": stored, "g_s.3.gamma": stored}
    for name, least in (("g_a.1.beta", 1e-6), ("g_s.3.gamma", 0.0)):
        buffers = {"pedestal": PEDESTAL, "lower_bound.bound": (least + PEDESTAL) ** 0.5}
        kept = {key: value for key, value in buffers.items() if not key.endswith(lacking)}
        state |= {f"{name}_reparam.{key}": torch.tensor([value]) for key, value in kept.items()}
    values = compressai.renamed(state)
    torch.testing.assert_close(values["g_a.1.beta"], torch.tensor([1e-6, 1e-6, 0.25, 4.0]), rtol=1e-5, atol=0)
    torch.testing.assert_close(values["g_s.3.gamma"], torch.tensor([0.0, 0.0, 0.25, 4.0]), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("arch", compressai.ARCHITECTURES)
def test_parameters_alone_make_the_model_that_all_of_a_state_dict_makes(arch: str) -> None:
    state = state_dict_of(random_model(arch))
    buffers = ("reparam", "_offset", "_quantized", "_cdf", "bound", "scale_table", "target")
    bare = {name: tensor for name, tensor in state.items() if not any(part in name for part in buffers)}
    assert len(bare) < len(state)
    whole, average = (compressai.load(arch, weights).state_dict() for weights in (state, bare))
    for name, tensor in whole.items():
        torch.testing.assert_close(average[name], tensor, rtol=1e-5, atol=1e-7)
    x = torch.rand(1, 3, 64, 64)
    assert compressai.evaluate(arch, bare, x)[0] == pytest.approx(compressai.evaluate(arch, state, x)[0], rel=1e-6)


@pytest.mark.parametrize("arch", compressai.ARCHITECTURES)
def test_the_reference_is_the_float_model(arch: str) -> None:
    """They have nothing in common but the weights."""
    model = random_model(arch)
    x = torch.rand(1, 3, 64, 128)
    bits, reconstruction = compressai.evaluate(arch, state_dict_of(model), x)
    own = model.evaluate(x)
    assert bits == pytest.approx(own.z_bits + own.symbol_bits, rel=1e-4)
    torch.testing.assert_close(reconstruction, own.reconstruction, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of random models, the hyperprior's calibrated with a picture."""
    folder = tmp_path_factory.mktemp("imported")
    result = {}
    for arch in compressai.ARCHITECTURES:
        checkpoint = folder / f"{arch}.pth.tar"
        checkpoint.write_bytes(saved(state_dict_of(random_model(arch))))
        result[arch] = folder / arch
        pictures = [HARBOUR] if arch == compressai.HYPERPRIOR else []
        export_family("compressai", checkpoint, result[arch], arch=arch, calibrate=pictures)
    return result


@pytest.mark.parametrize("arch", compressai.ARCHITECTURES)
def test_bundles_of_every_architecture_code_what_torch_codes(bundles: dict[str, Path], arch: str) -> None:
    model = random_model(arch)
    codec = nicrt.load(bundles[arch], threads=1)
    pixels = np.asarray(Image.open(HARBOUR).convert("RGB"))[:128, :192]
    x = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    own = model.evaluate(x)
    data = codec.encode(pixels)
    *z, y = (torch.from_numpy(symbols)[None] for symbols in codec.symbols(data))
    mean: Tensor | float = 0.0
    if isinstance(model, Hyperprior):
        assert own.z is not None and torch.equal(z[0], own.z)
        if isinstance(model, MeanScale):
            mean = _lowered_mean(bundles[arch], z[0])
        latents, _ = model.analyse(x)
        assert torch.equal(y, torch.round(latents - mean).int())
    else:
        y = y + torch.from_numpy(shifts(model.prior))[:, None, None]
        assert torch.equal(y, own.symbols)
    assert np.count_nonzero(y.numpy()) > 0.1 * y.numel()
    expected = model.g_s(y.float() + mean).clamp(0, 1).mul(255).round().numpy()[0].transpose(1, 2, 0)
    assert np.abs(codec.decode(data) - expected).max() <= 1
    assert len(data) == pytest.approx((own.z_bits + own.symbol_bits) / 8, rel=0.03, abs=120)
    for height, width in ((1, 1), (1, 33), (50, 3)):
        assert codec.decode(codec.encode(pixels[:height, :width])).shape == (height, width, 3)


def _lowered_mean(bundle: Path, z: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle / "graphs" / "hyper.onnx", providers=["CPUExecutionProvider"])
    scalars = {name: np.array([value], np.int32) for name, value in (("step", 0), ("skip", 0), ("dz", 3))}
    return torch.from_numpy(session.run(["mean"], {"z": z.numpy(), **scalars})[0])


def test_another_process_writes_the_same_bytes(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = bundles[compressai.HYPERPRIOR]
    arguments = ["--arch", compressai.HYPERPRIOR, "--checkpoint", f"{folder}.pth.tar", "--calibrate", str(HARBOUR)]
    command = [sys.executable, "-m", "nicrt.runtime.cli", "export", "compressai", *arguments, "-o", str(tmp_path / "b")]
    subprocess.run(command, check=True, env={"OMP_NUM_THREADS": "1"}, capture_output=True)
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert (tmp_path / "b" / file.relative_to(folder)).read_bytes() == file.read_bytes()


def test_half_weights_are_kept_where_pictures_stay_the_same() -> None:
    model = random_model(compressai.MEAN)
    latents = [torch.randn(1, 9, 4, 4)]
    half = compressai.with_half_weights(model, latents)
    assert half is not model
    for name, tensor in half.state_dict().items():
        kept = name.startswith(("h_s", "prior")) or not name.endswith("weight")
        assert torch.equal(tensor, model.state_dict()[name] if kept else model.state_dict()[name].half().float())
    with torch.no_grad():
        model.g_s[6].weight *= 1e7  # beyond float16
    assert compressai.with_half_weights(model, latents) is model


def test_more_channels_than_tables_share_the_nearest() -> None:
    torch.manual_seed(6)
    prior = FactorizedPrior(40, (3, 3, 3, 3))
    for parameter in prior.parameters():
        nn.init.normal_(parameter, 0, 0.5)
    prior.requires_grad_(False)
    shift = np.zeros(40, np.int64)
    full, fewer = tables(prior, shift), tables(prior, shift, most=25)
    assert len(full.tables) == 40 and len(fewer.tables) == 25
    assert fewer.channel is not None and fewer.channel.shape == (1, 40) and set(fewer.channel[0]) == set(range(25))
    scales = [0.3, 8.0, 0.31, 2.0]
    built = [build(gaussian(scale)) for scale in scales]
    edges = np.arange(-1024, 1026) - 0.5
    mass = np.stack([gaussian(scale).mass(edges) for scale in scales])
    kept = merge(mass, built, 3)
    assert kept[1] == 1 and kept[3] == 3 and kept[0] == kept[2] in (0, 2)
    assert len(set(merge(mass, built, 1))) == 1


def test_what_cannot_be_imported_is_refused_with_a_reason(tmp_path: Path) -> None:
    state = state_dict_of(random_model(compressai.MEAN))
    context = {**state, "context_prediction.weight": torch.zeros(1)}
    other = {"g_a.0.conv1.weight": torch.zeros(3, 3, 3, 3)}
    incomplete = {name: tensor for name, tensor in state.items() if name != "h_a.2.weight"}
    file = tmp_path / "checkpoint"
    for value, arch, reason in (
        (state, None, "--arch"),
        (state, "cheng2020-attn", "one of"),
        (state, compressai.HYPERPRIOR, "is of mbt2018-mean.*--arch mbt2018-mean"),
        (state_dict_of(random_model(compressai.FACTORIZED)), compressai.MEAN, "is of bmshj2018-factorized"),
        (context, compressai.MEAN, "context model"),
        (other, compressai.MEAN, "transforms"),
        (incomplete, compressai.MEAN, "h_a.2.weight"),
        ([1, 2], compressai.MEAN, "no state dict"),
        ({"state_dict": Path("x")}, compressai.MEAN, "no state dict"),
    ):
        file.write_bytes(saved(value))
        with pytest.raises(UnsupportedError, match=reason):
            export_family("compressai", file, tmp_path / "out", arch=arch)
    file.write_bytes(b"no checkpoint")
    with pytest.raises(UnsupportedError, match="not a PyTorch checkpoint"):
        export_family("compressai", file, tmp_path / "out", arch=compressai.MEAN)
    with pytest.raises(ValueError, match="no architecture"):
        export_family("mean-scale", file, tmp_path / "out", arch=compressai.MEAN)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def imported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the trained checkpoint."""
    out = tmp_path_factory.mktemp("trained") / "mbt2018-mean"
    weights = checkpoint.with_name("compressai-mbt2018-mean.pth.tar")
    export_family("compressai", weights, out, arch=compressai.MEAN)
    return out


def test_the_trained_checkpoint_has_its_figures(imported: Path, photographs: list[np.ndarray]) -> None:
    codec = nicrt.load(imported, threads=1)
    for number, (decibel, bpp) in CHECKPOINTS_FIGURES.items():
        pixels = np.rint(photographs[number][0] * 255).astype(np.uint8).transpose(1, 2, 0)
        data = codec.encode(pixels)
        error = codec.decode(data).astype(np.float64) - pixels
        assert 8 * len(data) / (pixels.size / 3) == pytest.approx(bpp, rel=0.005)
        assert 10 * np.log10(255**2 / np.mean(error**2)) == pytest.approx(decibel, abs=0.03)


def test_its_weights_are_stored_as_float16(imported: Path) -> None:
    bundle = Bundle.open(imported)
    sizes = {name: len(bundle.graph_bytes(name)) for name in bundle.manifest.graphs}
    assert sizes["analysis"] < 5.5e6 and sizes["synthesis"] < 3.5e6


def test_the_lowered_checkpoint_costs_less_than_half_a_percent(
    checkpoint: Path, imported: Path, photographs: list[np.ndarray]
) -> None:
    import onnxruntime

    weights = checkpoint.with_name("compressai-mbt2018-mean.pth.tar")
    model = compressai.load(compressai.MEAN, compressai.state_dict(weights.read_bytes(), compressai.MEAN))
    assert isinstance(model, MeanScale)
    session = onnxruntime.InferenceSession(imported / "graphs" / "hyper.onnx", providers=["CPUExecutionProvider"])
    scalars = {name: np.array([value], np.int32) for name, value in (("step", 0), ("skip", 0), ("dz", 3))}
    lowered = own = 0.0
    for photograph in photographs:
        y, z = model.analyse(torch.from_numpy(np.ascontiguousarray(photograph[:, :, :384, :384])))
        z = torch.round(z)
        index, mean = session.run(None, {"z": z.int().numpy(), **scalars})
        lowered += float(gaussian_bits(torch.round(y - torch.from_numpy(mean)), torch.from_numpy(index).int()).sum())
        float_mean, scale = model.gaussians(z)
        nearest = torch.round((scale.double() / 0.11).clamp_min(1).log() * 63 / np.log(256 / 0.11))
        own += float(gaussian_bits(torch.round(y - float_mean), nearest).sum())
    assert lowered < 1.005 * own

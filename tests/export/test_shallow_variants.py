"""The shallow family's other transforms: exports that encode and decode, exact one-layer lowering, the recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from safetensors.torch import load_file, save_file  # noqa: E402

import nicrt  # noqa: E402
from nicrt.export.cli import export_family  # noqa: E402
from nicrt.export.exact import largest_sums  # noqa: E402
from nicrt.export.exact_form import exact_module  # noqa: E402
from nicrt.export.exact_one_layer import lower_one_layer, one_layer_reference  # noqa: E402
from nicrt.export.integers_torch import int8_weights  # noqa: E402
from nicrt.export.models.entropy import JpegLikeHyperSynthesis, z_step  # noqa: E402
from nicrt.export.models.shallow import JpegLikeSynthesis, Shallow  # noqa: E402
from nicrt.export.onnx_export import export_module  # noqa: E402
from nicrt.export.proving import sessions  # noqa: E402
from nicrt.export.recipes import loop, variants  # noqa: E402
from nicrt.export.shallow import KINDS  # noqa: E402
from nicrt.runtime.errors import UnsupportedError  # noqa: E402
from nicrt.runtime.evaluate import psnr  # noqa: E402
from nicrt.runtime.manifest import Port  # noqa: E402

VARIANTS = sorted(set(KINDS) - {"shallow"})


class _Photos:
    """Smooth crops."""

    def crops(self, random: np.random.Generator, count: int, side: int) -> torch.Tensor:
        coarse = torch.from_numpy(random.random((count, 3, side // 8, side // 8), np.float32))
        return torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")


@pytest.fixture(scope="module")
def base(checkpoint: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in load_file(checkpoint).items()}


@pytest.fixture(scope="module")
def starts(base: dict[str, torch.Tensor]) -> dict[str, Shallow]:
    """The variants before training."""
    return {family: variants.start(family, base, _Photos()) for family in VARIANTS}


@pytest.fixture(scope="module")
def bundles(starts: dict[str, Shallow], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("variants")
    for family, model in starts.items():
        file = folder / f"{family}.safetensors"
        save_file({name: t.half() if t.ndim == 4 else t for name, t in model.state_dict().items()}, file)
        export_family(family, file, folder / family)
    return {family: folder / family for family in starts}


@pytest.mark.parametrize("family", VARIANTS)
def test_files_decode_to_what_torch_makes(family: str, bundles: dict[str, Path], photographs: list[np.ndarray]) -> None:
    codec = nicrt.load(bundles[family], threads=1)
    model = Shallow(**KINDS[family])
    stored = load_file(bundles[family].parent / f"{family}.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    crop = (photographs[2][0, :, 300:428, 200:392].transpose(1, 2, 0) * 255).round().astype(np.uint8)
    data = codec.encode(crop, quality=50, parameters={"skip": 0})
    decoded = codec.decode(data)
    gain = nicrt.info(data).parameters[0][0] / 100
    z, symbols = (torch.from_numpy(tensor)[None].float() for tensor in codec.symbols(data))
    with torch.no_grad():
        own = model.evaluate(torch.from_numpy(crop.transpose(2, 0, 1)[None].copy()).float() / 255, gain)
        mean, _ = model.hyper_synthesis(z)
        same = model.synthesise(symbols + mean, gain).clamp(0, 1).mul(255).round()[0].permute(1, 2, 0).numpy()
    assert (np.abs(z.numpy() - own.z.numpy()) > 0).mean() < 1e-3
    difference = np.abs(decoded - same)
    if family != "shallow-jpeg-hyper":  # its means are of 8-bit weights, which the start is not trained for
        assert difference.max() <= 1
        assert abs(8 * len(data) - own.z_bits - own.symbol_bits) < 0.05 * 8 * len(data)
    assert np.median(difference) == 0
    assert psnr(decoded, crop) > 29


@pytest.mark.parametrize("family", VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (1, 67), (65, 3)])
def test_any_size_and_both_thread_counts(family: str, size: tuple[int, int], bundles: dict[str, Path]) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (*size, 3), np.uint8)
    one, two = (nicrt.load(bundles[family], threads=threads) for threads in (1, 2))
    data = one.encode(pixels)
    assert two.encode(pixels) == data
    assert one.decode(data).shape == pixels.shape
    for a, b in zip(one.symbols(data), two.symbols(data), strict=True):
        np.testing.assert_array_equal(a, b)


def test_export_gives_the_same_bytes_again(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = bundles["shallow-jpeg-hyper"]
    export_family(folder.name, folder.with_suffix(".safetensors"), tmp_path / "again")
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(folder)).read_bytes()


def test_crops_are_aligned_to_blocks() -> None:
    """One latent reaches its 16x16 block and one pixel around it."""
    synthesis = JpegLikeSynthesis()
    torch.nn.init.zeros_(synthesis[0].bias)
    latents = torch.zeros(1, 320, 3, 3)
    latents[:, :, 1, 1] = 1
    rows = torch.nonzero(synthesis(latents).abs().sum((0, 1, 3))).flatten().tolist()
    assert rows == list(range(15, 33))


def test_block_transform_is_inverted(starts: dict[str, Shallow]) -> None:
    """Pictures in the span of the basis come back: blocks that are made from latents have these latents."""
    model = starts["shallow-jpeg"]
    latents = torch.randn(1, 320, 2, 3)
    with torch.no_grad():
        again = model.linear(model.synthesis(latents))
    torch.testing.assert_close(again, latents, rtol=0, atol=2e-4)


def test_residual_start_is_the_base_without_its_bends(
    starts: dict[str, Shallow], model: Shallow, photographs: list[np.ndarray]
) -> None:
    x = torch.from_numpy(photographs[0][:, :, :128, :128])
    with torch.no_grad():
        ours, base = (m.evaluate(x, 3.0) for m in (starts["shallow-residual"], model))
    np.testing.assert_array_equal(ours.symbols, base.symbols)
    assert (ours.reconstruction - base.reconstruction).square().mean().sqrt() * 255 < 1


@pytest.mark.parametrize("family", VARIANTS)
def test_training_changes_what_it_is_to_change(family: str, starts: dict[str, Shallow], tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in starts[family].state_dict().items()}
    recipe = variants.VariantRecipe(family, _Photos(), before)
    loop.train(
        loop.Trainer(recipe, torch.device("cpu"), loop.State(loop.Schedule("steps", 2)), {}),
        tmp_path / "out.safetensors",
        lambda _: None,
    )
    names = variants.TRAINED[family]
    changed = {name for name, tensor in recipe.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith(names) for name in changed)


@pytest.fixture(scope="module")
def hyper() -> JpegLikeHyperSynthesis:
    torch.manual_seed(7)
    layer = JpegLikeHyperSynthesis(5, 4)
    layer.requires_grad_(False)
    layer.layer.bias.normal_(0, 0.5)
    return layer


@pytest.mark.parametrize("dz", [0, 3, 6])
def test_one_layer_is_the_same_at_every_optimisation_level(hyper: JpegLikeHyperSynthesis, dz: int) -> None:
    network = lower_one_layer(hyper, 127)
    module = exact_module(network)
    z_port, one = Port("int32", [1, 5, "h", "w"], (-127, 127)), Port("int32", [1])
    latent = [1, 4, "4h", "4w"]
    data = export_module(
        module,
        {"z": z_port, "step": one, "skip": one, "dz": one},
        {"index": Port("uint8", latent), "mean": Port("float32", latent)},
        int8_weights(module),
    )
    z = np.random.default_rng(5).choice(np.array([-127, -3, 0, 1, 127], np.int32), (1, 5, 3, 4))
    numbers = {name: np.array([value], np.int32) for name, value in (("step", 9), ("skip", 5), ("dz", dz))}
    expected = one_layer_reference(network, z, 9, 5, dz)
    for level, session in sessions(data):
        for got, wanted in zip(session.run(["index", "mean"], {"z": z, **numbers}), expected, strict=True):
            np.testing.assert_array_equal(got, wanted, err_msg=level)


@pytest.mark.parametrize("dz", [1, 3, 5])
def test_one_layer_is_near_the_float_model(hyper: JpegLikeHyperSynthesis, dz: int) -> None:
    z = np.random.default_rng(6).integers(-6, 7, (1, 5, 4, 4)).astype(np.int32)
    index, mean = one_layer_reference(lower_one_layer(hyper, 127), z, 0, 0, dz)
    own_mean, own_index = hyper(torch.from_numpy(z).float() * z_step(dz))
    assert np.abs(mean - own_mean.numpy()).max() < 0.1
    assert np.abs(index - own_index.round().clamp(0, 63).numpy()).max() <= 1


def test_the_bound_is_over_the_output_phases(hyper: JpegLikeHyperSynthesis) -> None:
    """Of k6 s4 at most 2 x 2 taps meet in one output: measured with ones."""
    row = lower_one_layer(hyper, 127).rows[3]
    magnitude = torch.from_numpy(np.abs(row.weight).astype(np.float64))
    sums = torch.nn.functional.conv_transpose2d(torch.full((1, 5, 5, 5), 127.0).double(), magnitude, None, 4, 1)
    most = sums.amax((0, 2, 3)).numpy() + np.abs(row.bias)
    np.testing.assert_array_equal(largest_sums(row, 127), most)
    with pytest.raises(UnsupportedError, match="2\\^24"):
        lower_one_layer(hyper, 1 << 20)


def test_a_checkpoint_of_another_kind_is_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    state = load_file(bundles["shallow-jpeg"].parent / "shallow-jpeg.safetensors")
    save_file(state, tmp_path / "jpeg.safetensors")
    with pytest.raises(UnsupportedError, match="the checkpoint lacks synthesis"):
        export_family("shallow-residual", tmp_path / "jpeg.safetensors", tmp_path / "out")

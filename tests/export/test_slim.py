"""The slimmable family: bundle against PyTorch's own evaluation, widths alone, and the quality-scalable variant."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import nicrt  # noqa: E402
from nicrt import _core  # noqa: E402
from nicrt.export import slim  # noqa: E402
from nicrt.export.cli import export_family  # noqa: E402
from nicrt.export.exact import lower_hyper_synthesis  # noqa: E402
from nicrt.export.exact_reference import reference as integer_reference  # noqa: E402
from nicrt.export.models.entropy import DZ_DEFAULT  # noqa: E402
from nicrt.export.models.gdn import GDN  # noqa: E402
from nicrt.export.models.side_information import STRIDE as SIDE_STRIDE  # noqa: E402
from nicrt.export.models.side_information import Z_LIMIT  # noqa: E402
from nicrt.export.models.slim import STRIDE, WIDTHS, Slim  # noqa: E402
from nicrt.export.onnx_export import export_module  # noqa: E402
from nicrt.runtime.bundle import Bundle  # noqa: E402
from nicrt.runtime.manifest import Port  # noqa: E402

if TYPE_CHECKING:
    from nicrt.export.models.slim import Evaluation

NAMES = [slim.variant(width) for width in WIDTHS]
PLAIN = {"step": 0, "skip": 0}
SYMBOLS_MAY_DIFFER = 1e-4
OTHER_PIXELS = 0.1 if _core.arithmetics()[-1] == "avx512_bf16" else 1e-3  # by one grey level: products of bfloat16


@pytest.fixture(scope="module")
def weights(shipped_weights: Callable[[str], Path]) -> Path:
    return shipped_weights("slim")


@pytest.fixture(scope="module")
def float_model(weights: Path) -> Slim:
    from safetensors.torch import load_file

    return Slim.of(load_file(weights))


@pytest.fixture(scope="module")
def engine() -> Path:
    return Path(__file__).resolve().parents[2] / "engines" / "slim"


@pytest.fixture(scope="module")
def slim_codec(engine: Path) -> nicrt.Codec:
    return nicrt.load(engine, threads=1)


@pytest.fixture(scope="module")
def crops(photographs: list[np.ndarray]) -> list[np.ndarray]:
    """uint8 [height, width, 3], a size that needs padding."""
    return [np.rint(x[0, :, 100:350, 80:410] * 255).astype(np.uint8).transpose(1, 2, 0) for x in photographs]


def _evaluate(model: Slim, pixels: np.ndarray, number: int) -> Evaluation:
    unit = STRIDE if model.side is None else STRIDE * SIDE_STRIDE
    padded = np.pad(pixels, [*((0, -side % unit) for side in pixels.shape[:2]), (0, 0)], mode="edge")
    x = torch.from_numpy(padded.astype(np.float32) / 255).permute(2, 0, 1)[None]
    return model.evaluate(x, number)


def _means(model: Slim, number: int, z: np.ndarray) -> torch.Tensor:
    """Of the integer reference: float32 [1, width, 2h, 2w]."""
    network = lower_hyper_synthesis(model.side[number].synthesis(), Z_LIMIT)
    mean = integer_reference(network, z[None], step=0, skip=0, dz=DZ_DEFAULT)[1]
    assert mean is not None
    return torch.from_numpy(mean)


def _picture(float_picture: torch.Tensor, like: np.ndarray) -> np.ndarray:
    bytes_ = float_picture.clamp(0, 1).mul(255).round().numpy()[0].transpose(1, 2, 0)
    return bytes_[: like.shape[0], : like.shape[1]]


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 1e-9)))


@pytest.mark.parametrize("number", range(len(WIDTHS)), ids=NAMES)
def test_symbols_pixels_and_rate_are_those_of_torch(
    slim_codec: nicrt.Codec, float_model: Slim, crops: list[np.ndarray], number: int
) -> None:
    """Means are of integer weights, which moves more symbols than float rounding does; tables have heavier tails than
    the model's own distributions."""
    wrong = places = 0
    for pixels in crops:
        own = _evaluate(float_model, pixels, number)
        data = slim_codec.encode(pixels, variant=NAMES[number], parameters=PLAIN)
        z, symbols = slim_codec.symbols(data)
        assert np.mean(z != own.z[0].numpy()) < 1e-3
        difference = np.abs(symbols - own.symbols[0].numpy())
        assert difference.max() <= 1
        wrong, places = wrong + np.count_nonzero(difference), places + difference.size
        with torch.no_grad():
            latents = torch.from_numpy(symbols)[None] + _means(float_model, number, z)
            expected = _picture(float_model.synthesise(latents, number), pixels)
        error = np.abs(slim_codec.decode(data) - expected)
        assert error.max() <= 1 and np.mean(error > 0) < OTHER_PIXELS
        assert len(data) <= 1.01 * own.bits / 8 + 96 + 12 * nicrt.info(data).segments
    assert wrong < 2e-2 * places


def test_a_factorised_prior_is_coded_by_channel(static_slim: tuple[Slim, Path], crops: list[np.ndarray]) -> None:
    model, folder = static_slim
    codec = nicrt.load(folder, threads=1)
    for pixels in crops:
        own = _evaluate(model, pixels, 0)
        data = codec.encode(pixels)
        (symbols,) = codec.symbols(data)
        assert np.count_nonzero(symbols != own.symbols[0].numpy()) < SYMBOLS_MAY_DIFFER * symbols.size
        assert len(np.unique(symbols)) > 2
        with torch.no_grad():
            expected = _picture(model.synthesise(torch.from_numpy(symbols)[None].float(), 0), pixels)
        error = np.abs(codec.decode(data) - expected)
        assert error.max() <= 1 and np.mean(error > 0) < OTHER_PIXELS
        ideal_bytes = float(model.prior[0].bits(torch.from_numpy(symbols)[None]).sum()) / 8
        assert len(data) <= 1.002 * ideal_bytes + 96 + 12 * nicrt.info(data).segments


def test_gdn_is_its_formula() -> None:
    torch.manual_seed(3)
    x = torch.randn(1, 4, 3, 5)
    state = {"beta": torch.tensor([1.0, 0.5, -1.0, 2.0]), "gamma": torch.rand(4, 4) - 0.3}
    beta, gamma = state["beta"].clamp_min(1e-6), state["gamma"].clamp_min(0)
    norm = torch.sqrt(beta[:, None, None] + torch.einsum("ij,njhw->nihw", gamma, x**2))
    for inverse, expected in ((False, x / norm), (True, x * norm)):
        layer = GDN(4, inverse)
        layer.load_state_dict(state)
        torch.testing.assert_close(layer(x), expected)
        assert layer(x.half()).dtype == torch.float16
    assert torch.isfinite(GDN(4)(torch.full((1, 4, 1, 1), 3e4).half())).all()  # its square is no float16


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
def test_gdn_trains_as_autograd_would(
    inverse: bool, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own gradients, computed in pieces. bfloat16 keeps 8 bits: what comes back is as close as that type lets it,
    sums of many such numbers included."""
    monkeypatch.setattr("nicrt.export.models.gdn.PIECE", 50)
    torch.manual_seed(3)
    layer = GDN(6, inverse)
    layer.load_state_dict({"beta": torch.rand(6) + 0.5, "gamma": torch.rand(6, 6) / 6})
    x, gradient = torch.randn(2, 2, 6, 5, 7).to(dtype)
    results = []
    for training in (True, False):
        some = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=training):
            y = layer(some)
        wanted = [some, layer.beta, layer.gamma]
        results.append([y, *torch.autograd.grad(y, wanted, gradient)])
    for own, reference in zip(*results, strict=True):
        assert own.dtype == reference.dtype
        assert (own - reference).detach().norm() <= tolerance * reference.detach().norm()


def test_the_shipped_bundle_is_the_export_of_the_weights(weights: Path, engine: Path, tmp_path: Path) -> None:
    """In another process: the same bytes."""
    code = (
        "import sys; from pathlib import Path; from nicrt.export.cli import export_family; "
        "export_family('slim', Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    out = tmp_path / "slim"
    subprocess.run([sys.executable, "-c", code, str(weights), str(out)], check=True, env={"OMP_NUM_THREADS": "1"})
    files = sorted(path.relative_to(engine) for path in engine.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    for file in files:
        assert (engine / file).read_bytes() == (out / file).read_bytes(), file


def test_a_width_alone_decodes_the_files_of_all(
    slim_codec: nicrt.Codec, weights: Path, crops: list[np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "alone"
    manifest = export_family("slim", weights, out, variant="72", decoder_only=True)
    assert manifest.name == "slim-w72-decoder" and list(manifest.graphs) == ["hyper_w72", "synthesis_w72"]
    whole = slim_codec.bundle.manifest
    assert manifest.variants["w72"].symbol_id == whole.variants["w72"].symbol_id
    assert manifest.variants["w72"].picture_id == whole.variants["w72"].picture_id
    assert manifest.graphs["synthesis_w72"].macs_per_pixel == whole.graphs["synthesis_w72"].macs_per_pixel
    alone = nicrt.load(out, threads=1)
    decoder_bytes = alone.bundle.decoder_bytes
    assert decoder_bytes < slim_codec.bundle.decoder_bytes / 4  # which has what widths share once
    models = sum(path.stat().st_size for path in out.glob("graphs/*.onnx"))
    others = alone.bundle.size_bytes - decoder_bytes - models - len((alone.bundle.card() or "").encode())
    assert 0 < others < 4096, "the header of the file of weights, and the other form of each graph"
    data = slim_codec.encode(crops[0], variant="72")
    np.testing.assert_array_equal(alone.decode(data, strict=True), slim_codec.decode(data))
    with pytest.raises(nicrt.WrongBundleError):
        alone.decode(slim_codec.encode(crops[0], variant="48"))
    with pytest.raises(nicrt.UnsupportedError, match="only decodes"):
        alone.encode(crops[0])


def test_a_part_encodes_what_the_whole_does(weights: Path) -> None:
    from safetensors.torch import load_file

    from nicrt.export.part import part

    source = slim.source(load_file(weights))
    assert part(source, None, False) == source
    scalable = part(source, "scalable", False)
    assert [graph.name.split("_")[0] for graph in scalable.graphs][:4] == ["analysis", "hyper", "quantise", "synthesis"]
    assert all("w192" in graph.name for graph in scalable.graphs[:4])
    assert [point.variant for point in scalable.quality] == ["scalable"]
    decoder = part(source, None, True)
    assert not any(graph.encoder for graph in decoder.graphs) and not any(p.encodes for p in decoder.programs.values())
    with pytest.raises(ValueError, match="no variant '97'"):
        part(source, "97", False)


def test_quality_picks_the_width(slim_codec: nicrt.Codec, crops: list[np.ndarray]) -> None:
    def variant_at(quality: float) -> str:
        data = slim_codec.encode(crops[0], quality=quality)
        found = slim_codec.bundle.manifest.variant_of(nicrt.info(data).symbol_id)
        assert found is not None
        return found[0]

    ends = [quality for first, last, *_ in slim.RANGES for quality in (first, last)]
    assert [variant_at(quality) for quality in ends] == [name for name in NAMES for _ in range(2)]
    for name, qualities in ((None, (10, 30, 50, 70, 90)), ("w96", (0, 25, 50, 75, 100))):
        files = [slim_codec.encode(crops[0], variant=name, quality=quality) for quality in qualities]
        sizes, quality = [len(file) for file in files], [_psnr(slim_codec.decode(file), crops[0]) for file in files]
        assert sizes == sorted(set(sizes)) and quality == sorted(set(quality))


def test_shipped_qualities_are_those_of_the_export(slim_codec: nicrt.Codec) -> None:
    assert slim_codec.bundle.manifest.quality == list(slim._side_quality())


def test_scalable_stages(slim_codec: nicrt.Codec, crops: list[np.ndarray], float_model: Slim) -> None:
    """Five streams of the widest network's channels; a stage shows them with means for the others."""
    pixels = crops[1]
    parameters = {"step": 0, "skip": 8}
    plain, data = (slim_codec.encode(pixels, variant=v, parameters=parameters) for v in (NAMES[-1], slim.SCALABLE))
    z, whole = slim_codec.symbols(plain)
    first, *streams = slim_codec.symbols(data)
    np.testing.assert_array_equal(first, z)
    mean = _means(float_model, -1, z)
    assert [len(stream) for stream in streams] == [48, 24, 24, 48, 48]
    np.testing.assert_array_equal(np.concatenate(streams), whole)
    np.testing.assert_array_equal(slim_codec.decode(data), slim_codec.decode(plain))
    facts = nicrt.info(data)
    end = facts.header_bytes
    quality = []
    for stage, width in enumerate(WIDTHS, 1):
        shown = slim_codec.decode(data, stage=stage)
        known = np.where(np.arange(len(whole))[:, None, None] < width, whole, 0)
        with torch.no_grad():
            own = float_model.synthesise(torch.from_numpy(known)[None] + mean, len(WIDTHS) - 1)
        assert np.abs(shown - _picture(own, pixels)).max() <= 1
        quality.append(_psnr(shown, pixels))
        end += sum(facts.stream_bytes[stage - 1])
        np.testing.assert_array_equal(slim_codec.decode(data[:end], partial=True), shown)
    assert end == len(data) and quality == sorted(quality)
    assert len(data) <= len(plain) + 12 * (facts.segments - nicrt.info(plain).segments) + 64


@pytest.mark.parametrize("size", [(1, 1), (1, 33), (47, 1), (15, 17), (16, 16), (97, 35)])
def test_any_size(slim_codec: nicrt.Codec, crops: list[np.ndarray], size: tuple[int, int]) -> None:
    pixels = crops[2][: size[0], : size[1]]
    for name in ("w48", "w144", slim.SCALABLE):
        shown = slim_codec.decode(slim_codec.encode(pixels, variant=name, tile=32))
        assert shown.shape == pixels.shape and _psnr(shown, pixels) > 15


def test_a_fresh_process_decodes_the_same(slim_codec: nicrt.Codec, crops: list[np.ndarray], tmp_path: Path) -> None:
    script = (
        "import nicrt, sys; codec = nicrt.load(sys.argv[1], threads=int(sys.argv[2])); "
        "print(codec.decode(open(sys.argv[3], 'rb').read()).sum())"
    )
    for name in ("w96", slim.SCALABLE):
        data = slim_codec.encode(crops[0], variant=name)
        file = tmp_path / f"{name}.nic"
        file.write_bytes(data)
        folder = str(slim_codec.bundle.path)
        for threads in (1, 2):
            other = nicrt.load(folder, threads=threads)
            assert other.encode(crops[0], variant=name) == data
            call = [sys.executable, "-c", script, folder, str(threads), str(file)]
            printed = subprocess.run(call, check=True, capture_output=True, text=True).stdout
            assert int(printed) == int(slim_codec.decode(data).sum())


def test_halo_covers_what_a_tile_looks_at(slim_codec: nicrt.Codec, engine: Path) -> None:
    """Pixels of a tile from the symbols of the tile and the halo around it alone."""
    ort = pytest.importorskip("onnxruntime")
    halo = slim_codec.bundle.manifest.graphs["synthesis_w48"].halo
    session = ort.InferenceSession(Bundle.open(engine).graph_bytes("synthesis_w48"), providers=["CPUExecutionProvider"])
    y = np.random.default_rng(1).integers(-2, 3, (1, 48, 14, 15)).astype(np.int32)
    mean, step = np.random.default_rng(2).normal(0, 0.3, y.shape).astype(np.float32), np.zeros(1, np.int32)
    (whole,) = session.run(None, {"y": y, "mean": mean, "step": step})
    assert halo is not None and halo % STRIDE == 0
    reach, first, end = halo // STRIDE, 5, 9
    window = slice(first - reach, end + reach)
    part_inputs = {"y": y[:, :, window, window], "mean": mean[:, :, window, window], "step": step}
    (part,) = session.run(None, part_inputs)
    inner = part[0, halo:-halo, halo:-halo].astype(int)
    tile = slice(first * STRIDE, end * STRIDE)
    assert np.abs(inner - whole[0, tile, tile]).max() <= 1
    assert np.mean(inner != whole[0, tile, tile]) < 1e-3


def test_gdn_stays_float32_between_half_precision_layers() -> None:
    ports = {"x": Port("float16", [1, 4, "h", "w"])}, {"y": Port("float16", [1, 4, "h", "w"])}
    data = export_module(GDN(4), *ports)
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.full((1, 4, 1, 1), 3e4, np.float16)})
    assert y.dtype == np.float16 and np.isfinite(y).all()

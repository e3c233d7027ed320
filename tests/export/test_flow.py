"""The flow bundle: exact indices, graphs against PyTorch's own evaluation, stages, rates, re-encoding."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import nicrt  # noqa: E402
from conftest import ROOT  # noqa: E402
from nicrt.export import flow, flow_modules  # noqa: E402
from nicrt.export.bundle import _graph, write_bundle  # noqa: E402
from nicrt.export.exact import NOT_CODED  # noqa: E402
from nicrt.export.lattice import Lattice  # noqa: E402
from nicrt.export.layers import step_size  # noqa: E402
from nicrt.export.models import flow as models_flow  # noqa: E402
from nicrt.export.models.entropy import DZ_DEFAULT, LOG_SCALE_STEP, LOGISTIC_SCALE_MIN, SCALE_COUNT  # noqa: E402
from nicrt.export.models.flow import Flow  # noqa: E402
from nicrt.export.recipes import flow as recipe  # noqa: E402
from nicrt.export.tables import ESCAPE_BITS, TOTAL, Table  # noqa: E402
from nicrt.export.transmitted import scale_tables, spread_reference  # noqa: E402
from nicrt.runtime.manifest import Port, QualityPoint  # noqa: E402

SIZE = 128
PLAIN: dict[str, int | list[int]] = {"d0": [16] * 48, "step1": 0, "step2": 0, "skip": 0}
SKIPPING: dict[str, int | list[int]] = {"d0": [20] * 40 + [22] * 8, "step1": 45, "step2": 60, "skip": 8}
Symbols = list[np.ndarray]


@pytest.fixture(scope="module")
def model(shipped_weights: Callable[[str], Path]) -> Flow:
    from safetensors.torch import load_file

    return Flow.of(load_file(shipped_weights("flow")))


@pytest.fixture(scope="module")
def bundle() -> nicrt.Codec:
    return nicrt.load(ROOT / "engines" / "flow", threads=1)


@pytest.fixture(scope="module")
def crop(harbour: np.ndarray) -> np.ndarray:
    return harbour[16 : 16 + SIZE, 48 : 48 + SIZE]


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float() / 255


def _bytes(picture: torch.Tensor) -> np.ndarray:
    return (picture.clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy()


def _steps(parameters: dict[str, int | list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    first = flow_modules.z0_steps(torch.tensor(parameters["d0"]))
    return first, step_size(torch.tensor(parameters["step1"])), step_size(torch.tensor(parameters["step2"]))


def _first(model: Flow, symbols: Symbols, parameters: dict[str, int | list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """z0 in steps, int32 [1, 48, h, w], and the table indices of its symbols, from the integer reference."""
    z, y0 = symbols[:2]
    given = {name: np.atleast_1d(parameters[key]) for name, key in (("d", "d0"), ("skip", "skip"))}
    found = Lattice.of(model.side, flow._steps0()).reference({"z": z[None], **given, "dz": np.array([DZ_DEFAULT])})
    return y0 + found["offset"], found["index"]


def _pictures(model: Flow, symbols: Symbols, parameters: dict[str, int | list[int]]) -> list[np.ndarray]:
    """PyTorch's picture of each stage, given the file's symbols."""
    s0, s1, s2 = _steps(parameters)
    y1, _, ya, yb = (torch.from_numpy(tensor)[None].float() for tensor in symbols[3:])
    h1 = model.join(torch.from_numpy(_first(model, symbols, parameters)[0]) * s0, 2)
    mean1 = model.conditional(h1, 1)[0]
    pictures = []
    for first, halves in ((torch.zeros_like(y1), []), (y1, []), (y1, [ya]), (y1, [ya, yb])):
        h0 = model.join(torch.cat([h1, first * s1 + mean1], 1), 1)
        mean2 = model.conditional(h0, 0)[0]
        pictures.append(_bytes(model.picture(h0, sum(halves, torch.zeros_like(mean2)) * s2 + mean2)))
    return pictures


def test_the_shipped_graphs_are_the_export_of_the_weights(model: Flow) -> None:
    source = flow.source(model.state_dict())
    for graph in source.graphs:
        if graph.name in ("level2", "hyper0", "activity0", "spread2"):
            data, _ = _graph(graph, source.unit)
            assert data == (ROOT / "engines" / "flow" / "graphs" / f"{graph.name}.onnx").read_bytes()


def test_indices_are_the_integer_reference(bundle: nicrt.Codec, model: Flow, crop: np.ndarray) -> None:
    """The coder zeroes exactly what the reference's indices leave out, and the halves of z2 do not overlap."""
    symbols = bundle.symbols(bundle.encode(crop, parameters=SKIPPING))
    _, y0, t1, y1, t2, ya, yb = symbols
    x0 = _first(model, symbols, SKIPPING)[1]
    (x1,) = spread_reference(flow.LAYOUT1, t1[None], 8)
    xa, xb = spread_reference(flow.LAYOUT2, t2[None], 8)
    for y, x in ((y0, x0), (y1, x1), (ya, xa), (yb, xb)):
        assert not y[x[0] == NOT_CODED].any() and y[x[0] != NOT_CODED].any()
        assert x[x != NOT_CODED].min() >= 8 and x[x != NOT_CODED].max() < SCALE_COUNT
    assert ((xa == NOT_CODED) | (xb == NOT_CODED)).all()


def test_shipped_qualities_are_those_of_the_export(bundle: nicrt.Codec, model: Flow) -> None:
    assert bundle.bundle.manifest.quality == flow.source(model.state_dict()).quality


def skip_of(probability: float) -> int:
    """The `skip` at which symbols are not coded whose probability of 0 exceeds this: P(0) = tanh(1 / (4 s)) for a
    logistic of scale s."""
    scale = 1 / (4 * math.atanh(probability))
    return max(0, math.ceil(math.log(scale / LOGISTIC_SCALE_MIN) / LOG_SCALE_STEP))


def test_the_threshold_is_on_the_probability_of_zero() -> None:
    tables = scale_tables()
    assert skip_of(0.9) == 8
    for probability in (0.5, 0.9, 0.95):
        share = [table.frequency[-table.low] / TOTAL for table in tables]
        skip = skip_of(probability)
        assert min(share[:skip]) > probability - 0.03 and max(share[skip:]) < probability + 0.01


@pytest.mark.parametrize("parameters", [PLAIN, SKIPPING])
def test_symbols_are_those_of_torch(
    bundle: nicrt.Codec, model: Flow, crop: np.ndarray, parameters: dict[str, int | list[int]]
) -> None:
    parameters = {**parameters, "skip": 0}
    found = bundle.symbols(bundle.encode(crop, parameters=parameters))
    z, _, _, y1, _, ya, yb = found
    s0, s1, s2 = _steps(parameters)
    z0, z1, z2 = model.analyse(_tensor(crop))
    assert np.mean(z != torch.round(model.side.analyse(z0, s0))[0].numpy()) < 1e-3
    (y0,), _ = _first(model, found, parameters)
    h1 = model.join(torch.from_numpy(y0)[None] * s0, 2)
    mean1 = model.conditional(h1, 1)[0]
    h0 = model.join(torch.cat([h1, torch.from_numpy(y1)[None] * s1 + mean1], 1), 1)
    mean2 = model.conditional(h0, 0)[0]
    for symbols, own in ((y0, z0 / s0), (y1, (z1 - mean1) / s1), (ya + yb, (z2 - mean2) / s2)):
        difference = np.abs(symbols - torch.round(own)[0].numpy())
        assert difference.max() <= 1
        assert (difference > 0).sum() <= max(1, 1e-4 * difference.size)


@pytest.mark.parametrize("parameters", [PLAIN, SKIPPING])
def test_pixels_of_every_stage_are_within_one_grey_level(
    bundle: nicrt.Codec, model: Flow, crop: np.ndarray, parameters: dict[str, int | list[int]]
) -> None:
    file = bundle.encode(crop, parameters=parameters)
    quality = []
    for stage, own in enumerate(_pictures(model, bundle.symbols(file), parameters), 1):
        picture = bundle.decode(file, stage=stage)
        difference = np.abs(picture - own)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3
        quality.append(_psnr(picture, crop))
    assert quality == sorted(quality)


def _bits(tables: list[Table], symbols: np.ndarray, index: np.ndarray) -> float:
    """Code length of the coded symbols under the tables of their indices."""
    total = 0.0
    for number in np.unique(index[index != NOT_CODED]):
        table = tables[number]
        place = (symbols[index == number] >> table.shift) - table.low
        escaped = (place < 0) | (place >= len(table.frequency) - 1)
        frequency = table.frequency[np.where(escaped, len(table.frequency) - 1, place)]
        total += float(np.sum(np.log2(TOTAL / frequency) + table.shift + ESCAPE_BITS * escaped))
    return total


def test_files_keep_the_budget_and_cost_what_torch_says(bundle: nicrt.Codec, model: Flow, crop: np.ndarray) -> None:
    """Coded with transmitted classes, at most 3% above PyTorch's own scales, which are functions of floats."""
    file = bundle.encode(crop, parameters=PLAIN)
    facts = nicrt.info(file)
    found = bundle.symbols(file)
    _, y0, t1, y1, t2, ya, yb = found
    tables = scale_tables()
    (x1,), (xa, xb) = spread_reference(flow.LAYOUT1, t1[None], 0), spread_reference(flow.LAYOUT2, t2[None], 0)
    for sizes, pairs in (
        (facts.stream_bytes[0][1:], [(y0, _first(model, found, PLAIN)[1])]),
        (facts.stream_bytes[1][1:], [(y1, x1)]),
        (facts.stream_bytes[2][1:], [(ya, xa)]),
        (facts.stream_bytes[3], [(yb, xb)]),
    ):
        ideal = sum(_bits(tables, y, x[0]) for y, x in pairs)
        assert sum(sizes) <= ideal / 8 * 1.002 + 12
    own = sum(model.evaluate(_tensor(crop), (1.0, 1.0, 1.0)).bits)
    assert 8 * len(file) <= 1.03 * own + 8 * (96 + 12 * facts.segments)


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (33, 1), (15, 31), (16, 16)])
def test_any_size_and_stage(bundle: nicrt.Codec, crop: np.ndarray, size: tuple[int, int]) -> None:
    pixels = crop[: size[0], : size[1]]
    file = bundle.encode(pixels, quality=85)
    for stage in (1, 2, 3, 4):
        assert bundle.decode(file, stage=stage).shape == pixels.shape
    assert _psnr(bundle.decode(file), pixels + 1e-9) > 40


def test_a_truncated_file_gives_its_whole_stages(bundle: nicrt.Codec, crop: np.ndarray) -> None:
    file = bundle.encode(crop[:48, :48], quality=60)
    with pytest.raises(nicrt.TruncatedError):
        bundle.decode(file[:-1])
    assert (bundle.decode(file[:-1], partial=True) == bundle.decode(file, stage=3)).all()


def test_quality_goes_from_low_rate_to_near_lossless(bundle: nicrt.Codec, crop: np.ndarray) -> None:
    files = [bundle.encode(crop[:64, :64], quality=quality) for quality in range(0, 101, 20)]
    sizes = [len(file) for file in files]
    quality = [_psnr(bundle.decode(file), crop[:64, :64]) for file in files]
    assert sizes == sorted(set(sizes)) and quality == sorted(quality)
    assert quality[-1] > 50


def test_targets_are_met(bundle: nicrt.Codec, crop: np.ndarray) -> None:
    pixels = crop[:32, :32]
    assert 8 * len(bundle.encode(pixels, target_bpp=6.0)) / pixels[..., 0].size <= 6.0
    assert _psnr(bundle.decode(bundle.encode(pixels, target_psnr=42.0)), pixels) >= 42.0


def test_re_encoding_with_the_same_steps_hardly_drifts(bundle: nicrt.Codec, crop: np.ndarray) -> None:
    original = crop[:64, :64]
    file = bundle.encode(original, parameters=PLAIN)
    first = _psnr(bundle.decode(file), original)
    for _ in range(4):
        file = bundle.encode(bundle.decode(file), like=file)
    assert nicrt.info(file).parameters[0] == PLAIN["d0"]
    assert abs(_psnr(bundle.decode(file), original) - first) < 0.1


def test_a_factorised_prior_is_coded_by_channel(
    crop: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the paper: z0 by tables of each channel and step. An untrained flow of few couplings and steps."""
    for module in (models_flow, recipe):
        monkeypatch.setattr(module, "COUPLINGS", 1)
    monkeypatch.setattr(flow, "Z0_STEPS", 3)
    for module in (flow, flow_modules):
        monkeypatch.setattr(module, "UNIT_STEP", 2)
    monkeypatch.setattr(flow, "_quality", lambda number, *_, **__: QualityPoint(number, "flow", {"d0": [2] * 48}))
    monkeypatch.setattr(flow, "_D0", Port("int32", [48], (0, 2)))
    static = Flow().requires_grad_(False).eval()
    recipe.start(static)
    write_bundle(flow.source(static.state_dict()), tmp_path / "static")
    codec = nicrt.load(tmp_path / "static", threads=1)
    data = codec.encode(crop, parameters={"skip": 0})
    (y0, *_), facts = codec.symbols(data), nicrt.info(data)
    z0 = static.analyse(_tensor(crop))[0]
    assert np.count_nonzero(y0 != torch.round(z0)[0].numpy()) <= 1e-4 * y0.size
    ideal = float(static.prior.bits(torch.from_numpy(y0)[None]).sum())
    assert facts.stream_bytes[0][0] <= ideal / 8 * 1.005 + 12  # 12 bits hold untrained, flat distributions less well
    assert _psnr(codec.decode(data), crop) > 40


def test_a_fresh_process_decodes_the_same_symbols(bundle: nicrt.Codec, crop: np.ndarray, tmp_path: Path) -> None:
    file = bundle.encode(crop, parameters=SKIPPING)
    (tmp_path / "a.nic").write_bytes(file)
    script = (
        "import sys, numpy as np, nicrt; data = open(sys.argv[1], 'rb').read(); "
        "np.savez(sys.argv[2], *nicrt.load(sys.argv[3], threads=2).symbols(data))"
    )
    engine = str(ROOT / "engines" / "flow")
    command = [sys.executable, "-c", script, str(tmp_path / "a.nic"), str(tmp_path / "s.npz"), engine]
    subprocess.run(command, check=True)
    found = np.load(tmp_path / "s.npz")
    for number, tensor in enumerate(bundle.symbols(file)):
        np.testing.assert_array_equal(found[f"arr_{number}"], tensor)

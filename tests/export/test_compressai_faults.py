"""Checkpoints in CompressAI's layout that go wrong: refused by name, or made to work; and what an export says of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import Tensor  # noqa: E402

import nicrt  # noqa: E402
from compressai_models import HARBOUR, random_model, saved, state_dict_of  # noqa: E402
from nicrt.export import compressai  # noqa: E402
from nicrt.export.cli import export_family  # noqa: E402
from nicrt.export.comparison import compared  # noqa: E402
from nicrt.export.factorized import shifts  # noqa: E402
from nicrt.export.models.mean_scale import Factorized  # noqa: E402
from nicrt.runtime.cli import main as cli  # noqa: E402
from nicrt.runtime.errors import UnsupportedError  # noqa: E402


def _moved(state: dict[str, Tensor], median: float, wide: float) -> dict[str, Tensor]:
    """A codec with a factorised prior whose latents are `wide` times as large and lie around `median`."""
    state = {name: tensor.clone() for name, tensor in state.items()}
    first = torch.nn.functional.softplus(state["entropy_bottleneck.matrices.0"]) / wide
    state["entropy_bottleneck.matrices.0"] = torch.log(torch.expm1(first))
    state["entropy_bottleneck.biases.0"] -= first * median
    for name in ("g_a.6.weight", "g_a.6.bias"):
        state[name] *= wide
    state["g_a.6.bias"] += median
    state["g_s.0.weight"] /= wide
    state["g_s.0.bias"] -= median * state["g_s.0.weight"].sum((0, 2, 3)) / 4
    return state


@pytest.mark.parametrize(("median", "wide"), [(0, 10), (110, 1), (300, 1), (-2000, 100)])
def test_latents_of_a_factorised_prior_may_lie_anywhere(median: float, wide: float, tmp_path: Path) -> None:
    """Files have the size that the prior says, and decode to what PyTorch gives."""
    state = _moved(state_dict_of(random_model(compressai.FACTORIZED)), median, wide)
    (tmp_path / "checkpoint").write_bytes(saved(state))
    export_family("compressai", tmp_path / "checkpoint", tmp_path / "bundle", arch=compressai.FACTORIZED)
    model = compressai.load(compressai.FACTORIZED, state)
    assert isinstance(model, Factorized)
    codec = nicrt.load(tmp_path / "bundle", threads=1)
    pixels = np.asarray(Image.open(HARBOUR).convert("RGB"))[:128, :192]
    own = model.evaluate(torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None])
    data = codec.encode(pixels)
    assert 8 * (len(data) - 120) < 1.01 * own.symbol_bits < 1.02 * 8 * len(data)
    shift = torch.from_numpy(shifts(model.prior))[:, None, None]
    symbols = torch.from_numpy(codec.symbols(data)[0]) + shift
    assert (symbols - own.symbols[0]).abs().max() <= 1  # weights are stored as float16
    expected = model.g_s(symbols[None].float()).clamp(0, 1).mul(255).round().numpy()[0].transpose(1, 2, 0)
    assert np.abs(codec.decode(data) - expected).max() <= 1


def test_medians_that_no_symbol_holds_are_refused_with_channel_and_median(tmp_path: Path) -> None:
    state = state_dict_of(random_model(compressai.FACTORIZED))
    (tmp_path / "checkpoint").write_bytes(saved(_moved(state, 40000, 1)))
    with pytest.raises(UnsupportedError, match=r"channel \d of the latents has its median at (39|40)\d{3}\.\d"):
        export_family("compressai", tmp_path / "checkpoint", tmp_path / "bundle", arch=compressai.FACTORIZED)
    state = state_dict_of(random_model(compressai.MEAN))
    weight = torch.nn.functional.softplus(state["entropy_bottleneck.matrices.0"])
    state["entropy_bottleneck.biases.0"] = state["entropy_bottleneck.biases.0"] - 300 * weight
    (tmp_path / "checkpoint").write_bytes(saved(state))
    with pytest.raises(UnsupportedError, match=r"channel \d of the hyper latents has its median at (29|30)\d\.\d"):
        export_family("compressai", tmp_path / "checkpoint", tmp_path / "bundle", arch=compressai.MEAN)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("g_s.0.weight", float("nan")),
        ("g_s.1.beta", float("nan")),
        ("g_a.0.bias", float("inf")),
        ("h_s.2.weight", -float("inf")),
        ("entropy_bottleneck.matrices.1", float("nan")),
        ("entropy_bottleneck.quantiles", float("nan")),
        ("g_a.3.gamma_reparam.pedestal", float("nan")),
        ("g_a.3.gamma", 1e30),  # its square is beyond float32
    ],
)
def test_what_is_not_finite_is_refused_by_name(name: str, value: float, tmp_path: Path) -> None:
    state = {key: tensor.clone() for key, tensor in state_dict_of(random_model(compressai.MEAN)).items()}
    state[name].view(-1)[0] = value
    (tmp_path / "checkpoint").write_bytes(saved(state))
    with pytest.raises(UnsupportedError, match=rf"tensor '{name}' .*not finite"):
        export_family("compressai", tmp_path / "checkpoint", tmp_path / "bundle", arch=compressai.MEAN)
    assert not (tmp_path / "bundle").exists()


def test_latents_beyond_symbols_are_refused(tmp_path: Path) -> None:
    state = state_dict_of(random_model(compressai.MEAN))
    (tmp_path / "checkpoint").write_bytes(saved({**state, "g_a.6.weight": 1e4 * state["g_a.6.weight"]}))
    with pytest.raises(UnsupportedError, match=r"channel \d of the latents reaches \S+ on calibration pictures"):
        export_family("compressai", tmp_path / "checkpoint", tmp_path / "bundle", arch=compressai.MEAN)
    model = random_model(compressai.FACTORIZED)
    model.g_a[6].bias[3] = float("nan")
    with pytest.raises(UnsupportedError, match="channel 3 of the latents reaches nan on calibration pictures"):
        compressai.check_symbols(model, [torch.rand(1, 3, 64, 64)])


@pytest.mark.parametrize(
    ("arch", "layer", "factor", "reason"),
    [
        (compressai.HYPERPRIOR, "h_s.2", 1e30, r"layer 1 of the hyper synthesis reaches \S+ on calibration data"),
        (compressai.HYPERPRIOR, "g_s.4", 1e25, r"the synthesis \(g_s\) gives values that are not finite"),
    ],
)
def test_finite_weights_that_make_no_codec_are_refused(
    arch: str, layer: str, factor: float, reason: str, tmp_path: Path
) -> None:
    state = state_dict_of(random_model(arch))
    changed = {name: factor * state[name] for name in (f"{layer}.weight", f"{layer}.bias")}
    (tmp_path / "checkpoint").write_bytes(saved({**state, **changed}))
    with pytest.raises(UnsupportedError, match=f"checkpoint: {reason}"):
        export_family("compressai", tmp_path / "checkpoint", tmp_path / "bundle", arch=arch)
    assert not (tmp_path / "bundle").exists()


def test_latents_that_are_clipped_are_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compressai, "check_symbols", lambda *_: None)
    model = random_model(compressai.FACTORIZED)
    state = state_dict_of(model)
    state |= {"g_a.6.weight": 1e4 * state["g_a.6.weight"], "g_s.0.weight": 1e-4 * state["g_s.0.weight"]}
    (tmp_path / "checkpoint").write_bytes(saved(state))
    export_family("compressai", tmp_path / "checkpoint", tmp_path / "bundle", arch=compressai.FACTORIZED)
    pixels = np.asarray(Image.open(HARBOUR).convert("RGB"))
    x = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    latents = 1e4 * (model.g_a(x) - model.g_a[6].bias[:, None, None]) + model.g_a[6].bias[:, None, None]
    count = int(((latents < -32768) | (latents > 32767)).sum())
    assert count > 10
    codec = nicrt.load(tmp_path / "bundle", threads=1)
    said = f"of {latents.numel()} symbols of stream 'y' were clipped to -32768..32767"
    with pytest.warns(nicrt.SaturationWarning, match=f"{said}: the decoded picture may be far") as warned:
        codec.encode(pixels)
    assert int(str(warned[0].message).split()[0]) == pytest.approx(count, rel=0.02)
    assert warned[0].filename == __file__
    arguments = ["encode", str(HARBOUR), str(tmp_path / "a.nic"), "-b", str(tmp_path / "bundle")]
    assert cli(arguments) == 0
    assert said in capsys.readouterr().err
    assert cli([*arguments, "--bpp", "30"]) in (0, 11)
    assert capsys.readouterr().err.count("were clipped") == 1  # whatever the search for a rate has tried


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a random codec with a factorised prior; its checkpoint lies beside it."""
    folder = tmp_path_factory.mktemp("fair")
    (folder / "checkpoint").write_bytes(saved(state_dict_of(random_model(compressai.FACTORIZED))))
    export_family("compressai", folder / "checkpoint", folder / "bundle", arch=compressai.FACTORIZED)
    return folder / "bundle"


def test_after_export_a_line_compares_files_with_the_framework(bundle: Path, tmp_path: Path) -> None:
    arch, checkpoint = compressai.FACTORIZED, bundle.with_name("checkpoint")
    weights = compressai.state_dict(checkpoint.read_bytes(), arch)
    source = compressai.source(checkpoint.read_bytes(), arch)
    picture = np.asarray(Image.open(HARBOUR).convert("RGB"), np.float32) / 255
    fair = compared(source, bundle, [picture])
    found = re.fullmatch(
        r"on 1 calibration picture CompressAI gives (\S+) bpp and (\S+) dB, the bundle's files (\S+) bpp \((\S+)%\) "
        r"and (\S+) dB \((\S+)\)",
        fair,
    )
    assert found, fair
    middle = np.rint(picture[16:144, 24:216] * 255)
    x = torch.from_numpy(middle / 255).permute(2, 0, 1)[None].float()
    bits, reconstruction = compressai.evaluate(arch, weights, x)
    error = reconstruction.clamp(0, 1).mul(255).round() - 255 * x
    assert float(found[1]) == pytest.approx(bits / (128 * 192), abs=6e-4)
    assert float(found[2]) == pytest.approx(10 * np.log10(255**2 / float((error**2).mean())), abs=6e-3)
    assert compared(source, bundle, []).startswith("on a made picture CompressAI gives")

    def off(rate: float, level: float) -> str:
        assert source.framework is not None
        evaluate = source.framework.evaluate
        other = replace(source.framework, evaluate=lambda x: (rate * evaluate(x)[0], evaluate(x)[1] + level))
        return compared(replace(source, framework=other), bundle, [picture])

    assert off(1.0, 0.0) == fair
    assert off(0.9, 0.0).startswith("warning: on 1 calibration picture")
    assert off(1.1, 0.0).startswith("warning: ")
    assert off(1.0, 0.1).startswith("warning: ")
    assert off(1.0, float("nan")).startswith("warning: ")
    lines: list[str] = []
    part = {"arch": arch, "calibrate": [HARBOUR], "report": lines.append}
    export_family("compressai", checkpoint, tmp_path / "bundle", **part)
    assert lines[-1] == fair
    export_family("compressai", checkpoint, tmp_path / "decoder", **part, decoder_only=True)
    assert lines[-1].startswith("not compared")


def test_weights_beyond_float16_are_refused_by_name(tmp_path: Path) -> None:
    arch = compressai.FACTORIZED
    state = state_dict_of(random_model(arch))
    state["g_s.2.weight"][0, 0] = 1e5
    (tmp_path / "checkpoint").write_bytes(saved(state))
    with pytest.raises(UnsupportedError, match=r"'synthesis\.2\.weight' of graph 'synthesis' .* without --float16"):
        export_family("compressai", tmp_path / "checkpoint", tmp_path / "bundle", arch=arch, float16=True)

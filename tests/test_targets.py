"""Targets of rate and PSNR: held with any lanes and tiles, and said where no quality meets them."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nicrt
import synthetic
from conftest import PICTURES
from counted_work import Work
from made_pictures import MADE
from nicrt import _core
from nicrt.runtime.choose import Wish
from nicrt.runtime.cli import main
from nicrt.runtime.encoding import _corrected
from nicrt.runtime.installed import SHIPPED
from nicrt.runtime.iterative import Edit
from nicrt.runtime.search import Search, Searched
from nicrt.runtime.session import Session
from nicrt.runtime.target import Target, Thinner, Trial, mse_of, psnr_of
from nicrt.runtime.thinning import order_of

HARBOUR = str(PICTURES / "harbour.png")
MISSED = 11


def psnr_between(pixels: np.ndarray, original: np.ndarray) -> float:
    return psnr_of(float(np.mean((pixels.astype(float) - original) ** 2)))


@pytest.mark.parametrize("bundle", ["shallow", "slim", "mean-scale", "compass", "flow"])
def test_targets_hold_with_lanes_and_tiles(bundle: str, harbour: np.ndarray) -> None:
    """The file that is kept is held to the target, not one with fewer lanes and no tiles."""
    codec = nicrt.load(bundle, threads=1)
    crop = harbour[40:104, 40:168]
    area = crop[..., 0].size
    middle = codec.encode(crop, quality=50, effort=1)
    wanted_bpp, wanted_psnr = 8 * len(middle) / area, psnr_between(codec.decode(middle), crop)
    told: list[nicrt.Encoded] = []
    slow = bundle in ("compass", "flow")
    for options in ({"lanes": "parallel", "tile": 64}, {"lanes": "parallel"})[: 1 if slow else 2]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            small = codec.encode(crop, target_bpp=wanted_bpp, effort=1, report=told.append, **options)
            good = codec.encode(crop, target_psnr=wanted_psnr, effort=1, report=told.append, **options)
        assert 0.8 * wanted_bpp < 8 * len(small) / area <= wanted_bpp
        reached = psnr_between(codec.decode(good), crop)
        assert wanted_psnr <= reached < wanted_psnr + 2
        for data, encoded in zip((small, good), told[-2:], strict=True):
            assert encoded.bytes == len(data) and encoded.bpp == 8 * len(data) / area and encoded.missed is None
            assert encoded.psnr == pytest.approx(psnr_between(codec.decode(data), crop), abs=1e-3)
            settings = {"variant": encoded.variant, "parameters": encoded.parameters, "effort": 1, **options}
            assert len(codec.encode(crop, **settings)) >= len(data)  # symbols have been lessened since


@pytest.mark.parametrize("options", [{"target_psnr": 70.0}, {"target_bpp": 0.01}])
def test_a_target_out_of_reach_is_said(codec: nicrt.Codec, harbour: np.ndarray, options: dict[str, float]) -> None:
    told: list[nicrt.Encoded] = []
    crop = harbour[:64, :64]
    with pytest.warns(nicrt.TargetWarning, match="out of reach") as caught:
        data = codec.encode(crop, report=told.append, **options)  # type: ignore[arg-type]
    assert caught[0].filename == __file__
    (encoded,) = told
    assert encoded.missed == str(caught[0].message) and "\n" not in encoded.missed
    nearest = 100.0 if "target_psnr" in options else 0.0
    assert encoded.quality == nearest and data == codec.encode(crop, quality=nearest)


@pytest.mark.parametrize("bad", [{"target_bpp": value} for value in (0, -1, float("nan"), float("inf"))])
def test_targets_that_are_none(codec: nicrt.Codec, harbour: np.ndarray, bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="target"):
        codec.encode(harbour[:64, :64], **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target PSNR"):
        codec.encode(harbour[:64, :64], target_psnr=float("nan"))


def test_without_a_target_nothing_is_searched_or_decoded(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    told: list[nicrt.Encoded] = []
    first = codec.encode(harbour[:64, :64], quality=33, report=told.append)
    codec.encode(harbour[:64, :64], like=first, report=told.append)
    assert [(encoded.quality, encoded.psnr, encoded.missed) for encoded in told] == [
        (33, None, None),
        (None, None, None),
    ]
    assert told[0].parameters == told[1].parameters


def test_a_trial_is_no_encode(codec: nicrt.Codec, harbour: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each set of parameters is tried once, and only the file that is kept is entropy coded."""
    seen: list[str] = []
    quantise, file = Session.quantise, Session.file
    monkeypatch.setattr(Session, "quantise", lambda self, *a: seen.append(str(a)) or quantise(self, *a))
    coded: list[bytes] = []
    monkeypatch.setattr(Session, "file", lambda self, trial: coded.append(file(self, trial)) or coded[-1])
    data = codec.encode(harbour[:64, :64], target_psnr=30)
    assert coded == [data] and len(set(seen)) == len(seen) <= 5
    seen.clear()
    with pytest.warns(nicrt.TargetWarning):  # no dearer than a search that ends well
        codec.encode(harbour[:64, :64], target_bpp=0.001)
    assert len(seen) <= 3


@pytest.mark.parametrize(
    ("bundle", "psnr", "bpp"), [("shallow", 31.0, 0.8), ("slim", 30.0, 0.5), ("mean-scale", 30.0, 0.6)]
)
def test_a_target_costs_at_most_three_passes(bundle: str, psnr: float, bpp: float) -> None:
    """A pass is a plain encode, for a PSNR with its decode."""
    codec = nicrt.load(bundle, threads=2)
    work = Work(codec)
    picture = np.asarray(Image.open(HARBOUR).convert("RGB").resize((480, 320), Image.Resampling.BICUBIC))
    for target in ({"target_psnr": psnr}, {"target_bpp": bpp}):
        data, macs = work.of(lambda target=target: codec.encode(picture, **target))
        opened = codec.opened(data)
        again = {"variant": opened.variant, "parameters": opened.parameters}
        plain, encode_macs = work.of(lambda again=again: codec.encode(picture, **again))
        decoded, decode_macs = work.of(lambda data=data: codec.decode(data))
        assert len(plain) >= len(data)
        if "target_psnr" in target:
            assert macs <= 3 * (encode_macs + decode_macs)
            assert psnr <= psnr_between(decoded, picture) <= psnr + 0.05
        else:
            assert macs <= 3 * encode_macs
            assert 0.97 * bpp < 8 * len(data) / picture[..., 0].size <= bpp


def _calls(codec: nicrt.Codec) -> dict[str, int]:
    return {name: calls for name, _, _, calls, _ in codec._graphs.engine.report()}


def test_what_a_trial_does_not_change_runs_once(tmp_path: Path) -> None:
    """A program whose analysis reads no parameter, and whose gain does: the analysis runs once for a search."""
    codec = nicrt.load(synthetic.gained(tmp_path / "gained"))
    picture = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    told: list[nicrt.Encoded] = []
    best = psnr_between(codec.decode(codec.encode(picture, quality=100)), picture)
    before = _calls(codec)
    data = codec.encode(picture, target_psnr=best - 1, report=told.append)
    ran = {name: calls - before[name] for name, calls in _calls(codec).items()}
    assert ran["means"] == 1 and ran["gain"] > 1 and ran["unscale"] >= ran["gain"]
    assert told[0].missed is None and psnr_between(codec.decode(data), picture) >= best - 1


def test_a_refined_picture_meets_its_target(codec: nicrt.Codec) -> None:
    """What the encoder decides by looking at its result counts: a trial is looked at like a plain encode."""
    picture = MADE["text"]()
    for target in ({"target_psnr": 27.0}, {"target_bpp": 3.5}):
        data = codec.encode(picture, **target)
        opened = codec.opened(data)
        if "target_psnr" in target:
            assert psnr_between(codec.decode(data), picture) >= 27
        else:
            assert 8 * len(data) / picture[..., 0].size <= 3.5
        assert len(codec.encode(picture, variant=opened.variant, parameters=opened.parameters)) >= len(data)


def no_thinner() -> Thinner:
    return Thinner(np.zeros(0), np.zeros(0), lambda _: pytest.fail("there is nothing to lessen"))


def curve(wish: Wish, bpp: float, mse: float) -> Trial:
    """A trial with 2000 symbols to lessen, each of which saves a tenth of a thousandth bit per pixel, and adds an error
    that grows a little faster than is expected of it."""

    def lessened(count: int) -> Trial:
        return curve(wish, bpp - 1e-4 * count, mse * (1 + 3e-4 * count + 3e-8 * count**2))

    numbers = np.arange(1, 2001)
    return Trial(wish, "only", {}, bpp, lambda: mse, lambda: b"", lambda: Thinner(1e-4 * numbers, numbers, lessened))


def search(target: Target, bpp: Callable[[float], float], psnr: Callable[[float], float]) -> Trial:
    def trial(wish: Wish) -> Trial:
        quality = wish.quality
        return curve(wish, bpp(quality), mse_of(psnr(quality)))

    picture = Searched(
        trial=trial,
        finished=lambda trial: trial,
        key=lambda wish: wish.quality,
        sample=None,
        cost=lambda: 0.0,
    )
    return Search(Wish(), target, picture).best()


def test_smooth_curves() -> None:
    for psnr in (27.3, 31.0, 33.99):
        found = search(Target(psnr=psnr), lambda q: math.exp(q / 40), lambda q: 25 + q / 10 - (q / 100) ** 2)
        assert psnr <= psnr_of(found.mse) <= psnr + 0.05
    found = search(Target(bpp=3.0), lambda q: math.exp(q / 40), lambda q: 25 + q / 10)
    assert 0.995 * 3 < found.bpp <= 3


def test_curves_that_turn_back() -> None:
    """Some pictures get worse from some quality on: a target in their reach is found all the same."""

    def hill(quality: float) -> float:
        return 30 - abs(quality - 47) / 100  # 30 dB at 47, less than 29.6 dB at both ends

    def rising(quality: float) -> float:
        return 1 + quality / 100

    found = search(Target(psnr=29.8), rising, hill)
    assert 29.8 <= psnr_of(found.mse) <= 29.85
    best = search(Target(psnr=31.0), rising, hill)
    assert psnr_of(best.mse) > 29.9 and Target(psnr=31.0).missed(best)
    valley = search(Target(bpp=1.15), lambda q: 1 + abs(q - 47) / 200, lambda q: 20 + q / 10)
    assert 1.14 < valley.bpp <= 1.15
    lowest = search(Target(bpp=0.75), lambda q: 1 + abs(q - 47) / 200, lambda q: 20 + q / 10)
    assert lowest.bpp < 1.02 and Target(bpp=0.75).missed(lowest)


@pytest.mark.parametrize(("picture", "bpp"), [("checker-1", 0.063), ("gradient", 0.11)])
def test_a_rate_that_a_quality_has_is_met(picture: str, bpp: float) -> None:
    """Files of a hundred bytes are far from their estimates, and have no symbols to lessen."""
    pixels = MADE[picture]()
    with warnings.catch_warnings():
        warnings.simplefilter("error", nicrt.TargetWarning)
        data = nicrt.load("slim", threads=1).encode(pixels, target_bpp=bpp)
    assert 0.5 * bpp < 8 * len(data) / pixels[..., 0].size <= bpp


def test_what_lessened_symbols_save(codec: nicrt.Codec) -> None:
    """Bits as they are counted afterwards, the most for the expected error first; every symbol by one at most."""
    rng, codebook = np.random.default_rng(4), codec.bundle.core.codebook("y")
    index = rng.integers(0, len(codebook) + 1, (3, 40, 50)).astype(np.uint8)
    symbols = np.where(index < len(codebook), rng.integers(-20, 21, index.shape), 0).astype(np.int32)
    places, saved, lost = order_of(symbols, codebook, index)
    assert (np.diff(saved / lost) < 1e-9).all() and (saved > 0).all() and ((lost > 0) & (lost <= 1)).all()
    assert len(set(places)) == len(places) > 1000
    lessened = symbols.copy()
    lessened.ravel()[places[:700]] -= np.sign(lessened.ravel()[places[:700]])
    before, after = (_core.cost_of_stream(codebook, each, index)[0] for each in (symbols, lessened))
    assert saved[:700].sum() == pytest.approx(before - after, rel=1e-4)


def test_a_dithered_picture(codec: nicrt.Codec) -> None:
    """Pictures unlike photographs meet their targets too."""
    ramp = np.linspace(0, 1, 128)[None] > np.random.default_rng(3).random((128, 128))
    picture = np.repeat((255 * ramp).astype(np.uint8)[:, :, None], 3, axis=2)
    told: list[nicrt.Encoded] = []
    data = codec.encode(picture, target_psnr=30, report=told.append)
    assert told[0].missed is None and 30 <= psnr_between(codec.decode(data), picture) < 31


def test_only_the_file_that_is_kept_counts(tmp_path: Path) -> None:
    """A search makes many trials; what was clipped in those that are thrown away is nobody's business."""
    picture = np.asarray(Image.open(HARBOUR).convert("RGB"))
    folder = shutil.copytree(SHIPPED / "shallow", tmp_path / "narrow")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["graphs"]["synthesis"]["inputs"]["y"]["range"] = [-40, 40]
    (folder / "manifest.json").write_bytes(_core.finish_manifest(str(folder), json.dumps(manifest).encode()))
    codec = nicrt.load(folder)
    alone: list[nicrt.Encoded] = []
    with pytest.warns(nicrt.SaturationWarning) as warned:
        codec.encode(picture, quality=100, report=alone.append)
    assert tuple(str(w.message) for w in warned) == alone[0].clipped != ()
    assert all(w.filename == __file__ for w in warned)
    told: list[nicrt.Encoded] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        codec.encode(picture, target_bpp=0.8, report=told.append)
    assert tuple(str(w.message) for w in caught) == told[0].clipped != alone[0].clipped


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.nic"
    assert main(["encode", HARBOUR, str(out), "--psnr", "30", "--lanes", "parallel", "--json"]) == 0
    printed, said = capsys.readouterr()
    (line,) = printed.splitlines()
    facts = json.loads(line)
    assert facts["file"] == str(out) and facts["source"] == HARBOUR and facts["bytes"] == out.stat().st_size
    assert (facts["width"], facts["height"], facts["missed"]) == (240, 160, None)
    assert 30 <= facts["psnr"] < 30.5 and facts["bpp"] == pytest.approx(8 * facts["bytes"] / (240 * 160), abs=1e-5)
    assert f"{facts['bpp']:.3f} bpp, {facts['psnr']:.2f} dB at quality {facts['quality']:.2f}" in said


@pytest.mark.parametrize("target", [["--psnr", "70"], ["--bpp", "0.001"]])
def test_the_command_where_a_target_is_missed(
    target: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 11, one line that says so even to `--quiet`, and the nearest file; other files are not held up."""
    crop = tmp_path / "crop.png"
    Image.open(HARBOUR).crop((0, 0, 40, 40)).save(crop)
    out = tmp_path / "out"
    assert main(["encode", str(crop), HARBOUR, f"{out}/", *target, "--quiet", "--json"]) == MISSED
    printed, said = capsys.readouterr()
    assert [json.loads(line)["missed"] is None for line in printed.splitlines()] == [False, False]
    assert [line.startswith("nicrt: ") and "out of reach" in line for line in said.splitlines()] == [True, True]
    for file in ("crop.nic", "harbour.nic"):
        assert nicrt.decode(out / file).size
    with pytest.raises(SystemExit):
        main(["encode", "--help"])
    assert main(["encode", str(crop), "-", "--json", *target]) == 2  # both would go to standard output
    assert capsys.readouterr().err.splitlines()[-1].startswith("nicrt: --json")


def test_exit_codes_are_documented() -> None:
    from nicrt.runtime.cli.options import EPILOG

    assert "11 encoded" in EPILOG


def test_iterations_that_miss_a_little_try_again() -> None:
    """They aim as far inside the target as they were outside; what they met, or cannot reach, is left as it is."""

    def reached(bpp: float, psnr: float) -> Trial:
        return Trial(Wish(), "only", {}, bpp, lambda: mse_of(psnr), lambda: b"", no_thinner)

    again = _corrected(Edit(bpp=1.0), reached(1.01, 30))
    assert again is not None and again.bpp == pytest.approx(1 / 1.01)
    again = _corrected(Edit(psnr=30.0), reached(1, 29.9))
    assert again is not None and again.psnr == pytest.approx(30.1)
    for edit, trial in (
        (Edit(bpp=1.0), reached(1.0, 30)),
        (Edit(bpp=1.0), reached(1.1, 30)),
        (Edit(psnr=30.0), reached(1, 30.1)),
        (Edit(psnr=30.0), reached(1, 29)),
        (Edit(), reached(1, 1)),
    ):
        assert _corrected(edit, trial) is None

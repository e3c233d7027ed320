"""`nicrt evaluate`: metrics against known cases, result files, Bjontegaard deltas, the command."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

import nicrt
from conftest import PICTURES
from nicrt.runtime import evaluate
from nicrt.runtime.cli import main
from nicrt.runtime.errors import ImageError, UnsupportedError
from nicrt.runtime.peers import PILLOW

HARBOUR = PICTURES / "harbour.png"


@pytest.fixture(scope="module")
def large(harbour: np.ndarray) -> np.ndarray:
    """The photograph twice as large, for MS-SSIM."""
    return np.kron(harbour, np.ones((2, 2, 1), np.uint8))


@pytest.fixture
def noisy(large: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).integers(-20, 21, large.shape)
    return np.clip(large.astype(int) + noise, 0, 255).astype(np.uint8)


def test_psnr_of_known_errors(harbour: np.ndarray) -> None:
    grey = np.full_like(harbour, 100)
    assert evaluate.psnr(grey, grey + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)
    assert evaluate.psnr(grey, grey + np.uint8(16)) == pytest.approx(48.1308 - 20 * math.log10(16), abs=1e-4)
    assert evaluate.psnr(harbour, harbour) == evaluate.PSNR_OF_EQUAL


def _reference_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang, Simoncelli, Bovik 2003, in float64: valid 11x11 Gaussian windows of sigma 1.5, five scales."""
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(x: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            x = sliding_window_view(x, 11, axis) @ window
        return x

    values = []
    for channel in range(3):
        x, y = (p[..., channel].astype(np.float64) for p in (a, b))
        value = 1.0
        for scale, weight in enumerate(weights):
            mx, my = blur(x), blur(y)
            vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            similarity = (2 * cov + c2) / (vx + vy + c2)
            if scale == len(weights) - 1:
                similarity *= (2 * mx * my + c1) / (mx**2 + my**2 + c1)
            value *= max(similarity.mean(), 0) ** weight
            x, y = (p[: len(p) // 2 * 2, : p.shape[1] // 2 * 2] for p in (x, y))
            x, y = (p.reshape(len(p) // 2, 2, -1, 2).mean((1, 3)) for p in (x, y))
        values.append(value)
    return float(np.mean(values))


def test_ms_ssim_is_the_papers(large: np.ndarray, noisy: np.ndarray) -> None:
    pytest.importorskip("pytorch_msssim")
    large, noisy = large[:176, :192], noisy[:176, :192]
    value = evaluate.ms_ssim(large, noisy)
    assert value == pytest.approx(_reference_ms_ssim(large, noisy), abs=1e-4)
    assert value < evaluate.ms_ssim(large, large) == pytest.approx(1)
    assert evaluate.ms_ssim(large[:160], noisy[:160]) is None


def _curve(rates: list[float], name: str = "curve") -> dict[str, object]:
    return {"name": name, "results": {"bpp": rates, "psnr-rgb": [30.0, 33.0, 36.0, 39.0, 42.0]}}


def test_bd_rate_of_known_curves() -> None:
    pytest.importorskip("bjontegaard")
    anchor = _curve([0.2, 0.4, 0.7, 1.2, 2.0])
    cheaper = _curve([0.8 * rate for rate in (0.2, 0.4, 0.7, 1.2, 2.0)])
    assert evaluate.compare(anchor, cheaper)["bd_rate_psnr"] == pytest.approx(-20, abs=1e-6)
    assert evaluate.compare(cheaper, anchor)["bd_rate_psnr"] == pytest.approx(25, abs=1e-6)
    better = {"name": "better", "results": {"bpp": [0.2, 0.4, 0.7, 1.2, 2.0], "psnr-rgb": [31, 34, 37, 40, 43]}}
    assert evaluate.compare(anchor, better)["bd_psnr"] == pytest.approx(1, abs=1e-6)
    far = {"name": "far", "results": {"bpp": [1.0, 2.0], "psnr-rgb": [50.0, 60.0]}}
    assert math.isnan(evaluate.compare(anchor, far)["bd_rate_psnr"])
    with pytest.raises(ValueError, match="two points"):
        evaluate.compare(anchor, _curve([1.0, 0.8, 0.7, 0.6, 0.5]))


def test_measurements_are_of_real_files(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    coder = evaluate.BundleCoder(codec, "a", {"parameters": {"skip": 0}})
    seen: list[evaluate.Measurement] = []
    found = evaluate.measure(coder, {"harbour": harbour}, (20, 60), seen.append)
    assert found == seen
    assert [item.quality for item in found] == [20, 60]
    data = codec.encode(harbour, quality=20, parameters={"skip": 0})
    assert found[0].bpp == 8 * len(data) / (harbour.shape[0] * harbour.shape[1])
    assert found[0].psnr == evaluate.psnr(codec.decode(data), harbour)
    assert found[0].ms_ssim is None  # 160 rows
    assert min(found[0].encode_ms, found[0].decode_ms) > 0


def test_results_have_compressais_layout(large: np.ndarray) -> None:
    pytest.importorskip("pytorch_msssim")
    coder = PILLOW["jpeg"]
    pictures = {"a": large, "b": large[::-1]}
    whole = evaluate.results(coder, evaluate.measure(coder, pictures, (80, 20), lambda _: None))
    assert set(whole["results"]) == {"psnr-rgb", "ms-ssim-rgb", "bpp", "encoding_time", "decoding_time"}
    assert whole["qualities"] == [20, 80]  # by rate
    assert whole["results"]["bpp"] == sorted(whole["results"]["bpp"])
    assert len(whole["pictures"]) == 4
    mean = np.mean([item["psnr"] for item in whole["pictures"] if item["quality"] == 80])
    assert whole["results"]["psnr-rgb"][1] == pytest.approx(mean, abs=1e-4)


def test_command_measures_compares_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("pytorch_msssim", "bjontegaard", "matplotlib"):
        pytest.importorskip(package)
    ours, theirs, image = tmp_path / "ours.json", tmp_path / "theirs.json", tmp_path / "curves.png"
    assert main(["evaluate", "shallow", str(HARBOUR), "-q", "10,40,70", "-o", str(ours), "--name", "mine"]) == 0
    assert main(["evaluate", "jpeg", str(HARBOUR), "-q", "30,60,85", "-o", str(theirs), "--quiet"]) == 0
    written = json.loads(ours.read_text())
    assert written["name"] == "mine" and written["qualities"] == [10, 40, 70]
    capsys.readouterr()
    assert main(["evaluate", "--compare", str(theirs), str(ours), "--plot", str(image)]) == 0
    assert "mine against jpeg: BD-rate -" in capsys.readouterr().out
    assert image.read_bytes().startswith(b"\x89PNG")


def _results(name: str, pictures: dict[str, str]) -> dict[str, object]:
    rows = [{"picture": picture, "sha256": digest} for picture, digest in pictures.items() for _ in range(2)]
    return {**_curve([0.2, 0.4, 0.7, 1.2, 2.0], name), "pictures": rows}


def test_results_of_different_pictures_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures are known by their pixels, in result files from before there was a digest by their names."""
    pytest.importorskip("bjontegaard")
    whole = _results("whole", {"a": "1", "b": "2", "c": "3"})
    unnamed = _curve([0.3, 0.4, 0.7, 1.2, 2.0], "unnamed")
    for test, says in (
        (_results("same", {"a": "1", "b": "2", "c": "3"}), None),
        (_results("renamed", {"x": "1", "y": "2", "z": "3"}), None),
        (_results("old", {"a": "", "b": "", "c": ""}), None),
        (unnamed, None),
        (_results("part", {"a": "1", "b": "2"}), "1 only in whole (c)"),
        (_results("more", {"a": "1", "b": "2", "c": "3", "d": "4"}), "1 only in more (d)"),
        (_results("resized", {"a": "1", "b": "2", "c": "9"}), "1 only in whole (c); 1 only in resized (c)"),
        (_results("old part", {"a": "", "b": ""}), "1 only in whole (c)"),
    ):
        files = [tmp_path / "anchor.json", tmp_path / "test.json"]
        for file, content in zip(files, (whole, test), strict=True):
            file.write_text(json.dumps(content))
        code = main(["evaluate", "--compare", *map(str, files)])
        printed, said = capsys.readouterr()
        if says is None:
            assert code == 0 and "BD-rate" in printed
            assert ("list their pictures" in said) == (test is unnamed)
        else:
            assert code == 2 and printed == "" and says in said and said.count("\n") == 1


def test_measurements_say_of_which_pixels(harbour: np.ndarray, tmp_path: Path) -> None:
    coder = PILLOW["jpeg"]
    pictures = {"a": harbour[:64, :64], "b": harbour[:32, :64], "c": harbour[:64, :32].reshape(32, 64, 3)}
    found = evaluate.measure(coder, {**pictures, "again": pictures["a"]}, (50,), lambda _: None)
    digests = [item.sha256 for item in found]
    assert digests[0] == digests[3] and len(set(digests)) == 3
    for folder in ("x", "y"):  # two pictures of one name are two pictures
        (tmp_path / folder).mkdir()
        Image.fromarray(harbour[: 16 if folder == "x" else 24, :16]).save(tmp_path / folder / "same.png")
    out = tmp_path / "out.json"
    folders = [str(tmp_path / "x"), str(tmp_path / "y")]
    assert main(["evaluate", "jpeg", *folders, "-q", "50", "-o", str(out), "--quiet"]) == 0
    assert len(json.loads(out.read_text())["pictures"]) == 2


def test_folders_are_trees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "tree" / "sub" / "a.png")
    (tmp_path / "tree" / "notes.txt").touch()
    out = tmp_path / "out.json"
    assert main(["evaluate", "jpeg", str(tmp_path / "tree"), "--qualities", "50", "-o", str(out)]) == 0
    assert [row["picture"] for row in json.loads(out.read_text())["pictures"]] == ["a"]
    assert "left out: 1 of other types" in capsys.readouterr().err


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    broken, absent = tmp_path / "broken.json", str(tmp_path / "absent.json")
    broken.write_text("{}")
    assert main(["evaluate"]) == 2
    assert main(["evaluate", "shallow"]) == 2
    assert main(["evaluate", "--compare", str(broken)]) == 2
    assert main(["evaluate", "--compare", str(broken), str(broken)]) == UnsupportedError.exit_code
    assert main(["evaluate", "--compare", absent, absent]) == ImageError.exit_code


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, large: np.ndarray) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    with pytest.raises(UnsupportedError, match=r"nicrt\[evaluate\]"):
        evaluate.ms_ssim(large, large)


@pytest.mark.parametrize("name", sorted(PILLOW))
def test_committed_results_are_of_all_of_kodak(name: str) -> None:
    folder = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "kodak"
    found = evaluate.read_results(folder / f"{name}.json")
    assert len({item["picture"] for item in found["pictures"]}) == 24

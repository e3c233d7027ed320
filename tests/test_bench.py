"""`nicrt bench` measures what it says: every step named, times that add up, JSON that compares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nicrt
from conftest import GOLDEN
from nicrt.runtime.bench import percentiles, photograph
from nicrt.runtime.cli import main


def test_bench_of_a_bundle_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.json"
    file = str(GOLDEN / "shallow" / "harbour-q20.nic")
    arguments = ["bench", "shallow", file, "--size", "128x64", "--repeat", "3", "--batch", "4", "--threads", "1"]
    assert main([*arguments, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert [run["name"] for run in result["runs"]] == ["shallow 128x64", "harbour-q20.nic"]
    for run in result["runs"]:
        steps, whole = run["steps"], run["whole"]
        assert {"parse", "entropy z", "graph hyper", "entropy y", "graph synthesis"} <= set(steps)
        assert whole["p50_ms"] <= whole["p90_ms"] <= whole["p99_ms"] <= whole["max_ms"]
        assert 0 < sum(step["p50_ms"] for step in steps.values()) < 1.5 * whole["max_ms"]
        assert run["batch"]["files"] == 4
        assert run["cold_start"]["p50_ms"] > 20 and 20 < run["cold_start"]["peak_rss_mib"] < 400
    assert [peer["name"] for peer in result["peers"]][:2] == ["JPEG (Pillow)", "WEBP (Pillow)"]
    assert "graph synthesis" in capsys.readouterr().out
    assert main(["bench", "--compare", str(out), str(out)]) == 0
    assert "shallow 128x64:graph hyper" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["bench"], 2),
        (["bench", "--compare", "nothing.json", "nothing.json"], nicrt.ImageError.exit_code),
        (["bench", "no-such-bundle"], nicrt.UnsupportedError.exit_code),
    ],
)
def test_bench_refuses(arguments: list[str], code: int) -> None:
    assert main(arguments) == code


def test_compare_refuses_other_json(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert main(["bench", "--compare", str(other), str(other)]) == nicrt.UnsupportedError.exit_code


def test_percentiles_and_photograph() -> None:
    times = percentiles([0.001, 0.002, 0.003, 0.010])
    assert times["p50_ms"] == pytest.approx(2.5) and times["max_ms"] == pytest.approx(10)
    picture = photograph(100, 60)
    assert picture.shape == (60, 100, 3) and 20 < picture.std() < 90
    assert (picture == photograph(100, 60)).all() and (picture != photograph(100, 60, seed=2)).any()


def test_plots_leave_nothing_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    file = str(GOLDEN / "shallow" / "pixel.nic")
    arguments = ["bench", file, "--repeat", "1", "--threads", "1", "--plot"]
    assert main([*arguments, str(tmp_path / "a.svg")]) == 0
    assert "plot: " in capsys.readouterr().err and (tmp_path / "a.svg").read_text().startswith("<?xml")
    assert main([*arguments, str(tmp_path / "a.nothing")]) == nicrt.ImageError.exit_code
    assert pyplot.get_fignums() == before

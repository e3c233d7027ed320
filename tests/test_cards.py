"""Documents that say things of the product: model cards by the committed results, NOTICE, the table of threats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import ROOT
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.installed import SHIPPED

CARDS = ROOT / "export" / "cards"
BUNDLES = sorted(file.parent.name for file in SHIPPED.glob("*/manifest.json"))
MONOTONE = json.loads((ROOT / "benchmarks" / "results" / "monotone.json").read_text())


def test_every_bundle_has_a_card() -> None:
    assert sorted(path.stem for path in CARDS.glob("*.md")) == BUNDLES


@pytest.mark.parametrize("name", BUNDLES)
def test_cards_say_what_was_measured(name: str) -> None:
    text = (CARDS / f"{name}.md").read_text()
    results = json.loads((ROOT / "benchmarks" / "results" / "kodak" / f"{name}.json").read_text())
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    means = results["results"]
    expected = []
    for i, quality in enumerate(results["qualities"]):
        worst = min((p["psnr"], p["picture"]) for p in results["pictures"] if p["quality"] == quality)
        bpp, psnr, ms_ssim = (means[key][i] for key in ("bpp", "psnr-rgb", "ms-ssim-rgb"))
        expected.append([f"{quality:g}", f"{bpp:.3f}", f"{psnr:.2f}", f"{ms_ssim:.4f}", f"{worst[0]:.2f} ({worst[1]})"])
    assert rows[2:] == expected


@pytest.mark.parametrize("name", BUNDLES)
def test_cards_say_what_a_bundle_is_for(name: str) -> None:
    text = (CARDS / f"{name}.md").read_text()
    bundle = Bundle.open(SHIPPED / name)
    assert bundle.card() == text and f"**Licence**: {bundle.manifest.license}" in text
    for part in ("**Training data**", "**Training**", "## Measured", "**For**", "**Not for**", "## Known weaknesses"):
        assert part in text


@pytest.mark.parametrize("name", [name for name in BUNDLES if name != "flow"])  # which keeps type and dither
def test_cards_say_what_is_lost(name: str) -> None:
    text = " ".join((CARDS / f"{name}.md").read_text().partition("## Known weaknesses")[2].split())
    walked = MONOTONE["bundles"][name]
    for picture, word in (("text", "ype"), ("dither", "dither")):
        best = max(walked[picture]["psnr_db"])
        found = re.search(rf"{word}[^.;,]*? (\d+\.\d) dB", text)
        assert found is not None and abs(float(found[1]) - best) < 0.06


DOCUMENTS = [*sorted(CARDS.glob("*.md")), ROOT / "docs" / "THREATS.md"]


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_are_there(file: Path) -> None:
    text = file.read_text()
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (file.parent / link).exists(), link
    for name in re.findall(r"`((?:tests|cpp_ext|runtime)/[^`*]+)`", text):
        assert (ROOT / name).exists(), name


def test_environment_variables_are_in_the_table_of_threats() -> None:
    table = (ROOT / "docs" / "THREATS.md").read_text()
    sources = [*(ROOT / "runtime").rglob("*.py"), *(ROOT / "cpp_ext" / "src").rglob("*.cpp")]
    used = {name for path in sources for name in re.findall(r'"(NICRT_[A-Z_]+)"', path.read_text())}
    assert used and all(f"`{name}`" in table for name in used)

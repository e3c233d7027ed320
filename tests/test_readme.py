"""What the README and the manifests say is what is committed."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from conftest import ROOT

TEXT = (ROOT / "README.md").read_text()


def test_tables_are_those_of_the_results() -> None:
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "readme_tables.py"), "--check"], check=True)


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if not link.startswith("http")]
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", ["shallow", "slim", "mean-scale", "compass", "flow"])
def test_manifests_have_the_kodak_results_of_their_weights(name: str) -> None:
    stated = json.loads((ROOT / "engines" / name / "manifest.json").read_text())["provenance"]["kodak"]
    measured = json.loads((ROOT / "benchmarks" / "results" / "kodak" / f"{name}.json").read_text())
    assert stated["quality"] == measured["qualities"]
    assert (stated["bpp"], stated["psnr_db"]) == (measured["results"]["bpp"], measured["results"]["psnr-rgb"])

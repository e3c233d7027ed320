"""What the README shows is what is committed."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import ROOT

TEXT = (ROOT / "README.md").read_text()


def test_tables_are_those_of_the_results() -> None:
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "readme_tables.py"), "--check"], check=True)


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if not link.startswith("http")]
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []

"""Versions of what is installed, for figures to be read by."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


def versions(names: Sequence[str]) -> dict[str, str]:
    """Those of these distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

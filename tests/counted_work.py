"""Counts the multiplications of all graphs that run, by their manifest's figures: the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nicrt


class Work:
    """Of the graphs of one codec."""

    def __init__(self, codec: nicrt.Codec) -> None:
        self._codec = codec

    @property
    def macs(self) -> float:
        graphs = self._codec.bundle.manifest.graphs
        report = self._codec._graphs.engine.report()
        return sum((graphs[name].macs_per_pixel or 0.0) * pixels for name, _, _, _, pixels in report)

    def of(self, run: Callable[[], Any]) -> tuple[Any, float]:
        """Result and multiplications."""
        before = self.macs
        return run(), self.macs - before

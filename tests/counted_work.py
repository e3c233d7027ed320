"""Counts the multiplications of all graphs that run, by their manifest's figures: the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicrt.runtime.interpreter import Interpreter


class Work:
    """replace: sets an attribute of a class, as `setattr` does, or as pytest's `monkeypatch.setattr`, which takes it
    back."""

    def __init__(self, replace: Callable[[type, str, Any], None]) -> None:
        self.macs = 0.0
        call, evaluate = Interpreter._call, Interpreter.evaluate

        def counted_call(runner: Any, name: str, run: Any, item: Any, job: Any, rows: range, *rects: Any) -> Any:
            self._add(runner, name, rects[0].area * len(rows) / item.padded[0])
            return call(runner, name, run, item, job, rows, *rects)

        def counted_evaluate(runner: Any, name: str, run: Any, item: Any, job: Any, rect: Any, given: Any) -> Any:
            self._add(runner, name, rect.area)
            return evaluate(runner, name, run, item, job, rect, given)

        replace(Interpreter, "_call", counted_call)
        replace(Interpreter, "evaluate", counted_evaluate)

    def _add(self, runner: Interpreter, name: str, pixels: float) -> None:
        self.macs += (runner.bundle.manifest.graphs[name].macs_per_pixel or 0.0) * pixels

    def of(self, run: Callable[[], Any]) -> tuple[Any, float]:
        """Result and multiplications."""
        before = self.macs
        return run(), self.macs - before

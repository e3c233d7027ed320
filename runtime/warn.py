"""Warnings that point at the code that called nicrt, however deep inside they arise."""

from __future__ import annotations

import sys
import warnings

INSIDE = {__name__.partition(".")[0], "contextlib"}  # decorators of contextlib lie between our own functions


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn as if the nearest caller outside this package had."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)

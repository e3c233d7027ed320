"""`--json`: one line of JSON per file on standard output."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from .files import STANDARD, write
from .jobs import EXIT_FAILED
from .report import described

_lock = threading.Lock()  # jobs end side by side; their lines must not


def facts_or_error(
    names: Mapping[str, str], facts: Callable[[], Mapping[str, Any]], *, as_json: bool
) -> Mapping[str, Any]:
    """What there is to say of a file, after its `names`; in JSON too where that is wanted. For one that fails the line
    has `error` and `exit_code`, and the error goes on.
    """
    try:
        found = {**names, **facts()}
    except BrokenPipeError:
        raise
    except Exception as error:
        if as_json:
            text, code = described(error, EXIT_FAILED)
            _write_json({**names, "error": text, "exit_code": code})
        raise
    if as_json:
        _write_json(found)
    return found


def _write_json(facts: Mapping[str, Any]) -> None:
    """Raises ImageError where standard output takes no more."""
    line = json.dumps(facts).encode() + b"\n"
    with _lock:
        write(STANDARD, line)

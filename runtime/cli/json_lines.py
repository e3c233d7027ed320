"""`--json`: one line of JSON per file on standard output."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import NicrtError
from .files import STANDARD, write

_lock = threading.Lock()  # jobs end side by side; their lines must not


def write_json(facts: Mapping[str, Any]) -> None:
    """Raises ImageError where standard output takes no more."""
    line = json.dumps(facts).encode() + b"\n"
    with _lock:
        write(STANDARD, line)


def facts_or_error(file: str, facts: Callable[[], Mapping[str, Any]], *, as_json: bool) -> Mapping[str, Any]:
    """What there is to say of a file, in JSON too where that is wanted. For one that fails the line has `error` and
    `exit_code`, and the error goes on.
    """
    try:
        found = {"file": file, **facts()}
    except NicrtError as error:
        if as_json:
            write_json({"file": file, "error": str(error), "exit_code": error.exit_code})
        raise
    if as_json:
        write_json(found)
    return found

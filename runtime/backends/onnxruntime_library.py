"""ONNX Runtime as all of nicrt imports it: with its telemetry off.

From 1.32 on it writes an id of the device and a database into the user's cache folder and looks a collector's host up
in the network, unless ORT_DISABLE_TELEMETRY is 1 when it is loaded: its `disable_telemetry_events()` comes too late.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from types import ModuleType

from ..errors import UnsupportedError

ALLOW_VARIABLE = "NICRT_ORT_TELEMETRY"
"""1: leave ONNX Runtime's telemetry as its makers ship it."""
_DISABLE_VARIABLE = "ORT_DISABLE_TELEMETRY"  # ONNX Runtime's own: a user who has set it has decided


def disable_telemetry() -> None:
    """To be called before anything imports ONNX Runtime in this process."""
    if os.environ.get(ALLOW_VARIABLE, "0") != "1":
        os.environ.setdefault(_DISABLE_VARIABLE, "1")


def has_onnxruntime() -> bool:
    """Whether it is installed. It is not imported for that."""
    return find_spec("onnxruntime") is not None


def import_onnxruntime() -> ModuleType:
    """Raises UnsupportedError where it is not installed."""
    disable_telemetry()
    try:
        import onnxruntime
    except ImportError:
        raise UnsupportedError("ONNX Runtime is not installed: pip install 'nicrt[cpu]' (or onnxruntime)") from None
    module: ModuleType = onnxruntime
    return module

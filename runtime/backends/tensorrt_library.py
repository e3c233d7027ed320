"""TensorRT, whichever library of that API is installed, and the GPU that it would run on.

`tensorrt` makes engines for the very GPU on which it builds them. `tensorrt_rtx` makes engines ahead of time, without a
GPU, for every generation that it knows; kernels are compiled when an engine is first run.
"""

from __future__ import annotations

import re
from collections import deque
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ..errors import UnsupportedError, one_line

# The bindings of TensorRT-RTX come as a wheel of their own, whose package has another name.
_MODULES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx", "tensorrt_rtx_bindings": "tensorrt_rtx"}
_LAST_ERRORS = 4


class Library:
    """`module`: the Python bindings. `name`: "tensorrt" or "tensorrt_rtx"."""

    def __init__(self, module: Any, name: str) -> None:
        self.module = module
        self.name = name
        self.version: str = module.__version__
        self._errors: deque[str] = deque(maxlen=_LAST_ERRORS)
        self.log = _log(module, self._errors)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def ahead_of_time(self) -> bool:
        """Whether engines are made without a GPU, for any that the library supports."""
        return self.name == "tensorrt_rtx"

    @property
    def capabilities(self) -> list[str]:
        """Compute capabilities that engines made ahead of time run on: "sm_75", ..."""
        names = getattr(self.module, "ComputeCapability", None)
        return sorted(name.lower().replace("sm", "sm_") for name in dir(names) if re.fullmatch(r"SM\d+", name))

    def target(self) -> str:
        """What an engine made here and now is for. Raises UnsupportedError where it would be for nothing."""
        if self.ahead_of_time:
            return f"ahead of time: {' '.join(self.capabilities)}"
        name = gpu_name()
        if name is None:
            raise UnsupportedError(
                "TensorRT builds for the GPU of the machine it runs on, and there is none here; tensorrt_rtx builds "
                "without one: pip install 'nicrt[tensorrt]'"
            )
        return name

    def errors(self) -> str:
        """What the library complained about since this was last asked, on one line."""
        lines = list(self._errors)
        self._errors.clear()
        return "; ".join(lines) or "no reason given"


def _log(module: Any, errors: deque[str]) -> Any:
    class Log(module.ILogger):  # type: ignore[misc]
        """Keeps errors; the rest is of use to developers of TensorRT only."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                errors.append(" ".join(message.split()))

    return Log()


@cache
def library() -> Library:
    """Raises UnsupportedError when neither library is installed."""
    for module, name in _MODULES.items():
        if find_spec(module) is not None:
            try:
                return Library(import_module(module), name)
            except (ImportError, OSError) as error:
                raise UnsupportedError(f"{module} is installed but cannot be loaded: {one_line(error)}") from error
    raise UnsupportedError("TensorRT is not installed: pip install 'nicrt[tensorrt]'")


def gpu_name() -> str | None:
    """Name and compute capability of the first GPU, "NVIDIA L4 (sm_89)"; None without a GPU or the CUDA module."""
    try:
        device = import_module("nicrt._device_cuda")
    except ImportError:
        return None
    return str(device.device_name(0)) if device.available() else None


def usable_gpu(used: Library) -> str:
    """The GPU that engines run on. Raises UnsupportedError where there is none that this library supports."""
    name = gpu_name()
    if name is None:
        raise UnsupportedError(
            "TensorRT needs an NVIDIA GPU with its driver, and nicrt built with CUDA; use another backend here"
        )
    capability = re.search(r"sm_\d+", name)
    if used.ahead_of_time and (capability is None or capability[0] not in used.capabilities):
        raise UnsupportedError(
            f"{used} does not run on {name}, only on {', '.join(used.capabilities)}; install `tensorrt` for this GPU"
        )
    return name

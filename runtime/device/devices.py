"""The device that a name means: an NVIDIA GPU, or the processor in its place."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..errors import UnsupportedError, one_line

HOST, CUDA = KINDS = ("host", "cuda")


@dataclass(frozen=True)
class Device:
    """module: nicrt._device_cuda or nicrt._device_host, which have the same names (and so no common type). index: of
    the device among those of its kind.
    """

    module: Any
    index: int

    @property
    def kind(self) -> str:
        """HOST or CUDA."""
        return str(self.module.kind)

    @property
    def name(self) -> str:
        """As its maker calls it."""
        return str(self.module.device_name(self.index))


def named(name: str) -> tuple[str, int]:
    """Kind and number of "cuda", "cuda:1" (or a torch.device of that name), or "host": this processor in the place of a
    GPU, for tests. Raises ValueError for another name.
    """
    kind, colon, number = str(name).partition(":")
    if kind not in KINDS or (colon and not number.isdecimal()):
        raise ValueError(f"a device is 'cuda', 'cuda:N' or 'host', not {str(name)!r}")
    return kind, int(number or 0)


def open_device(name: str) -> Device:
    """The device of a name that `named` takes. Raises ValueError for another, or for a number that no GPU has,
    UnsupportedError when this build or this machine has no CUDA.
    """
    kind, index = named(name)
    try:
        module = import_module(f"nicrt._device_{kind}")
    except ImportError as error:
        raise UnsupportedError(
            f"this build of nicrt cannot decode on {kind!r} ({one_line(error)}); install it again where the "
            "CUDA toolkit's nvcc is on the PATH"
        ) from None
    count = module.device_count()
    if count == 0:
        raise UnsupportedError("there is no NVIDIA GPU that can be used: look at what nvidia-smi says of the driver")
    if index >= count:
        raise ValueError(f"there is no device {str(name)!r}: {kind} has {count}")
    return Device(module, index)

"""What a backend must offer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from ..errors import UnsupportedError
from ..manifest import Graph

Array = npt.NDArray[Any]


class OtherKindError(UnsupportedError):
    """The graph is not of the kind that this backend is for: passing it on is no fallback to report."""


class Executable(Protocol):
    """One graph, ready to run from any thread."""

    @property
    def workspace_bytes_per_pixel(self) -> float | None:
        """What it needs besides its inputs and outputs, None where that is what the manifest says."""
        ...

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        """Inputs by port name → the named outputs. Raises InternalError when the backend fails."""
        ...


class Backend(Protocol):
    name: str

    def load(self, graph: Graph, data: bytes) -> Executable:
        """Raises UnsupportedError when this backend cannot run the graph, OtherKindError when it is not meant to."""
        ...

    def identity(self) -> str:
        """What decides its arithmetic (library, version, device): a proof holds for one identity."""
        ...

"""What a backend must offer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from ..bundle import StoredGraph
from ..errors import UnsupportedError

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


@runtime_checkable
class Stoppable(Protocol):
    """An executable that can be stopped while it runs."""

    def run_within(self, seconds: float, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
        """As `Executable.run`. Raises OverLimitError after so many seconds."""
        ...


class Backend(Protocol):
    name: str

    def load(self, stored: StoredGraph) -> Executable:
        """Raises UnsupportedError when this backend cannot run the graph, OtherKindError when it is not meant to."""
        ...

    def identity(self) -> str:
        """What decides its arithmetic (library, version, device): a proof holds for one identity."""
        ...

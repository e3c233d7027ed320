"""A backend whose graphs are something else."""

from __future__ import annotations

from collections.abc import Callable

from nicrt.runtime.backends import Backend, Executable
from nicrt.runtime.bundle import StoredGraph


class WrappedBackend:
    """wrap: what takes the place of a graph of this name."""

    def __init__(self, backend: Backend, wrap: Callable[[str, Executable], Executable]) -> None:
        self.name, self.identity = backend.name, backend.identity
        self._backend, self._wrap = backend, wrap

    def load(self, stored: StoredGraph) -> Executable:
        return self._wrap(stored.name, self._backend.load(stored))

"""A codec bundle, a folder or one packed file: opened, checked, its parts read and hashed when they are used.

All of it is the core's (cpp_ext/include/nicrt/bundle.hpp); here it gets the names and types of Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy.typing as npt

from nicrt import _core

from .errors import UnsupportedError
from .manifest import Graph, Manifest

MANIFEST = "manifest.json"
MAX_CARD_BYTES = 1 << 20


class BadPartError(UnsupportedError):
    """A part of a bundle that is missing, or not what the manifest lists: the bundle is not used."""


@contextmanager
def _reading_a_part() -> Iterator[None]:
    try:
        yield
    except UnsupportedError as error:
        raise BadPartError(str(error)) from None


@dataclass(frozen=True)
class StoredGraph:
    """A graph of a bundle, for what runs it. onnx, weights: read its forms, as `Bundle.graph_bytes` and
    `Bundle.weights` do, and raise what these raise."""

    name: str
    entry: Graph
    onnx: Callable[[], bytes]
    weights: Callable[[], dict[str, npt.NDArray[Any]]]

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 over what the graph computes (docs/BUNDLE.md, section 7). Raises UnsupportedError for an entry
        that no bundle may have."""
        return _core.check_graph(self.name, msgspec.json.encode(self.entry))


class Bundle:
    """A bundle whose manifest, tables and ids have been checked. Every other part is checked when it is read.

    path: of its folder or packed file, None for one in memory. core: what has read it."""

    def __init__(self, path: Path | None, core: _core.Bundle) -> None:
        self.path, self.core = path, core

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """The bundle in a folder or a packed file. Raises UnsupportedError for what is not a bundle that this version
        can trust."""
        return cls(Path(path), _core.Bundle.open(os.fspath(path)))

    @classmethod
    def of_bytes(cls, data: bytes | bytearray | memoryview) -> Bundle:
        """A packed bundle in memory. Raises as `open` does."""
        view = memoryview(data)
        return cls(None, _core.Bundle.of_bytes(view if view.c_contiguous else view.tobytes()))

    @cached_property
    def manifest(self) -> Manifest:
        return msgspec.json.decode(self.core.manifest, type=Manifest)

    @property
    def size_bytes(self) -> int:
        """Bytes of all the bundle's files."""
        return self.core.size_bytes

    @property
    def decoder_bytes(self) -> int:
        """Bytes of what decoding reads: of a graph with two forms, the native one."""
        return self.core.decoder_bytes

    def graph(self, name: str) -> StoredGraph:
        """A graph with its forms, none of which has been read yet."""
        return StoredGraph(name, self.manifest.graphs[name], lambda: self.graph_bytes(name), lambda: self.weights(name))

    @_reading_a_part()
    def graph_bytes(self, name: str) -> bytes:
        """The ONNX model of a graph, its hash checked, read and written again: what any library gets is our writing.
        Raises BadPartError where the graph has none, or not this one."""
        return self.core.onnx(name)

    @_reading_a_part()
    def weights(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """What the native form of a graph uses of the stored tensors, by their names, hashes checked. Raises
        BadPartError where the graph has no native form, or where a tensor is not what the manifest lists."""
        return self.core.weights(name)

    def card(self) -> str | None:
        """The model card, Markdown. Raises UnsupportedError where it is not the one that the manifest lists."""
        return self.core.card()

    def check_parts(self) -> None:
        """Read every part. Raises UnsupportedError for one that is missing or not the manifest's."""
        self.core.check_parts()

    def packed(self) -> bytes:
        """The bundle in one file, the same bytes for the same bundle. Raises as `check_parts` does."""
        return self.core.packed()

"""A codec bundle, a folder or one packed file: opened, checked, its parts read and hashed when they are used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from . import manifest as manifests
from . import safetensors_file
from .byte_range import MEMORY, ByteRange
from .errors import UnsupportedError
from .ids import Ids, file_leaf, graph_hash, tensor_leaf
from .manifest import Graph, Manifest, Variant
from .native_check import check_sums
from .onnx_model import check_ports, read_model
from .safetensors_file import TensorFile
from .tables import MAX_TABLES_BYTES, TableGroup
from .validate import check_manifest

MANIFEST = "manifest.json"
AGAIN = "export or install the bundle again"
PACKED_MANIFEST = "nicrt.manifest"
"""Key in a packed bundle's metadata."""
MAX_GRAPH_BYTES = 512 << 20
MAX_WEIGHTS_BYTES = 1 << 30
MAX_CARD_BYTES = 1 << 20


class Files(Protocol):
    """A bundle's files, by the names that its manifest has for them."""

    def open(self, name: str) -> ByteRange:
        """Raises UnsupportedError where there is no such file."""
        ...


class FolderFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str) -> ByteRange:
        return ByteRange.of_file(self._folder / name)


class PackedFiles:
    def __init__(self, packed: TensorFile) -> None:
        self._packed = packed

    def open(self, name: str) -> ByteRange:
        return self._packed.bytes_of(name)


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

    @property
    def sha256(self) -> str:
        """Hex SHA-256 over what the graph computes (docs/BUNDLE.md, section 7)."""
        return graph_hash(self.entry)


class Bundle:
    """A bundle whose manifest, tables and ids have been checked. Every other part is checked when it is read.

    path: of its folder or packed file, None for one in memory."""

    def __init__(
        self, path: Path | None, files: Files, manifest: Manifest, text: bytes, groups: dict[str, TableGroup]
    ) -> None:
        self.path = path
        self.files = files
        self.manifest = manifest
        self.groups = groups
        self._text = text
        self._weights: TensorFile | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """The bundle in a folder or a packed file. Raises UnsupportedError for what is not a bundle that this version
        can trust."""
        place = Path(path)
        if place.is_dir():
            text = ByteRange.of_file(place / MANIFEST).all(manifests.MAX_MANIFEST_BYTES)
            return cls._checked(place, FolderFiles(place), text)
        return cls._packed(place, TensorFile.open(ByteRange.of_file(place)))

    @classmethod
    def of_bytes(cls, data: bytes | bytearray | memoryview) -> Bundle:
        """A packed bundle in memory. Raises as `open` does."""
        return cls._packed(None, TensorFile.open(ByteRange.of_memory(bytes(memoryview(data)))))

    @classmethod
    def _packed(cls, path: Path | None, file: TensorFile) -> Bundle:
        bundle = cls._checked(path, PackedFiles(file), packed_manifest(file))
        extra = set(file.tensors) - set(bundle.manifest.files)
        if extra:
            raise UnsupportedError(f"{file.content.place}: {min(extra)!r} in it is no part of the bundle")
        return bundle

    @classmethod
    def _checked(cls, path: Path | None, files: Files, text: bytes) -> Bundle:
        place = MEMORY if path is None else str(path)
        manifest = decoded(text, place)
        groups = _read_tables(files, manifest)
        check_manifest(manifest, groups)
        ids = Ids(manifest)
        for name, variant in manifest.variants.items():
            if variant.symbol_id != ids.symbol_id(variant.program):
                raise UnsupportedError(f"{place}: variant {name!r} is not what its symbol id says; export it again")
            if variant.picture_id != ids.picture_id(variant.program):
                raise UnsupportedError(f"{place}: variant {name!r} is not what its picture id says; export it again")
        return cls(path, files, manifest, text, groups)

    @property
    def size_bytes(self) -> int:
        """Bytes of all the bundle's files."""
        return len(self._text) + sum(self.files.open(name).size for name in self.manifest.files)

    @property
    def decoder_bytes(self) -> int:
        """Bytes of what decoding needs: in the file of weights, what the decoder's graphs use."""
        graphs = [graph for graph in self.manifest.graphs.values() if not graph.encoder]
        names = {self.manifest.tables.file, *(graph.onnx.file for graph in graphs if graph.onnx is not None)}
        views = {name: view for g in graphs if g.native is not None for name, view in g.native.tensors.items()}
        stored = self._weights_file().tensors if views else {}
        return (
            len(self._text)
            + sum(self.files.open(name).size for name in names)
            + sum(stored[name].size for name in views if name in stored)
        )

    def graph(self, name: str) -> StoredGraph:
        """A graph with its forms, none of which has been read yet."""
        return StoredGraph(name, self.manifest.graphs[name], lambda: self.graph_bytes(name), lambda: self.weights(name))

    @_reading_a_part()
    def graph_bytes(self, name: str) -> bytes:
        """The ONNX model of a graph, its hash checked, read and written again: what any library gets is our writing.
        Raises BadPartError where the graph has none, or not this one."""
        entry = self.manifest.graphs[name].onnx
        if entry is None:
            raise UnsupportedError(f"graph {name!r} of this bundle has no ONNX form")
        content = self.files.open(entry.file)
        data = content.all(MAX_GRAPH_BYTES)
        if file_leaf(data) != entry.sha256:
            raise UnsupportedError(f"{content.place}: not the file that the manifest lists; {AGAIN}")
        try:
            model = read_model(data)
            check_ports(model, self.manifest.graphs[name])
            return model.write()
        except UnsupportedError as error:
            raise UnsupportedError(f"{content.place}: {error}") from None

    @_reading_a_part()
    def weights(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """What the native form of a graph uses of the stored tensors, by their names, hashes checked. Raises
        BadPartError where the graph has no native form, or where a tensor is not what the manifest lists."""
        form = self.manifest.graphs[name].native
        if form is None:
            raise UnsupportedError(f"graph {name!r} of this bundle has no native form")
        if not form.tensors:
            return {}
        file = self._weights_file()
        arrays = {}
        for tensor, view in form.tensors.items():
            array = file.read_corner(tensor, view.shape)
            if array.dtype != view.dtype or tensor_leaf(array) != view.sha256:
                raise UnsupportedError(f"{file.content.place}: tensor {tensor!r} is not the manifest's; {AGAIN}")
            arrays[tensor] = array
        check_sums(name, self.manifest.graphs[name], arrays)
        return arrays

    def _weights_file(self) -> TensorFile:
        if self._weights is None:
            assert self.manifest.weights is not None  # the validator asks for it where a native form has tensors
            content = self.files.open(self.manifest.weights.file)
            if content.size > MAX_WEIGHTS_BYTES:
                raise UnsupportedError(f"{content.place}: larger than {MAX_WEIGHTS_BYTES} bytes")
            self._weights = TensorFile.open(content)
        return self._weights

    def card(self) -> str | None:
        """The model card, Markdown. Raises UnsupportedError where it is not the one that the manifest lists."""
        entry = self.manifest.card
        if entry is None:
            return None
        content = self.files.open(entry.file)
        data = content.all(MAX_CARD_BYTES)
        if file_leaf(data) != entry.sha256:
            raise UnsupportedError(f"{content.place}: not the file that the manifest lists; {AGAIN}")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise UnsupportedError(f"{content.place}: not UTF-8 text") from None

    def check_parts(self) -> None:
        """Read every part. Raises UnsupportedError for one that is missing or not the manifest's."""
        for name, graph in self.manifest.graphs.items():
            if graph.onnx is not None:
                self.graph_bytes(name)
            if graph.native is not None:
                self.weights(name)
        self.card()

    def packed(self) -> bytes:
        """The bundle in one file, the same bytes for the same bundle. Raises as `check_parts` does."""
        files = {}
        for name in self.manifest.files:
            content = self.files.open(name)
            files[name] = np.frombuffer(content.all(MAX_WEIGHTS_BYTES), np.uint8)
        data = safetensors_file.write(files, {PACKED_MANIFEST: self._text.decode()})
        # what is checked is what was read, whatever the files are by now
        place = MEMORY if self.path is None else str(self.path)
        Bundle._packed(self.path, TensorFile.open(ByteRange.of_memory(data, place))).check_parts()
        return data

    def variant_of(self, symbol: str) -> tuple[str, Variant] | None:
        """The variant with this symbol id (hex)."""
        return self.manifest.variant_of(symbol)


def packed_manifest(packed: TensorFile) -> bytes:
    """The manifest of a packed bundle. Raises UnsupportedError where there is none."""
    text = packed.metadata.get(PACKED_MANIFEST)
    if text is None:
        raise UnsupportedError(f"{packed.content.place}: a safetensors file, but not a packed codec bundle")
    return text.encode()


def read_manifest(place: Path) -> Manifest:
    """The manifest alone, of a folder or a packed file, for listing and for finding a bundle by id."""
    if place.is_dir():
        return decoded(ByteRange.of_file(place / MANIFEST).all(manifests.MAX_MANIFEST_BYTES), str(place))
    return decoded(packed_manifest(TensorFile.open(ByteRange.of_file(place))), str(place))


def decoded(text: bytes, place: str) -> Manifest:
    """Manifest bytes → manifest. place: for messages. Raises UnsupportedError."""
    try:
        return manifests.decode(text)
    except UnsupportedError as error:
        raise UnsupportedError(f"{place}: {error}") from None


def _read_tables(files: Files, manifest: Manifest) -> dict[str, TableGroup]:
    content = files.open(manifest.tables.file)
    if content.size > MAX_TABLES_BYTES:
        raise UnsupportedError(f"{content.place}: larger than {MAX_TABLES_BYTES} bytes")
    file = TensorFile.open(content)
    groups = {}
    for name, leaf in manifest.tables.groups.items():
        parts = [f"{name}.{part}" for part in TableGroup.PARTS]
        groups[name] = TableGroup(name, {part: file.read(part) for part in parts if part in file.tensors})
        if groups[name].leaf() != leaf:
            raise UnsupportedError(f"{content.place}: tables {name!r} are not those that the manifest lists; {AGAIN}")
    return groups

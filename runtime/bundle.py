"""A codec bundle on disk: opened, checked, its files read when needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import manifest as manifests
from .errors import UnsupportedError
from .ids import picture_id, symbol_id
from .manifest import Manifest, Variant
from .onnx_graph import read_model
from .tables import MAX_TABLES_BYTES, TableGroup
from .validate import check_manifest

MANIFEST = "manifest.json"
PATH_VARIABLE = "NICRT_BUNDLE_PATH"
MAX_GRAPH_BYTES = 512 << 20

# engines/ lies beside runtime/ both in the repository and in the installed package
SHIPPED = Path(__file__).resolve().parent.parent / "engines"


class Bundle:
    """A bundle folder whose manifest, tables and ids have been checked. Graph files are checked when they are read."""

    def __init__(self, path: Path, manifest: Manifest, groups: dict[str, TableGroup]) -> None:
        self.path = path
        self.manifest = manifest
        self.groups = groups

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Raises UnsupportedError when the folder is not a bundle that this version can trust."""
        folder = Path(path)
        manifest = read_manifest(folder)
        groups = _read_tables(folder, manifest)
        check_manifest(manifest, groups)
        for name, variant in manifest.variants.items():
            if variant.symbol_id != symbol_id(variant.program, manifest.graphs, groups):
                raise UnsupportedError(f"{folder}: variant {name!r} is not what its symbol id says; export it again")
            if variant.picture_id != picture_id(variant.program, manifest.graphs):
                raise UnsupportedError(f"{folder}: variant {name!r} is not what its picture id says; export it again")
        return cls(folder, manifest, groups)

    @property
    def size_bytes(self) -> int:
        """Bytes of all the bundle's files."""
        return self._bytes_of(g.file for g in self.manifest.graphs.values())

    @property
    def decoder_bytes(self) -> int:
        """Bytes of the files that decoding needs."""
        return self._bytes_of(g.file for g in self.manifest.graphs.values() if not g.encoder)

    def _bytes_of(self, graph_files: Iterable[str]) -> int:
        names = {MANIFEST, self.manifest.tables.file, *graph_files}
        return sum((self.path / name).stat().st_size for name in names)

    def graph_bytes(self, name: str) -> bytes:
        """The ONNX model of a graph, its hash checked, read and written again: what any library gets is our writing."""
        graph = self.manifest.graphs[name]
        path = self.path / graph.file
        data = _read_checked(path, graph.sha256, MAX_GRAPH_BYTES)
        try:
            return read_model(data).write()
        except UnsupportedError as error:
            raise UnsupportedError(f"{path}: {error}") from None

    def variant_of(self, symbol: str) -> tuple[str, Variant] | None:
        """The variant with this symbol id (hex)."""
        return next(((n, v) for n, v in self.manifest.variants.items() if v.symbol_id == symbol), None)


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, for listing and for finding a bundle by id."""
    try:
        return manifests.decode(_read(folder / MANIFEST, manifests.MAX_MANIFEST_BYTES))
    except UnsupportedError as error:
        raise UnsupportedError(f"{folder}: {error}") from None


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise UnsupportedError(f"{path}: {error.strerror or error}; is this a codec bundle?") from None
    if len(data) > most_bytes:
        raise UnsupportedError(f"{path}: larger than {most_bytes} bytes")
    return data


def _read_checked(path: Path, sha256: str, most_bytes: int) -> bytes:
    data = _read(path, most_bytes)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UnsupportedError(f"{path}: not the file that the manifest lists; export or install the bundle again")
    return data


def _read_tables(folder: Path, manifest: Manifest) -> dict[str, TableGroup]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / manifest.tables.file
    data = _read_checked(path, manifest.tables.sha256, MAX_TABLES_BYTES)
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UnsupportedError(f"{path}: {error}") from None
    names = sorted({key.rpartition(".")[0] for key in arrays})
    return {name: TableGroup(name, arrays) for name in names}


def search_folders() -> Iterator[Path]:
    """Every folder that holds a manifest: those of NICRT_BUNDLE_PATH first, then the shipped ones."""
    places = [Path(p) for p in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if p]
    for place in [*places, SHIPPED]:
        if (place / MANIFEST).is_file():
            yield place
        elif place.is_dir():
            yield from sorted(child for child in place.iterdir() if (child / MANIFEST).is_file())


def available() -> Iterator[tuple[Path, Manifest]]:
    """The bundles that can be found by name or id; folders with a broken manifest are left out."""
    for folder in search_folders():
        try:
            yield folder, read_manifest(folder)
        except UnsupportedError:
            continue


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a bundle given by path or by name."""
    path = Path(name_or_path)
    if (path / MANIFEST).is_file():
        return path
    names = []
    for folder, manifest in available():
        if manifest.name == str(name_or_path):
            return folder
        names.append(manifest.name)
    raise UnsupportedError(
        f"there is no codec bundle {str(name_or_path)!r}; there are: {', '.join(sorted(set(names))) or 'none'} "
        f"({PATH_VARIABLE} adds places)"
    )


def find_by_symbol_id(symbol: str) -> Path | None:
    """The folder of a bundle with a variant of this symbol id (hex), None when there is none."""
    for folder, manifest in available():
        if any(variant.symbol_id == symbol for variant in manifest.variants.values()):
            return folder
    return None

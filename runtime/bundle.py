"""A codec bundle on disk: opened, checked, its files read when needed; and which bundles there are."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import manifest as manifests
from .errors import UnsupportedError, one_line
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

    def check_graphs(self) -> None:
        """Read every graph. Raises UnsupportedError for a file that is missing or not the manifest's."""
        for name in self.manifest.graphs:
            self.graph_bytes(name)

    def variant_of(self, symbol: str) -> tuple[str, Variant] | None:
        """The variant with this symbol id (hex)."""
        return self.manifest.variant_of(symbol)


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, for listing and for finding a bundle by id."""
    data = _read(folder / MANIFEST, manifests.MAX_MANIFEST_BYTES)
    try:
        return manifests.decode(data)
    except UnsupportedError as error:
        raise UnsupportedError(f"{folder}: {error}") from None


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        with open(path, "rb", opener=_open_regular) as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise UnsupportedError(f"{path}: {error.strerror or error}; is this a codec bundle?") from None
    if len(data) > most_bytes:
        raise UnsupportedError(f"{path}: larger than {most_bytes} bytes")
    return data


def _open_regular(path: str, flags: int) -> int:
    """Opens files alone: a pipe in the place of one would be waited for without end."""
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("not a regular file")
    return handle


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
        raise UnsupportedError(f"{path}: {one_line(error)}") from None
    names = sorted({key.rpartition(".")[0] for key in arrays})
    return {name: TableGroup(name, arrays) for name in names}


@dataclass(frozen=True)
class Found:
    """A folder where bundles are looked for. problem: one line on why it is left out; its manifest is None then."""

    folder: Path
    manifest: Manifest | None = None
    problem: str | None = None


def installed() -> Iterator[Found]:
    """Every bundle that can be found by name or id: the shipped ones first, so that none can take their place, then
    those of NICRT_BUNDLE_PATH. Of each only the manifest has been read. What cannot be used is said and disturbs
    nothing.
    """
    places = [Path(p) for p in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if p]
    for place in [SHIPPED, *places]:
        try:
            folders = [place] if _has_manifest(place) else sorted(filter(_has_manifest, place.iterdir()))
        except OSError as error:
            yield Found(place, problem=f"{place}: {error.strerror or error}")
            continue
        for folder in folders:
            try:
                yield Found(folder, read_manifest(folder))
            except UnsupportedError as error:
                yield Found(folder, problem=str(error))


def _has_manifest(folder: Path) -> bool:
    """Whether there is a manifest, or something that hides whether there is: reading it says what."""
    try:
        (folder / MANIFEST).stat()
    except ValueError:  # a name with a zero in it
        return False
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    return True


def open_bundle(name_or_path: str | os.PathLike[str]) -> Bundle:
    """The bundle of that path or name. A bare name never means a folder of the current directory: `./shallow` does.
    Raises UnsupportedError where there is none, or none that can be used.
    """
    path = Path(name_or_path)
    if is_path(name_or_path):
        return Bundle.open(path)
    bundle = _first_usable(lambda manifest: manifest.name == str(name_or_path))
    if bundle is not None:
        return bundle
    places = list(installed())
    names = {found.manifest.name for found in places if found.manifest}
    problems = sum(found.problem is not None for found in places)
    left_out = f"; {problems} places are left out, `nicrt bundles` says why" * bool(problems)
    if _has_manifest(path):
        raise UnsupportedError(f"there is no codec bundle of that name; for the folder here write ./{path}")
    raise UnsupportedError(
        f"there is no codec bundle {str(name_or_path)!r}; there are: {', '.join(sorted(names)) or 'none'} "
        f"({PATH_VARIABLE} adds places{left_out})"
    )


def is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether it says where a bundle is, rather than its name."""
    if not isinstance(name_or_path, str):
        return True
    return name_or_path in (".", "..") or os.sep in name_or_path or bool(os.altsep and os.altsep in name_or_path)


def open_by_symbol_id(symbol: str) -> Bundle | None:
    """The bundle with a variant of this symbol id (hex), None where there is none. Raises as `open_bundle` does."""
    return _first_usable(lambda manifest: manifest.variant_of(symbol) is not None)


def _first_usable(fits: Callable[[Manifest], bool]) -> Bundle | None:
    """The first installed bundle whose manifest fits and that can be used. A broken one must not hide a whole one
    behind it: where there are several, their graphs are read too."""
    folders = []
    for found in installed():
        if found.manifest is not None and fits(found.manifest):
            folders.append(found.folder)
            if found.folder.parent == SHIPPED:  # which need no second choice
                break
    if len(folders) == 1:
        return Bundle.open(folders[0])
    errors = []
    for folder in folders:
        try:
            bundle = Bundle.open(folder)
            bundle.check_graphs()
        except UnsupportedError as error:
            errors.append(error)
        else:
            return bundle
    if errors:
        raise errors[0]
    return None

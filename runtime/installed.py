"""Which bundles there are: the shipped ones and those of NICRT_BUNDLE_PATH, folders or packed files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nicrt import _core

from .bundle import MANIFEST, Bundle
from .errors import ImageError, UnsupportedError

PATH_VARIABLE = "NICRT_BUNDLE_PATH"
PACKED_SUFFIX = ".nicb"

# engines/ lies beside runtime/ both in the repository and in the installed package
SHIPPED = Path(__file__).resolve().parent.parent / "engines"


def check_packed_target(path: Path) -> None:
    """Raises ImageError unless a packed bundle of this name would be found, and replaces nothing but another one."""
    if path.suffix != PACKED_SUFFIX:
        raise ImageError(f"cannot write {path}: packed bundles are found by the end of their names, {PACKED_SUFFIX}")
    if path.is_dir():
        raise ImageError(f"cannot write {path}: it is a folder; name a file")
    if not os.path.lexists(path):
        return
    try:
        read_listing(path)
    except UnsupportedError:
        raise ImageError(f"cannot write {path}: what is there is no packed bundle; name another") from None


@dataclass(frozen=True)
class Found:
    """A bundle's folder or packed file. problem: one line on why it is left out; listing is None then."""

    place: Path
    listing: _core.Listing | None = None
    problem: str | None = None


def read_listing(place: Path) -> _core.Listing:
    """What finds the bundle in a folder or packed file. Raises UnsupportedError for what is none."""
    return _core.Listing.read(os.fspath(place))


def installed() -> Iterator[Found]:
    """Every bundle that can be found by name or id: the shipped ones first, so that none can take their place, then
    those of NICRT_BUNDLE_PATH. Of each only the manifest has been read. What cannot be used is said and disturbs
    nothing.
    """
    places = [Path(p) for p in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if p]
    for place in [SHIPPED, *places]:
        try:
            bundles = [place] if _is_bundle(place) else sorted(filter(_is_bundle, place.iterdir()))
        except OSError as error:
            yield Found(place, problem=f"{place}: {error.strerror or error}")
            continue
        for bundle in bundles:
            try:
                yield Found(bundle, read_listing(bundle))
            except UnsupportedError as error:
                yield Found(bundle, problem=str(error))
            except OSError as error:  # a link to where this user may not look, or to a name that is too long
                yield Found(bundle, problem=f"{bundle}: {error.strerror or error}")


def _is_bundle(place: Path) -> bool:
    """Whether it is called as a packed bundle is, or is a folder with a manifest, or with something that hides whether
    there is one: reading it says what."""
    try:
        if place.suffix == PACKED_SUFFIX and not place.is_dir():
            return True
        (place / MANIFEST).stat()
    except ValueError:  # a name with a zero in it
        return False
    except OSError as error:
        absent = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
        return place.suffix == PACKED_SUFFIX or not absent
    return True


def open_bundle(name_or_path: str | os.PathLike[str]) -> Bundle:
    """The bundle of that path or name. A bare name never means a folder of the current directory: `./shallow` does.
    Raises UnsupportedError where there is none, or none that can be used.
    """
    path = Path(name_or_path)
    if is_path(name_or_path):
        return Bundle.open(path)
    bundle = _first_usable(lambda listing: listing.name == str(name_or_path))
    if bundle is not None:
        return bundle
    places = list(installed())
    names = {found.listing.name for found in places if found.listing}
    problems = sum(found.problem is not None for found in places)
    left_out = f"; {problems} places are left out, `nicrt bundles` says why" * bool(problems)
    if _is_bundle(path):
        raise UnsupportedError(f"there is no codec bundle of that name; for what is here write ./{path}")
    raise UnsupportedError(
        f"there is no codec bundle {str(name_or_path)!r}; there are: {', '.join(sorted(names)) or 'none'} "
        f"({PATH_VARIABLE} adds places{left_out})"
    )


def is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether it says where a bundle is, rather than its name; so does what ends as packed bundles do."""
    if not isinstance(name_or_path, str) or name_or_path.endswith(PACKED_SUFFIX):
        return True
    return name_or_path in (".", "..") or os.sep in name_or_path or bool(os.altsep and os.altsep in name_or_path)


def open_by_symbol_id(symbol: str) -> Bundle | None:
    """The bundle with a variant of this symbol id (hex), None where there is none. Raises as `open_bundle` does."""
    return _first_usable(lambda listing: symbol in listing.symbol_ids)


def _first_usable(fits: Callable[[_core.Listing], bool]) -> Bundle | None:
    """The first installed bundle whose manifest fits and that can be used. A broken one must not hide a whole one
    behind it: where there are several, their parts are read too."""
    places = []
    for found in installed():
        if found.listing is not None and fits(found.listing):
            places.append(found.place)
            if found.place.parent == SHIPPED:  # which need no second choice
                break
    if len(places) == 1:
        return Bundle.open(places[0])
    errors = []
    for place in places:
        try:
            bundle = Bundle.open(place)
            bundle.check_parts()
        except UnsupportedError as error:
            errors.append(error)
        else:
            return bundle
    if errors:
        raise errors[0]
    return None

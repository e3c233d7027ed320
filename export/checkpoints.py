"""Checkpoint files → tensors by name: safetensors, or what `torch.save` wrote, wherever in it the weights lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from nicrt.runtime.errors import UnsupportedError

from . import unpickle

Tensors = dict[str, Tensor]

TOP = "."
"""Key of weights that lie at the top of a checkpoint."""

_DEPTH, _WIDTH = 8, 64  # of what is searched for weights: levels, and items of a list


def read_safetensors(data: bytes) -> Tensors:
    """Tensors of a safetensors file. Raises UnsupportedError."""
    try:
        return dict(load_safetensors(data))
    except Exception as error:  # whatever the parser of an untrusted file raises
        raise UnsupportedError("not a safetensors file, or a damaged one") from error


def weights_under(data: bytes, first: str, check: Callable[[Tensors], None], key: str | None = None) -> Tensors:
    """The one set of weights in a checkpoint, under whatever keys and prefixes, without these.

    `first`: how the names of some tensors of every set begin; what stands before it is a prefix. `check` raises
    UnsupportedError for a set that does not fit. `key`: which set, where several fit: its keys and prefixes,
    joined by dots, or the first of them. Raises UnsupportedError."""
    groups = [("", read_safetensors(data))] if data[8:9] == b"{" else list(_groups(unpickle.load(data), set()))
    found = dict(_sets(groups, first))
    if not found:
        keys = sorted({path.partition(".")[0] for path, _ in groups if path})
        looked = f" (looked under {', '.join(keys)})" if keys else ""
        raise UnsupportedError(f"the checkpoint has no state dict with tensors {first}*{looked}")
    if key is not None:
        found = {label: tensors for label, tensors in found.items() if label == key or label.startswith(f"{key}.")}
        if not found:
            raise UnsupportedError(f"the checkpoint has no weights under {key!r}")
    return _only(found, check)


def _only(found: Mapping[str, Tensors], check: Callable[[Tensors], None]) -> Tensors:
    fits: dict[str, Tensors] = {}
    refusals: list[UnsupportedError] = []
    for label, tensors in sorted(found.items(), key=lambda item: -len(item[1])):  # of two that agree, the one with more
        try:
            check(tensors)
        except UnsupportedError as error:
            refusals.append(error)
        else:
            if not any(_same(tensors, other) for other in fits.values()):
                fits[label] = tensors
    if not fits:
        raise refusals[0]
    if len(fits) > 1:
        raise UnsupportedError(
            f"the checkpoint has several sets of weights that fit: {', '.join(sorted(fits))}; choose one with "
            "--weights-key"
        )
    return next(iter(fits.values()))


def _same(one: Tensors, other: Tensors) -> bool:
    """Whether two sets that fit agree in what both have; one may lack buffers."""
    return all(torch.equal(one[name], other[name]) for name in one.keys() & other.keys())


def _sets(groups: list[tuple[str, Tensors]], first: str) -> Iterator[tuple[str, Tensors]]:
    """Every group of tensors, divided by prefixes: keys and prefix joined by dots, tensors without the prefix."""
    start = re.compile(rf"(?:.*\.)?(?={re.escape(first)})")
    for path, tensors in groups:
        prefixes = dict.fromkeys(match[0] for name in tensors if (match := start.match(name)))
        for prefix in prefixes:
            label = ".".join(part for part in (path, prefix.rstrip(".")) if part)
            yield label or TOP, {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def _groups(loaded: Any, seen: set[int], path: str = "", depth: int = 0) -> Iterator[tuple[str, Tensors]]:
    """Every dictionary that has tensors, and every module's state dict, with the keys on the way to it."""
    if depth > _DEPTH or id(loaded) in seen:
        return
    seen.add(id(loaded))
    if isinstance(loaded, unpickle.Inert) and isinstance(loaded.state, Mapping):
        if "_parameters" in loaded.state and "_modules" in loaded.state:
            yield path, dict(_of_module(loaded))
            return
        yield from _groups(loaded.state, seen, path, depth + 1)
    items: list[tuple[Any, Any]] = []
    if isinstance(loaded, Mapping):
        items = list(loaded.items())
        tensors = {str(name): value for name, value in items if isinstance(value, Tensor)}
        if tensors:
            yield path, tensors
    elif isinstance(loaded, list | tuple):
        items = list(enumerate(loaded[:_WIDTH]))
    for name, value in items:
        if isinstance(value, Mapping | list | tuple):
            yield from _groups(value, seen, f"{path}.{name}" if path else str(name), depth + 1)


def _of_module(module: unpickle.Inert, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The state dict of a module that was saved whole."""
    state = module.state
    for kind in ("_parameters", "_buffers"):
        own = state.get(kind)
        for name, value in own.items() if isinstance(own, Mapping) else ():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
    below = state.get("_modules")
    for name, part in below.items() if isinstance(below, Mapping) and depth < _DEPTH else ():
        if isinstance(part, unpickle.Inert) and isinstance(part.state, Mapping):
            yield from _of_module(part, f"{prefix}{name}.", depth + 1)

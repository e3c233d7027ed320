"""Which shapes a bundle's graphs meet for pictures of given sizes, from its programs' plans alone: what compilers that
work ahead of time call optimisation profiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from nicrt import _core

from .bundle import Bundle
from .errors import UnsupportedError
from .manifest import Graph, Port
from .proofs import shape_of

MAX_EFFORT = 9
Shape = tuple[int, ...]
Three = tuple[Shape, Shape, Shape]


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """Least, usual and most extent of each dimension symbol of a graph. `values`: of the inputs that hold `@size`, the
    heights and widths, which some compilers take for shapes."""

    symbols: dict[str, tuple[int, int, int]]
    values: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {}

    def shapes(self, port: Port) -> Three:
        """The port's least, usual and most shape."""
        least, usual, most = ({s: extents[i] for s, extents in self.symbols.items()} for i in range(3))
        return shape_of(port, least), shape_of(port, usual), shape_of(port, most)

    def covers(self, graph: Graph, shapes: Mapping[str, Shape]) -> bool:
        """Whether these shapes of all inputs lie inside."""
        for name, port in graph.inputs.items():
            least, _, most = self.shapes(port)
            extents = zip(least, shapes[name], most, strict=False)
            if len(shapes[name]) != len(most) or not all(low <= extent <= high for low, extent, high in extents):
                return False
        return True


class Pictures(Struct, frozen=True):
    """What to compile for: (height, width) of the smallest, the usual and the largest picture, and the most pictures
    in a batch, which is the usual number too. Raises ValueError where these do not rise."""

    least: tuple[int, int]
    usual: tuple[int, int]
    most: tuple[int, int]
    batch: int = 1

    def __post_init__(self) -> None:
        rising = all(a <= b <= c for a, b, c in zip(self.least, self.usual, self.most, strict=True))
        if not rising or min(self.least) < 1 or self.batch < 1:
            raise ValueError("shapes must rise from the smallest to the usual to the largest, from 1x1 up")


DEFAULT_PICTURES = Pictures((1, 1), (1080, 1920), (2048, 2048))
"""What to compile for where nobody says: a compiled graph takes memory for its largest picture."""


@dataclass(frozen=True)
class _Use:
    """One run of a graph."""

    graph: str
    symbols: dict[str, int]
    values: dict[str, tuple[int, int]]

    @property
    def places(self) -> int:
        return math.prod(self.symbols.values())


def profiles(bundle: Bundle, pictures: Pictures, *, encoding: bool = False) -> dict[str, Profile]:
    """The profile of each graph that decoding runs, with `encoding` of those of the encoder too. Lists of sizes
    (layers) are those that the programs have by default. The proof vectors of exact graphs lie inside their profiles.
    """
    manifest = bundle.manifest
    found: dict[str, list[list[_Use]]] = {}
    for number, size in enumerate((pictures.least, pictures.usual, pictures.most)):
        batch = 1 if number == 0 else pictures.batch
        for variant in manifest.variants:
            for use in _uses(bundle, variant, size, batch, encoding):
                found.setdefault(use.graph, [[], [], []])[number].append(use)
    return {name: _provable(_profile(*uses), manifest.graphs[name]) for name, uses in found.items()}


def _profile(least: Sequence[_Use], usual: Sequence[_Use], most: Sequence[_Use]) -> Profile:
    middle = max(usual, key=lambda use: use.places)
    symbols, values = {}, {}
    for symbol, extent in middle.symbols.items():
        symbols[symbol] = (min(use.symbols[symbol] for use in least), extent, max(use.symbols[symbol] for use in most))
    for port, value in middle.values.items():
        low = [use.values[port] for use in least if port in use.values]
        high = [use.values[port] for use in most if port in use.values]
        values[port] = (_elementwise(min, low), value, _elementwise(max, high))
    return Profile(symbols, values)


def _provable(profile: Profile, graph: Graph) -> Profile:
    """The profile, wide enough for the graph's proof vectors."""
    symbols = dict(profile.symbols)
    for proof in graph.proofs:
        for symbol, extent in proof.sizes.items():
            least, usual, most = symbols[symbol]
            symbols[symbol] = (min(least, extent), usual, max(most, extent))
    return Profile(symbols, profile.values)


def _elementwise(choose: Callable[[Iterable[int]], int], pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return choose(pair[0] for pair in pairs), choose(pair[1] for pair in pairs)


def _uses(bundle: Bundle, variant: str, size: tuple[int, int], batch: int, encoding: bool) -> Iterator[_Use]:
    """Every run of every graph for pictures of one size."""
    values = _core.default_values(bundle.core, variant, size)
    rounds = _core.rounds_of(bundle.core, variant, values, size)
    plans = [
        _core.plan(bundle.core, variant, values, size, rounds=count + 1, batch=batch, windows=False)
        for count in range(len(rounds))  # every round may be the last one, which is shown
    ]
    if encoding and bundle.manifest.variants[variant].program.encodes:
        plans += [
            _core.plan(bundle.core, variant, values, size, encode=True, effort=effort, batch=batch, windows=False)
            for effort in range(1 + MAX_EFFORT)
        ]
    for plan in plans:
        for step in plan.steps:
            if isinstance(step, _core.GraphStep):
                yield from _runs(plan, step)


def _runs(plan: _core.Plan, step: _core.GraphStep) -> Iterator[_Use]:
    """The extents of a step's runs; of bands, those of the others and of the least that may be the last."""
    values = {source.port: plan.rounds[step.round].size for source in step.inputs if source.kind == "size"}
    if step.banded:
        if not step.least_symbols:
            raise UnsupportedError(f"graph {step.graph!r} cannot run in bands of pictures of any height")
        yield _Use(step.graph, step.least_symbols, values)
    yield _Use(step.graph, step.symbols, values)

"""Which shapes a bundle's graphs meet for pictures of given sizes, from its programs alone: what compilers that work
ahead of time call optimisation profiles.

The programs are walked as the interpreter walks them, with shapes in place of tensors: pictures are padded to the
stage's alignment, streams have the shapes of their entropy steps, and a graph's outputs follow from its inputs by the
dimension symbols of its ports. Nothing runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from .errors import UnsupportedError
from .manifest import DIMENSION, Entropy, Graph, Manifest, Port, Program, Run
from .plan import Parameters, Round, default_parameters, rounds
from .proofs import shape_of
from .validate import COLUMNS, PICTURE, ROWS, SIZE, parameter_source

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


def profiles(manifest: Manifest, pictures: Pictures, *, encoding: bool = False) -> dict[str, Profile]:
    """The profile of each graph that decoding runs, with `encoding` of those of the encoder too. Lists of sizes
    (layers) are those that the programs have by default. The proof vectors of exact graphs lie inside their profiles.
    """
    found: dict[str, list[list[_Use]]] = {}
    for number, size in enumerate((pictures.least, pictures.usual, pictures.most)):
        batch = 1 if number == 0 else pictures.batch
        for variant in manifest.variants.values():
            for use in _uses(variant.program, manifest.graphs, size, batch, encoding):
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


def _uses(
    program: Program, graphs: Mapping[str, Graph], size: tuple[int, int], batch: int, encoding: bool
) -> Iterator[_Use]:
    """Every run of every graph for pictures of one size."""
    parameters = default_parameters(program, size)
    tensors: dict[str, Shape] = {}
    for item in rounds(program, parameters, size):
        for step in item.stage.steps:
            if isinstance(step, Entropy):
                tensors[step.out] = (batch, *item.shape(step))
            elif encoding or not step.enc:
                yield from _run(step, graphs, item, parameters, tensors, batch)
        shown = dict(tensors)
        for run in item.stage.show_runs:
            yield from _run(run, graphs, item, parameters, shown, batch)


def _run(
    run: Run, graphs: Mapping[str, Graph], item: Round, parameters: Parameters, tensors: dict[str, Shape], batch: int
) -> Iterator[_Use]:
    """The uses of one step, whose outputs are added to `tensors`."""
    graph, symbols = graphs[run.graph], dict[str, int]()
    values = {port: item.size for port, source in run.inputs.items() if source == SIZE}
    for rows in _bands(run, item):
        shapes = {port: _shape(s, item, parameters, tensors, batch, rows) for port, s in run.inputs.items()}
        symbols = _bind(run.graph, graph.inputs, shapes)
        for name in (run.graph, *run.effort.values()):
            yield _Use(name, symbols, values)
    known = {**symbols, **dict(zip(graph.sized_symbols, item.size, strict=False))}
    for port, name in run.outputs.items():
        shape = shape_of(graph.outputs[port], known)
        tensors[name] = shape if run.bands is None else (*shape[:2], item.padded[0], *shape[3:])


def _bands(run: Run, item: Round) -> list[int]:
    """Rows that the step may run at a time; of bands, how many the last one can have, whatever the picture's height,
    and how many the others have."""
    rows = item.padded[0]
    if run.bands is None:
        return [rows]
    return [math.gcd(run.bands, item.stage.align), min(run.bands, rows)]


def _shape(
    source: str, item: Round, parameters: Parameters, tensors: Mapping[str, Shape], batch: int, rows: int
) -> Shape:
    height, width = item.padded
    fixed: dict[str, Shape] = {PICTURE: (batch, 3, height, width), SIZE: (2,), ROWS: (rows,), COLUMNS: (width,)}
    if source.startswith("$"):
        name, of_round = parameter_source(source)
        return (1 if of_round else len(parameters[name]),)
    return fixed[source] if source in fixed else tensors[source]


def _bind(graph: str, ports: Mapping[str, Port], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Extents of the dimension symbols at these shapes."""
    symbols: dict[str, int] = {}
    for name, port in ports.items():
        for extent, dimension in zip(shapes[name], port.dims, strict=True):
            match = DIMENSION.match(str(dimension))
            if match is not None:
                symbols.setdefault(match[2], extent // int(match[1] or 1))
        if shape_of(port, symbols) != shapes[name]:
            raise UnsupportedError(
                f"graph {graph!r}: port {name!r} is {port.dims}, which {shapes[name]} does not fit; a bundle exported "
                "without a batch dimension runs one picture at a time"
            )
    return symbols

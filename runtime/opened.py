"""A .nic file held against the program that it names: what decoding it will run, or why it cannot be what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from nicrt import _core

from .errors import CorruptError, WrongBundleError
from .limits import Limits
from .manifest import Entropy, Manifest
from .plan import Round, check_parameters, whole_rounds


@dataclass(frozen=True)
class Opened:
    """A file and what to decode of it: `rounds` are those to run, the last of them to show."""

    file: _core.File
    variant: str
    parameters: dict[str, list[int]]
    rounds: list[Round]

    def stage_for(self, scale: float) -> tuple[int, tuple[int, int]]:
        """The lowest stage (from 1) that is not smaller than `scale` of the picture, and that size (height, width)."""
        size = max(1, round(self.file.height * scale)), max(1, round(self.file.width * scale))
        large = [item.number for item in self.rounds if item.size[0] >= size[0] and item.size[1] >= size[1]]
        fine = [number for number in large if self.rounds[number].size != self.rounds[-1].size]
        return (fine[0] if fine else len(self.rounds) - 1) + 1, size


def held_against(file: _core.File, manifest: Manifest, limits: Limits) -> Opened:
    """A parsed file with all its rounds. Raises WrongBundleError when it was not made with this bundle, CorruptError
    when its header does not fit the program: parameters, number of stages, streams and tiles, and the picture's size,
    which must be what the last stage shows.
    """
    name, values = _parameters_of(file, manifest, limits)
    try:
        items = whole_rounds(manifest.variants[name].program, values, (file.height, file.width))
    except ValueError as error:
        raise CorruptError(f"the file's header contradicts itself: {error}") from None
    if len(items) != len(file.stages):
        raise CorruptError(f"the file has {len(file.stages)} stages, its program {len(items)}")
    for item, streams in zip(items, file.stages, strict=True):
        _check_streams(item, streams, file.tile_size)
    return Opened(file, name, values, items)


def _check_streams(item: Round, streams: Sequence[_core.Stream], tile: int) -> None:
    steps = [step for step in item.stage.steps if isinstance(step, Entropy)]
    if len(streams) != len(steps):
        raise CorruptError(f"stage {item.number + 1} of the file has {len(streams)} streams, its program {len(steps)}")
    for step, stream in zip(steps, streams, strict=True):
        if tile % step.stride:
            raise CorruptError(f"the file's tiles of {tile} pixels do not fit the bundle's stride {step.stride}")
        rows, columns = item.tile_grid(step, tile)
        if stream.tile_count != rows * columns:
            raise CorruptError(f"a stream of {stream.tile_count} tiles, where the picture has {rows * columns}")


def _parameters_of(file: _core.File, manifest: Manifest, limits: Limits) -> tuple[str, dict[str, list[int]]]:
    """Variant and checked parameter values of a file."""
    symbol = file.symbol_id.hex()
    found = manifest.variant_of(symbol)
    if found is None:
        raise WrongBundleError(
            f"the file was made with codec bundle {symbol}, not with {manifest.name!r}; "
            "leave the bundle out to have it found, or install that bundle"
        )
    name, variant = found
    names = [p.name for p in variant.program.parameters]
    if len(names) != len(file.parameters):
        raise CorruptError(f"the file sets {len(file.parameters)} parameters, its program has {len(names)}")
    values = dict(zip(names, (list(v) for v in file.parameters), strict=True))
    try:
        check_parameters(variant.program, values, limits)
    except ValueError as error:
        raise CorruptError(f"the file's parameters do not fit its program: {error}") from None
    return name, values


def streams_of(file: _core.File, items: Sequence[Round]) -> Iterator[_core.Stream]:
    """The streams of the first rounds of an opened file, in order."""
    return chain.from_iterable(file.stages[: len(items)])

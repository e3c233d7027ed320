"""From what a user asks for (quality, variant, scales, parameters, another file) to a variant and its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nicrt import _core

from .bundle import Bundle
from .manifest import Program

DEFAULT_QUALITY = 50.0
Values = dict[str, list[int]]


@dataclass(frozen=True)
class Wish:
    """What an encoder may be asked for; later fields win over earlier ones.

    quality: 0..100. variant: name of one ("96" also finds "w96"). scales: rising sizes of the stages relative to the
    first, for programs with layers. parameters: values of the program's parameters; a list that is too short goes on
    with its last value.
    """

    quality: float = DEFAULT_QUALITY
    variant: str | None = None
    scales: Sequence[float] | None = None
    parameters: Mapping[str, int | Sequence[int]] = field(default_factory=dict)


def choose(bundle: Bundle, wish: Wish, size: tuple[int, int]) -> tuple[str, Values]:
    """Variant and parameter values for a picture of `size` (height, width). Raises ValueError for what is not there."""
    parameters = {name: [value] if isinstance(value, int) else list(value) for name, value in wish.parameters.items()}
    return _core.choose(
        bundle.core, size, quality=wish.quality, variant=wish.variant, scales=wish.scales, parameters=parameters
    )


def for_size(program: Program, values: Values, made_for: tuple[int, int], size: tuple[int, int]) -> Values:
    """Parameters of a picture of one size (height, width) for one of another: layers keep their share of it."""

    def scaled(sides: list[int]) -> list[int]:
        return [max(1, round(side * size[i % 2] / made_for[i % 2])) for i, side in enumerate(sides)]

    lists = {p.name for p in program.parameters if p.is_sizes}
    return {name: scaled(value) if name in lists else value for name, value in values.items()}

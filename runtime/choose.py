"""From what a user asks for (quality, variant, scales, parameters, another file) to a variant and its parameters."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from .manifest import Manifest, Program, QualityPoint
from .plan import default_parameters, scaled_sizes

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


def choose(manifest: Manifest, wish: Wish, size: tuple[int, int]) -> tuple[str, Values]:
    """Variant and parameter values for a picture of `size` (height, width). Raises ValueError for what is not there."""
    if not 0 <= wish.quality <= 100:
        raise ValueError(f"quality is 0..100, not {wish.quality}")
    wanted = None if wish.variant is None else variant_named(manifest.name, manifest.variants, wish.variant)
    variant, from_quality = _at_quality(_points_of(manifest, wanted), wish.quality)
    variant = wanted or variant
    program = manifest.variants[variant].program
    values = default_parameters(program, size)
    known = {p.name: p for p in program.parameters}
    for name in known.keys() & from_quality.keys():
        values[name] = [min(max(v, known[name].min), known[name].max) for v in from_quality[name]]
    if wish.scales is not None:
        values.update(_sizes(manifest.name, program, wish.scales, size))
    lengths = {p.name: None if p.is_sizes else p.length for p in program.parameters}
    for name, value in wish.parameters.items():
        if name not in values:
            raise ValueError(f"bundle {manifest.name!r} has no parameter {name!r}; it has {', '.join(values)}")
        values[name] = _filled([int(v) for v in _list(value)], lengths[name])
    return variant, values


def for_size(program: Program, values: Values, made_for: tuple[int, int], size: tuple[int, int]) -> Values:
    """Parameters of a picture of one size (height, width) for one of another: layers keep their share of it."""

    def scaled(sides: list[int]) -> list[int]:
        return [max(1, round(side * size[i % 2] / made_for[i % 2])) for i, side in enumerate(sides)]

    lists = {p.name for p in program.parameters if p.is_sizes}
    return {name: scaled(value) if name in lists else value for name, value in values.items()}


def variant_named(bundle: str, variants: Collection[str], text: str) -> str:
    """The variant that a person means: "96" also finds "w96". Raises ValueError for one that is not there."""
    for name in (text, f"w{text}"):
        if name in variants:
            return name
    raise ValueError(f"bundle {bundle!r} has no variant {text!r}; it has {', '.join(variants)}")


def _points_of(manifest: Manifest, wanted: str | None) -> list[QualityPoint]:
    """Those between which a quality lies: all of them, or the variant's own where one is asked for; one that has none
    takes the parameters that it shares with the best."""
    if wanted is None:
        return manifest.quality
    own = [p for p in manifest.quality if p.variant == wanted]
    return own or [p for p in manifest.quality if p.variant == manifest.quality[-1].variant]


def _at_quality(points: list[QualityPoint], quality: float) -> tuple[str, Values]:
    """Variant and parameters at a quality, not held to their limits."""
    number = bisect(points, quality, 1, max(1, len(points) - 1), key=lambda p: p.quality)
    below, above = points[number - 1], points[min(number, len(points) - 1)]
    span = above.quality - below.quality
    weight = (quality - below.quality) / span if span > 0 else 0.0
    if below.variant != above.variant:
        below = above = above if weight > 0.5 else below
    values: Values = {}
    for name, value in below.parameters.items():
        low, high = _list(value), _list(above.parameters.get(name, value))
        values[name] = [round(a * (1 - weight) + b * weight) for a, b in zip(low, high, strict=True)]
    return below.variant, values


def _list(value: int | Sequence[int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


def _filled(values: list[int], length: int | None) -> list[int]:
    """A list for `length` places that is shorter goes on with its last value."""
    return values + values[-1:] * max(0, (length or 0) - len(values))


def _sizes(bundle: str, program: Program, scales: Sequence[float], size: tuple[int, int]) -> Values:
    """Sizes for the program's lists: one for each but the last of them, which takes the rest."""
    names = [p.name for p in program.parameters if p.is_sizes]
    if not names:
        raise ValueError(f"bundle {bundle!r} has no layers to scale")
    least = max(1, len(names) - 1)  # the last list may be empty
    if len(scales) < least or scales[0] <= 0 or list(scales) != sorted(set(scales)):
        raise ValueError(f"scales are {least} or more rising numbers above 0")
    relative = [scale / scales[-1] for scale in scales]
    single, rest = relative[: len(names) - 1], relative[len(names) - 1 :]
    values = {name: scaled_sizes(size, [scale]) for name, scale in zip(names, single, strict=False)}
    return {**values, names[-1]: scaled_sizes(size, rest)}

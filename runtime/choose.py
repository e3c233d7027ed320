"""From what a user asks for (quality, variant, scales, parameters, another file) to a variant and its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .manifest import Manifest, Program, QualityPoint
from .plan import default_parameters, scaled_sizes

DEFAULT_QUALITY = 50.0
Values = dict[str, list[int]]


@dataclass(frozen=True)
class Wish:
    """What an encoder may be asked for; later fields win over earlier ones.

    quality: 0..100. variant: name of one ("96" also finds "w96"). scales: rising sizes of the stages relative to the
    first, for programs with layers. parameters: values of the program's parameters.
    """

    quality: float = DEFAULT_QUALITY
    variant: str | None = None
    scales: Sequence[float] | None = None
    parameters: Mapping[str, int | Sequence[int]] = field(default_factory=dict)


def choose(manifest: Manifest, wish: Wish, size: tuple[int, int]) -> tuple[str, Values]:
    """Variant and parameter values for a picture of `size` (height, width). Raises ValueError for what is not there."""
    if not 0 <= wish.quality <= 100:
        raise ValueError(f"quality is 0..100, not {wish.quality}")
    wanted = None if wish.variant is None else _variant(manifest, wish.variant)
    points = [p for p in manifest.quality if wanted in (None, p.variant)]
    variant, from_quality = (wanted or "", {}) if not points else _at_quality(points, wish.quality)
    program = manifest.variants[variant].program
    values = default_parameters(program, size)
    values.update(from_quality)
    if wish.scales is not None:
        values.update(_sizes(manifest.name, program, wish.scales, size))
    for name, value in wish.parameters.items():
        if name not in values:
            raise ValueError(f"bundle {manifest.name!r} has no parameter {name!r}; it has {', '.join(values)}")
        values[name] = [value] if isinstance(value, int) else [int(v) for v in value]
    return variant, values


def _variant(manifest: Manifest, text: str) -> str:
    for name in (text, f"w{text}"):
        if name in manifest.variants:
            return name
    raise ValueError(f"bundle {manifest.name!r} has no variant {text!r}; it has {', '.join(manifest.variants)}")


def _at_quality(points: list[QualityPoint], quality: float) -> tuple[str, Values]:
    below = max((p for p in points if p.quality <= quality), key=lambda p: p.quality, default=points[0])
    above = min((p for p in points if p.quality >= quality), key=lambda p: p.quality, default=points[-1])
    span = above.quality - below.quality
    weight = (quality - below.quality) / span if span > 0 else 0.0
    if below.variant != above.variant:
        below = above = above if weight > 0.5 else below
    values: Values = {}
    for name, value in below.parameters.items():
        low, high = _list(value), _list(above.parameters.get(name, value))
        values[name] = [round(a * (1 - weight) + b * weight) for a, b in zip(low, high, strict=True)]
    return below.variant, values


def _list(value: int | list[int]) -> list[int]:
    return [value] if isinstance(value, int) else value


def _sizes(bundle: str, program: Program, scales: Sequence[float], size: tuple[int, int]) -> Values:
    """Sizes for the program's lists: one for each but the last of them, which takes the rest."""
    names = [p.name for p in program.parameters if p.is_sizes]
    if not names:
        raise ValueError(f"bundle {bundle!r} has no layers to scale")
    if len(scales) < len(names) or scales[0] <= 0 or list(scales) != sorted(set(scales)):
        raise ValueError(f"scales are {len(names)} or more rising numbers above 0")
    relative = [scale / scales[-1] for scale in scales]
    single, rest = relative[: len(names) - 1], relative[len(names) - 1 :]
    values = {name: scaled_sizes(size, [scale]) for name, scale in zip(names, single, strict=False)}
    return {**values, names[-1]: scaled_sizes(size, rest)}

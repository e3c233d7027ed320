"""A part of what a family's export hands over: one variant, or what decoding needs. The ids stay those of the whole."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import msgspec

from nicrt.runtime.choose import DEFAULT_QUALITY
from nicrt.runtime.manifest import Entropy, Program, QualityPoint, Run

from .bundle import BundleSource


def part(source: BundleSource, variant: str | None, decoder_only: bool) -> BundleSource:
    """Keep one variant (by the names that encoding takes, "96" for "w96"), drop the encoder's steps, and with them the
    graphs and tables that nothing uses any more. Name and summary say what was kept. Raises ValueError for a
    variant that is not there."""
    programs, kept = source.programs, list[str]()
    if variant is not None:
        only = _variant_named(source.name, programs, variant)
        programs = {only: programs[only]}
        kept.append(only)
    if decoder_only:
        programs = {key: _without_encoder(program) for key, program in programs.items()}
        kept.append("decoder")
    graphs, tables = set[str](), set[str]()
    for program in programs.values():
        for step in _steps(program):
            if isinstance(step, Entropy):
                tables.add(step.tables)
            else:
                graphs |= {step.graph, *step.effort.values()}
    return replace(
        source,
        name="-".join([source.name, *kept]),
        summary=f"{source.summary} ({', '.join(kept)})" if kept else source.summary,
        graphs=[graph for graph in source.graphs if graph.name in graphs],
        tables={key: group for key, group in source.tables.items() if key in tables},
        programs=programs,
        quality=[point for point in source.quality if point.variant in programs]
        or [QualityPoint(DEFAULT_QUALITY, key) for key in programs],
    )


def _variant_named(bundle: str, variants: Collection[str], text: str) -> str:
    """The variant that a person means: "96" also finds "w96". Raises ValueError for one that is not there."""
    for name in (text, f"w{text}"):
        if name in variants:
            return name
    raise ValueError(f"bundle {bundle!r} has no variant {text!r}; it has {', '.join(variants)}")


def _steps(program: Program) -> list[Entropy | Run]:
    stages = program.stages
    shows = [run for stage in stages for run in stage.show_runs]
    return [*(step for stage in stages for step in stage.steps), *shows]


def _without_encoder(program: Program) -> Program:
    stages = [
        msgspec.structs.replace(
            stage, steps=[step for step in stage.steps if isinstance(step, Entropy) or not step.enc]
        )
        for stage in program.stages
    ]
    return msgspec.structs.replace(program, stages=stages)

"""`nicrt info`, `nicrt verify` and `nicrt bundles`: everything that looks and makes no pixels."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .codecs import CodecSource
from .files import STANDARD, read
from .jobs import Job, run_jobs
from .options import limits_of, threads_of
from .report import Report, printable

if TYPE_CHECKING:
    from ..limits import Limits


def run(options: argparse.Namespace) -> int:
    return {"info": _info, "verify": _verify, "bundles": _bundles}[options.command](options)


def _info(options: argparse.Namespace) -> int:
    if options.path != STANDARD and (Path(options.path).is_dir() or not Path(options.path).exists()):
        facts = _bundle_facts(options.path, limits_of(options))
    else:
        facts = _file_facts(options)
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        _print_facts(facts)
    return 0


def _file_facts(options: argparse.Namespace) -> dict[str, Any]:
    from ..bundle import find_by_symbol_id, read_manifest
    from ..fileinfo import info

    header = info(read(options.path), limits=limits_of(options))
    facts: dict[str, Any] = {**asdict(header), "bpp": round(header.bpp, 4)}
    folder = find_by_symbol_id(header.symbol_id)
    facts["bundle"] = None
    if folder is not None:
        manifest = read_manifest(folder)
        facts["bundle"] = manifest.name
        name, variant = next((n, v) for n, v in manifest.variants.items() if v.symbol_id == header.symbol_id)
        facts["variant"] = name
        names = [parameter.name for parameter in variant.program.parameters]
        if len(names) == len(header.parameters):
            facts["parameters"] = dict(zip(names, header.parameters, strict=True))
    return facts


def _bundle_facts(name_or_path: str, limits: Limits) -> dict[str, Any]:
    from ..bundle import Bundle, find
    from ..plan import most_pixels

    bundle = Bundle.open(find(name_or_path))
    manifest = bundle.manifest
    graphs = {
        name: {
            "bytes": (bundle.path / graph.file).stat().st_size,
            "kind": ("exact" if graph.exact else "float") + (", encoder" if graph.encoder else ""),
            "macs_per_pixel": graph.macs_per_pixel,
        }
        for name, graph in manifest.graphs.items()
    }
    return {
        "bundle": manifest.name,
        "summary": manifest.summary,
        "license": manifest.license,
        "folder": str(bundle.path),
        "bytes": bundle.size_bytes,
        "decoder_bytes": bundle.decoder_bytes,
        "variants": {
            name: {
                "symbol_id": v.symbol_id,
                "picture_id": v.picture_id,
                "encodes": v.program.encodes,
                "most_pixels": most_pixels(v.program, manifest.graphs, limits, encoding=False),
                "parameters": {p.name: f"{p.min}..{p.max}, default {p.default}" for p in v.program.parameters},
            }
            for name, v in manifest.variants.items()
        },
        "graphs": graphs,
        "provenance": manifest.provenance,
    }


def _print_facts(facts: dict[str, Any], indent: str = "") -> None:
    width = max(map(len, facts), default=0)
    for key, value in facts.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_facts(value, indent + "  ")
        else:
            print(printable(f"{indent}{key:<{width}}  {value}"))


def _verify(options: argparse.Namespace) -> int:
    report = Report(options.quiet, len(options.paths))
    codecs = CodecSource(options.bundle, threads_of(options), options.backend, limits_of(options))

    def work(job: Job) -> int:
        from ..fileinfo import info

        data = read(job.source)
        header = info(data, limits=limits_of(options))
        codecs.codec_for(data, header.symbol_id).verify(data)
        report.add_pixels(header.width * header.height)
        report.note(f"{job.source}: ok, {header.width} x {header.height}, {header.segments} segments")
        return 0

    return run_jobs([Job(path, "") for path in options.paths], work, options.jobs, report)


def _bundles(options: argparse.Namespace) -> int:
    from ..bundle import available

    for folder, manifest in available():
        print("\t".join(map(printable, (manifest.name, manifest.summary, str(folder)))))
    return 0

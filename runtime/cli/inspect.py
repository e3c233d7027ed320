"""`nicrt info`, `nicrt verify` and `nicrt bundles`: everything that looks and makes no pixels."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedError
from ..installed import PACKED_SUFFIX
from .codecs import CodecSource
from .files import STANDARD, read
from .jobs import Job, run_jobs
from .json_lines import facts_or_error
from .options import limits_of, threads_of
from .report import Report, printable, say_error

if TYPE_CHECKING:
    from ..limits import Limits


_WIDEST_KEY = 40  # characters: a longer one, which a bundle's provenance may have, would pad all lines to its length


def run(options: argparse.Namespace) -> int:
    return {"info": _info, "verify": _verify, "bundles": _bundles}[options.command](options)


def _info(options: argparse.Namespace) -> int:
    report = Report(quiet=True, total=len(options.paths))
    many = len(options.paths) > 1

    def work(job: Job) -> int:
        path = job.source
        facts = _file_facts if path == STANDARD or _is_nic_file(path) else _bundle_facts
        found = facts_or_error({"file": path}, lambda: facts(path, limits_of(options)), as_json=options.json)
        if not options.json:
            shown = {key: value for key, value in found.items() if key != "file"}
            _print_facts({path: shown} if many else shown)
        return 0

    return run_jobs([Job(path, "") for path in options.paths], work, 1, report)


def _is_nic_file(path: str) -> bool:
    """Whether it is a file, but not called as a packed bundle is, nor one by its contents."""
    try:
        return Path(path).exists() and not Path(path).is_dir() and not _is_packed(Path(path))
    except OSError:  # a name that is too long, a forbidden folder: looking for a bundle there says so
        return False


def _is_file(path: str) -> bool:
    """Whether it is one, and so no bundle's name."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def _is_packed(path: Path) -> bool:
    """A packed bundle has the size of a header, and then its JSON."""
    if path.suffix == PACKED_SUFFIX:
        return True
    if not path.is_file():  # a pipe is read once
        return False
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _file_facts(path: str, limits: Limits) -> dict[str, Any]:
    """What the header says; held against the bundle where that is found, without it unchecked."""
    from ..fileinfo import info, parse
    from ..installed import open_by_symbol_id
    from ..opened import held_against

    data = read(path)
    header = info(data, limits=limits)
    facts: dict[str, Any] = {**asdict(header), "bpp": round(header.bpp, 4)}
    bundle = open_by_symbol_id(header.symbol_id)
    facts["bundle"] = None
    if bundle is None:
        facts["note"] = "the bundle is not installed: these are the header's figures, which only it can check"
    else:
        opened = held_against(parse(data, limits), bundle, limits)
        facts |= {"bundle": bundle.manifest.name, "variant": opened.variant, "parameters": opened.parameters}
    return facts


def _bundle_facts(name_or_path: str, limits: Limits) -> dict[str, Any]:
    from nicrt import _core

    from ..installed import open_bundle

    try:
        bundle = open_bundle(Path(name_or_path) if _is_file(name_or_path) else name_or_path)
    except UnsupportedError as error:  # which names the folder, as everything said of an argument does
        raise UnsupportedError(str(error).removeprefix(f"{name_or_path}: ")) from None
    manifest = bundle.manifest
    graphs = {
        name: {
            "forms": [form for form, there in (("native", graph.native), ("onnx", graph.onnx)) if there is not None],
            "kind": ("exact" if graph.exact else "float") + (", encoder" if graph.encoder else ""),
            "macs_per_pixel": graph.macs_per_pixel,
        }
        for name, graph in manifest.graphs.items()
    }
    return {
        "bundle": manifest.name,
        "summary": manifest.summary,
        "license": manifest.license,
        "path": str(bundle.path),
        "bytes": bundle.size_bytes,
        "decoder_bytes": bundle.decoder_bytes,
        "variants": {
            name: {
                "symbol_id": v.symbol_id,
                "picture_id": v.picture_id,
                "encodes": v.program.encodes,
                "most_pixels": _core.most_pixels(bundle.core, name, limits.pixels, limits.memory_bytes),
                "parameters": {p.name: f"{p.min}..{p.max}, default {p.default}" for p in v.program.parameters},
            }
            for name, v in manifest.variants.items()
        },
        "graphs": graphs,
        "provenance": manifest.provenance,
        "card": bundle.card(),
    }


def _print_facts(facts: dict[str, Any], indent: str = "") -> None:
    width = min(max(map(len, facts), default=0), _WIDEST_KEY)
    for key, value in facts.items():
        if isinstance(value, dict):
            print(printable(f"{indent}{key}:"))
            _print_facts(value, indent + "  ")
        elif isinstance(value, str) and "\n" in value:
            print(printable(f"{indent}{key}:"))
            for line in value.splitlines():
                print(printable(f"{indent}  {line}"))
        else:
            print(printable(f"{indent}{key:<{width}}  {value}"))


def _verify(options: argparse.Namespace) -> int:
    report = Report(options.quiet, len(options.paths))
    codecs = CodecSource(options.bundle, threads_of(options), options.backend, limits_of(options))

    def checked(path: str) -> dict[str, Any]:
        from ..fileinfo import info

        data = read(path)
        header = info(data, limits=limits_of(options))
        codecs.codec_for(data, header.symbol_id).verify(data)
        return {"width": header.width, "height": header.height, "segments": header.segments}

    def work(job: Job) -> int:
        facts = facts_or_error({"file": job.source}, lambda: checked(job.source), as_json=options.json)
        report.add_pixels(facts["width"] * facts["height"])
        report.note("{file}: ok, {width} x {height}, {segments} segments".format(**facts))
        return 0

    return run_jobs([Job(path, "") for path in options.paths], work, options.jobs, report)


def _bundles(options: argparse.Namespace) -> int:
    from ..installed import installed

    for found in installed():
        if found.listing is None:
            say_error(f"left out: {found.problem}")
        else:
            columns = found.listing.name, found.listing.summary, str(found.place)
            print("\t".join(map(printable, columns)))
    return 0

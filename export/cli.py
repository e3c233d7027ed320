"""`nicrt export FAMILY --checkpoint F -o DIR`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load

from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.manifest import Manifest

from .bundle import BundleSource, write_bundle
from .families import FAMILIES

KNOWN_CHECKPOINTS = Path(__file__).with_name("checkpoints.json")
"""SHA-256 of a checkpoint file → its licence, and how and on what it was trained."""


def export_family(family: str, checkpoint: Path, out: Path, report: Callable[[str], None] | None = None) -> Manifest:
    """Write the bundle of a family's checkpoint (safetensors) to the folder `out`; returns its manifest.
    Exporting the same checkpoint again gives the same bytes. `report` gets lines about what was made. Raises
    UnsupportedError for what cannot become a bundle."""
    if family not in FAMILIES:
        raise UnsupportedError(f"there is no family {family!r}; there are: {', '.join(sorted(FAMILIES))}")
    try:
        data = Path(checkpoint).read_bytes()
        weights = load(data)
    except Exception as error:  # OSError, or whatever the parser of an untrusted file raises
        raise UnsupportedError(f"{checkpoint}: not a checkpoint that can be read: {error}") from None
    try:
        source = FAMILIES[family](weights)
    except RuntimeError as error:  # PyTorch's, for names and shapes that do not fit
        raise UnsupportedError(f"{checkpoint}: not a checkpoint of family {family!r}: {error}") from None
    sha256 = hashlib.sha256(data).hexdigest()
    known: dict[str, Any] = json.loads(KNOWN_CHECKPOINTS.read_text()).get(sha256, {})
    license_name = known.pop("license", source.license)
    provenance = {"family": family, "checkpoint_sha256": sha256, **known}
    manifest = write_bundle(replace(source, license=license_name, provenance=provenance), Path(out))
    if report is not None:
        for line in _lines(source, manifest, Path(out)):
            report(line)
    return manifest


def _lines(source: BundleSource, manifest: Manifest, out: Path) -> Iterator[str]:
    for graph in source.graphs:
        entry = manifest.graphs[graph.name]
        size = (out / entry.file).stat().st_size
        cost = f"{size} bytes, {entry.macs_per_pixel} multiply-accumulates per pixel"
        yield f"graph {graph.name}: " + "; ".join(filter(None, [cost, graph.summary]))
    for name, tables in source.tables.items():
        yield f"tables {name}: {tables.summary()}"
    for name, variant in manifest.variants.items():
        yield f"variant {name}: symbol id {variant.symbol_id}, picture id {variant.picture_id}"

"""Writes a codec bundle: graphs, tables, proofs, ids, manifest. One source always gives the same bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from torch import nn

from nicrt import _core
from nicrt.runtime.bundle import MANIFEST, Bundle
from nicrt.runtime.errors import ImageError, UnsupportedError
from nicrt.runtime.installed import check_packed_target, read_listing
from nicrt.runtime.manifest import (
    BATCH,
    BUNDLE_FORMAT,
    File,
    Graph,
    Manifest,
    Port,
    Program,
    QualityPoint,
    Tables,
    Variant,
    Weights,
)
from nicrt.runtime.native_form import NO_HASH
from nicrt.runtime.whole_files import scratch_folder, swap_folder, write_file

from . import tensor_file
from .described import Description, stored_tensors
from .exact import ExactNetwork
from .exact_form import describe
from .exact_one_layer import OneLayerNetwork, one_layer_reference
from .exact_reference import reference
from .integers_torch import int8_weights
from .native_torch import NativeModule
from .onnx_export import export_module, macs, workspace_bytes
from .proving import Arrays, Native, Reference, check_forms, free_dimensions, proofs
from .reach import halo
from .tables import TableSet
from .tensors import check_finite

WEIGHTS_FILE, CARD_FILE = "weights.safetensors", "card.md"
TABLES_FILE = "tables.safetensors"
MACS_SIZE = 8  # free dimensions at which multiply-accumulates and workspace per pixel are counted


@dataclass(frozen=True)
class GraphSource:
    """What one graph is made from: `module` computes it in PyTorch, as the ONNX form is to; `native` is None where no
    native form covers it. `reference`: inputs → outputs in integers, for exact graphs. `summary`: what is worth telling
    about how it was made. `in_loop`: as in the manifest. `unit`: picture pixels per unit of this graph's free
    dimensions, where it is not the bundle's."""

    name: str
    module: nn.Module
    inputs: dict[str, Port]
    outputs: dict[str, Port]
    native: Native | None = None
    encoder: bool = False
    in_loop: bool = False
    unit: int | None = None
    reference: Reference | None = None
    summary: str = ""


@dataclass(frozen=True)
class Framework:
    """What a codec gives where it was trained, to hold the bundle's files against. `evaluate`: picture float32 [1, 3,
    64h, 64w] in [0, 1] → bits and reconstruction, at the rate that a variant has with these `parameters`."""

    name: str
    evaluate: Callable[[torch.Tensor], tuple[float, torch.Tensor]]
    variant: str
    parameters: Mapping[str, int]


@dataclass(frozen=True)
class BundleSource:
    """What a family's export hands over. `unit`: picture pixels per unit of the ports' free dimensions. `card`: the
    model card, Markdown in UTF-8."""

    name: str
    summary: str
    unit: int
    graphs: list[GraphSource]
    tables: dict[str, TableSet]
    programs: dict[str, Program]
    quality: list[QualityPoint]
    license: str = "LicenseRef-unstated"
    card: bytes | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    framework: Framework | None = None


def described_graph(
    name: str,
    described: Description,
    inputs: dict[str, Port],
    outputs: dict[str, Port],
    *,
    encoder: bool = False,
    in_loop: bool = False,
    unit: int | None = None,
    reference: Reference | None = None,
    summary: str = "",
) -> GraphSource:
    """A graph with both forms, made of one description."""
    form = described.form()
    module = NativeModule(form, described.arrays, list(inputs), list(outputs), phases=True)
    native = Native(form, described.arrays)
    return GraphSource(name, module, inputs, outputs, native, encoder, in_loop, unit, reference, summary)


def exact_graph(
    name: str, network: ExactNetwork | OneLayerNetwork, inputs: dict[str, Port], outputs: dict[str, Port]
) -> GraphSource:
    """The graph of a lowered hyper synthesis, with inputs z, step, skip, dz and outputs index, mean (if any)."""
    compute = one_layer_reference if isinstance(network, OneLayerNetwork) else reference

    def integers(values: Arrays) -> Arrays:
        step, skip, dz = (int(values[name][0]) for name in ("step", "skip", "dz"))
        index, mean = compute(network, values["z"].astype(np.int32), step, skip, dz)
        return {"index": index} if mean is None else {"index": index, "mean": mean}

    described = Description()
    describe(described, name, network)
    return described_graph(name, described, inputs, outputs, reference=integers, summary=network.summary())


def write_bundle(
    source: BundleSource,
    out: Path,
    check: Callable[[Path, Manifest], None] = lambda *_: None,
    *,
    packed: bool = False,
) -> Manifest:
    """Write the bundle to the folder `out`, or `packed` to a file, replacing what is there only when all is done and
    checked, by `check` too, which gets the new bundle's scratch folder and raises what is wrong with it. Raises
    ImageError for what `check_output` refuses, UnsupportedError for weights that are not finite.
    """
    check_output(out, packed=packed)
    for graph in source.graphs:
        check_finite(graph.module.state_dict(), f"graph {graph.name!r}")
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(out.parent) as scratch:
        folder = scratch / "bundle"
        _write(source, folder)
        made = Bundle.open(folder)
        made.check_parts()
        check(folder, made.manifest)
        if packed:
            write_file(out, made.packed())
        else:
            swap_folder(folder, out, scratch / "old")
    return made.manifest


def check_output(out: Path, *, packed: bool = False) -> None:
    """Raises ImageError for anything but a new folder, an empty one, or one that a bundle has to itself: what a bundle
    replaces is gone. Of a `packed` bundle: for anything but a new file, or one that is such a bundle.
    """
    if packed:
        check_packed_target(out)
        return
    if not out.exists():
        return
    if not out.is_dir():
        raise ImageError(f"cannot write {out}: it is a file; name a folder")
    files = {file.relative_to(out).as_posix() for file in out.rglob("*") if not file.is_dir()}
    if not files:
        return
    try:
        listing = read_listing(out)
    except UnsupportedError:
        raise ImageError(f"cannot write {out}: the folder is neither empty nor a bundle; name another") from None
    others = files - {MANIFEST, *listing.files}
    if others:
        raise ImageError(f"cannot write {out}: {min(others)!r} is in it, which is no part of the bundle there")


def _write(source: BundleSource, folder: Path) -> None:
    (folder / "graphs").mkdir(parents=True)

    def written(name: str, data: bytes) -> File:
        (folder / name).write_bytes(data)
        return File(name, NO_HASH)

    graphs: dict[str, Graph] = {}
    for graph in source.graphs:
        data, entry = _graph(graph, source.unit)
        graphs[graph.name] = msgspec.structs.replace(entry, onnx=written(f"graphs/{graph.name}.onnx", data))
    weights = stored_tensors(graph.native.arrays for graph in source.graphs if graph.native is not None)
    if weights:
        written(WEIGHTS_FILE, tensor_file.written(weights))
    arrays = {name: array for group, tables in source.tables.items() for name, array in tables.arrays(group).items()}
    written(TABLES_FILE, tensor_file.written(arrays))
    manifest = Manifest(
        bundle_format=BUNDLE_FORMAT,
        name=source.name,
        summary=source.summary,
        license=source.license,
        color="sRGB",
        graphs=graphs,
        tables=Tables(TABLES_FILE, dict.fromkeys(source.tables, NO_HASH)),
        variants={name: Variant(NO_HASH[:16], NO_HASH[:8], program) for name, program in source.programs.items()},
        quality=source.quality,
        weights=Weights(WEIGHTS_FILE) if weights else None,
        card=None if source.card is None else written(CARD_FILE, source.card),
        provenance=source.provenance,
    )
    (folder / MANIFEST).write_bytes(finished(manifest, folder))


def finished(manifest: Manifest, folder: Path) -> bytes:
    """The text of a manifest, indented, with the hashes and ids that follow from the files in the folder. Raises
    UnsupportedError for one that no bundle may have."""
    text = _core.finish_manifest(os.fspath(folder), msgspec.json.encode(manifest))
    return msgspec.json.format(text, indent=2) + b"\n"


def _graph(source: GraphSource, unit: int) -> tuple[bytes, Graph]:
    """ONNX bytes of one graph, and its manifest entry but for their file; both forms are proven here."""
    with torch.no_grad():
        data = export_module(source.module, source.inputs, source.outputs, int8_weights(source.module))
    _core.OnnxModel.read(data)
    sizes = {symbol: 1 if symbol == BATCH else MACS_SIZE for symbol in free_dimensions(source.inputs)}
    pixels = (MACS_SIZE * (source.unit or unit)) ** 2
    entry = Graph(
        inputs=source.inputs,
        outputs=source.outputs,
        exact=source.reference is not None,
        encoder=source.encoder,
        in_loop=source.in_loop,
        halo=halo(onnx.load_from_string(data), source.inputs, source.outputs, source.unit or unit),
        macs_per_pixel=round(macs(data, sizes) / pixels, 3),
        workspace_bytes_per_pixel=round(workspace_bytes(data, sizes) / pixels, 3),
        native=None if source.native is None else source.native.form,
    )
    entry = msgspec.structs.replace(entry, proofs=list(proofs(entry, source.reference)))
    check_forms(source.name, data, entry, source.native, source.reference)
    return data, entry

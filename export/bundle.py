"""Writes a codec bundle: graphs, tables, proofs, ids, manifest. One source always gives the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from safetensors.numpy import save
from torch import nn

from nicrt.runtime.backends.onnxruntime_library import import_onnxruntime
from nicrt.runtime.bundle import MANIFEST, Bundle, read_manifest
from nicrt.runtime.errors import ImageError, InternalError, UnsupportedError
from nicrt.runtime.ids import picture_id, symbol_id
from nicrt.runtime.manifest import (
    BATCH,
    BUNDLE_FORMAT,
    DIMENSION,
    Graph,
    Manifest,
    Port,
    Program,
    Proof,
    QualityPoint,
    Tables,
    Variant,
    encode,
)
from nicrt.runtime.onnx_graph import read_model
from nicrt.runtime.proofs import outputs_sha256, proof_inputs
from nicrt.runtime.tables import TableGroup
from nicrt.runtime.whole_files import scratch_folder, swap_folder

from .exact import ExactModule, ExactNetwork
from .exact_one_layer import OneLayerModule, OneLayerNetwork, one_layer_reference
from .exact_reference import reference
from .onnx_export import export_module, macs, workspace_bytes
from .reach import halo
from .tables import TableSet
from .tensors import check_finite

Arrays = Mapping[str, npt.NDArray[np.generic]]

TABLES_FILE = "tables.safetensors"
PROOF_SIZES = ((1, 2), (3, 2), (8, 8))
BATCHED_PROOF = (3, (3, 2))
"""Pictures in a batch, and their size, of the proofs of a graph with a batch besides those of PROOF_SIZES."""
PROOF_CANDIDATES = 8  # seeds tried per size: the one with the most distinct outputs proves the most
MACS_SIZE = 8  # free dimensions at which multiply-accumulates and workspace per pixel are counted


@dataclass(frozen=True)
class GraphSource:
    """What one graph is made from. `reference`: inputs → outputs in integers, for exact graphs.
    `summary`: what is worth telling about how it was made. `in_loop`: as in the manifest. `unit`: picture pixels per
    unit of this graph's free dimensions, where it is not the bundle's."""

    name: str
    module: nn.Module
    inputs: dict[str, Port]
    outputs: dict[str, Port]
    digest: str
    encoder: bool = False
    in_loop: bool = False
    unit: int | None = None
    int8_weights: tuple[str, ...] = ()
    reference: Callable[[Arrays], Arrays] | None = None
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
    """What a family's export hands over. `unit`: picture pixels per unit of the ports' free dimensions."""

    name: str
    summary: str
    unit: int
    graphs: list[GraphSource]
    tables: dict[str, TableSet]
    programs: dict[str, Program]
    quality: list[QualityPoint]
    license: str = "LicenseRef-unstated"
    provenance: dict[str, Any] = field(default_factory=dict)
    framework: Framework | None = None


def float_digest(kind: str, module: nn.Module) -> str:
    """Hex SHA-256 over a float graph's parameters by name, and over `kind`, which stands for its arithmetic
    and changes with it."""
    digest = hashlib.sha256(f"nicrt float graph\n{kind}\n".encode())
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().contiguous().numpy()
        stored = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        digest.update(f"{name} {stored.dtype.str[1:]} {list(values.shape)}\n".encode())
        digest.update(stored.tobytes())
    return digest.hexdigest()


def exact_graph(
    name: str, network: ExactNetwork | OneLayerNetwork, inputs: dict[str, Port], outputs: dict[str, Port]
) -> GraphSource:
    """The graph of a lowered hyper synthesis, with inputs z, step, skip, dz and outputs index, mean (if any)."""
    one_layer = isinstance(network, OneLayerNetwork)
    module = OneLayerModule(network) if one_layer else ExactModule(network)
    compute = one_layer_reference if one_layer else reference

    def integers(values: Arrays) -> Arrays:
        step, skip, dz = (int(values[name][0]) for name in ("step", "skip", "dz"))
        index, mean = compute(network, values["z"].astype(np.int32), step, skip, dz)
        return {"index": index} if mean is None else {"index": index, "mean": mean}

    return GraphSource(
        name,
        module,
        inputs,
        outputs,
        network.digest(),
        int8_weights=tuple(module.integer_weights()),
        reference=integers,
        summary=network.summary(),
    )


def write_bundle(
    source: BundleSource, out: Path, check: Callable[[Path, Manifest], None] = lambda *_: None
) -> Manifest:
    """Write the bundle to the folder `out`, replacing what is there only when all is done and checked, by `check` too,
    which gets the new bundle's scratch folder and raises what is wrong with it. Raises ImageError for what
    `check_output` refuses, UnsupportedError for weights that are not finite.
    """
    check_output(out)
    for graph in source.graphs:
        check_finite(graph.module.state_dict(), f"graph {graph.name!r}")
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(out.parent) as scratch:
        folder = scratch / "bundle"
        manifest = _write(source, folder)
        opened = Bundle.open(folder)
        for name in manifest.graphs:
            opened.graph_bytes(name)
        check(folder, manifest)
        swap_folder(folder, out, scratch / "old")
    return manifest


def check_output(out: Path) -> None:
    """Raises ImageError for anything but a new folder, an empty one, or one that a bundle has to itself: what a bundle
    replaces is gone.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ImageError(f"cannot write {out}: it is a file; name a folder")
    files = {file.relative_to(out).as_posix() for file in out.rglob("*") if not file.is_dir()}
    if not files:
        return
    try:
        manifest = read_manifest(out)
    except UnsupportedError:
        raise ImageError(f"cannot write {out}: the folder is neither empty nor a bundle; name another") from None
    others = files - {MANIFEST, manifest.tables.file, *(graph.file for graph in manifest.graphs.values())}
    if others:
        raise ImageError(f"cannot write {out}: {min(others)!r} is in it, which is no part of the bundle there")


def _write(source: BundleSource, folder: Path) -> Manifest:
    (folder / "graphs").mkdir(parents=True)
    graphs: dict[str, Graph] = {}
    for graph in source.graphs:
        data, entry = _graph(graph, source.unit)
        (folder / entry.file).write_bytes(data)
        graphs[graph.name] = entry
    arrays = {name: array for group, tables in source.tables.items() for name, array in tables.arrays(group).items()}
    stored = save({name: arrays[name] for name in sorted(arrays)})
    (folder / TABLES_FILE).write_bytes(stored)
    groups = {name: TableGroup(name, arrays) for name in source.tables}
    manifest = Manifest(
        bundle_format=BUNDLE_FORMAT,
        name=source.name,
        summary=source.summary,
        license=source.license,
        color="sRGB",
        graphs=graphs,
        tables=Tables(TABLES_FILE, hashlib.sha256(stored).hexdigest()),
        variants={
            name: Variant(symbol_id(program, graphs, groups), picture_id(program, graphs), program)
            for name, program in source.programs.items()
        },
        quality=source.quality,
        provenance=source.provenance,
    )
    (folder / MANIFEST).write_bytes(encode(manifest))
    return manifest


def _graph(source: GraphSource, unit: int) -> tuple[bytes, Graph]:
    """ONNX bytes and manifest entry of one graph; exact graphs are proven here."""
    with torch.no_grad():
        data = export_module(source.module, source.inputs, source.outputs, source.int8_weights)
    read_model(data)
    sizes = {symbol: 1 if symbol == BATCH else MACS_SIZE for symbol in _free_dimensions(source)}
    pixels = (MACS_SIZE * (source.unit or unit)) ** 2
    entry = Graph(
        file=f"graphs/{source.name}.onnx",
        sha256=hashlib.sha256(data).hexdigest(),
        digest=source.digest,
        inputs=source.inputs,
        outputs=source.outputs,
        exact=source.reference is not None,
        encoder=source.encoder,
        in_loop=source.in_loop,
        halo=halo(onnx.load_from_string(data), source.inputs, source.outputs, source.unit or unit),
        proofs=list(_proofs(source)),
        macs_per_pixel=round(macs(data, sizes) / pixels, 3),
        workspace_bytes_per_pixel=round(workspace_bytes(data, sizes) / pixels, 3),
    )
    check_exact(data, entry, source)
    return data, entry


def _free_dimensions(source: GraphSource) -> list[str]:
    ports = source.inputs.values()
    return sorted({match[2] for port in ports for d in port.dims if (match := DIMENSION.match(str(d)))})


def _proofs(source: GraphSource) -> Iterator[Proof]:
    """A proof with an even seed and one with an odd seed (extreme values) per size."""
    if source.reference is None:
        return
    graph = Graph("", "", source.digest, source.inputs, source.outputs)
    for sizes in _proof_sizes(_free_dimensions(source)):
        for parity in range(2):
            tried = []
            for seed in range(parity, 2 * PROOF_CANDIDATES, 2):
                outputs = _expected(source, graph, proof_inputs(graph, Proof(seed, sizes, "")))
                distinct = sum(len(np.unique(outputs[name])) for name in source.outputs)
                tried.append((distinct, -seed, outputs_sha256(graph, outputs)))
            _, seed, sha256 = max(tried)
            yield Proof(-seed, sizes, sha256)


def _proof_sizes(symbols: list[str]) -> Iterator[dict[str, int]]:
    """Sizes of the free dimensions, for one picture and for a batch."""
    places = [symbol for symbol in symbols if symbol != BATCH]
    if BATCH not in symbols:
        yield from (dict(zip(places, size, strict=True)) for size in PROOF_SIZES)
        return
    for batch, size in (*((1, size) for size in PROOF_SIZES), BATCHED_PROOF):
        yield {**dict(zip(places, size, strict=True)), BATCH: batch}


def _expected(source: GraphSource, graph: Graph, inputs: Arrays) -> Arrays:
    """The reference's outputs, picture by picture of the batch."""
    assert source.reference is not None
    batched = {name for name, port in graph.inputs.items() if port.dims[0] == BATCH}
    if not batched:
        return source.reference(inputs)
    parts = [
        source.reference({name: v[i : i + 1] if name in batched else v for name, v in inputs.items()})
        for i in range(max(len(inputs[name]) for name in batched))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_exact(data: bytes, graph: Graph, source: GraphSource) -> None:
    """Run the proofs of an exact graph at every optimisation level; all outputs, floats included, must be the
    reference's."""
    if source.reference is None:
        return
    for level, session in sessions(data):
        for proof in graph.proofs:
            inputs = proof_inputs(graph, proof)
            expected = _expected(source, graph, inputs)
            got = dict(zip(graph.outputs, session.run(list(graph.outputs), inputs), strict=True))
            wrong = [name for name in graph.outputs if not np.array_equal(got[name], expected[name])]
            if wrong or outputs_sha256(graph, got) != proof.sha256:
                raise InternalError(f"graph {source.name!r} is not exact at {level}: {wrong} differ, seed {proof.seed}")


def sessions(data: bytes) -> Iterator[tuple[str, Any]]:
    """ONNX Runtime sessions of a model on one CPU thread, one per optimisation level."""
    onnxruntime = import_onnxruntime()
    for name in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_LAYOUT", "ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{name}")
        yield name, onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

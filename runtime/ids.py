"""Symbol and picture ids, and the leaf hashes that they are made of (docs/BUNDLE.md, section 7).

A *leaf* is a part of a bundle whose contents are hashed when it is loaded: a stored tensor, an ONNX file, a group of
entropy tables. The manifest lists the hashes of all leaves, and the ids follow from the manifest alone; so a bundle is
found by its ids before any leaf has been read, and what is loaded later is what the ids were made of, or is refused.

The **symbol id** is over what decides the symbols: the program's parameters and entropy steps, the tables, and the
exact (and in-loop) graphs. The **picture id** is over what else decides pixels. Encoder graphs are in neither.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from .manifest import Entropy, Graph, Manifest, Program, Run, Stage
from .native_form import plain

SYMBOL_ID_BYTES = 8
PICTURE_ID_BYTES = 4


def tensor_leaf(array: npt.NDArray[np.generic]) -> str:
    """Hex SHA-256 of a tensor: its type, shape and values, little-endian, the last dimension first in memory."""
    shape = "x".join(str(extent) for extent in array.shape)
    digest = hashlib.sha256(f"nicrt tensor 2\n{array.dtype.name} {shape}\n".encode())
    digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def file_leaf(data: bytes) -> str:
    """Hex SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def canonical(value: object) -> bytes:
    """The one JSON text of a value: no white space, names sorted, fields at their default left out, numbers that
    are not integers as the 16 hexadecimal digits of their IEEE 754 double, in a string."""
    return msgspec.json.encode(_without_floats(plain(value)), order="sorted")


def _without_floats(value: object) -> object:
    if isinstance(value, float):
        return struct.pack(">d", value).hex()
    if isinstance(value, Mapping):
        return {name: _without_floats(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_floats(item) for item in value]
    return value


def graph_hash(graph: Graph) -> str:
    """Hex SHA-256 over what a graph computes: its ports, the leaves of its forms, and what the program may do with it.
    Not over where its files lie, its proofs and its costs."""
    entry: dict[str, object] = {
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "exact": graph.exact,
        "in_loop": graph.in_loop,
        "halo": graph.halo,
    }
    if graph.onnx is not None:
        entry["onnx"] = graph.onnx.sha256
    if graph.native is not None:
        entry["native"] = graph.native
    return hashlib.sha256(b"nicrt graph 2\n" + canonical(entry)).hexdigest()


class Ids:
    """The ids that follow from a manifest. Every graph and table group that its programs name must be in it."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._hashes: dict[str, str] = {}

    def symbol_id(self, program: Program) -> str:
        """Hex of 8 bytes."""
        stages = [
            {"each": stage.each, "align": stage.align, "steps": self._symbol_steps(stage)} for stage in program.stages
        ]
        parameters = [[p.name, p.length, p.is_sizes] for p in program.parameters]
        return _id(b"nicrt symbol id 2\n", {"parameters": parameters, "stages": stages}, SYMBOL_ID_BYTES)

    def picture_id(self, program: Program) -> str:
        """Hex of 4 bytes."""
        stages = [
            {
                "steps": [
                    self._run(run)
                    for run in stage.steps
                    if isinstance(run, Run) and not run.enc and not self._decides_symbols(run)
                ],
                "show": [self._run(run) for run in stage.show_runs],
                "shown": stage.shown,
            }
            for stage in program.stages
        ]
        return _id(b"nicrt picture id 2\n", {"color": self._manifest.color, "stages": stages}, PICTURE_ID_BYTES)

    def _symbol_steps(self, stage: Stage) -> list[object]:
        steps: list[object] = []
        for step in stage.steps:
            if isinstance(step, Entropy):
                tables = self._manifest.tables.groups[step.tables]
                steps.append([step.out, step.channels, step.stride, tables, step.by, step.set])
            elif not step.enc and self._decides_symbols(step):
                steps.append(self._run(step))
        return steps

    def _decides_symbols(self, run: Run) -> bool:
        return self._manifest.graphs[run.graph].decides_symbols

    def _run(self, run: Run) -> list[object]:
        if run.graph not in self._hashes:
            self._hashes[run.graph] = graph_hash(self._manifest.graphs[run.graph])
        return [self._hashes[run.graph], run.inputs, run.outputs, run.bands]


def with_ids(manifest: Manifest) -> Manifest:
    """The manifest with the ids that follow from it."""
    ids = Ids(manifest)
    variants = {
        name: msgspec.structs.replace(
            variant, symbol_id=ids.symbol_id(variant.program), picture_id=ids.picture_id(variant.program)
        )
        for name, variant in manifest.variants.items()
    }
    return msgspec.structs.replace(manifest, variants=variants)


def _id(kind: bytes, value: object, size_bytes: int) -> str:
    return hashlib.sha256(kind + canonical(value)).hexdigest()[: 2 * size_bytes]

"""Proof vectors: seeded inputs of an exact graph, and the hash that every backend must reach (docs/BUNDLE.md,
section 10)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from nicrt import _core

from .manifest import Graph, Port, Proof, factored


def shape_of(port: Port, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The port's shape when its dimension symbols have these sizes."""
    return tuple(factor * (sizes[symbol] if symbol else 1) for factor, symbol in map(factored, port.dims))


def proof_inputs(graph: Graph, proof: Proof) -> dict[str, npt.NDArray[np.generic]]:
    """Inputs of the graph for one proof, by port name."""
    return _core.proof_inputs(msgspec.json.encode(graph), proof.seed, proof.sizes)


def outputs_sha256(graph: Graph, outputs: Mapping[str, npt.NDArray[np.generic]]) -> str:
    """Hex SHA-256 over the integer outputs in manifest order, as little-endian int32. Raises ValueError where one is
    missing, or of another type than its port's."""
    return _core.outputs_sha256(msgspec.json.encode(graph), dict(outputs))

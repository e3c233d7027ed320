"""Proof vectors: seeded inputs of an exact graph, and the hash that every backend must reach.

An input is a function of seed, port and place alone (SplitMix64, Steele et al. 2014), so that any language can make it:
element i of the port with number p (in manifest order) takes u = splitmix64(seed * 2^32 + p * 2^28 + i). With an even
seed its value is low + u mod (high - low + 1); with an odd one it is `high` where u is odd and `low` elsewhere, which
drives the partial sums to their extremes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .manifest import DIMENSION, INTEGERS, Graph, Port, Proof


def _splitmix64(counter: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = counter + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def shape_of(port: Port, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The port's shape when its dimension symbols have these sizes."""

    def resolve(dimension: int | str) -> int:
        if isinstance(dimension, int):
            return dimension
        match = DIMENSION.match(dimension)
        assert match is not None
        return int(match[1] or 1) * sizes[match[2]]

    return tuple(resolve(dimension) for dimension in port.dims)


def proof_inputs(graph: Graph, proof: Proof) -> dict[str, npt.NDArray[np.generic]]:
    """Inputs of the graph for one proof, by port name."""
    inputs: dict[str, npt.NDArray[np.generic]] = {}
    for number, (name, port) in enumerate(graph.inputs.items()):
        assert port.range is not None, "the validator asks for the range of every input of an exact graph"
        low, high = port.range
        shape = shape_of(port, proof.sizes)
        start = np.uint64((proof.seed << 32) + (number << 28))
        u = _splitmix64(start + np.arange(int(np.prod(shape)), dtype=np.uint64))
        if proof.seed % 2:
            values = np.where(u & np.uint64(1), high, low)
        else:
            values = low + (u % np.uint64(high - low + 1)).astype(np.int64)
        inputs[name] = values.astype(port.dtype).reshape(shape)
    return inputs


def outputs_sha256(graph: Graph, outputs: Mapping[str, npt.NDArray[np.generic]]) -> str:
    """Hex SHA-256 over the integer outputs in manifest order, as little-endian int32."""
    digest = hashlib.sha256()
    for name, port in graph.outputs.items():
        if port.dtype in INTEGERS:
            digest.update(np.ascontiguousarray(outputs[name], dtype="<i4").tobytes())
    return digest.hexdigest()

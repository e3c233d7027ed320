"""The gate of float graphs on devices that round in their own way: what a backend computes must be what ONNX Runtime
does on the CPU, up to rounding. (Exact graphs have proofs instead.)"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..bundle import StoredGraph
from ..errors import UnsupportedError
from ..manifest import Graph
from ..profiles import Profile
from ..proofs import shape_of
from .base import Array, Executable
from .onnxruntime_cpu import OnnxRuntimeCpu

MAX_GREY_LEVELS = 1
"""Largest difference of integer outputs: grey levels of a picture, or steps of an encoder's symbol."""
MAX_SHARE = 0.01
"""Largest difference of float outputs, as a share of their largest magnitude."""
GATE_EXTENT = 8  # of the dimension symbols, where the profile allows it
_LARGEST = 8  # magnitude of made-up symbols: larger ones would only saturate the pixels


def check_accuracy(graph: Graph, executable: Executable, reference: Executable, symbols: Mapping[str, int]) -> float:
    """Largest difference from `reference` of the integer outputs, on made-up inputs of these sizes. Raises
    UnsupportedError when an output is further off than it may be."""
    inputs, outputs = sample_inputs(graph, symbols), list(graph.outputs)
    worst = 0.0
    for name, got, expected in zip(
        outputs, executable.run(inputs, outputs), reference.run(inputs, outputs), strict=True
    ):
        if got.shape != expected.shape or got.dtype != expected.dtype:
            raise UnsupportedError(f"its output {name!r} is {got.dtype} {got.shape}, not {expected.shape}")
        difference = float(np.abs(got.astype(np.float64) - expected).max(initial=0))
        if expected.dtype.kind == "f":
            allowed = MAX_SHARE * float(np.abs(expected).max(initial=0))
        else:
            allowed, worst = MAX_GREY_LEVELS, max(worst, difference)
        if not difference <= allowed:
            raise UnsupportedError(f"its output {name!r} is off by {difference:.3g}, more than {allowed:.3g}")
    return worst


def check_against_cpu(stored: StoredGraph, executable: Executable, profile: Profile) -> float:
    """`check_accuracy` by ONNX Runtime on one thread, at a small size that the profile allows."""
    sizes = {s: min(max(least, GATE_EXTENT), most) for s, (least, _, most) in profile.symbols.items()}
    return check_accuracy(stored.entry, executable, OnnxRuntimeCpu(1).load(stored), sizes)


def sample_inputs(graph: Graph, symbols: Mapping[str, int]) -> dict[str, Array]:
    """Inputs of the graph, by port: floats in 0..1, symbols and parameters in their ranges; sizes are 1 to 3."""
    generator = np.random.default_rng(1)
    inputs: dict[str, Array] = {}
    for name, port in graph.inputs.items():
        shape = shape_of(port, symbols)
        if port.dtype.startswith("float"):
            inputs[name] = generator.random(shape, np.float32).astype(port.dtype)
        else:
            low, high = port.range or (1, 3)
            inputs[name] = generator.integers(max(low, -_LARGEST), min(high, _LARGEST), shape, endpoint=True).astype(
                port.dtype
            )
    return inputs

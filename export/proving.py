"""Checks of a graph before it is written: exact graphs against integers, float graphs in one form against the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nicrt import _core
from nicrt.runtime.backends.base import OtherKindError
from nicrt.runtime.backends.native import NativeCpu
from nicrt.runtime.backends.onnxruntime_library import import_onnxruntime
from nicrt.runtime.bundle import StoredGraph
from nicrt.runtime.errors import InternalError
from nicrt.runtime.manifest import BATCH, Graph, Port, Proof, factored
from nicrt.runtime.native_form import NativeForm
from nicrt.runtime.proofs import outputs_sha256, proof_inputs, shape_of

from .native_torch import NativeModule

Arrays = Mapping[str, npt.NDArray[Any]]
Run = Callable[[Arrays], Arrays]
"""Inputs by port → outputs by port."""
Reference = Run
"""The same in integers, for the first picture of a batch."""


@dataclass(frozen=True)
class Native:
    """A native form, and what it uses of the bundle's tensors by their stored names."""

    form: NativeForm
    arrays: Arrays


PROOF_SIZES = ((1, 2), (3, 2), (8, 8))
BATCHED_PROOF = (3, (3, 2))
"""Pictures in a batch, and their size, of the proofs of a graph with a batch besides those of PROOF_SIZES."""
PROOF_CANDIDATES = 8  # seeds tried per size: the one with the most distinct outputs proves the most

FLOAT_SIZES = (2, 3)  # of the vectors of float graphs, for each symbol in turn
FLOAT_TOLERANCE = 1e-3  # largest difference between the two forms, as a share of the largest magnitude
_SPREAD, _SYMBOLS = 2.0, 8  # of the vectors' floats around 0.5, and reach of integers without a range


def free_dimensions(inputs: Mapping[str, Port]) -> list[str]:
    """The symbols of the dimensions, sorted."""
    return sorted({symbol for port in inputs.values() for _, symbol in map(factored, port.dims)} - {""})


def proofs(graph: Graph, reference: Reference | None) -> Iterator[Proof]:
    """Of an exact graph: one with an even seed and one with an odd seed (extreme values) per size."""
    if reference is None:
        return
    for sizes in _proof_sizes(free_dimensions(graph.inputs)):
        for parity in range(2):
            tried = []
            for seed in range(parity, 2 * PROOF_CANDIDATES, 2):
                outputs = _expected(reference, graph, proof_inputs(graph, Proof(seed, sizes, "")))
                distinct = sum(len(np.unique(outputs[name])) for name in graph.outputs)
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


def _expected(reference: Reference, graph: Graph, inputs: Arrays) -> Arrays:
    """The reference's outputs, picture by picture of the batch."""
    batched = {name for name, port in graph.inputs.items() if port.dims[0] == BATCH}
    if not batched:
        return reference(inputs)
    parts = [
        reference({name: v[i : i + 1] if name in batched else v for name, v in inputs.items()})
        for i in range(max(len(inputs[name]) for name in batched))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_forms(name: str, data: bytes, graph: Graph, native: Native | None, reference: Reference | None) -> None:
    """Raises InternalError where a form of a graph does not compute what it should. data: its ONNX model; native: its
    native form, in PyTorch and, where there are kernels for it, by them."""
    if reference is not None:
        runs = {level: session_run(session, graph) for level, session in sessions(data)}
        check_exact(name, graph, {**runs, **native_runs(name, graph, native)}, reference)
    elif native is not None:
        ((_, session),) = sessions(data, ["ENABLE_ALL"])
        check_float(name, graph, session_run(session, graph), native_runs(name, graph, native))


def native_runs(name: str, graph: Graph, native: Native | None) -> dict[str, Run]:
    """By what computes it."""
    if native is None:
        return {}
    module = NativeModule(native.form, native.arrays, list(graph.inputs), list(graph.outputs))
    runs = {"its native form": module_run(module, graph)}
    kernels = kernels_run(name, graph, native)
    return runs if kernels is None else {**runs, "our kernels": kernels}


def check_exact(name: str, graph: Graph, runs: Mapping[str, Run], reference: Reference) -> None:
    """Run the proofs of an exact graph in all its forms; all outputs, floats included, must be the reference's."""
    for proof in graph.proofs:
        inputs = proof_inputs(graph, proof)
        expected = _expected(reference, graph, inputs)
        for where, run in runs.items():
            got = run(inputs)
            wrong = [port for port in graph.outputs if not np.array_equal(got[port], expected[port])]
            if wrong or outputs_sha256(graph, got) != proof.sha256:
                raise InternalError(f"graph {name!r} is not exact in {where}: {wrong} differ, seed {proof.seed}")


def check_float(name: str, graph: Graph, onnx: Run, runs: Mapping[str, Run]) -> None:
    """Run a float graph in all its forms on drawn inputs. Integers (grey levels, symbols) may differ by 1, which is
    what rounding does at a half, floats by a small share of the largest."""
    inputs = drawn_inputs(graph)
    expected = onnx(inputs)
    for where, run in runs.items():
        got = run(inputs)
        for port in graph.outputs:
            a, b = (values[port].astype(np.float64) for values in (expected, got))
            if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
                raise InternalError(f"graph {name!r}: {port!r} is not finite, or not of one shape in {where}")
            integers = expected[port].dtype.kind in "iu"
            most = 1.0 if integers else FLOAT_TOLERANCE * max(1.0, float(np.abs(a).max(initial=0)))
            if np.abs(a - b).max(initial=0) > most:
                raise InternalError(f"graph {name!r}: {port!r} is off by {np.abs(a - b).max():.3g} in {where}")


def drawn_inputs(graph: Graph) -> dict[str, npt.NDArray[Any]]:
    """Inputs of a graph, always the same ones, for two pictures of a small size."""
    generator = np.random.default_rng(16)
    symbols = [symbol for symbol in free_dimensions(graph.inputs) if symbol != BATCH]
    sizes = {BATCH: 2, **{symbol: FLOAT_SIZES[i % 2] for i, symbol in enumerate(symbols)}}
    inputs = {}
    for name, port in graph.inputs.items():
        shape = shape_of(port, sizes)
        if port.dtype == "float32":
            inputs[name] = generator.normal(0.5, _SPREAD, shape).astype(np.float32)
        else:
            low, high = port.range if port.range is not None else (-_SYMBOLS, _SYMBOLS)
            inputs[name] = generator.integers(low, high, shape, endpoint=True).astype(port.dtype)
    return inputs


def session_run(session: Any, graph: Graph) -> Run:
    """Of a session of ONNX Runtime."""
    names = list(graph.outputs)
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def module_run(module: NativeModule, graph: Graph) -> Run:
    """Of a native form in PyTorch."""

    def run(inputs: Arrays) -> Arrays:
        with torch.no_grad():
            tensors = module(*(torch.from_numpy(inputs[name]) for name in graph.inputs))
        return {name: tensor.numpy() for name, tensor in zip(graph.outputs, tensors, strict=True)}

    return run


def kernels_run(name: str, graph: Graph, native: Native) -> Run | None:
    """Of the kernels for native forms, in float32; None where there are none for this one."""
    stored = StoredGraph(name, graph, onnx=bytes, weights=lambda: dict(native.arrays))
    arithmetic = [name for name in _core.arithmetics() if not name.endswith("bf16")][-1]
    try:
        graph_kernels = NativeCpu(threads=1, arithmetic=arithmetic).load(stored)
    except OtherKindError:
        return None
    names = list(graph.outputs)
    return lambda inputs: dict(zip(names, graph_kernels.run(inputs, names), strict=True))


LEVELS = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_LAYOUT", "ENABLE_ALL")


def sessions(data: bytes, levels: Iterable[str] = LEVELS) -> Iterator[tuple[str, Any]]:
    """ONNX Runtime sessions of a model on one CPU thread, one per optimisation level."""
    onnxruntime = import_onnxruntime()
    for name in levels:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{name}")
        yield name, onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

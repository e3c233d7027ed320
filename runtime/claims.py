"""What a manifest may claim of the work that its graphs are: bounds of counts and sizes, which cost nothing to write
down and a lot to do."""

from __future__ import annotations

import math
from collections import Counter

from .errors import UnsupportedError
from .manifest import DIMENSION, Graph, Manifest, Proof
from .native_form import IntegerNetwork
from .proofs import shape_of

MAX_STEPS = 512
"""Of all stages of a program, what is shown included. A loop (`each`) has the file's rounds, which have a limit."""
MAX_PROOF_ELEMENTS = 1 << 22
"""Of all inputs and outputs of one proof. The proofs that `export` writes have up to some 100 000."""
MAX_PROOF_MACS = 1 << 36
"""Multiply-accumulates of one proof in a native form, whose kernels are not interrupted: some seconds at most. The
proofs that `export` writes take up to 2^31."""

MAX_VIEW_BYTES = 1 << 30
"""Of what all native forms use of the stored tensors, each graph's own: it is in memory while a bundle is in use."""


def check_claims(manifest: Manifest) -> None:
    """Raise UnsupportedError for more steps, or larger proofs, than any codec has; how many graphs, variants and proofs
    there may be, and how few rows a band may have, is in the manifest's schema."""
    files = Counter(graph.onnx.file for graph in manifest.graphs.values() if graph.onnx is not None)
    shared = [file for file, uses in files.items() if uses > 1]
    if shared:
        raise UnsupportedError(f"the bundle is not valid: two of its graphs are the file {shared[0]}")
    for name, variant in manifest.variants.items():
        steps = [step for stage in variant.program.stages for step in (*stage.steps, *stage.show_runs)]
        if len(steps) > MAX_STEPS:
            raise UnsupportedError(f"the bundle is not valid: {len(steps)} steps in variant {name!r}, over {MAX_STEPS}")
    for name, graph in manifest.graphs.items():
        try:
            check_proofs(graph)
        except UnsupportedError as error:
            raise UnsupportedError(f"the bundle is not valid: graph {name!r}: {error}") from None
    forms = [graph.native for graph in manifest.graphs.values() if graph.native is not None]
    view_bytes = sum(view.size_bytes for form in forms for view in form.tensors.values())
    if view_bytes > MAX_VIEW_BYTES:
        raise UnsupportedError(f"the bundle is not valid: its native forms use {view_bytes} bytes of weights")


def check_proofs(graph: Graph) -> None:
    """Raise UnsupportedError for larger proof vectors than a proof needs. graph: one that `check_graph` has passed."""
    for proof in graph.proofs:
        elements = proof_elements(graph, proof)
        if elements > MAX_PROOF_ELEMENTS:
            raise UnsupportedError(f"a proof vector of {elements} elements, more than {MAX_PROOF_ELEMENTS}")
        macs = proof_macs(graph, proof)
        if macs > MAX_PROOF_MACS:
            raise UnsupportedError(f"a proof vector of {macs} multiply-accumulates, more than {MAX_PROOF_MACS}")


def proof_elements(graph: Graph, proof: Proof) -> int:
    """Elements of all inputs of a proof, and of the outputs whose sizes follow from theirs."""
    ports = [*graph.inputs.values(), *graph.outputs.values()]
    symbols = [{m[2] for d in port.dims if (m := DIMENSION.match(str(d)))} for port in ports]
    return sum(
        math.prod(shape_of(port, proof.sizes))
        for port, used in zip(ports, symbols, strict=True)
        if used <= proof.sizes.keys()
    )


def proof_macs(graph: Graph, proof: Proof) -> int:
    """Multiply-accumulates of a proof in the networks of integers of a graph's native form."""
    form, macs = graph.native, 0
    for network in [] if form is None else form.operations:
        if form is None or not isinstance(network, IntegerNetwork):
            continue
        batch, _, *places = shape_of(graph.inputs[network.value], proof.sizes)
        inputs = batch * math.prod(places)  # per channel; each layer multiplies them by its strides
        for layer in network.hidden:
            macs += inputs * math.prod(form.tensors[layer.weight].shape)
            inputs *= math.prod(layer.stride)
        macs += sum(inputs * math.prod(form.tensors[head.weight].shape) for head in network.heads)
    return macs

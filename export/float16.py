"""A bundle whose decoder's float graphs compute in float16, for GPUs.

What is cast stands in the graphs: convolutions, and what a module lists in `HALF`, have float16 weights and outputs,
and whatever lies between them follows. GDN stays in float32, since squares of activations leave the range of float16,
and so do sums with float32 tensors, such as a flow's couplings. A module that can be cast widens its own outputs
(`.float()`, which is nothing where they are float32). Ports, exact graphs and the encoder's graphs are as before: an
encoder's float16 latents would be off by a good part of a quantisation step.

What was cast has no native form, whose arithmetic is float32. The pixels are others: the picture id changes, and with
a graph `in_loop` the symbol id.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from nicrt.runtime.errors import UnsupportedError

from .bundle import BundleSource, GraphSource

MOST = torch.finfo(torch.float16).max


class _HalfConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.half())


class _HalfConvTranspose2d(nn.ConvTranspose2d):
    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x.half(), output_size)


_IN_HALF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: _HalfConv2d,
    nn.ConvTranspose2d: _HalfConvTranspose2d,
}


def in_float16(source: BundleSource) -> BundleSource:
    """The same bundle with float16 in the float graphs that decoding runs."""
    return replace(
        source,
        name=f"{source.name}-float16",
        summary=f"{source.summary} (float16)",
        graphs=[_graph(graph) for graph in source.graphs],
    )


def _graph(graph: GraphSource) -> GraphSource:
    if graph.encoder or graph.reference is not None:
        return graph
    module = deepcopy(graph.module)
    cast = [_cast(part) for part in module.modules()]
    if not any(cast):  # nothing in it multiplies by weights
        return graph
    for name, tensor in module.state_dict().items():
        if tensor.dtype == torch.float16 and not bool(torch.isfinite(tensor).all()):
            raise UnsupportedError(
                f"tensor {_known_as(graph, name)!r} of graph {graph.name!r} has values beyond float16 ({MOST:.0f}): "
                "export without --float16"
            )
    return replace(graph, module=module, native=None)


def _known_as(graph: GraphSource, name: str) -> str:
    """What a tensor beyond float16 is called in the bundle, which tells more than its name in the traced module."""
    arrays = {} if graph.native is None else graph.native.arrays
    cast = {stored: array for stored, array in arrays.items() if not stored.endswith((".beta", ".gamma"))}
    return next((stored for stored, array in cast.items() if np.abs(array).max() > MOST), name)


def _cast(part: nn.Module) -> bool:
    """Make float16 of a module's own parameters if it is to have such; whether it is."""
    half = _IN_HALF.get(type(part))
    if half is not None:
        part.__class__ = half  # the same layer and attributes, another forward
        part.half()
    for name in getattr(part, "HALF", ()):
        parameter = getattr(part, name)
        parameter.data = parameter.data.half()
    return half is not None or hasattr(part, "HALF")

"""Export of the slimmable family: its graphs, tables and programs.

Every width has an analysis and a synthesis with its slice of the weights in it. One graph for all widths that slices as
it runs would save 4 MB in each of the two directions, but its convolutions could not prepare their weights in advance
(measured: the widest synthesis then takes 15% longer on one core), and a width could not be shipped alone.

The `scalable` variant codes the symbols of the widest network in five streams. Each stage shows them through the widest
synthesis with zeros for the channels that are still missing, which is what the recipe `slim-scalable` trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nicrt.runtime.manifest import Entropy, Port, Program, QualityPoint, Run, Stage

from .bundle import BundleSource, GraphSource, float_digest
from .layers import to_bytes
from .models.gdn import GDN
from .models.slim import COLORS, STRIDE, WIDTHS, Slim
from .phases import in_phases
from .tables import Floats, Table, TableSet, by_channel

TILE = 512
SCALABLE = "scalable"
GROUPS = tuple(pairwise((0, *WIDTHS)))
"""First and past-the-last channel of the streams of `scalable`."""

_INT16 = (-(2**15), 2**15 - 1)
_PICTURE = Port("float32", ["n", COLORS, "16h", "16w"])
_SHOWN = Port("uint8", ["n", "16h", "16w", COLORS])


def _symbols(channels: int) -> Port:
    return Port("int32", ["n", channels, "h", "w"])


def variant(width: int) -> str:
    """Name of a plain variant."""
    return f"w{width}"


class Analysis(nn.Module):
    """Picture float32 [n, 3, 16h, 16w] → symbols int32 [n, width, h, w]."""

    def __init__(self, model: Slim, number: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([layer.alone(number) for layer in model.enc])
        self.norms = nn.ModuleList([norms[number] for norms in model.gdn])

    def forward(self, x: Tensor) -> Tensor:
        t = x - 0.5
        for layer, norm in zip(self.layers, self.norms, strict=True):
            t = norm(layer(t))
        return torch.round(t).clamp(*_INT16).to(torch.int32)


class Synthesis(nn.Module):
    """Symbols int32 [n, width, h, w] → picture uint8 [n, 16h, 16w, 3].

    The last layer gives grey levels: the factor 255 is in the inverse GDN before it, whose numbers are float32, so that
    the layer's own stay those of float16; the offset of 0.5, and the 0.5 that rounds, are in its bias.
    """

    def __init__(self, model: Slim, number: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([layer.alone(number) for layer in model.dec])
        self.norms = nn.ModuleList([norms[number] for norms in model.igdn])
        self.norms[-1] = _scaled(self.norms[-1], 255)
        last = self.layers[-1]
        last.bias = nn.Parameter(((last.bias.double() + 0.5) * 255 + 0.5).float(), requires_grad=False)

    def forward(self, y: Tensor) -> Tensor:
        t = y.float()
        for layer, norm in zip(self.layers, self.norms, strict=True):
            t = layer(norm(t))
        return to_bytes(t)


def _scaled(norm: GDN, factor: float) -> GDN:
    """An inverse GDN with `factor` times the output: x sqrt(f² beta + f² gamma x²)."""
    result = GDN(len(norm.beta), inverse=True)
    result.load_state_dict({name: tensor.double() * factor**2 for name, tensor in norm.state_dict().items()})
    return result.requires_grad_(False)


class Split(nn.Module):
    """Symbols int32 [n, 192, h, w] → the groups of channels."""

    def forward(self, y: Tensor) -> tuple[Tensor, ...]:
        return tuple(y[:, first:end] for first, end in GROUPS)


class Fill(nn.Module):
    """A group of channels, int32, and symbols int32 [n, 192, h, w] with those before it → the same with both, zeros
    in the channels after it."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def forward(self, group: Tensor, before: Tensor | None = None) -> Tensor:
        known = group if before is None else torch.cat([before[:, : self.first], group], 1)
        return F.pad(known, (0, 0, 0, 0, 0, WIDTHS[-1] - known.shape[1]))


def source(weights: Mapping[str, Tensor]) -> BundleSource:
    """Checkpoint → everything that the bundle is written from."""
    model = Slim()
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    model.eval().requires_grad_(False)
    names = [variant(width) for width in WIDTHS]
    return BundleSource(
        name="slim",
        summary="slimmable autoencoder: five widths of one set of weights, and the widest in five streams",
        unit=STRIDE,
        graphs=[*_graphs(model), *_scalable_graphs()],
        tables=_tables(model),
        programs={**{variant(width): _program(model, width) for width in WIDTHS}, SCALABLE: _scalable(model)},
        quality=[QualityPoint(100.0 * i / (len(names) - 1), name) for i, name in enumerate(names)],
    )


def _graphs(model: Slim) -> list[GraphSource]:
    graphs = []
    for number, width in enumerate(WIDTHS):
        analysis, synthesis = Analysis(model, number), Synthesis(model, number)
        graphs += [
            GraphSource(
                f"analysis_{variant(width)}",
                analysis,
                {"x": _PICTURE},
                {"y": _symbols(width)},
                float_digest("slim analysis 1", analysis),
                encoder=True,
            ),
            GraphSource(
                f"synthesis_{variant(width)}",
                in_phases(synthesis),
                {"y": _symbols(width)},
                {"picture": _SHOWN},
                float_digest("slim synthesis 1", synthesis),
            ),
        ]
    return graphs


def _scalable_graphs() -> list[GraphSource]:
    whole, split = _symbols(WIDTHS[-1]), Split()
    ports = {f"y{number}": _symbols(end - first) for number, (first, end) in enumerate(GROUPS, 1)}
    graphs = [GraphSource("split", split, {"y": whole}, ports, float_digest("slim split 1", split), encoder=True)]
    for (first, _), (name, port) in zip(GROUPS, ports.items(), strict=True):
        fill = Fill(first)
        inputs = {"group": port} if first == 0 else {"group": port, "before": whole}
        graphs.append(GraphSource(f"fill_{name}", fill, inputs, {"y": whole}, float_digest(f"slim fill {first}", fill)))
    return graphs


def _tables(model: Slim) -> dict[str, TableSet]:
    """Each width's own, and those of the widest cut into the groups of `scalable`."""
    tables = {variant(width): _prior_tables(model, number) for number, width in enumerate(WIDTHS)}
    widest = tables[variant(WIDTHS[-1])]
    groups = {f"group{number}": widest[first:end] for number, (first, end) in enumerate(GROUPS, 1)}
    return {name: TableSet(t, np.arange(len(t), dtype=np.int32)[None]) for name, t in {**tables, **groups}.items()}


def _prior_tables(model: Slim, number: int) -> list[Table]:
    def logits(values: Floats) -> Floats:
        return model.prior[number].logits(torch.from_numpy(np.array(values))).numpy()

    return by_channel(logits, WIDTHS[number])


def _stage(model: Slim, steps: list[Entropy | Run], show: str) -> Stage:
    return Stage(
        align=STRIDE,
        tile=TILE,
        steps=steps,
        show=Run(show, {"y": "y"}, {"picture": "picture"}),
    )


def _program(model: Slim, width: int) -> Program:
    name = variant(width)
    steps: list[Entropy | Run] = [
        Run(f"analysis_{name}", {"x": "@x"}, {"y": "y"}, enc=True),
        Entropy("y", width, STRIDE, name, by="channel"),
    ]
    return Program(parameters=[], stages=[_stage(model, steps, f"synthesis_{name}")])


def _scalable(model: Slim) -> Program:
    widest = variant(WIDTHS[-1])
    names = [f"y{number}" for number in range(1, len(GROUPS) + 1)]
    stages = []
    for number, (name, (first, end)) in enumerate(zip(names, GROUPS, strict=True), 1):
        known = {"group": name} if first == 0 else {"group": name, "before": "y"}
        steps: list[Entropy | Run] = [
            Entropy(name, end - first, STRIDE, f"group{number}", by="channel"),
            Run(f"fill_{name}", known, {"y": "y"}),
        ]
        if first == 0:
            steps[:0] = [
                Run(f"analysis_{widest}", {"x": "@x"}, {"y": "y"}, enc=True),
                Run("split", {"y": "y"}, {name: name for name in names}, enc=True),
            ]
        stages.append(_stage(model, steps, f"synthesis_{widest}"))
    return Program(parameters=[], stages=stages)

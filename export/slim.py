"""Export of the slimmable family: its graphs, tables and programs.

Every width has an analysis and a synthesis. Their native forms share the weights: each uses a leading corner of them.
In ONNX every one has its slice in it, as a graph that slices when it runs could not prepare its weights in advance
(measured: the widest synthesis then takes 15% longer on one core).

The `scalable` variant codes the symbols of the widest network in five streams. Each stage shows them through the widest
synthesis with zeros for the symbols of the channels that are still missing, which is what the recipe `slim-scalable`
trains.

A checkpoint with side information (recipe `slim-side`) gives other programs: symbols are coded around means and by
table indices that an exact graph makes of z, and a file may set the quantisation step, so that each width has a range
of rates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nicrt.runtime.manifest import Entropy, Parameter, Port, Program, QualityPoint, Run, Stage
from nicrt.runtime.native_form import (
    Concatenate,
    Layer,
    LogMagnitude,
    Normalisation,
    PadChannels,
    SelectChannels,
    Term,
)

from .bundle import Arrays, BundleSource, Framework, GraphSource, described_graph, exact_graph
from .described import SHOWN, Description
from .exact import DZ_RANGE, NOT_CODED, SKIP_RANGE, STEP_RANGE, lower_hyper_synthesis
from .hyperprior import AS_TRAINED, hyperprior_parameters, quantise_graph, z_tables
from .layers import INT16, dequantised, describe_quantise_z
from .models.gdn import GDN
from .models.side_information import FLOOR, Z_LIMIT, SideInformation
from .models.side_information import STRIDE as SIDE_STRIDE
from .models.slim import COLORS, SIDE_CHANNELS, STRIDE, WIDTHS, Slim, SlimConv
from .tables import Floats, Table, TableSet, by_channel
from .transmitted import scale_tables

TILE = 512
RANGES = ((0, 7, 32, 16), (8, 27, 44, 6), (28, 33, 34, 24), (34, 65, 47, 2), (67, 100, 12, -32))
"""First and last quality of the widths and their quantisation steps there, in eighths of a table step, with side
information. A width has the rates at which no other gives more than 0.1 dB more, and hands over where the next one's
files are as large and as good (means over the 24 Kodak pictures at every eighth step from -64 to 48). A quality is a
PSNR, which rises evenly from 25.3 to 34.8 dB."""
SCALABLE = "scalable"
GROUPS = tuple(pairwise((0, *WIDTHS)))
"""First and past-the-last channel of the streams of `scalable`."""

SKIPS = (4, 4, 4, 6, 8)
"""Not-coded thresholds of the widths, with side information. Measured for 48, 96 and 192 (kodim03, 08 and 19, halfway
through the training): they take 0.2 to 0.7% off the rate at equal PSNR; 8 adds 2.5% for 96, 10 adds 0 to 7%."""

_STEP = Port("int32", [1], STEP_RANGE)
_SKIP = Port("int32", [1], SKIP_RANGE)
_DZ = Port("int32", [1], DZ_RANGE)
_CONTROLS = {"step": "$step", "skip": "$skip", "dz": "$dz"}


@dataclass(frozen=True)
class Form:
    """Ports and padding, which hang on whether there is side information: pictures are padded to multiples of `stride`,
    that of the coarsest latents, and ports count in its units."""

    side: bool

    @property
    def stride(self) -> int:
        return SIDE_STRIDE * STRIDE if self.side else STRIDE

    @property
    def picture(self) -> Port:
        return Port("float32", ["n", COLORS, *(f"{self.stride}{axis}" for axis in "hw")])

    @property
    def shown(self) -> Port:
        return Port("uint8", ["n", *(f"{self.stride}{axis}" for axis in "hw"), COLORS])

    def latents(self, kind: str, channels: int, values: tuple[int, int] | None = None) -> Port:
        return Port(kind, ["n", channels, *(("2h", "2w") if self.side else ("h", "w"))], values)


def variant(width: int) -> str:
    """Name of a plain variant."""
    return f"w{width}"


def _layer(
    described: Description, name: str, layer: SlimConv, number: int, norm: Normalisation, bias: Tensor | None = None
) -> Layer:
    """A width's part of a layer: the leading corner of the weights, which all widths share, and `bias`, its own if
    None. Biases and GDN are a width's own."""
    weight, own = layer.slices(number)
    pad = weight.shape[-1] // 2
    return Layer(
        described.tensor(f"{name}.weight", layer.weight, weight.shape),
        described.tensor(f"{name}.bias.{variant(WIDTHS[number])}", own if bias is None else bias),
        (layer.stride, layer.stride),
        (pad, pad),
        norm=norm,
    )


def _latents(described: Description, model: Slim, number: int, out: str) -> str:
    """A width's analysis transform: picture float32 [n, 3, 16h, 16w] → latents float32 [n, width, h, w]."""
    layers = []
    for i, (layer, norms) in enumerate(zip(model.enc, model.gdn, strict=True)):
        norm = described.norm(f"gdn.{i}.{variant(WIDTHS[number])}", norms[number])
        layers.append(_layer(described, f"enc.{i}", layer, number, norm))
    return described.strided(out, ["x"], layers, [described.constant("enc.offset", -0.5)])


def _analysis(model: Slim, number: int) -> Description:
    """Picture → symbols int32 [n, width, h, w]."""
    described = Description()
    described.quantise("y", _latents(described, model, number, "v"), *INT16)
    return described


def _side_analysis(model: Slim, number: int, side: SideInformation) -> Description:
    """Picture float32 [n, 3, 32h, 32w], dz int32 [1] → v float32 [n, width, 2h, 2w], z int32 [n, channels, h, w]."""
    described = Description()
    _latents(described, model, number, "v")
    name = f"side.{variant(WIDTHS[number])}"
    inverse = described.constant(f"{name}.inverse_spread", 1 / cast(Tensor, side.spread).double())
    described.affine("spread", [Term("v", [inverse])])
    described.add(LogMagnitude("magnitudes", "v", FLOOR))
    described.add(Concatenate("both", ["spread", "magnitudes"]))
    layers = described.chain(f"{name}.h_a", side.h_a.named_children())
    describe_quantise_z(described, described.strided("hyper", ["both"], layers), Z_LIMIT)
    return described


def _synthesis(model: Slim, number: int, side: bool) -> Description:
    """Symbols int32 [n, width, h, w] → picture uint8 [n, 16h, 16w, 3]; with side information also of mean float32 and
    step int32 [1].

    The last layer gives grey levels: the factor 255 is in the inverse GDN before it, whose numbers are float32, so that
    the layer's own stay those of float16; the offset of 0.5, and the 0.5 that rounds, are in its bias.
    """
    described = Description()
    layers = []
    for i, (layer, norms) in enumerate(zip(model.dec, model.igdn, strict=True)):
        last = i == len(model.dec) - 1
        bias = ((layer.slices(number)[1].double() + 0.5) * 255 + 0.5).float() if last else None
        norm = _scaled(norms[number], 255) if last else norms[number]
        own = described.norm(f"igdn.{i}.{variant(WIDTHS[number])}", norm)
        layers.append(_layer(described, f"dec.{i}", layer, number, own, bias))
    described.transposed("picture", dequantised(means=True) if side else ["y"], layers, picture=SHOWN)
    return described


def _scaled(norm: GDN, factor: float) -> GDN:
    """An inverse GDN with `factor` times the output: x sqrt(f² beta + f² gamma x²)."""
    result = GDN(len(norm.beta), inverse=True)
    result.load_state_dict({name: tensor.double() * factor**2 for name, tensor in norm.state_dict().items()})
    return result.requires_grad_(False)


def _split(value: str, outputs: Iterable[str]) -> Description:
    """Symbols int32 or table indices uint8 [n, 192, h, w] → the groups of channels."""
    described = Description()
    for out, (first, end) in zip(outputs, GROUPS, strict=True):
        described.add(SelectChannels(out, value, first, end - first))
    return described


def _fill(first: int, end: int) -> Description:
    """A group of channels, int32, and symbols int32 [n, 192, h, w] with those before it → the same with both, zeros
    in the channels after it."""
    described = Description()
    known, whole = "group", end == WIDTHS[-1]
    if first:
        described.add(SelectChannels("kept", "before", 0, first))
        known = "y" if whole else "known"
        described.add(Concatenate(known, ["kept", "group"]))
    if not whole:
        described.add(PadChannels("y", known, WIDTHS[-1]))
    return described


def source(weights: Mapping[str, Tensor]) -> BundleSource:
    """Checkpoint → everything that the bundle is written from."""
    model = Slim.of(weights)
    form = Form(side=model.side is not None)

    def evaluate(x: Tensor) -> tuple[float, Tensor]:
        own = model.evaluate(x, len(WIDTHS) - 1)
        return own.bits, own.reconstruction

    shares = "a hyperprior each" if form.side else "a factorised prior each"
    programs = {variant(width): _program(form, number) for number, width in enumerate(WIDTHS)}
    return BundleSource(
        name="slim",
        summary=f"slimmable autoencoder: five widths of one set of weights, {shares}, and the widest in five streams",
        unit=form.stride,
        graphs=[*_graphs(model, form), *_scalable_graphs(form)],
        tables=_side_tables(model) if form.side else _tables(model),
        programs={**programs, SCALABLE: _scalable(form)},
        quality=list(_side_quality() if form.side else _quality()),
        framework=Framework("PyTorch", evaluate, variant(WIDTHS[-1]), AS_TRAINED if form.side else {}),
    )


def _quality() -> Iterator[QualityPoint]:
    for number, width in enumerate(WIDTHS):
        yield QualityPoint(100.0 * number / (len(WIDTHS) - 1), variant(width))


def _side_quality() -> Iterator[QualityPoint]:
    """The first and the last of each width."""
    for width, skip, (first, last, coarse, fine) in zip(WIDTHS, SKIPS, RANGES, strict=True):
        for quality, step in ((first, coarse), (last, fine)):
            yield QualityPoint(float(quality), variant(width), {"step": step, "skip": skip})


def _graphs(model: Slim, form: Form) -> Iterator[GraphSource]:
    for number, width in enumerate(WIDTHS):
        name, symbols = variant(width), form.latents("int32", width)
        if model.side is not None:
            yield from _side_graphs(model, model.side[number], number, form)
            continue
        yield described_graph(
            f"analysis_{name}", _analysis(model, number), {"x": form.picture}, {"y": symbols}, encoder=True
        )
        yield described_graph(
            f"synthesis_{name}", _synthesis(model, number, side=False), {"y": symbols}, {"picture": form.shown}
        )


def _side_graphs(model: Slim, side: SideInformation, number: int, form: Form) -> Iterator[GraphSource]:
    """Of a width."""
    name, width = variant(WIDTHS[number]), WIDTHS[number]
    latent, symbols, index = (form.latents(kind, width) for kind in ("float32", "int32", "uint8"))
    z = Port("int32", ["n", SIDE_CHANNELS, "h", "w"], (-Z_LIMIT, Z_LIMIT))
    yield described_graph(
        f"analysis_{name}",
        _side_analysis(model, number, side),
        {"x": form.picture, "dz": _DZ},
        {"v": latent, "z": z},
        encoder=True,
    )
    hyper = {"z": z, "step": _STEP, "skip": _SKIP, "dz": _DZ}
    network = lower_hyper_synthesis(side.synthesis(), Z_LIMIT)
    yield exact_graph(f"hyper_{name}", network, hyper, {"index": index, "mean": latent})
    yield quantise_graph(latent, symbols, _STEP, f"quantise_{name}")
    yield described_graph(
        f"synthesis_{name}",
        _synthesis(model, number, side=True),
        {"y": symbols, "mean": latent, "step": _STEP},
        {"picture": form.shown},
    )


def _scalable_graphs(form: Form) -> list[GraphSource]:
    whole = form.latents("int32", WIDTHS[-1])
    ports = {f"y{number}": form.latents("int32", end - first) for number, (first, end) in enumerate(GROUPS, 1)}
    graphs = [described_graph("split", _split("y", ports), {"y": whole}, ports, encoder=True)]
    if form.side:
        graphs.append(_split_indices(form))
    for (first, end), (name, port) in zip(GROUPS, ports.items(), strict=True):
        inputs = {"group": port} if first == 0 else {"group": port, "before": whole}
        graphs.append(described_graph(f"fill_{name}", _fill(first, end), inputs, {"y": whole}))
    return graphs


def _split_indices(form: Form) -> GraphSource:
    """Exact: table indices of the widest network → those of the groups."""
    names = [f"index{number}" for number in range(1, len(GROUPS) + 1)]
    outputs = {name: form.latents("uint8", end - first) for name, (first, end) in zip(names, GROUPS, strict=True)}

    def reference(values: Arrays) -> Arrays:
        groups: list[npt.NDArray[np.generic]] = [values["index"][:, first:end] for first, end in GROUPS]
        return dict(zip(names, groups, strict=True))

    inputs = {"index": form.latents("uint8", WIDTHS[-1], (0, NOT_CODED))}
    return described_graph("split_indices", _split("index", names), inputs, outputs, reference=reference)


def _tables(model: Slim) -> dict[str, TableSet]:
    """Each width's own, and those of the widest cut into the groups of `scalable`."""
    tables = {variant(width): _prior_tables(model, number) for number, width in enumerate(WIDTHS)}
    widest = tables[variant(WIDTHS[-1])]
    groups = {f"group{number}": widest[first:end] for number, (first, end) in enumerate(GROUPS, 1)}
    return {name: TableSet(t, np.arange(len(t), dtype=np.int32)[None]) for name, t in {**tables, **groups}.items()}


def _prior_tables(model: Slim, number: int) -> list[Table]:
    assert model.prior is not None
    prior = model.prior[number]

    def logits(values: Floats) -> Floats:
        return prior.logits(torch.from_numpy(np.array(values))).numpy()

    return by_channel(logits, WIDTHS[number])


def _side_tables(model: Slim) -> dict[str, TableSet]:
    """Those of each width's z, and those of symbols by index."""
    assert model.side is not None
    sides = zip(WIDTHS, model.side, strict=True)
    tables = {f"z_{variant(width)}": z_tables(side.prior, side.channels) for width, side in sides}
    return {**tables, "y": TableSet(scale_tables())}


def _stage(form: Form, steps: list[Entropy | Run], width: int) -> Stage:
    inputs = {"y": "y", "mean": "mean", "step": "$step"} if form.side else {"y": "y"}
    show = Run(f"synthesis_{variant(width)}", inputs, {"picture": "picture"})
    return Stage(align=form.stride, tile=TILE, steps=steps, show=show)


def _parameters(form: Form, number: int) -> list[Parameter]:
    return hyperprior_parameters(SKIPS[number]) if form.side else []


def _to_symbols(form: Form, width: int) -> list[Entropy | Run]:
    """Steps up to the symbols y, not coded yet; with side information also to their means and table indices."""
    name = variant(width)
    if not form.side:
        return [Run(f"analysis_{name}", {"x": "@x"}, {"y": "y"}, enc=True)]
    return [
        Run(f"analysis_{name}", {"x": "@x", "dz": "$dz"}, {"v": "v", "z": "z"}, enc=True),
        Entropy("z", SIDE_CHANNELS, form.stride, f"z_{name}", by="channel", set="dz"),
        Run(f"hyper_{name}", {"z": "z", **_CONTROLS}, {"index": "index", "mean": "mean"}),
        Run(f"quantise_{name}", {"v": "v", "mean": "mean", "step": "$step"}, {"y": "y"}, enc=True),
    ]


def _program(form: Form, number: int) -> Program:
    width = WIDTHS[number]
    tables, by = ("y", "index") if form.side else (variant(width), "channel")
    steps = [*_to_symbols(form, width), Entropy("y", width, STRIDE, tables, by=by)]
    return Program(parameters=_parameters(form, number), stages=[_stage(form, steps, width)])


def _scalable(form: Form) -> Program:
    widest = WIDTHS[-1]
    names = [f"y{number}" for number in range(1, len(GROUPS) + 1)]
    stages = []
    for number, (name, (first, end)) in enumerate(zip(names, GROUPS, strict=True), 1):
        known = {"group": name} if first == 0 else {"group": name, "before": "y"}
        tables, by = ("y", f"index{number}") if form.side else (f"group{number}", "channel")
        steps: list[Entropy | Run] = [
            Entropy(name, end - first, STRIDE, tables, by=by),
            Run(f"fill_{name}", known, {"y": "y"}),
        ]
        if first == 0:
            steps[:0] = [*_to_symbols(form, widest), Run("split", {"y": "y"}, {n: n for n in names}, enc=True)]
        if first == 0 and form.side:
            indices = {f"index{number}": f"index{number}" for number in range(1, len(GROUPS) + 1)}
            steps.insert(-2, Run("split_indices", {"index": "index"}, indices))
        stages.append(_stage(form, steps, widest))
    return Program(parameters=_parameters(form, -1), stages=stages)

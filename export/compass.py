"""Export of the spatially scalable family (COMPASS): its graphs, tables and programs.

The picture that one layer hands to the next (`prev`) is made by float graphs. Another device's may differ by float
rounding: a table index never hangs on it, since indices come from z alone, so a difference moves pixels only, and does
not grow from layer to layer by more than interpolation does. But the encoder's residual is what these graphs left over:
other weights in them would add a prediction to a residual that was not made for it. So they are `in_loop`, and a file
names them in its symbol id; what only shows a picture stands in its picture id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.manifest import MAX_SIDE, Entropy, Parameter, Port, Program, QualityPoint, Run, Stage
from nicrt.runtime.native_form import Term

from .bundle import BundleSource, GraphSource, described_graph, exact_graph
from .described import Description
from .exact import DZ_RANGE, SKIP_RANGE, STEP_RANGE, lower_hyper_synthesis
from .hyperprior import gaussian_tables, quantise_graph, z_tables
from .implicit import Bicubic, Filter
from .layers import dequantised, to_bytes
from .lowering import draw, lower_scales
from .mean_scale import describe_analysis
from .models.compass import FEATURES, RESIDUAL_OFFSET, Compass, ImplicitFilter
from .models.entropy import DZ_DEFAULT, HyperSynthesis
from .models.mean_scale import ALIGN, HYPER_STRIDE, LATENT_STRIDE, Z_LIMIT, MeanScale
from .tables import TableSet
from .tensors import load_weights

CHANNELS, LATENTS = 128, 192
TILE = 512
MAX_LAYERS = 15
BASE_SCALE, LAYER_SCALES = 0.25, [0.5, 1.0]
"""Sizes by default: factors of 2; the layers were trained for 1.2 to 3."""
BANDS = 16
"""Rows of a band of the filter: at a width of 1920 it takes 170 MiB (measured, ONNX Runtime), with 64 rows 590 MiB, in
the same time."""
WORST_STEP, BEST_STEP = 64, -64
SKIP = 6
"""Not-coded threshold. On three crops of Kodak, 5 to 8 take 0.4 to 0.6% off the rate at equal PSNR, 12 adds 8%."""

_PICTURE = Port("float32", ["n", 3, "64h", "64w"])
_ANY_PICTURE = Port("float32", ["n", 3, "a", "b"])
_BELOW = {"x": _ANY_PICTURE}
_OUTPUT = {"rows": Port("int32", ["r"]), "cols": Port("int32", ["c"]), "size": Port("int32", [2])}
_BAND = {"pred": Port("float32", ["n", 3, "r", "c"])}
_LATENT = Port("float32", ["n", LATENTS, "4h", "4w"])
_SYMBOLS = Port("int32", ["n", LATENTS, "4h", "4w"])
_Z = Port("int32", ["n", CHANNELS, "h", "w"], (-Z_LIMIT, Z_LIMIT))
_INDEX = Port("uint8", ["n", LATENTS, "4h", "4w"])
_STEP = Port("int32", [1], STEP_RANGE)
_SKIP = Port("int32", [1], SKIP_RANGE)
_DZ = Port("int32", [1], DZ_RANGE)
_HYPER = {"z": _Z, "step": _STEP, "skip": _SKIP, "dz": _DZ}
_SIZE = Port("int32", [2])


class Crop(nn.Module):
    """float32 [n, 3, 64h, 64w] → its upper left part of `size` (int32 [2]: height, width), clamped to [0, 1]."""

    def forward(self, x: Tensor, size: Tensor) -> Tensor:
        height, width = cast(int, size[0].item()), cast(int, size[1].item())  # symbols, while tracing
        for extent, whole in ((height, x.shape[2]), (width, x.shape[3])):
            torch._check(extent >= 1)  # type: ignore[no-untyped-call]
            torch._check(extent <= whole)  # type: ignore[no-untyped-call]
        return x.clamp(0, 1).narrow(2, 0, height).narrow(3, 0, width)


def _residual_analysis(model: MeanScale) -> Description:
    """As `describe_analysis`, of what the prediction (float32, as the picture) leaves of it."""
    described, name = Description(), "residual_analysis"
    terms = ["x", Term("pred", [described.constant(f"{name}.minus", -1.0)])]
    return describe_analysis(described, name, model, terms, [described.constant(f"{name}.offset", RESIDUAL_OFFSET)])


def _synthesis(name: str, model: MeanScale, out: str = "picture") -> Description:
    """Symbols int32 and mean float32 [n, 192, 4h, 4w], step int32 [1] → picture float32 [n, 3, 64h, 64w]."""
    described = Description()
    layers = described.chain(name, model.g_s.named_children())
    described.transposed(out, dequantised(means=True), layers)
    return described


def _residual_synthesis(model: MeanScale) -> Description:
    """As `_synthesis`, on top of the prediction float32 [n, 3, 64h, 64w]."""
    described = _synthesis("residual_synthesis", model, out="residual")
    offset = described.constant("residual_synthesis.offset", -RESIDUAL_OFFSET)
    described.affine("picture", ["pred", described.affine("moved", ["residual"], [offset])])
    return described


def _features(model: ImplicitFilter) -> Description:
    """Picture float32 [n, 3, h, w] → features [n, FEATURES, h, w]."""
    described = Description()
    offset = [described.constant("features.offset", -0.5)]
    terms = [described.strided("t", ["x"], [described.layer("features.head", model.head)], offset)]
    for number, block in enumerate(model.body):
        whole = described.affine(f"in{number}", terms) if len(terms) > 1 else terms[0]
        first, second = (
            described.layer(f"features.body.{number}.{key}", cast(nn.Conv2d, layer))
            for key, layer in cast(nn.Module, block).named_children()
        )
        bent = msgspec.structs.replace(first, slope=0.0)
        terms = [whole, described.strided(f"out{number}", [whole], [bent, second])]
    described.strided("features", terms, [described.layer("features.tail", model.tail)])
    return described


class Show(nn.Module):
    """Picture float32 [n, 3, a, b] in [0, 1] → uint8 [n, a, b, 3]."""

    def forward(self, x: Tensor) -> Tensor:
        return to_bytes(x * 255 + 0.5)


def source(weights: Mapping[str, Tensor]) -> BundleSource:
    """Checkpoint (the base codec's weights under `base.`) → everything that the bundle is written from."""
    if not any(name.startswith("base.") for name in weights):
        raise UnsupportedError("the layers need the codec of the base layer: give its checkpoint too (--base)")
    model = Compass()
    load_weights(model, weights)
    model.eval().requires_grad_(False)
    worst: dict[str, int | list[int]] = {"base_step": WORST_STEP, "step": [WORST_STEP] * MAX_LAYERS}
    best: dict[str, int | list[int]] = {"base_step": BEST_STEP, "step": [BEST_STEP] * MAX_LAYERS}
    return BundleSource(
        name="compass",
        summary="spatially scalable: a base and up to 15 layers of any size, predicted by a local implicit filter",
        unit=ALIGN,
        graphs=[*_base_graphs(model.base), *_layer_graphs(model)],
        tables=_tables(model),
        programs={"compass": _program(implicit=True), "bicubic": _program(implicit=False)},
        quality=[QualityPoint(0.0, "compass", worst), QualityPoint(100.0, "compass", best)],
    )


def _synthesis_graph(name: str, described: Description, inputs: dict[str, Port]) -> GraphSource:
    """`inputs`: in the place before the step."""
    ports = {"y": _SYMBOLS, "mean": _LATENT, **inputs, "step": _STEP}
    return described_graph(name, described, ports, {"picture": _PICTURE}, in_loop=True)


def _base_graphs(model: MeanScale) -> list[GraphSource]:
    samples = draw(model, Z_LIMIT)
    network, cost = lower_scales(model.h_s, samples, Z_LIMIT, means=True)
    hyper = exact_graph("base_hyper", network, _HYPER, {"index": _INDEX, "mean": _LATENT})
    return [
        described_graph(
            "base_analysis",
            describe_analysis(Description(), "base_analysis", model),
            {"x": _PICTURE, "dz": _DZ},
            {"v": _LATENT, "z": _Z},
            encoder=True,
        ),
        replace(hyper, summary=f"{hyper.summary}; {cost}"),
        _synthesis_graph("base_synthesis", _synthesis("base_synthesis", model), {}),
    ]


def _layer_graphs(model: Compass) -> list[GraphSource]:
    features = Port("float32", ["n", FEATURES, "a", "b"])
    shown = {"picture": Port("uint8", ["n", "a", "b", 3])}
    return [
        described_graph("features", _features(model.liff), _BELOW, {"features": features}, in_loop=True, unit=1),
        GraphSource(
            "filter", Filter(model.liff), {**_BELOW, "features": features, **_OUTPUT}, _BAND, in_loop=True, unit=1
        ),
        GraphSource("bicubic", Bicubic(), {**_BELOW, **_OUTPUT}, _BAND, in_loop=True, unit=1),
        described_graph(
            "residual_analysis",
            _residual_analysis(model.residual),
            {"x": _PICTURE, "pred": _PICTURE, "dz": _DZ},
            {"v": _LATENT, "z": _Z},
            encoder=True,
        ),
        exact_graph(
            "residual_hyper",
            lower_hyper_synthesis(cast(HyperSynthesis, model.residual.h_s), Z_LIMIT),
            _HYPER,
            {"index": _INDEX, "mean": _LATENT},
        ),
        quantise_graph(_LATENT, _SYMBOLS, _STEP),
        _synthesis_graph("residual_synthesis", _residual_synthesis(model.residual), {"pred": _PICTURE}),
        GraphSource("crop", Crop(), {"x": _PICTURE, "size": _SIZE}, {"picture": _ANY_PICTURE}, in_loop=True),
        GraphSource("show", Show(), _BELOW, shown, unit=1),
    ]


def _tables(model: Compass) -> dict[str, TableSet]:
    return {
        "base_z": z_tables(model.base.prior, CHANNELS),
        "residual_z": z_tables(model.residual.prior, CHANNELS),
        "y": gaussian_tables(),
    }


def _program(*, implicit: bool) -> Program:
    return Program(
        parameters=[
            Parameter("base", 1, MAX_SIDE, default=1, scales=[BASE_SCALE], length=1),
            Parameter("layers", 1, MAX_SIDE, default=1, scales=LAYER_SCALES),
            Parameter("base_step", *STEP_RANGE, default=0),
            Parameter("step", *STEP_RANGE, default=0, length=MAX_LAYERS),
            Parameter("skip", *SKIP_RANGE, default=SKIP),
            Parameter("dz", *DZ_RANGE, default=DZ_DEFAULT),
        ],
        stages=[_base_stage(), _layer_stage(implicit)],
    )


_CROP = Run("crop", {"x": "decoded", "size": "@size"}, {"picture": "prev"})
_SHOW = Run("show", {"x": "prev"}, {"picture": "picture"})


def _coded(codec: str, step: str) -> list[Entropy | Run]:
    """Code z, then y by the indices that z gives."""
    return [
        Entropy("z", CHANNELS, HYPER_STRIDE, f"{codec}_z", by="channel", set="dz"),
        Run(
            f"{codec}_hyper",
            {"z": "z", "step": step, "skip": "$skip", "dz": "$dz"},
            {"index": "index", "mean": "mean"},
        ),
        Run("quantise", {"v": "v", "mean": "mean", "step": step}, {"y": "y"}, enc=True),
        Entropy("y", LATENTS, LATENT_STRIDE, "y", by="index"),
    ]


def _base_stage() -> Stage:
    step = "$base_step"
    return Stage(
        align=ALIGN,
        tile=TILE,
        each="base",
        steps=[
            Run("base_analysis", {"x": "@x", "dz": "$dz"}, {"v": "v", "z": "z"}, enc=True),
            *_coded("base", step),
            Run("base_synthesis", {"y": "y", "mean": "mean", "step": step}, {"picture": "decoded"}),
            _CROP,
        ],
        show=_SHOW,
    )


def _layer_stage(implicit: bool) -> Stage:
    step = "$step[i]"
    place = {"x": "prev", "rows": "@rows", "cols": "@cols", "size": "@size"}
    predict = [
        Run("features", {"x": "prev"}, {"features": "features"}),
        Run("filter", {**place, "features": "features"}, {"pred": "pred"}, bands=BANDS),
    ]
    return Stage(
        align=ALIGN,
        tile=TILE,
        each="layers",
        steps=[
            *(predict if implicit else [Run("bicubic", place, {"pred": "pred"}, bands=BANDS)]),
            Run("residual_analysis", {"x": "@x", "pred": "pred", "dz": "$dz"}, {"v": "v", "z": "z"}, enc=True),
            *_coded("residual", step),
            Run(
                "residual_synthesis",
                {"y": "y", "mean": "mean", "pred": "pred", "step": step},
                {"picture": "decoded"},
            ),
            _CROP,
        ],
        show=_SHOW,
    )

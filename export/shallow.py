"""Export of the shallow-decoder family: its graphs, tables and program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import msgspec
from torch import Tensor, nn

from nicrt.runtime.manifest import Entropy, Parameter, Port, Program, QualityPoint, Run, Stage
from nicrt.runtime.native_form import Factor, InterpolatedExponential, Tanh, Term

from .bundle import BundleSource, Framework, GraphSource, described_graph, exact_graph
from .described import SHOWN, Description
from .exact import DZ_RANGE, SKIP_RANGE, STEP_RANGE, ExactNetwork, lower_hyper_synthesis
from .exact_one_layer import OneLayerNetwork, lower_one_layer
from .hyperprior import AS_TRAINED, hyperprior_parameters, hyperprior_tables, quantise_graph
from .layers import GAIN_UNIT, dequantised, describe_quantise_z, scaled_to_grey
from .models.entropy import JpegLikeHyperSynthesis
from .models.shallow import (
    ALIGN,
    HYPER,
    HYPER_STRIDE,
    LATENT_STRIDE,
    LATENTS,
    LEAKY_SLOPE,
    QUALITIES,
    Z_LIMIT,
    Bottleneck,
    DeepAnalysis,
    ResidualSynthesis,
    Shallow,
)

TILE = 512
MAX_GAIN = GAIN_UNIT * (QUALITIES - 1)
COMPARED_GAIN = QUALITIES // 2  # of the trained ones, where bundle and model are compared
SKIP_LOW, SKIP_HIGH = 8, 10
"""Not-coded thresholds at quality 0 and 100. Measured on the 24 Kodak pictures at qualities 10 to 90, they give 0.07 to
0.10 dB more than a lower gain does at the same rate, and leave 16 to 61% of the symbols to be coded."""

KEEP, DEEP, DEEP_EFFORT = "keep", "analysis-deep", "5"
"""Graphs between linear analysis and quantiser, and the effort from which on the deep analysis is it."""

KINDS: dict[str, dict[str, str]] = {
    "shallow": {},
    "shallow-residual": {"synthesis": "residual"},
    "shallow-jpeg": {"synthesis": "jpeg-like"},
    "shallow-jpeg-hyper": {"hyper_synthesis": "jpeg-like"},
}
"""Family → options of its model."""

_PICTURE = Port("float32", ["n", 3, "64h", "64w"])
_LATENT = Port("float32", ["n", LATENTS, "4h", "4w"])
_SYMBOLS = Port("int32", ["n", LATENTS, "4h", "4w"])
_Z = Port("int32", ["n", HYPER, "h", "w"], (-Z_LIMIT, Z_LIMIT))
_INDEX = Port("uint8", ["n", LATENTS, "4h", "4w"])
_GAIN = Port("int32", [1], (0, MAX_GAIN))
_STEP = Port("int32", [1], STEP_RANGE)
_SKIP = Port("int32", [1], SKIP_RANGE)
_DZ = Port("int32", [1], DZ_RANGE)


def _gain(described: Description, name: str, logarithms: Tensor) -> InterpolatedExponential:
    return described.interpolated_exponential(name, logarithms, "gain", GAIN_UNIT)


def _less_half(described: Description, name: str) -> list[Factor]:
    """The offset of a picture's samples."""
    return [described.constant(f"{name}.offset", -0.5)]


def _analysis(model: Shallow) -> Description:
    """Picture float32 [n, 3, 64h, 64w], gain and dz int32 [1] → v float32 [n, 320, 4h, 4w], z int32 [n, 128, h, w]."""
    described = Description()
    layer = described.layer("analysis.linear", model.linear)
    described.strided("linear", ["x"], [layer], _less_half(described, "analysis"))
    described.affine("v", [Term("linear", [_gain(described, "analysis.log_gain", model.log_gain)])])
    layers = described.chain("analysis.hyper", model.hyper_analysis.named_children())
    describe_quantise_z(described, described.strided("hyper", ["v"], layers), Z_LIMIT)
    return described


def _keep() -> Description:
    """The latents as they are, with the ports of `_deepen`."""
    described = Description()
    described.affine("deep", ["v"])
    return described


def _deepen(deep: DeepAnalysis) -> Description:
    """Picture float32 [n, 3, 64h, 64w], v float32 [n, 320, 4h, 4w] of the linear analysis → v of the deep one."""
    described = Description()
    sums: list[str | Term] = ["x"]
    offset = _less_half(described, DEEP)
    for key, module in deep.picture.named_children():
        name = f"picture.{key}"
        if isinstance(module, Bottleneck):
            sums = _bottleneck(described, name, module, sums)
        else:
            layer = described.layer(f"{DEEP}.{name}", cast(nn.Conv2d, module))
            sums = [described.strided(name, sums, [layer], offset)]
            offset = []
    described.affine("half", [Term("v", [described.constant(f"{DEEP}.half", 0.5)])])
    described.add(Tanh("small", "half"))
    latents = described.strided("latents", ["small"], [described.layer(f"{DEEP}.latents", deep.latents)])
    sums = [described.affine("joint", [*sums, latents])]
    first, second, _, last = deep.joint
    sums = _bottleneck(described, "joint.0", cast(Bottleneck, first), sums)
    sums = _bottleneck(described, "joint.1", cast(Bottleneck, second), sums)
    bent = described.affine("bent", sums, slope=LEAKY_SLOPE)
    more = described.strided("more", [bent], [described.layer(f"{DEEP}.joint.3", cast(nn.Conv2d, last))])
    described.affine("deep", ["v", more])
    return described


def _bottleneck(described: Description, name: str, block: Bottleneck, terms: Sequence[str | Term]) -> list[str | Term]:
    """Terms of a value → those of the block's output."""
    whole = terms[0] if len(terms) == 1 else described.affine(f"{name}.in", terms)
    layers = described.chain(f"{DEEP}.{name}", block.layers.named_children())
    return [whole, described.strided(f"{name}.out", [whole], layers)]


def _synthesis(model: Shallow) -> Description:
    """Symbols int32 and mean float32 [n, 320, 4h, 4w], gain and step int32 [1] → picture uint8 [n, 64h, 64w, 3]."""
    described = Description()
    gain = _gain(described, "synthesis.log_gain", model.log_inv)
    latents = [Term(term.value, [*term.scale, gain]) for term in dequantised(means=True)]
    *hidden, last = (cast(nn.ConvTranspose2d, layer) for layer in model.synthesis)
    layers = [described.layer(f"synthesis.{number}", layer) for number, layer in enumerate(hidden)]
    shown = described.layer(f"synthesis.{len(hidden)}", scaled_to_grey(last, offset=0.5))
    if layers:
        layers[0] = msgspec.structs.replace(layers[0], slope=LEAKY_SLOPE)
    if isinstance(model.synthesis, ResidualSynthesis):
        bent, straight = (described.transposed(f"hidden{i}", latents, [layer]) for i, layer in enumerate(layers))
        described.transposed("picture", [bent, straight], [shown], picture=SHOWN)
    else:
        described.transposed("picture", latents, [*layers, shown], picture=SHOWN)
    return described


def source(weights: Mapping[str, Tensor], family: str = "shallow") -> BundleSource:
    """Checkpoint of a family in KINDS, with a deep analysis or without → everything that the bundle is written from."""
    kind = KINDS[family]
    model = Shallow.of(weights, **kind)

    def evaluate(x: Tensor) -> tuple[float, Tensor]:
        own = model.evaluate(x, COMPARED_GAIN)
        return own.z_bits + own.symbol_bits, own.reconstruction

    hyper = "jpeg-like hyper synthesis" if "hyper_synthesis" in kind else "mean-scale hyperprior"
    return BundleSource(
        name=family,
        summary=f"shallow decoder: {kind.get('synthesis', 'two-layer')} synthesis, {hyper}, continuous rate",
        unit=ALIGN,
        graphs=_graphs(model),
        tables=hyperprior_tables(model.prior, HYPER),
        programs={family: _program(model)},
        quality=[
            QualityPoint(0.0, family, {"gain": 0, "step": 0, "skip": SKIP_LOW}),
            QualityPoint(100.0, family, {"gain": MAX_GAIN, "step": 0, "skip": SKIP_HIGH}),
        ],
        framework=Framework("PyTorch", evaluate, family, {**AS_TRAINED, "gain": COMPARED_GAIN * GAIN_UNIT}),
    )


def _lowered(model: Shallow) -> ExactNetwork | OneLayerNetwork:
    if isinstance(model.hyper_synthesis, JpegLikeHyperSynthesis):
        return lower_one_layer(model.hyper_synthesis, Z_LIMIT)
    return lower_hyper_synthesis(model.hyper_synthesis, Z_LIMIT)


def _deep_graphs(deep: DeepAnalysis) -> Iterator[GraphSource]:
    """They stand in for each other."""
    for name, described in ((KEEP, _keep()), (DEEP, _deepen(deep))):
        yield described_graph(name, described, {"x": _PICTURE, "v": _LATENT}, {"deep": _LATENT}, encoder=True)


def _graphs(model: Shallow) -> list[GraphSource]:
    symbols, mean = (Port(kind, ["n", LATENTS, "h", "w"]) for kind in ("int32", "float32"))
    return [
        described_graph(
            "analysis",
            _analysis(model),
            {"x": _PICTURE, "gain": _GAIN, "dz": _DZ},
            {"v": _LATENT, "z": _Z},
            encoder=True,
        ),
        *([] if model.deep is None else _deep_graphs(model.deep)),
        exact_graph(
            "hyper",
            _lowered(model),
            {"z": _Z, "step": _STEP, "skip": _SKIP, "dz": _DZ},
            {"index": _INDEX, "mean": _LATENT},
        ),
        quantise_graph(_LATENT, _SYMBOLS, _STEP),
        described_graph(
            "synthesis",
            _synthesis(model),
            {"y": symbols, "mean": mean, "gain": _GAIN, "step": _STEP},
            {"picture": Port("uint8", ["n", "16h", "16w", 3])},
            unit=LATENT_STRIDE,
        ),
    ]


def _program(model: Shallow) -> Program:
    effort = {"1": KEEP, DEEP_EFFORT: DEEP}
    deepen = Run(KEEP, {"x": "@x", "v": "v"}, {"deep": "v"}, enc=True, effort=effort)
    return Program(
        parameters=[
            Parameter("gain", 0, MAX_GAIN, default=300),
            *hyperprior_parameters(SKIP_LOW),
        ],
        stages=[
            Stage(
                align=ALIGN,
                tile=TILE,
                steps=[
                    Run("analysis", {"x": "@x", "gain": "$gain", "dz": "$dz"}, {"v": "v", "z": "z"}, enc=True),
                    *([] if model.deep is None else [deepen]),
                    Entropy("z", HYPER, HYPER_STRIDE, "z", by="channel", set="dz"),
                    Run(
                        "hyper",
                        {"z": "z", "step": "$step", "skip": "$skip", "dz": "$dz"},
                        {"index": "index", "mean": "mean"},
                    ),
                    Run("quantise", {"v": "v", "mean": "mean", "step": "$step"}, {"y": "y"}, enc=True),
                    Entropy("y", LATENTS, LATENT_STRIDE, "y", by="index"),
                ],
                show=Run(
                    "synthesis",
                    {"y": "y", "mean": "mean", "gain": "$gain", "step": "$step"},
                    {"picture": "picture"},
                ),
            )
        ],
    )

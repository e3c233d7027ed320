"""Export of the shallow-decoder family: its graphs, tables and program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nicrt.runtime.manifest import Entropy, Parameter, Port, Program, QualityPoint, Run, Stage

from .bundle import BundleSource, Framework, GraphSource, exact_graph, float_digest
from .exact import DZ_RANGE, SKIP_RANGE, STEP_RANGE, ExactNetwork, lower_hyper_synthesis
from .exact_one_layer import OneLayerNetwork, lower_one_layer
from .hyperprior import AS_TRAINED, hyperprior_parameters, hyperprior_tables, quantise_graph
from .layers import GAIN_UNIT, Dequantise, InterpolatedGain, QuantiseZ, to_bytes
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
    DeepAnalysis,
    JpegLikeSynthesis,
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


class Analysis(nn.Module):
    """Picture float32 [n, 3, 64h, 64w], gain and dz int32 [1] → v float32 [n, 320, 4h, 4w], z int32 [n, 128, h, w]."""

    def __init__(self, model: Shallow) -> None:
        super().__init__()
        self.linear = model.linear
        self.hyper = model.hyper_analysis
        self.gain = InterpolatedGain(model.log_gain)
        self.quantise = QuantiseZ(Z_LIMIT)

    def forward(self, x: Tensor, gain: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
        v = self.linear(x - 0.5) * self.gain(gain)
        return v, self.quantise(self.hyper(v), dz)


class Keep(nn.Module):
    """The latents as they are, with the ports of `Deepen`."""

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        return v.clone()


class Deepen(nn.Module):
    """Picture float32 [n, 3, 64h, 64w], v float32 [n, 320, 4h, 4w] of the linear analysis → v of the deep one."""

    def __init__(self, deep: DeepAnalysis) -> None:
        super().__init__()
        self.deep = deep

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        return v + self.deep(x - 0.5, v)


class Synthesis(nn.Module):
    """Symbols int32 and mean float32 [n, 320, 4h, 4w], gain and step int32 [1] → picture uint8 [n, 64h, 64w,
    3]. The last layer gives grey levels (x 255), with the offset of 0.5 in its bias, and the 0.5 that rounds.
    """

    def __init__(self, model: Shallow) -> None:
        super().__init__()
        self.dequantise = Dequantise()
        self.gain = InterpolatedGain(model.log_inv)
        last = deepcopy(cast(nn.ConvTranspose2d, model.synthesis[-1]))
        with torch.no_grad():
            last.weight *= 255
            last.bias = nn.Parameter(((cast(Tensor, last.bias).double() + 0.5) * 255 + 0.5).float())
        self.last = last

    def hidden(self, latents: Tensor) -> Tensor:
        """float32 [n, 320, 4h, 4w] → what the last layer reads."""
        return latents

    def forward(self, y: Tensor, mean: Tensor, gain: Tensor, step: Tensor) -> Tensor:
        return to_bytes(self.last(self.hidden(self.dequantise(y, mean, step) * self.gain(gain))))


class TwoLayerGraph(Synthesis):
    """Synthesis whose first layer ends in a leaky ReLU."""

    def __init__(self, model: Shallow) -> None:
        super().__init__(model)
        self.first = model.synthesis[0]

    def hidden(self, latents: Tensor) -> Tensor:
        return F.leaky_relu(self.first(latents), LEAKY_SLOPE)


class ResidualGraph(Synthesis):
    """Synthesis whose first layer and the way around its leaky ReLU are one transposed convolution."""

    def __init__(self, model: Shallow) -> None:
        super().__init__(model)
        first, around = model.synthesis[0], model.synthesis[1]
        self.both = deepcopy(cast(nn.ConvTranspose2d, first))
        self.both.weight = nn.Parameter(torch.cat([first.weight, around.weight], 1))
        self.both.bias = nn.Parameter(torch.cat([first.bias, around.bias]))

    def hidden(self, latents: Tensor) -> Tensor:
        bent, straight = self.both(latents).chunk(2, 1)
        return F.leaky_relu(bent, LEAKY_SLOPE) + straight


def _synthesis_graph(model: Shallow) -> tuple[Synthesis, str]:
    """The graph's module, and what its digest calls its arithmetic."""
    if isinstance(model.synthesis, ResidualSynthesis):
        return ResidualGraph(model), "shallow residual synthesis 1"
    if isinstance(model.synthesis, JpegLikeSynthesis):
        return Synthesis(model), "shallow jpeg-like synthesis 1"
    return TwoLayerGraph(model), "shallow synthesis 1"


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
    inputs, outputs = {"x": _PICTURE, "v": _LATENT}, {"deep": _LATENT}
    for name, module, kind in ((KEEP, Keep(), "shallow keep 1"), (DEEP, Deepen(deep), "shallow deep analysis 1")):
        yield GraphSource(name, module, inputs, outputs, float_digest(kind, module), encoder=True)


def _graphs(model: Shallow) -> list[GraphSource]:
    analysis = Analysis(model)
    synthesis, synthesis_kind = _synthesis_graph(model)
    return [
        GraphSource(
            "analysis",
            analysis,
            {"x": _PICTURE, "gain": _GAIN, "dz": _DZ},
            {"v": _LATENT, "z": _Z},
            float_digest("shallow analysis 2", analysis),
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
        GraphSource(
            "synthesis",
            synthesis,
            {
                "y": Port("int32", ["n", LATENTS, "h", "w"]),
                "mean": Port("float32", ["n", LATENTS, "h", "w"]),
                "gain": _GAIN,
                "step": _STEP,
            },
            {"picture": Port("uint8", ["n", "16h", "16w", 3])},
            float_digest(synthesis_kind, synthesis),
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

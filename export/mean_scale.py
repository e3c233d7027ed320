"""Export of hyperprior codecs of convolutions with GDN (Ballé et al. 2018, Minnen et al. 2018): graphs, tables and
program. The float hyper synthesis, which gives scales, is lowered after training (`lowering`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from nicrt.runtime.manifest import Entropy, Port, Program, QualityPoint, Run, Stage

from .bundle import BundleSource, Framework, GraphSource, exact_graph, float_digest
from .exact import DZ_RANGE, SKIP_RANGE, STEP_RANGE
from .hyperprior import AS_TRAINED, hyperprior_parameters, hyperprior_tables
from .layers import Dequantise, Quantise, QuantiseZ, to_bytes
from .lowering import Sample, draw, lower_scales
from .models.mean_scale import ALIGN, HYPER_STRIDE, LATENT_STRIDE, Z_LIMIT, Hyperprior, MeanScale
from .phases import in_phases
from .tensors import load_weights

TILE = 512
WORST_STEP, BEST_STEP = 64, -48
"""Quantisation steps at quality 0 and 100, eighths of a table step: 2.7 and 0.48 times the trained one, which quality
50 has; the recipe trains at all of them. Finer ones give rate away: on Kodak pictures a bit per pixel buys 5.4 dB from
step 0 to -32, 3.5 dB to -48, 2.4 dB to -64."""
SKIPS = (9, 9, 9)
"""Not-coded thresholds at quality 0, 50 and 100: on four Kodak pictures 0.4 to 1.4% less rate than 6 at equal PSNR,
and about the least among 4 to 12."""

_STEP = Port("int32", [1], STEP_RANGE)
_SKIP = Port("int32", [1], SKIP_RANGE)
_DZ = Port("int32", [1], DZ_RANGE)
_SHOWN = Port("uint8", ["n", "64h", "64w", 3])


class Analysis(nn.Module):
    """Picture float32 [n, 3, 64h, 64w], dz int32 [1] → v float32 [n, m, 4h, 4w], z int32 [n, c, h, w]."""

    def __init__(self, model: Hyperprior) -> None:
        super().__init__()
        self.g_a, self.h_a, self.magnitudes = model.g_a, model.h_a, model.magnitudes
        self.quantise = QuantiseZ(Z_LIMIT)

    def forward(self, x: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
        v = self.g_a(x)
        return v, self.quantise(self.h_a(v.abs() if self.magnitudes else v), dz)


class QuantiseZeroMean(Quantise):
    """Encoder: v float32, step int32 [1] → symbols int32, clipped to int16."""

    def forward(self, v: Tensor, step: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(v, torch.zeros(()), step)


class Synthesis(nn.Module):
    """Latents float32 [n, m, 4h, 4w] → picture uint8 [n, 64h, 64w, 3]; the last layer gives grey levels (x 255), and
    its bias has the 0.5 that rounds."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.body = layers[:-1]
        last = deepcopy(cast(nn.ConvTranspose2d, layers[-1]))
        with torch.no_grad():
            last.weight *= 255
            last.bias = nn.Parameter((cast(Tensor, last.bias).double() * 255 + 0.5).float())
        self.last = last

    def forward(self, latents: Tensor) -> Tensor:
        return to_bytes(self.last(self.body(latents)))


class MeanSynthesis(Synthesis):
    """Symbols int32 and mean float32 [n, m, 4h, 4w], step int32 [1] → picture."""

    def forward(self, y: Tensor, mean: Tensor, step: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(Dequantise()(y, mean, step))


class ZeroMeanSynthesis(Synthesis):
    """Symbols int32 [n, m, 4h, 4w], step int32 [1] → picture."""

    def forward(self, y: Tensor, step: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(Dequantise()(y, torch.zeros(()), step))


def source(weights: Mapping[str, Tensor]) -> BundleSource:
    """Checkpoint → everything that the bundle is written from."""
    channels, latents = weights["h_s.0.weight"].shape[0], weights["g_s.0.weight"].shape[0]
    model = MeanScale(channels, latents)
    load_weights(model, weights)
    summary = "mean-scale hyperprior: four convolutions with GDN, continuous rate, exact by lowering"

    def evaluate(x: Tensor) -> tuple[float, Tensor]:
        own = model.evaluate(x)
        return own.z_bits + own.symbol_bits, own.reconstruction

    made = hyperprior(model, "mean-scale", summary, SKIPS)
    return replace(made, framework=Framework("PyTorch", evaluate, "mean-scale", AS_TRAINED))


def hyperprior(
    model: Hyperprior, name: str, summary: str, skips: tuple[int, int, int], samples: Sequence[Sample] = ()
) -> BundleSource:
    """A loaded model → everything that its bundle is written from. `skips`: not-coded thresholds at quality 0, 50 and
    100. `samples`: to calibrate the lowering with; without any they are made (`lowering.draw`)."""
    model.eval().requires_grad_(False)
    means = isinstance(model, MeanScale)
    return BundleSource(
        name=name,
        summary=summary,
        unit=ALIGN,
        graphs=_graphs(model, means, samples),
        tables=hyperprior_tables(model.prior, model.channels),
        programs={name: _program(model, means, skips[1])},
        quality=[
            QualityPoint(50.0 * number, name, {"step": step, "skip": skip})
            for number, (step, skip) in enumerate(zip((WORST_STEP, 0, BEST_STEP), skips, strict=True))
        ],
    )


def _graphs(model: Hyperprior, means: bool, samples: Sequence[Sample]) -> list[GraphSource]:
    latent, symbols = (Port(t, ["n", model.latents, "4h", "4w"]) for t in ("float32", "int32"))
    z = Port("int32", ["n", model.channels, "h", "w"], (-Z_LIMIT, Z_LIMIT))
    mean = {"mean": latent} if means else {}
    analysis = Analysis(model)
    quantise = Quantise() if means else QuantiseZeroMean()
    synthesis = MeanSynthesis(model.g_s) if means else ZeroMeanSynthesis(model.g_s)
    samples = samples or draw(model, Z_LIMIT)
    network, cost = lower_scales(model.h_s, samples, Z_LIMIT, means)
    hyper = exact_graph(
        "hyper",
        network,
        {"z": z, "step": _STEP, "skip": _SKIP, "dz": _DZ},
        {"index": Port("uint8", ["n", model.latents, "4h", "4w"]), **mean},
    )
    return [
        GraphSource(
            "analysis",
            analysis,
            {"x": Port("float32", ["n", 3, "64h", "64w"]), "dz": _DZ},
            {"v": latent, "z": z},
            float_digest(f"hyperprior analysis {'2 of magnitudes' if model.magnitudes else '1'}", analysis),
            encoder=True,
        ),
        replace(hyper, summary=f"{hyper.summary}; {cost}"),
        GraphSource(
            "quantise",
            quantise,
            {"v": latent, **mean, "step": _STEP},
            {"y": symbols},
            float_digest("quantise 1" if means else "quantise zero mean 1", quantise),
            encoder=True,
        ),
        GraphSource(
            "synthesis",
            in_phases(synthesis),
            {"y": symbols, **mean, "step": _STEP},
            {"picture": _SHOWN},
            float_digest("GDN synthesis 1" if means else "GDN zero mean synthesis 1", synthesis),
        ),
    ]


def _program(model: Hyperprior, means: bool, skip: int) -> Program:
    mean = {"mean": "mean"} if means else {}
    return Program(
        parameters=hyperprior_parameters(skip),
        stages=[
            Stage(
                align=ALIGN,
                tile=TILE,
                steps=[
                    Run("analysis", {"x": "@x", "dz": "$dz"}, {"v": "v", "z": "z"}, enc=True),
                    Entropy("z", model.channels, HYPER_STRIDE, "z", by="channel", set="dz"),
                    Run(
                        "hyper",
                        {"z": "z", "step": "$step", "skip": "$skip", "dz": "$dz"},
                        {"index": "index", **mean},
                    ),
                    Run("quantise", {"v": "v", **mean, "step": "$step"}, {"y": "y"}, enc=True),
                    Entropy("y", model.latents, LATENT_STRIDE, "y", by="index"),
                ],
                show=Run("synthesis", {"y": "y", **mean, "step": "$step"}, {"picture": "picture"}),
            )
        ],
    )

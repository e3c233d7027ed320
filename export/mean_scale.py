"""Export of hyperprior codecs of convolutions with GDN (Ballé et al. 2018, Minnen et al. 2018): graphs, tables and
program. The float hyper synthesis, which gives scales, is lowered after training (`lowering`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from nicrt.runtime.manifest import Entropy, Port, Program, QualityPoint, Run, Stage
from nicrt.runtime.native_form import Absolute, Factor, Layer, Term

from .bundle import BundleSource, Framework, GraphSource, described_graph, exact_graph
from .described import SHOWN, Description
from .exact import DZ_RANGE, SKIP_RANGE, STEP_RANGE
from .hyperprior import AS_TRAINED, hyperprior_parameters, hyperprior_tables, quantise_graph
from .layers import dequantised, describe_quantise_z, scaled_to_grey
from .lowering import Sample, draw, lower_scales
from .models.mean_scale import ALIGN, HYPER_STRIDE, LATENT_STRIDE, Z_LIMIT, Hyperprior, MeanScale
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


def describe_analysis(
    described: Description,
    name: str,
    model: Hyperprior,
    terms: Sequence[str | Term] = ("x",),
    offset: Sequence[Factor] = (),
) -> Description:
    """Picture (the sum of `terms` and `offset`) float32 [n, 3, 64h, 64w], dz int32 [1] → v float32 [n, m, 4h, 4w], z
    int32 [n, c, h, w]."""
    value = described.strided("v", terms, described.chain(f"{name}.g_a", model.g_a.named_children()), offset)
    if model.magnitudes:
        described.add(Absolute("magnitudes", "v"))
        value = "magnitudes"
    layers = described.chain(f"{name}.h_a", model.h_a.named_children())
    describe_quantise_z(described, described.strided("hyper", [value], layers), Z_LIMIT)
    return described


def shown_layers(described: Description, layers: nn.Sequential) -> list[Layer]:
    """Of a synthesis that ends in a picture: the last layer gives grey levels (x 255), and its bias has the half that
    rounds."""
    *body, (key, last) = layers.named_children()
    return described.chain("synthesis", [*body, (key, scaled_to_grey(cast(nn.ConvTranspose2d, last), offset=0.0))])


def _synthesis(model: Hyperprior, means: bool) -> Description:
    """Symbols int32 and (if there are `means`) mean float32 [n, m, 4h, 4w], step int32 [1] → picture uint8 [n, 64h,
    64w, 3]."""
    described = Description()
    described.transposed("picture", dequantised(means), shown_layers(described, model.g_s), picture=SHOWN)
    return described


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
    samples = samples or draw(model, Z_LIMIT)
    network, cost = lower_scales(model.h_s, samples, Z_LIMIT, means)
    hyper = exact_graph(
        "hyper",
        network,
        {"z": z, "step": _STEP, "skip": _SKIP, "dz": _DZ},
        {"index": Port("uint8", ["n", model.latents, "4h", "4w"]), **mean},
    )
    return [
        described_graph(
            "analysis",
            describe_analysis(Description(), "analysis", model),
            {"x": Port("float32", ["n", 3, "64h", "64w"]), "dz": _DZ},
            {"v": latent, "z": z},
            encoder=True,
        ),
        replace(hyper, summary=f"{hyper.summary}; {cost}"),
        quantise_graph(latent, symbols, _STEP, means=means),
        described_graph(
            "synthesis", _synthesis(model, means), {"y": symbols, **mean, "step": _STEP}, {"picture": _SHOWN}
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

"""Post-training lowering: a float hyper synthesis that gives scales → an exact network.

The ranges of its activations, one per channel, come from calibration: hyper latents of pictures. Photographs are not
needed: hyper latents drawn from the codec's own prior, and those of flat and blocky pictures of extreme colours, which
drive many channels at once (without them a white sky, in one photograph of 24, cost a third more rate), cover what
photographs do. The ranges get a margin and are rounded up to eighths of a power of 2, so that machines whose floats
differ in their last bits give the same integers.

Activations have 8 bits; where that costs more than COST_LIMIT of the rate, 14 bits in two planes (`exact`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nicrt.runtime.errors import UnsupportedError

from .exact import (
    LOW_BITS,
    MAX_ACTIVATION,
    SCALE_BREAK,
    SCALE_SHIFT,
    SCALE_UNIT,
    ExactNetwork,
    FloatLayer,
    lower_first_layer,
    lower_layer,
)
from .exact_form import exact_module
from .models.entropy import (
    DZ_DEFAULT,
    LOG_SCALE_STEP,
    SCALE_COUNT,
    SCALE_MIN,
    STEPS_PER_INDEX,
    FactorizedPrior,
    gaussian_bits,
)
from .models.mean_scale import Hyperprior

COST_LIMIT = 0.005
"""Share of the symbols' rate that 8-bit activations may cost."""

SCALE_FLOOR = 0.08
"""Smaller scales count as this, in latent units: what training leaves below SCALE_MIN says nothing, but at quantisation
steps below 1 the rate is 0.1 to 1% lower than with SCALE_MIN."""

_MARGIN = 1.5
_LEAST_RANGE = 2.0**-10  # of a channel that calibration leaves at 0, as a share of the layer's largest
_MOST_RANGE = 1 << 24
_FIELD = 16  # height and width of drawn hyper latents
_BLOCK = 4
_SIDE = 128  # of made pictures, pixels
_PATTERN_SIDES = (64, 32, 16, 8)  # of their blocks


@dataclass(frozen=True)
class Layer:
    """A convolution and the factor of its negative outputs: 1 none, 0 ReLU."""

    convolution: nn.Conv2d | nn.ConvTranspose2d
    slope: float


@dataclass(frozen=True)
class Sample:
    """Hyper latents before they are rounded, float32 [1, c, h, w], and the latents that belong to them, float32
    [1, m, 4h, 4w]."""

    z: Tensor
    y: Tensor


def chain(network: nn.Module) -> list[Layer]:
    """The layers of a sequential float hyper synthesis. Refuses what has no exact form."""
    layers: list[Layer] = []
    for module in network.children():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            layers.append(Layer(module, 1.0))
        elif isinstance(module, nn.ReLU | nn.LeakyReLU) and layers:
            slope = module.negative_slope if isinstance(module, nn.LeakyReLU) else 0.0
            layers[-1] = replace(layers[-1], slope=slope)
        else:
            raise UnsupportedError(f"{type(module).__name__} in a hyper synthesis has no exact form")
    if len(layers) < 2 or not all(0 <= layer.slope < 1 for layer in layers[:-1]):
        raise UnsupportedError("a hyper synthesis is two or more convolutions with (leaky) ReLUs between them")
    return layers


@torch.no_grad()
def draw(model: Hyperprior, z_limit: int) -> list[Sample]:
    """Samples without photographs, always the same ones: hyper latents drawn from the prior, independent everywhere and
    the same over blocks, and those of made pictures; latents drawn from what the hyper synthesis says of them."""
    generator = np.random.default_rng(1)
    fields = []
    for block in (1, _BLOCK):
        z = draw_integers(model.prior, model.channels, _FIELD // block, z_limit, generator)
        fields.append(z.repeat_interleave(block, 2).repeat_interleave(block, 3))
    fields += [model.analyse(picture)[1].clamp(-z_limit, z_limit) for picture in made_pictures(generator)]
    samples = []
    for z in fields:
        mean, scale = model.gaussians(torch.round(z))
        noise = torch.from_numpy(generator.standard_normal(scale.shape)).float() * scale.clamp_min(SCALE_MIN)
        samples.append(Sample(z, noise if mean is None else mean + noise))
    return samples


def made_pictures(generator: np.random.Generator) -> list[Tensor]:
    """Pictures float32 [1, 3, _SIDE, _SIDE] in [0, 1]: flat ones in the corners of the RGB cube, then blocks of random
    colours from the corners and from everywhere."""
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), axis=-1).reshape(8, 3, 1, 1)
    pictures = [np.broadcast_to(corner, (3, _SIDE, _SIDE)) for corner in corners]
    for side in _PATTERN_SIDES:
        shape = (3, _SIDE // side, _SIDE // side)
        for colours in (generator.integers(0, 2, shape), generator.random(shape)):
            pictures.append(colours.repeat(side, 1).repeat(side, 2))
    return [torch.from_numpy(np.ascontiguousarray(picture, np.float32))[None] for picture in pictures]


@torch.no_grad()
def draw_integers(
    prior: FactorizedPrior, channels: int, side: int, limit: int, generator: np.random.Generator
) -> Tensor:
    """Independent draws from a factorised prior on the integers -limit..limit, float32 [1, channels, side, side]."""
    edges = torch.arange(-limit, limit + 1, dtype=torch.float64).expand(channels, -1) + 0.5
    cumulative = torch.sigmoid(prior.logits(edges)).numpy()
    uniform = generator.random((channels, side * side))
    drawn = np.stack([np.searchsorted(c, u) for c, u in zip(cumulative, uniform, strict=True)])
    return torch.from_numpy(drawn.clip(0, 2 * limit) - limit).float().reshape(1, channels, side, side)


def split(outputs: Tensor, means: bool) -> tuple[Tensor, Tensor]:
    """Outputs of the float network → scale and mean (0 without `means`)."""
    if means:
        scale, mean = outputs.chunk(2, 1)
        return scale, mean
    return outputs, torch.zeros_like(outputs)


@torch.no_grad()
def _ranges(layers: Sequence[Layer], samples: Sequence[Sample]) -> list[npt.NDArray[np.float64]]:
    """Largest magnitude of every hidden layer's activations per channel, float64 [out]. Raises UnsupportedError for
    what is not finite or too large for integers, in the last layer too."""
    ranges = [np.zeros(1) for _ in layers]
    for sample in samples:
        x = sample.z
        for number, layer in enumerate(layers):
            x = nn.functional.leaky_relu(layer.convolution(x), layer.slope)
            ranges[number] = np.maximum(ranges[number], x.abs().amax((0, 2, 3)).double().numpy())
    for number, reached in enumerate(ranges):
        if not reached.max() <= _MOST_RANGE:
            raise UnsupportedError(
                f"layer {number} of the hyper synthesis reaches {reached.max():.4g} on calibration data, more than "
                f"exact integers hold ({_MOST_RANGE})"
            )
    ranges.pop()
    return [_rounded_up(_MARGIN * np.maximum(r, _LEAST_RANGE * max(r.max(), 1e-6))) for r in ranges]


def _rounded_up(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(2.0 ** (np.ceil(np.log2(values) * 8) / 8))


def _scale_table() -> npt.NDArray[np.int16]:
    """Index in eighths of every scale that the exact network can give (`exact.SCALE_BREAK`), of the middle of those
    that share a place."""
    fine = np.arange(SCALE_BREAK, dtype=np.float64)
    coarse = np.arange(SCALE_BREAK, SCALE_BREAK << SCALE_SHIFT, 1 << SCALE_SHIFT) + ((1 << SCALE_SHIFT) - 1) / 2
    scales = np.maximum(np.concatenate([fine, coarse]) * SCALE_UNIT, SCALE_FLOOR)
    return np.rint(np.log(scales / SCALE_MIN) * (STEPS_PER_INDEX / LOG_SCALE_STEP)).astype(np.int16)


def _fitted(layer: FloatLayer, ranges: npt.NDArray[np.float64] | None, top: int) -> FloatLayer:
    """The layer for inputs that are integers of ranges / top."""
    if ranges is None:
        return layer
    shape = (-1, 1, 1, 1) if layer.transposed else (1, -1, 1, 1)
    return replace(layer, weight=layer.weight * (ranges / top).reshape(shape))


def _lower(
    layers: Sequence[Layer], ranges: Sequence[npt.NDArray[np.float64]], z_limit: int, means: bool, low_bits: int
) -> ExactNetwork:
    top = ((MAX_ACTIVATION + 1) << low_bits) - 1
    floats = [FloatLayer.of(f"layers.{number}", layer.convolution) for number, layer in enumerate(layers)]
    first = lower_first_layer(floats[0], ranges[0] / top, z_limit, slope=layers[0].slope, top=top)
    hidden = [
        lower_layer(
            _fitted(floats[number], ranges[number - 1], top),
            1.0,
            ranges[number] / top,
            input_bound=top,
            activation=True,
            slope=layers[number].slope,
            top=top,
            low_bits=low_bits,
            fit=True,
        )
        for number in range(1, len(layers) - 1)
    ]
    last = _fitted(floats[-1], ranges[-1], top)
    heads = 2 if means else 1
    (scale_weight, *mean_weight), (scale_bias, *mean_bias) = np.split(last.weight, heads), np.split(last.bias, heads)
    scale = replace(last, name="index", weight=scale_weight, bias=scale_bias)
    mean = None
    if means:
        mean_layer = replace(last, name="mean", weight=mean_weight[0], bias=mean_bias[0])
        mean = lower_layer(mean_layer, 1.0, 1.0, input_bound=top, activation=False, low_bits=low_bits, fit=True)
    return ExactNetwork(
        first=first,
        hidden=tuple(hidden),
        mean=mean,
        index=lower_layer(scale, 1.0, SCALE_UNIT, input_bound=top, activation=False, low_bits=low_bits, fit=True),
        input_bound=z_limit,
        scale_table=_scale_table(),
    )


@torch.no_grad()
def cost(exact: ExactNetwork, network: nn.Module, samples: Sequence[Sample]) -> float:
    """What the lowered network adds to the symbols' rate, as a share of it: both code the same latents with tables of
    whole indices."""
    module = exact_module(exact)
    zero, dz = torch.zeros(1, dtype=torch.int32), torch.full((1,), DZ_DEFAULT, dtype=torch.int32)
    before = after = 0.0
    for sample in samples:
        z = torch.round(sample.z)
        scale, mean = split(network(z), exact.mean is not None)
        index = torch.round((scale.clamp_min(SCALE_MIN) / SCALE_MIN).log() / LOG_SCALE_STEP).clamp(0, SCALE_COUNT - 1)
        before += float(gaussian_bits(torch.round(sample.y - mean), index).sum())
        lowered, *means = module(z.int(), zero, zero, dz)
        after += float(gaussian_bits(torch.round(sample.y - sum(means)), lowered).sum())
    return after / before - 1 if before else math.inf


def lower_scales(network: nn.Module, samples: Sequence[Sample], z_limit: int, means: bool) -> tuple[ExactNetwork, str]:
    """Lower a float hyper synthesis from z to scales (then means, if `means`); also says what that costs on the
    samples."""
    layers = chain(network)
    ranges = _ranges(layers, samples)
    exact = _lower(layers, ranges, z_limit, means, 0)
    share = cost(exact, network, samples)
    if share <= COST_LIMIT:
        return exact, f"8-bit activations cost {share:+.3%} of the symbols' rate on calibration data"
    fine = _lower(layers, ranges, z_limit, means, LOW_BITS)
    fine_share = cost(fine, network, samples)
    return fine, (
        f"activations of {8 + LOW_BITS} bits in two planes cost {fine_share:+.3%} of the symbols' rate on calibration "
        f"data, those of 8 bits {share:+.3%}"
    )

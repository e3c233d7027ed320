"""Exact lowering: a float hyper synthesis → a network of integers, with the same bits on every device.

Weights are int8, activations 0..255, biases integers; every partial sum stays below 2^24, so that float32, too, adds
them exactly in any order (`integers_torch`). After each layer one float32 multiplication per channel, rounded and
clipped. `exact_form` describes the network, `exact_reference` computes it with integers and numpy, for proofs and
tests.

The z step: a file's parameter `dz` (0 .. Z_STEPS - 1, default DZ_DEFAULT) says that a symbol n of z stands for
n * z_step(dz), with z_step(dz) = 2^((dz - 3) / 2). Only the first layer sees it, and its integer weights and products
stay as they are: sum(w * n * step) + b = step * (sum(w * n) + b / step), so each `dz` has a row of biases (b / step,
rounded) and a row of multipliers (times step). All rows are held to the bound.
A program with such a network has the parameter `dz` (`DZ_RANGE`), an analysis graph that takes it and rounds
z / z_step(dz) (`layers.describe_quantise_z`), and `set="dz"` on its entropy step of z, whose tables have one set per
step (`tables.by_channel_and_step`). To lower a network of another layout, make `first` with `lower_first_layer`.

Where 8 bits are too few for a network that was not trained for them (`lowering`), activations have LOW_BITS more: a
layer then adds up their high and low bits apart, each within the bound, and joins them in int32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import nn

from nicrt.runtime.errors import UnsupportedError

from .models.entropy import SCALE_COUNT, STEPS_PER_INDEX, Z_STEPS, HyperSynthesis, z_step

MAX_SUM = 1 << 24
MAX_WEIGHT = 127
MAX_ACTIVATION = 255
LOW_BITS = 6
MAX_JOINED_SUM = 1 << 31
NOT_CODED = 255
STEP_RANGE = (-128, 128)
SKIP_RANGE = (0, SCALE_COUNT)
DZ_RANGE = (0, Z_STEPS - 1)
SCALE_UNIT = 2.0**-11
SCALE_BREAK, SCALE_SHIFT = 1 << 14, 5
"""Where a network gives scales, they are integers of SCALE_UNIT, looked up one by one below SCALE_BREAK, from there on
without their last SCALE_SHIFT bits, up to SCALE_BREAK << SCALE_SHIFT."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ExactLayer:
    """One layer of integers. `weight`: int8, [out, in, k, k], or [in, out, k, k] of a transposed convolution;
    `bias`: int32 [out]; `multiplier`: float32 [out]. The outputs are sums * multiplier; where `activation`, negative
    ones are multiplied by `slope`, and all are rounded and clipped to 0..`top` (with a slope, -`top`..`top`).
    `low_bits` of the inputs are added up apart from the bits above."""

    name: str
    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.float32]
    stride: int
    padding: int
    output_padding: int
    transposed: bool
    activation: bool
    slope: float = 0.0
    top: int = MAX_ACTIVATION
    low_bits: int = 0

    @property
    def bottom(self) -> int:
        """The least output of an activation."""
        return -self.top if self.slope else 0

    @property
    def negative_multiplier(self) -> npt.NDArray[np.float32]:
        """Multiplier of negative sums, float32 [out]."""
        return self.multiplier * np.float32(self.slope)


@dataclass(frozen=True)
class FloatLayer:
    """A float convolution before lowering: weight float64 as in `ExactLayer`, bias float64 [out]."""

    name: str
    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    stride: int
    padding: int
    output_padding: int
    transposed: bool

    @classmethod
    def of(cls, name: str, layer: nn.Conv2d | nn.ConvTranspose2d) -> FloatLayer:
        """Refuses layers that have no exact form."""
        transposed = isinstance(layer, nn.ConvTranspose2d)
        square = all(len(set(pair)) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding))
        if layer.groups != 1 or layer.dilation != (1, 1) or not square or isinstance(layer.padding, str):
            raise UnsupportedError(f"{name}: groups, dilation and oblong kernels have no exact form")
        same = not transposed and layer.stride[0] == 1 and layer.kernel_size[0] == 2 * int(layer.padding[0]) + 1
        if not same and not (transposed and layer.stride[0] > 1):
            raise UnsupportedError(
                f"{name}: only convolutions of stride 1 that keep the size, and transposed ones of a larger stride, "
                "have an exact form"
            )
        weight = layer.weight.detach().double().numpy()
        outputs = weight.shape[1 if transposed else 0]
        bias = np.zeros(outputs) if layer.bias is None else layer.bias.detach().double().numpy()
        return cls(name, weight, bias, layer.stride[0], layer.padding[0], layer.output_padding[0], transposed)


def lower_layer(
    layer: FloatLayer,
    input_scale: float,
    output_scale: float | npt.NDArray[np.float64],
    *,
    input_bound: int,
    activation: bool,
    slope: float = 0.0,
    top: int = MAX_ACTIVATION,
    low_bits: int = 0,
    fit: bool = False,
) -> ExactLayer:
    """Quantise a convolution: one weight scale per output channel, whose largest weight becomes 127; with `fit` less,
    where the sums would not be exact. An input integer n means n * input_scale; an output integer m means m *
    output_scale (a number, or one per channel; float: output_scale 1). Refuses what cannot be exact."""
    out_axis = 1 if layer.transposed else 0
    others = tuple(axis for axis in range(4) if axis != out_axis)
    scale = np.maximum(np.abs(layer.weight).max(axis=others), 1e-8) / MAX_WEIGHT

    def lowered() -> ExactLayer:
        shaped = scale.reshape([-1 if axis == out_axis else 1 for axis in range(4)])
        return ExactLayer(
            name=layer.name,
            weight=np.rint(layer.weight / shaped).astype(np.int8),
            bias=_as_int32(layer.name, np.rint(layer.bias / (scale * input_scale)), MAX_SUM << low_bits),
            multiplier=(scale * input_scale / output_scale).astype(np.float32),
            stride=layer.stride,
            padding=layer.padding,
            output_padding=layer.output_padding,
            transposed=layer.transposed,
            activation=activation,
            slope=slope,
            top=top,
            low_bits=low_bits,
        )

    result = lowered()
    while fit and (share := shares(result, input_bound)).max() >= 1:
        scale = np.where(share >= 1, scale * share * 1.01, scale)
        result = lowered()
    check_bound(result, input_bound)
    return result


def _as_int32(name: str, values: npt.NDArray[np.float64], limit: int) -> npt.NDArray[np.int32]:
    if not (np.abs(values) < limit).all():
        channel = int(np.argmax(~(np.abs(values) < limit)))
        bits = limit.bit_length() - 1
        raise UnsupportedError(f"{name}: the bias of channel {channel} is {values[channel]:.0f}, beyond 2^{bits}")
    return values.astype(np.int32)


def largest_sums(layer: ExactLayer, input_bound: int) -> Integers:
    """input_bound * sum|w| + |b| per output channel, int64 [out]; of a transposed convolution over the taps
    that meet in one output place (every stride-th in each direction), at the worst phase."""
    magnitude = np.abs(layer.weight.astype(np.int64))
    bias = np.abs(layer.bias.astype(np.int64))
    if not layer.transposed:
        return np.asarray(input_bound * magnitude.sum(axis=(1, 2, 3)) + bias)
    phases = [
        magnitude[:, :, row :: layer.stride, column :: layer.stride].sum(axis=(0, 2, 3))
        for row in range(layer.stride)
        for column in range(layer.stride)
    ]
    return np.asarray(input_bound * np.max(phases, axis=0) + bias)


def shares(layer: ExactLayer, input_bound: int) -> npt.NDArray[np.float64]:
    """Largest sums as a share of what float32 holds, 2^24, per output channel, float64 [out]. With low bits: of the
    high bits' sums (rounded down, so that their magnitude may be one more), or of the joined ones as a share of 2^31.
    """
    sums = largest_sums(layer, input_bound)
    if not layer.low_bits:
        return np.asarray(sums / MAX_SUM)
    high = largest_sums(replace(layer, bias=np.zeros_like(layer.bias)), (input_bound >> layer.low_bits) + 1)
    return np.maximum(high / MAX_SUM, sums / MAX_JOINED_SUM)


def check_bound(layer: ExactLayer, input_bound: int) -> None:
    """Refuse a layer whose sums could leave the integers that float32 holds."""
    share = shares(layer, input_bound)
    if share.max() >= 1:
        channel = int(np.argmax(share))
        raise UnsupportedError(
            f"{layer.name}: the sums of channel {channel} can reach {share[channel]:.2f} of 2^24, "
            "so they would not be exact"
        )


@dataclass(frozen=True)
class ExactNetwork:
    """A lowered hyper synthesis: the first layer as it is for each z step (one set of weights), the other hidden
    layers, then `mean` (None: there are no means) and `index`, two layers on the same activations. The sums of `index`
    times its multiplier are eighths of a table step; with `scale_table` they are scales in SCALE_UNIT, which it maps to
    eighths (int16)."""

    first: tuple[ExactLayer, ...]
    hidden: tuple[ExactLayer, ...]
    mean: ExactLayer | None
    index: ExactLayer
    input_bound: int
    scale_table: npt.NDArray[np.int16] | None = None

    @property
    def layers(self) -> tuple[ExactLayer, ...]:
        heads = (self.index,) if self.mean is None else (self.mean, self.index)
        return (*self.first, *self.hidden, *heads)

    def shares(self) -> dict[str, float]:
        """Layer → largest possible sum as a share of 2^24."""
        first = max(float(shares(layer, self.input_bound).max()) for layer in self.first)
        top = self.first[0].top
        others = {layer.name: float(shares(layer, top).max()) for layer in self.layers[len(self.first) :]}
        return {self.first[0].name: first, **others}

    def summary(self) -> str:
        """How far the sums are from where they would stop being exact, for a person."""
        shares = ", ".join(f"{name} {share:.2f}" for name, share in self.shares().items())
        return f"exact: largest sums as a share of 2^24: {shares}"


def lower_first_layer(
    layer: FloatLayer,
    output_scale: float | npt.NDArray[np.float64],
    z_limit: int,
    *,
    slope: float = 0.0,
    top: int = MAX_ACTIVATION,
) -> tuple[ExactLayer, ...]:
    """The layer that reads z, for each z step: the same weights, biases and multipliers of its own."""
    return tuple(
        lower_layer(layer, z_step(dz), output_scale, input_bound=z_limit, activation=True, slope=slope, top=top)
        for dz in range(Z_STEPS)
    )


def lower_hyper_synthesis(model: HyperSynthesis, z_limit: int) -> ExactNetwork:
    """Lower a hyper synthesis whose hidden activations are clamped to [0, CAP]: 0..255 stands for that range.
    The last layer splits in two: means in latent units, and indices in eighths, 8 * (SLOPE * raw + OFFSET).
    """
    scale, bound = model.CAP / MAX_ACTIVATION, MAX_ACTIVATION
    layers = [FloatLayer.of(f"layers.{number}", module) for number, module in enumerate(model.hidden)]
    hidden = [lower_layer(layer, scale, scale, input_bound=bound, activation=True, fit=True) for layer in layers[1:]]
    last = FloatLayer.of("last", model.last)
    (mean_weight, raw_weight), (mean_bias, raw_bias) = np.split(last.weight, 2), np.split(last.bias, 2)
    mean = replace(last, name="mean", weight=mean_weight, bias=mean_bias)
    index = replace(last, name="index", weight=raw_weight, bias=raw_bias + model.OFFSET / model.SLOPE)
    eighths = 1 / (STEPS_PER_INDEX * model.SLOPE)
    network = ExactNetwork(
        first=lower_first_layer(layers[0], scale, z_limit),
        hidden=tuple(hidden),
        mean=lower_layer(mean, scale, 1.0, input_bound=bound, activation=False),
        index=lower_layer(index, scale, eighths, input_bound=bound, activation=False),
        input_bound=z_limit,
    )
    reach = (largest_sums(network.index, bound) * network.index.multiplier.astype(np.float64)).max()
    if reach >= MAX_SUM // 4:
        raise UnsupportedError(f"index: its eighths can reach {reach:.0f}, beyond the integers that float32 holds")
    return network

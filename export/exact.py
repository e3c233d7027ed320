"""Exact lowering: a float hyper synthesis → a network of integers held in float32, with the same bits on
every device.

Weights are int8, activations 0..255, biases integers; every partial sum stays below 2^24, so float32 adds
them exactly in any order. After each layer: Round (which keeps optimisers from folding the multiplier into
the weights), one float32 multiplication per channel, Round, Clip. `reference` computes the same with
integers and numpy, for proofs and tests.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nicrt.runtime.errors import UnsupportedError

from .models.entropy import SCALE_COUNT, STEPS_PER_INDEX, HyperSynthesis

MAX_SUM = 1 << 24
MAX_WEIGHT = 127
MAX_ACTIVATION = 255
NOT_CODED = 255
STEP_RANGE = (-128, 128)
SKIP_RANGE = (0, SCALE_COUNT)

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ExactLayer:
    """One layer of integers. `weight`: int8, [out, in, 1, 1], or [in, out, k, k] of a transposed convolution;
    `bias`: int32 [out]; `multiplier`: float32 [out]; outputs are clipped to 0..255 where `activation`, else
    they are sums * multiplier."""

    name: str
    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.float32]
    stride: int
    padding: int
    output_padding: int
    transposed: bool
    activation: bool


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
        if layer.kernel_size[0] > 1 and not (transposed and layer.stride[0] > 1):
            raise UnsupportedError(
                f"{name}: a convolution of kernel {layer.kernel_size[0]} may run as Winograd, which is not exact; "
                "use 1x1 or transposed ones of stride 2"
            )
        weight = layer.weight.detach().double().numpy()
        outputs = weight.shape[1 if transposed else 0]
        bias = np.zeros(outputs) if layer.bias is None else layer.bias.detach().double().numpy()
        return cls(name, weight, bias, layer.stride[0], layer.padding[0], layer.output_padding[0], transposed)


def lower_layer(
    layer: FloatLayer, input_scale: float, output_scale: float, *, input_bound: int, activation: bool
) -> ExactLayer:
    """Quantise a convolution: one weight scale per output channel, whose largest weight becomes 127. An input
    integer n means n * input_scale; an output integer m means m * output_scale (float: output_scale 1).
    Refuses what cannot be exact."""
    out_axis = 1 if layer.transposed else 0
    others = tuple(axis for axis in range(4) if axis != out_axis)
    scale = np.maximum(np.abs(layer.weight).max(axis=others), 1e-8) / MAX_WEIGHT
    shaped = scale.reshape([-1 if axis == out_axis else 1 for axis in range(4)])
    lowered = ExactLayer(
        name=layer.name,
        weight=np.rint(layer.weight / shaped).astype(np.int8),
        bias=_as_int32(layer.name, np.rint(layer.bias / (scale * input_scale))),
        multiplier=(scale * input_scale / output_scale).astype(np.float32),
        stride=layer.stride,
        padding=layer.padding,
        output_padding=layer.output_padding,
        transposed=layer.transposed,
        activation=activation,
    )
    check_bound(lowered, input_bound)
    return lowered


def _as_int32(name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    if not (np.abs(values) < MAX_SUM).all():
        channel = int(np.argmax(~(np.abs(values) < MAX_SUM)))
        raise UnsupportedError(f"{name}: the bias of channel {channel} is {values[channel]:.0f}, beyond 2^24")
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


def check_bound(layer: ExactLayer, input_bound: int) -> None:
    """Refuse a layer whose sums could leave the integers that float32 holds."""
    sums = largest_sums(layer, input_bound)
    if sums.max() >= MAX_SUM:
        channel = int(np.argmax(sums))
        raise UnsupportedError(
            f"{layer.name}: the sums of channel {channel} can reach {sums[channel] / MAX_SUM:.2f} of 2^24, "
            "so they would not be exact"
        )


@dataclass(frozen=True)
class ExactNetwork:
    """A lowered hyper synthesis: hidden layers, then `mean` and `index`, two 1x1 layers on the same
    activations. The sums of `index` times its multiplier are eighths of a table step."""

    hidden: tuple[ExactLayer, ...]
    mean: ExactLayer
    index: ExactLayer
    input_bound: int

    @property
    def layers(self) -> tuple[ExactLayer, ...]:
        return (*self.hidden, self.mean, self.index)

    def shares(self) -> dict[str, float]:
        """Layer → largest possible sum as a share of 2^24."""
        bounds = [self.input_bound] + [MAX_ACTIVATION] * (len(self.layers) - 1)
        return {
            layer.name: float(largest_sums(layer, bound).max() / MAX_SUM)
            for layer, bound in zip(self.layers, bounds, strict=True)
        }

    def summary(self) -> str:
        """How far the sums are from where they would stop being exact, for a person."""
        shares = ", ".join(f"{name} {share:.2f}" for name, share in self.shares().items())
        return f"exact: largest sums as a share of 2^24: {shares}"

    def digest(self) -> str:
        """Hex SHA-256 over everything that decides an output: shapes, strides, weights, biases and
        multipliers."""
        digest = hashlib.sha256(b"nicrt exact network 1\n")
        for layer in self.layers:
            kind = "transposed" if layer.transposed else "convolution"
            digest.update(
                f"{layer.name} {kind} stride {layer.stride} padding {layer.padding} {layer.output_padding} "
                f"activation {layer.activation}\n".encode()
            )
            for part, array in (
                ("weight", layer.weight),
                ("bias", layer.bias),
                ("multiplier", layer.multiplier),
            ):
                stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
                digest.update(f"{part} {stored.dtype.str[1:]} {list(stored.shape)}\n".encode())
                digest.update(stored.tobytes())
        return digest.hexdigest()


def lower_hyper_synthesis(model: HyperSynthesis, z_limit: int) -> ExactNetwork:
    """Lower a hyper synthesis whose hidden activations are clamped to [0, CAP]: 0..255 stands for that range.
    The last layer splits in two: means in latent units, and indices in eighths, 8 * (SLOPE * raw + OFFSET).
    """
    hidden: list[ExactLayer] = []
    scale, bound = 1.0, z_limit
    activation_scale = model.CAP / MAX_ACTIVATION
    for number, module in enumerate(model.hidden):
        layer = FloatLayer.of(f"layers.{number}", module)
        hidden.append(lower_layer(layer, scale, activation_scale, input_bound=bound, activation=True))
        scale, bound = activation_scale, MAX_ACTIVATION
    last = FloatLayer.of("last", model.last)
    (mean_weight, raw_weight), (mean_bias, raw_bias) = np.split(last.weight, 2), np.split(last.bias, 2)
    mean = replace(last, name="mean", weight=mean_weight, bias=mean_bias)
    index = replace(last, name="index", weight=raw_weight, bias=raw_bias + model.OFFSET / model.SLOPE)
    eighths = 1 / (STEPS_PER_INDEX * model.SLOPE)
    network = ExactNetwork(
        hidden=tuple(hidden),
        mean=lower_layer(mean, scale, 1.0, input_bound=bound, activation=False),
        index=lower_layer(index, scale, eighths, input_bound=bound, activation=False),
        input_bound=z_limit,
    )
    reach = (largest_sums(network.index, bound) * network.index.multiplier.astype(np.float64)).max()
    if reach >= MAX_SUM // 4:
        raise UnsupportedError(f"index: its eighths can reach {reach:.0f}, beyond the integers that float32 holds")
    return network


class ExactModule(nn.Module):
    """The network in the operators that its graph has. Buffers are named after the layers."""

    def __init__(self, network: ExactNetwork) -> None:
        super().__init__()
        self.network = network
        for layer in network.layers:
            key = layer.name.replace(".", "_")
            self.register_buffer(f"{key}_weight", torch.from_numpy(layer.weight.astype(np.float32)))
            self.register_buffer(f"{key}_bias", torch.from_numpy(layer.bias.astype(np.float32)))
            self.register_buffer(f"{key}_multiplier", torch.from_numpy(layer.multiplier)[None, :, None, None])

    def integer_weights(self) -> list[str]:
        """Names of the buffers that hold int8 values."""
        return [name for name, _ in self.named_buffers() if name.endswith("_weight")]

    def _layer(self, layer: ExactLayer, x: Tensor) -> Tensor:
        key = layer.name.replace(".", "_")
        weight, bias = getattr(self, f"{key}_weight"), getattr(self, f"{key}_bias")
        if layer.transposed:
            sums = F.conv_transpose2d(x, weight, bias, layer.stride, layer.padding, layer.output_padding)
        else:
            sums = F.conv2d(x, weight, bias)
        scaled = torch.round(sums) * getattr(self, f"{key}_multiplier")
        return torch.round(scaled).clamp(0, MAX_ACTIVATION) if layer.activation else scaled

    def forward(self, z: Tensor, step: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """z int32 [1, c, h, w], step (eighths) and skip int32 [1] → index uint8, mean float32 [1, m, 4h, 4w].
        An index below `skip` becomes NOT_CODED."""
        x = z.float()
        for layer in self.network.hidden:
            x = self._layer(layer, x)
        mean = self._layer(self.network.mean, x)
        eighths = torch.round(self._layer(self.network.index, x))
        # + 4 makes the floor of the division by 8 a rounding; eighths and quotients are exact in float32
        shifted = (eighths + (STEPS_PER_INDEX // 2 - step).float()) * (1 / STEPS_PER_INDEX)
        index = torch.floor(shifted).clamp(0, SCALE_COUNT - 1)
        return torch.where(index < skip.float(), float(NOT_CODED), index).to(torch.uint8), mean


def _sums(layer: ExactLayer, x: Integers) -> Integers:
    """The layer's integer sums: int64 [in, h, w] → int64 [out, h', w']. Products are done in float64, exact
    below 2^53."""
    weight = layer.weight.astype(np.float64)
    channels, height, width = x.shape
    places = x.reshape(channels, -1).astype(np.float64)
    if not layer.transposed:
        product = weight[:, :, 0, 0] @ places
        return product.astype(np.int64).reshape(-1, height, width) + layer.bias[:, None, None].astype(np.int64)
    stride, kernel = layer.stride, weight.shape[2]
    full = np.zeros((weight.shape[1], (height - 1) * stride + kernel, (width - 1) * stride + kernel), np.int64)
    for row in range(kernel):
        for column in range(kernel):
            tap = (weight[:, :, row, column].T @ places).astype(np.int64).reshape(-1, height, width)
            full[:, row : row + height * stride : stride, column : column + width * stride : stride] += tap
    out_height = (height - 1) * stride + kernel - 2 * layer.padding + layer.output_padding
    out_width = (width - 1) * stride + kernel - 2 * layer.padding + layer.output_padding
    full = np.pad(full, ((0, 0), (0, layer.output_padding), (0, layer.output_padding)))
    cut = full[:, layer.padding :, layer.padding :][:, :out_height, :out_width]
    return np.asarray(cut + layer.bias[:, None, None], np.int64)


def _scaled(layer: ExactLayer, sums: Integers) -> npt.NDArray[np.float32]:
    """One float32 multiplication, rounded once, as IEEE 754 defines it."""
    return np.asarray(sums.astype(np.float32) * layer.multiplier[:, None, None], np.float32)


def reference(
    network: ExactNetwork, z: npt.NDArray[np.int32], step: int, skip: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """What every backend must compute: z int32 [1, c, h, w] → index uint8 and mean float32 [1, m, 4h, 4w]."""
    x = z[0].astype(np.int64)
    for layer in network.hidden:
        x = np.clip(np.rint(_scaled(layer, _sums(layer, x))), 0, MAX_ACTIVATION).astype(np.int64)
    mean = _scaled(network.mean, _sums(network.mean, x))
    eighths = np.rint(_scaled(network.index, _sums(network.index, x))).astype(np.int64)
    index = np.clip((eighths - step + STEPS_PER_INDEX // 2) >> 3, 0, SCALE_COUNT - 1)
    return np.where(index < skip, NOT_CODED, index).astype(np.uint8)[None], mean[None]

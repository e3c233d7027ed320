"""CompressAI's own evaluation of a picture, straight from its state dict: what an imported bundle is held against.

Nothing of the import is used here, so that a fault of the import shows. Latents are rounded around their means or
medians, rates are those of the likelihoods, with CompressAI's bounds; buffers that are not there have its constants.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]

SCALE_BOUND, LIKELIHOOD_BOUND, PEDESTAL = 0.11, 1e-9, 2.0**-36
LEAKY_SLOPE = 0.01
_TRANSFORM = ((0, 2), (2, 2), (4, 2), (6, 2))  # number of a convolution and its stride
_HYPER_ANALYSIS, _HYPER_SYNTHESIS = ((0, 1), (2, 2), (4, 2)), ((0, 2), (2, 2), (4, 1))


@torch.no_grad()
def evaluate(arch: str, weights: Weights, x: Tensor) -> tuple[float, Tensor]:
    """Picture float32 [1, 3, 64h, 64w] in [0, 1] → bits, and the reconstruction, of that shape."""
    y = _transform(weights, "g_a", x)
    if arch == "bmshj2018-factorized":
        quantised, bits = _factorised(weights, y)
        return bits, _transform(weights, "g_s", quantised)
    means = arch == "mbt2018-mean"
    slope = LEAKY_SLOPE if means else 0.0
    z, z_bits = _factorised(weights, _hyper(weights, "h_a", _HYPER_ANALYSIS, y if means else y.abs(), slope))
    parameters = _hyper(weights, "h_s", _HYPER_SYNTHESIS, z, slope)
    scale, mean = parameters.chunk(2, 1) if means else (F.relu(parameters), torch.zeros_like(y))
    residual = torch.round(y - mean)
    distance, root = residual.abs().double(), scale.double().clamp_min(SCALE_BOUND) * 2**0.5
    likelihood = 0.5 * (torch.erfc((distance - 0.5) / root) - torch.erfc((distance + 0.5) / root))
    return z_bits + _bits(likelihood), _transform(weights, "g_s", residual + mean)


def _bits(likelihood: Tensor) -> float:
    return float(-torch.log2(likelihood.clamp_min(LIKELIHOOD_BOUND)).sum())


def _convolved(weights: Weights, name: str, x: Tensor, stride: int, transposed: bool) -> Tensor:
    weight, bias = weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float()
    padding = weight.shape[2] // 2
    if transposed:
        return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding=stride - 1)
    return F.conv2d(x, weight, bias, stride, padding)


def _transform(weights: Weights, name: str, x: Tensor) -> Tensor:
    inverse = name == "g_s"
    for number, stride in _TRANSFORM:
        x = _convolved(weights, f"{name}.{number}", x, stride, inverse)
        if number < _TRANSFORM[-1][0]:
            x = _normalised(weights, f"{name}.{number + 1}", x, inverse)
    return x


def _normalised(weights: Weights, name: str, x: Tensor, inverse: bool) -> Tensor:
    beta, gamma = (_parameter(weights, f"{name}.{kind}", least) for kind, least in (("beta", 1e-6), ("gamma", 0.0)))
    norm = F.conv2d(x**2, gamma[:, :, None, None], beta)
    return x * (torch.sqrt(norm) if inverse else torch.rsqrt(norm))


def _parameter(weights: Weights, name: str, least: float) -> Tensor:
    pedestal = weights.get(f"{name}_reparam.pedestal", torch.tensor([PEDESTAL]))
    bound = weights.get(f"{name}_reparam.lower_bound.bound", torch.tensor([(least + PEDESTAL) ** 0.5]))
    return torch.maximum(weights[name].float(), bound.float()) ** 2 - pedestal.float()


def _hyper(weights: Weights, name: str, layers: tuple[tuple[int, int], ...], x: Tensor, slope: float) -> Tensor:
    for number, stride in layers:
        x = _convolved(weights, f"{name}.{number}", x, stride, name == "h_s" and stride > 1)
        if number < layers[-1][0]:
            x = F.leaky_relu(x, slope)
    return x


def _factorised(weights: Weights, x: Tensor) -> tuple[Tensor, float]:
    """Latents of the entropy bottleneck → rounded around their medians, and their bits."""
    quantiles = weights.get("entropy_bottleneck.quantiles")
    channels = x.shape[1]
    medians = torch.zeros(channels) if quantiles is None else quantiles.float()[:, 0, 1]
    quantised = torch.round(x - medians[:, None, None]) + medians[:, None, None]
    values = quantised[0].reshape(channels, 1, -1).double()
    lower, upper = _logits(weights, values - 0.5), _logits(weights, values + 0.5)
    sign = -torch.sign(lower + upper)
    return quantised, _bits((torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs())


def _logits(weights: Weights, x: Tensor) -> Tensor:
    """[channels, 1, n] → logits of the cumulative distributions, of that shape."""
    named = {
        (match[1][:4], int(match[2])): tensor.double()
        for name, tensor in weights.items()
        if (match := re.match(r"entropy_bottleneck\._?(matri|bias|factor)[a-z]*\.?(\d+)$", name))
    }
    layers = sum(kind == "matr" for kind, _ in named)
    for number in range(layers):
        x = F.softplus(named["matr", number]) @ x + named["bias", number]
        if ("fact", number) in named:
            x = x + torch.tanh(named["fact", number]) * torch.tanh(x)
    return x

"""Receptive fields: how far around a tile its pixels look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Field:
    """Kernel, stride and padding of a convolution or transposed convolution."""

    kernel: int
    stride: int
    padding: int
    transposed: bool

    @classmethod
    def of(cls, layer: nn.Module) -> Field:
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            raise TypeError(f"{type(layer).__name__} has no receptive field")
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
        return cls(kernel, stride, padding, isinstance(layer, nn.ConvTranspose2d))

    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """Range of inputs on which the outputs first..last depend. A transposed convolution adds input i to
        the outputs i * stride - padding + 0..kernel-1."""
        if not self.transposed:
            return first * self.stride - self.padding, last * self.stride - self.padding + self.kernel - 1
        return -((self.kernel - 1 - self.padding - first) // self.stride), (last + self.padding) // self.stride


def halo(layers: Sequence[Field], tile: int, align: int) -> int:
    """Pixels around a tile of `tile` pixels on which it depends through all `layers` (first to last), at the
    places of the first layer's input; rounded up to a multiple of `align`. The layers' factors must multiply
    to the input's stride."""
    first, last, stride = 0, tile - 1, 1
    for layer in reversed(layers):
        first, last = layer.inputs(first, last)
        stride = stride * layer.stride if layer.transposed else stride // layer.stride
    reach = max(-first * stride, (last + 1) * stride - tile)
    return -(-reach // align) * align

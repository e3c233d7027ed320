"""COMPASS (Park, Lee, Kim, ICCV 2023): spatially scalable coding by a base layer and any number of enhancement layers,
each of any size. A layer is predicted from the one below by a local implicit filter; its residual is coded.

Pictures are float32 [1, 3, height, width], RGB in [0, 1], of any size. All enhancement layers share one residual codec
and one filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mean_scale import ALIGN, Evaluation, MeanScale

FEATURES, HIDDEN, WIDTH, BLOCKS = 16, 64, 32, 6
TAPS = 9
RESIDUAL_OFFSET = 0.5
"""The residual codec codes residual + 0.5, so that it sees what a codec for pictures does."""


def pad(x: Tensor) -> Tensor:
    """To multiples of ALIGN, by repeating the last row and column."""
    height, width = x.shape[2:]
    return F.pad(x, (0, -width % ALIGN, 0, -height % ALIGN), mode="replicate")


def bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """PyTorch's bicubic interpolation to `size` (height, width): a = -0.75, half-pixel centres, no antialiasing."""
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False)


class ImplicitFilter(nn.Module):
    """Features of a picture → for each pixel of a larger one, a filter on the 3 x 3 features around its place, from
    those features and where in its cell the pixel lies. What the filter gives is added to bicubic interpolation."""

    def __init__(self) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1)

        self.head = conv(3, WIDTH)
        self.body = nn.ModuleList(
            [nn.ModuleList([conv(WIDTH, WIDTH), conv(WIDTH, WIDTH)]) for _ in range(BLOCKS)]  # residual blocks
        )
        self.tail = conv(WIDTH, FEATURES)
        self.mlp = nn.Sequential(
            nn.Conv2d(FEATURES * TAPS + 4, HIDDEN, 1),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 1),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, FEATURES * TAPS * 3, 1),
        )

    def features(self, x: Tensor) -> Tensor:
        """[b, 3, h, w] → [b, FEATURES, h, w]."""
        t: Tensor = self.head(x - 0.5)
        for block in self.body:
            first, second = cast(nn.ModuleList, block)
            t = t + second(F.relu(first(t)))
        features: Tensor = self.tail(t)
        return features

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """The lower layer's picture [b, 3, h, w] → prediction [b, 3, *size].

        The cell of output row i is the input row (2i + 1) h // 2H; its place in the cell is the distance between the
        centres of both, in input rows times 2.
        """
        batch, _, h, w = x.shape
        height, width = size
        patches = F.unfold(self.features(x), 3, padding=1).view(batch, FEATURES * TAPS, h, w)
        down, right = (2 * torch.arange(length, device=x.device) + 1 for length in size)
        rows, columns = down * h // (2 * height), right * w // (2 * width)
        patches = patches.index_select(2, rows).index_select(3, columns)
        place = [
            ((down * h - (2 * rows + 1) * height) / height)[:, None].expand(size),
            ((right * w - (2 * columns + 1) * width) / width)[None].expand(size),
            torch.full(size, h / height, device=x.device),
            torch.full(size, w / width, device=x.device),
        ]
        places = torch.stack(place).to(patches.dtype).expand(batch, -1, -1, -1)
        kernels: Tensor = self.mlp(torch.cat([patches, places], 1))
        filtered = (kernels.view(batch, 3, FEATURES * TAPS, height, width) * patches[:, None]).sum(2)
        return filtered + bicubic(x, size)


@dataclass(frozen=True)
class Layer:
    """PyTorch's own evaluation of one layer. `prediction` is None for the base; `picture` is clamped to [0, 1]."""

    prediction: Tensor | None
    codec: Evaluation
    picture: Tensor

    @property
    def bits(self) -> float:
        return self.codec.z_bits + self.codec.symbol_bits


class Compass(nn.Module):
    """Base codec, residual codec (hyper synthesis of the exact kind) and filter."""

    def __init__(self) -> None:
        super().__init__()
        self.base = MeanScale()
        self.residual = MeanScale(exact=True)
        self.liff = ImplicitFilter()

    def forward(
        self, below: Tensor, x: Tensor, implicit: bool, integers: bool, step: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """For training a layer: pictures of the layer below [b, 3, h, w] and of this one [b, 3, h2, w2] →
        reconstruction (not clamped), bits [b] and prediction, by the filter if `implicit`, else by bicubic
        interpolation. `integers`, `step`: as in MeanScale."""
        height, width = x.shape[2:]
        enlarge = self.liff if implicit else bicubic
        with torch.set_grad_enabled(self.liff.head.weight.requires_grad):  # a filter that stays as it is needs none
            prediction = enlarge(below.clamp(0, 1), (height, width)).float()
        residual, bits = self.residual(pad(x - prediction + RESIDUAL_OFFSET), integers, step)
        return prediction + residual[:, :, :height, :width] - RESIDUAL_OFFSET, bits, prediction

    @torch.no_grad()
    def predict(self, below: Tensor, size: tuple[int, int], *, implicit: bool = True) -> Tensor:
        """The picture below → prediction of a layer of `size`, by the filter or by bicubic interpolation alone."""
        return cast(Tensor, self.liff(below, size)) if implicit else bicubic(below, size)

    @torch.no_grad()
    def evaluate(self, pictures: list[Tensor], *, implicit: bool = True) -> list[Layer]:
        """One picture per layer, base first → what each costs and gives."""
        layers: list[Layer] = []
        for x in pictures:
            height, width = x.shape[2:]
            if not layers:
                codec, prediction = self.base.evaluate(pad(x)), None
                decoded = codec.reconstruction[:, :, :height, :width]
            else:
                prediction = self.predict(layers[-1].picture, (height, width), implicit=implicit)
                codec = self.residual.evaluate(pad(x - prediction + RESIDUAL_OFFSET))
                decoded = prediction + codec.reconstruction[:, :, :height, :width] - RESIDUAL_OFFSET
            layers.append(Layer(prediction, codec, decoded.clamp(0, 1)))
        return layers

"""Generalised divisive normalisation (Ballé, Laparra, Simoncelli 2016)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BETA_MIN = 1e-6


class GDN(nn.Module):
    """y = x / sqrt(beta + gamma x^2) over the channels; the inverse multiplies. x: [n, channels, h, w].

    beta [channels] and gamma [channels, channels] are themselves, not CompressAI's reparametrisation; loading a state
    dict brings them into their range, so that graphs hold them ready. Squares and their sums leave the range of
    float16, so all of it is float32 whatever the type of x.
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(0.1 * torch.eye(channels))
        self.register_load_state_dict_post_hook(_clamp)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):  # training
            with torch.autocast(x.device.type, enabled=False):
                return self.normalise(x, self.gamma[:, :, None, None])
        return self.normalise(x, self.gamma[:, :, None, None])

    def normalise(self, x: Tensor, gamma: Tensor) -> Tensor:
        """With gamma as the weights of a convolution, [channels, channels, 1, 1]."""
        wide = x.float()
        norm = torch.sqrt(F.conv2d(wide * wide, gamma, self.beta))
        return (wide * norm if self.inverse else wide / norm).to(x.dtype)


def _clamp(module: nn.Module, _: Any) -> None:
    assert isinstance(module, GDN)
    with torch.no_grad():
        module.beta.clamp_(min=BETA_MIN)
        module.gamma.clamp_(min=0.0)

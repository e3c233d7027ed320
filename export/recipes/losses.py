"""Rate-distortion losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nicrt.export.models.gdn import BETA_MIN, GDN

LAMBDAS = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800)
"""Weights of the squared error (8-bit units) against the rate, eight qualities: those of CompressAI's models."""
MIDDLE = 0.0130


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean over each picture [b, ...], pixels in [0, 1]: [b]."""
    return (a.float() - b.float()).square().flatten(1).mean(1)


def psnr(error: Tensor) -> Tensor:
    """Of `squared_error`, in dB."""
    return -10 * torch.log10(error.detach())


def rate_distortion(bpp: Tensor, error: Tensor, weight: Tensor | float) -> Tensor:
    """bpp + weight * 255^2 * error."""
    return bpp + weight * 255**2 * error


def balanced(loss: Tensor, weight: Tensor | float) -> Tensor:
    """Losses at different weights brought to like sizes: both their terms grow about with the root of the weight."""
    return (MIDDLE / weight) ** 0.5 * loss


@torch.no_grad()
def project_gdn(model: nn.Module) -> None:
    """Bring the parameters of normalisations back into their range."""
    for module in model.modules():
        if isinstance(module, GDN):
            module.beta.clamp_(min=BETA_MIN)
            module.gamma.clamp_(min=0.0)

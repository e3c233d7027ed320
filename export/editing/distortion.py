"""What a picture loses, differentiable: weighted squared error and MS-SSIM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nicrt.runtime.errors import UnsupportedError

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA, K1, K2, PEAK = 11, 1.5, 0.01, 0.03, 255.0
LEAST_SIDE = WINDOW << (len(MS_SSIM_WEIGHTS) - 1)
_LEAST_TERM = 1e-4  # negative structure terms have no real power


def squared_error(picture: Tensor, original: Tensor, weights: Tensor | None) -> Tensor:
    """Mean squared error of float32 [h, w, 3], grey levels; `weights`: float32 [h, w] with a mean of 1."""
    error = ((picture - original) ** 2).mean(2)
    return error.mean() if weights is None else (error * weights).mean()


def ms_ssim(picture: Tensor, original: Tensor) -> Tensor:
    """Multi-scale structural similarity (Wang, Simoncelli & Bovik, 2003): five scales, Gaussian window of 11 pixels,
    mean over the channels of float32 [h, w, 3] in grey levels."""
    if min(picture.shape[:2]) < LEAST_SIDE:
        raise UnsupportedError(f"MS-SSIM needs pictures of at least {LEAST_SIDE} x {LEAST_SIDE} pixels")
    x, y = picture.permute(2, 0, 1)[:, None], original.permute(2, 0, 1)[:, None]
    result = torch.ones(())
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        luminance, structure = _ssim_terms(x, y)
        term = structure if scale < len(MS_SSIM_WEIGHTS) - 1 else luminance * structure
        result = result * term.mean((1, 2, 3)).clamp_min(_LEAST_TERM) ** weight
    return result.mean()


def _ssim_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast times structure, of float32 [3, 1, h, w] at every place of the window."""
    places = torch.arange(WINDOW) - WINDOW // 2
    line = torch.exp(-(places**2) / (2 * SIGMA**2))
    line = line / line.sum()

    def blur(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values, line[None, None, :, None]), line[None, None, None, :])

    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)

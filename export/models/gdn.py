"""Generalised divisive normalisation (Ballé, Laparra, Simoncelli 2016)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BETA_MIN = 1e-6
PIECE = 1 << 17  # numbers of a tensor that a CPU's caches hold beside others


class GDN(nn.Module):
    """y = x / sqrt(beta + gamma x^2) over the channels; the inverse multiplies. x: [n, channels, h, w].

    beta [channels] and gamma [channels, channels] are themselves, not CompressAI's reparametrisation; loading a state
    dict brings them into their range, so that graphs hold them ready. Squares and their sums leave the range of
    float16, so all of it is float32 whatever the type of x; only training sums squares of bfloat16 in that type.
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
                trained: Tensor = _Trained.apply(x, self.beta, self.gamma, self.inverse)
                return trained
        return self.normalise(x, self.gamma[:, :, None, None])

    def normalise(self, x: Tensor, gamma: Tensor) -> Tensor:
        """With gamma as the weights of a convolution, [channels, channels, 1, 1]."""
        wide = x.float()
        norm = torch.sqrt(F.conv2d(wide * wide, gamma, self.beta))
        return (wide * norm if self.inverse else wide / norm).to(x.dtype)


class _Trained(torch.autograd.Function):
    """`GDN.forward` for training: the same by fewer passes over memory and, on a CPU, in pieces that its caches hold.
    A step of the mean-scale codec spent two thirds of its time in what autograd made of `normalise`. Rows are pixels,
    columns channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool) -> Tensor:
        rows = _rows(x)
        y, root = torch.empty_like(rows), torch.empty(rows.shape, device=x.device)
        weights, offset = gamma.t().to(x.dtype), beta.to(x.dtype)
        for part in _pieces(rows):
            wide = rows[part].float()
            scale = torch.addmm(offset, wide.square().to(x.dtype), weights).float().sqrt_()
            y[part] = wide * scale if inverse else wide / scale
            root[part] = scale
        ctx.save_for_backward(rows, root, gamma)
        ctx.inverse, ctx.shape = inverse, x.shape
        return _picture(y, x.shape)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        rows, root, gamma = ctx.saved_tensors
        to_y, to_x = _rows(gradient), torch.empty_like(rows)
        to_beta, to_gamma = root.new_zeros(root.shape[1]), torch.zeros_like(gamma)
        for part in _pieces(rows):
            wide, outer, scale = rows[part].float(), to_y[part].float(), root[part]
            to_norm = outer * wide / scale
            if ctx.inverse:
                direct = outer * scale
            else:
                direct = outer / scale
                to_norm.div_(-scale.square())
            to_norm.mul_(0.5)
            low = to_norm.to(rows.dtype)
            to_x[part] = direct.addcmul_(torch.mm(low, gamma.to(rows.dtype)), wide, value=2)
            to_gamma += torch.mm(low.t(), wide.square().to(rows.dtype))
            to_beta += to_norm.sum(0)
        return _picture(to_x, ctx.shape), to_beta, to_gamma, None


def _rows(x: Tensor) -> Tensor:
    """[n, channels, h, w] → [n h w, channels], without a copy where channels are last in memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _picture(rows: Tensor, shape: torch.Size) -> Tensor:
    """Back to `shape`."""
    n, channels, height, width = shape
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


def _pieces(rows: Tensor) -> list[slice]:
    """Slices of the rows; on a GPU one of all."""
    size = PIECE // rows.shape[1] if rows.device.type == "cpu" else len(rows)
    return [slice(start, start + size) for start in range(0, len(rows), size)]


def _clamp(module: nn.Module, _: Any) -> None:
    assert isinstance(module, GDN)
    with torch.no_grad():
        module.beta.clamp_(min=BETA_MIN)
        module.gamma.clamp_(min=0.0)

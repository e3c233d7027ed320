"""Pieces of descriptions that the families share."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from nicrt.runtime.native_form import Exponential, Term

from .described import SHOWN, Description
from .models.entropy import DZ_DEFAULT, LOG_SCALE_STEP, STEPS_PER_INDEX
from .native_torch import shown

GAIN_UNIT = 100
"""The `gain` parameter of a file counts hundredths of the distance between two trained gains."""
INT16 = (-(2**15), 2**15 - 1)
STEP = "step"
"""The parameter that has a file's quantisation step, in eighths of a table step."""

_STEP_FACTOR = LOG_SCALE_STEP / STEPS_PER_INDEX
_Z_FACTOR = math.log(2) / 2


def step_size(step: Tensor) -> Tensor:
    """Quantisation step of a file: int32 [1] in eighths of a table step → float32 [1]."""
    return torch.exp(step.float() * _STEP_FACTOR)


def dequantised(means: bool) -> list[Term]:
    """Latents: y int32 in quantisation steps, plus mean float32 (same shape). A symbol that is not coded is 0."""
    return [Term("y", [Exponential(STEP, _STEP_FACTOR)]), *([Term("mean")] if means else [])]


def describe_quantise(described: Description, means: bool, name: str = "quantise") -> None:
    """v less mean, float32, in quantisation steps → y int32, clipped to int16."""
    inverse = Exponential(STEP, -_STEP_FACTOR)
    terms = [Term("v", [inverse])]
    if means:
        terms.append(Term("mean", [described.constant(f"{name}.minus", -1.0), inverse]))
    described.quantise("y", described.affine("symbols", terms), *INT16)


def describe_quantise_z(described: Description, value: str, limit: int) -> None:
    """Continuous z float32, dz int32 [1] → symbols z int32 of z / z_step(dz), clipped to +-limit."""
    inverse = Exponential("dz", -_Z_FACTOR, DZ_DEFAULT * _Z_FACTOR)
    described.quantise("z", described.affine("z_steps", [Term(value, [inverse])]), -limit, limit)


def scaled_to_grey(last: nn.ConvTranspose2d, offset: float) -> nn.ConvTranspose2d:
    """The last layer of a synthesis, giving grey levels (x 255) of what it gave plus `offset`, and the half that
    rounds."""
    result = deepcopy(last)
    assert result.bias is not None
    with torch.no_grad():
        result.weight.mul_(255)
        result.bias.copy_(((result.bias.double() + offset) * 255 + 0.5).float())
    return result


def to_bytes(scaled: Tensor) -> Tensor:
    """float32 [n, 3, h, w] in grey levels + 0.5 → uint8 [n, h, w, 3]. Casting truncates: the half makes it round."""
    return shown(scaled, SHOWN.low, SHOWN.high)

"""Tensors of checkpoints held against what they are to become: all there, of the right shapes, finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nicrt.runtime.errors import UnsupportedError

LARGE = 4096  # values from which on a tensor is stored as float16 where that loses nothing
_NAMED = 3  # tensors that a message names before it counts the others


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], called: Callable[[str], str] = str) -> None:
    """Give a model the tensors of a checkpoint, floating ones as float32. `called`: a tensor's name in the model → in
    the checkpoint. Raises UnsupportedError that names what is missing, unknown or of another shape."""
    expected = model.state_dict()
    missing = [called(name) for name in expected if name not in tensors]
    if missing:
        raise UnsupportedError(f"the checkpoint lacks {_listed(missing)}")
    unknown = [called(name) for name in tensors if name not in expected]
    if unknown:
        raise UnsupportedError(f"the checkpoint has tensors that this family does not know: {_listed(unknown)}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            wanted, found = (
                " x ".join(map(str, shape)) or "a number" for shape in (expected[name].shape, tensor.shape)
            )
            raise UnsupportedError(f"tensor {called(name)!r} of the checkpoint is {found}, and {wanted} in this family")
    model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})


def check_finite(tensors: Mapping[str, Tensor], owner: str = "the checkpoint") -> None:
    """Raises UnsupportedError that names the first tensor with values that are no finite float32."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        wrong = int((~torch.isfinite(tensor.float())).sum())
        if wrong:
            raise UnsupportedError(f"tensor {name!r} of {owner}: {wrong} of its {tensor.numel()} values are not finite")


def narrowed(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As a file stores a tensor: a large one of float32 as float16 where that loses nothing."""
    if values.dtype != np.float32 or values.size < LARGE:
        return values
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if (half.astype(np.float32) == values).all() else values


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")

"""The families that can be exported, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from . import shallow
from .bundle import BundleSource

FAMILIES: dict[str, Callable[[Mapping[str, Tensor]], BundleSource]] = {"shallow": shallow.source}
"""Family → from a checkpoint's tensors to what its bundle is written from."""

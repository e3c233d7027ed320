"""The families that can be exported, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from torch import Tensor

from . import compass, compressai, flow, mean_scale, shallow, slim
from .bundle import BundleSource

FAMILIES: dict[str, Callable[[Mapping[str, Tensor]], BundleSource]] = {
    **{name: partial(shallow.source, family=name) for name in shallow.KINDS},
    "slim": slim.source,
    "flow": flow.source,
    "mean-scale": mean_scale.source,
    "compass": compass.source,
}
"""Family → from a checkpoint's tensors to what its bundle is written from."""

IMPORTERS: dict[str, Callable[[bytes, str | None, Sequence[npt.NDArray[np.float32]], str | None], BundleSource]] = {
    "compressai": compressai.source
}
"""Other people's formats → from a file's bytes, the name of an architecture, calibration pictures and the key of the
weights in the file to the same."""

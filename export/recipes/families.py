"""The families that can be trained, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from .compass import CompassRecipe
from .data import Photos
from .flow import FlowRecipe
from .loop import Recipe
from .mean_scale import MeanScaleRecipe
from .shallow import ShallowRecipe
from .side import FlowSideRecipe, SlimSideRecipe
from .slim import SlimRecipe
from .variants import TRAINED, VariantRecipe

RECIPES: dict[str, Callable[[Photos, Mapping[str, Tensor] | None], Recipe]] = {
    "shallow": partial(ShallowRecipe, "shallow", deep=False),
    "shallow-deep": partial(ShallowRecipe, "shallow-deep", deep=True),
    **{family: partial(VariantRecipe, family) for family in TRAINED},
    "slim": partial(SlimRecipe, "slim", scalable=False),
    "slim-scalable": partial(SlimRecipe, "slim-scalable", scalable=True),
    "slim-side": SlimSideRecipe,
    "mean-scale": MeanScaleRecipe,
    "compass": CompassRecipe,
    "flow": FlowRecipe,
    "flow-side": FlowSideRecipe,
}
"""Recipe → from photographs and the tensors of a base checkpoint, if any, to what trains it."""

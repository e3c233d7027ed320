"""What codecs with a hyperprior have in common: their tables, and the graph that quantises around the mean."""

from __future__ import annotations

import math

import numpy as np
import torch

from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.manifest import Parameter, Port

from .bundle import GraphSource, described_graph
from .described import Description
from .exact import DZ_RANGE, SKIP_RANGE, STEP_RANGE
from .layers import describe_quantise
from .models.entropy import DZ_DEFAULT, LOG_SCALE_STEP, SCALE_COUNT, SCALE_MIN, FactorizedPrior
from .tables import MAX_QUOTIENT, Floats, TableSet, by_channel_and_step, by_scale, gaussian, with_outliers

AS_TRAINED = {"step": 0, "skip": 0}
"""Parameters with which a file has a codec's trained rate: no other quantisation step, everything coded."""


def hyperprior_tables(prior: FactorizedPrior, channels: int) -> dict[str, TableSet]:
    """`z` by channel and z step, `y` by scale index."""
    return {"z": z_tables(prior, channels), "y": gaussian_tables()}


def gaussian_tables() -> TableSet:
    """Of symbols by scale index."""
    scales = [SCALE_MIN * math.exp(LOG_SCALE_STEP * index) for index in range(SCALE_COUNT)]
    return TableSet(by_scale(with_outliers(gaussian), scales))


def z_tables(prior: FactorizedPrior, channels: int) -> TableSet:
    """By channel and z step. Raises UnsupportedError for a channel that lies beyond what z's symbols hold."""
    medians = prior.medians().numpy()
    channel = int(np.argmax(np.abs(medians)))
    if abs(medians[channel]) > MAX_QUOTIENT:
        raise UnsupportedError(
            f"channel {channel} of the hyper latents has its median at {medians[channel]:.1f}: their symbols hold "
            f"{-MAX_QUOTIENT} .. {MAX_QUOTIENT}"
        )

    def logits(values: Floats) -> Floats:
        return prior.logits(torch.from_numpy(np.array(values))).numpy()

    return by_channel_and_step(logits, channels)


def hyperprior_parameters(skip: int) -> list[Parameter]:
    """What a file may set of every such codec: quantisation step, not-coded threshold (default `skip`), z step."""
    return [
        Parameter("step", *STEP_RANGE, default=0),
        Parameter("skip", *SKIP_RANGE, default=skip),
        Parameter("dz", *DZ_RANGE, default=DZ_DEFAULT),
    ]


def quantise_graph(latent: Port, symbols: Port, step: Port, name: str = "quantise", means: bool = True) -> GraphSource:
    """Encoder graph: v, mean (if there are `means`), step → y."""
    described = Description()
    describe_quantise(described, means, name)
    inputs = {"v": latent, **({"mean": latent} if means else {}), "step": step}
    return described_graph(name, described, inputs, {"y": symbols}, encoder=True)

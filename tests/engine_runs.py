"""Encodes with any values of parameters and any symbols, without what `Codec.encode` refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

import nicrt
from nicrt import _core
from nicrt.runtime.pictures import resample


def coded_streams(
    codec: nicrt.Codec,
    variant: str,
    picture: np.ndarray,
    values: Mapping[str, Sequence[int]],
    effort: int = 5,
    given: Sequence[np.ndarray] | None = None,
) -> list[list[_core.Coded]]:
    """picture: float32 [height, width, 3] → what there is to code in each round. given: the symbols of every stream."""
    engine = codec._graphs.engine
    plan = engine.plan(variant, values, picture.shape[:2], encode=effort)
    execution = _core.Execution.encode(engine, plan, picture, lambda *size: resample(picture, size), given)
    rounds: list[list[_core.Coded]] = [[] for _ in plan.rounds]
    steps = plan.steps
    while (number := execution.step()) is not None:
        if isinstance(steps[number], _core.EntropyStep):
            rounds[steps[number].round].append(execution.coded(number))
    return rounds


def encoded_streams(
    codec: nicrt.Codec,
    variant: str,
    picture: np.ndarray,
    values: Mapping[str, Sequence[int]],
    tile: int,
    symbols_per_lane: int,
    effort: int = 5,
    given: Sequence[np.ndarray] | None = None,
) -> list[list[_core.EncodedStream]]:
    """As `coded_streams`, entropy coded."""
    rounds = coded_streams(codec, variant, picture, values, effort, given)
    return [[coded.encode(tile, symbols_per_lane) for coded in each] for each in rounds]

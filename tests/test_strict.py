"""`strict` asks what would run this file's graphs, and not what was run before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nicrt
import synthetic
from nicrt.runtime.backends import GraphSet
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.bundle import StoredGraph
from nicrt.runtime.errors import UnsupportedError


class Picky(OnnxRuntimeCpu):
    """The preferred backend, but not for one graph."""

    name = "picky"

    def __init__(self, refused: str) -> None:
        super().__init__(1)
        self._refused = refused

    def load(self, stored: StoredGraph) -> Any:
        if stored.name == self._refused:
            raise UnsupportedError("it is picky")
        return super().load(stored)


def with_fallback(bundle: str | Path, graph: str) -> nicrt.Codec:
    """A codec of which one graph falls back to a less preferred backend."""
    codec = nicrt.load(bundle, threads=1, backend="onnxruntime")
    codec._graphs = GraphSet(codec.bundle, [Picky(graph), OnnxRuntimeCpu(1)])
    return codec


def test_a_fallback_of_the_encoder_is_none_of_the_decoder(harbour: np.ndarray) -> None:
    codec = with_fallback("shallow", "analysis")
    data = codec.encode(harbour[:64, :64], effort=1)
    assert codec.fallbacks == {"analysis": ["picky: it is picky"]}
    assert codec.decode(data, strict=True).shape == (64, 64, 3)
    codec.verify(data)


def test_a_fallback_that_an_earlier_call_accepted_is_still_refused(small_file: bytes) -> None:
    codec = with_fallback("shallow", "synthesis")
    for _ in range(2):
        with pytest.raises(nicrt.UnsupportedError, match=r"graph 'synthesis' fell back.*picky"):
            codec.decode(small_file, strict=True)
        codec.decode(small_file)
    codec.verify(small_file)  # makes no pixels


def test_graphs_of_later_stages_do_not_count(tmp_path: Path, harbour: np.ndarray) -> None:
    codec = with_fallback(synthetic.layered(tmp_path / "layered"), "show_fine")
    data = codec.encode(harbour)
    codec.decode(data)  # loads all of its graphs
    assert codec.decode(data, stage=1, strict=True).shape == (160, 240, 3)
    with pytest.raises(nicrt.UnsupportedError, match="show_fine"):
        codec.decode(data, strict=True)
    with pytest.raises(nicrt.UnsupportedError, match="show_fine"):  # nothing was loaded before
        with_fallback(tmp_path / "layered", "show_fine").decode(data, strict=True)


def test_a_device_does_the_same(tmp_path: Path, harbour: np.ndarray) -> None:
    codec = nicrt.load(synthetic.layered(tmp_path / "layered"), threads=1)
    data = codec.encode(harbour)
    decoder = nicrt.load(tmp_path / "layered", device="host", threads=1)
    decoder._decoding.graphs = GraphSet(codec.bundle, [Picky("show_fine"), OnnxRuntimeCpu(1)])
    for _ in range(2):
        decoder.decode(data)
        assert decoder.fallbacks == {"show_fine": ["picky: it is picky"]}
        assert decoder.decode(data, stage=1, strict=True).width == 240
        with pytest.raises(nicrt.UnsupportedError, match="graph 'show_fine' does not run on the device alone"):
            decoder.decode(data, strict=True)

"""Ranges that exact graphs are exact for, on a device: nobody reads values there, so the coder keeps to them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from engine_runs import coded_streams
from on_device import largest_difference, on_device

import nicrt
from nicrt import _core
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.device.ranges import check_parameters, symbol_limits
from nicrt.runtime.pictures import from_array


def test_a_symbol_that_an_exact_graph_is_not_exact_for(harbour: np.ndarray) -> None:
    codec, crop = nicrt.load("shallow", threads=1, backend="onnxruntime"), harbour[:70, :70]
    decoder = on_device(codec)
    data = codec.encode(crop, quality=30)
    opened = codec.opened(data)
    symbols = [array.copy() for array in codec.symbols(data)]
    variant = codec.bundle.manifest.variants[opened.variant]
    for value, fits in ((127, True), (128, False), (-128, False), (30000, False)):
        symbols[0][3, 0, 1] = value
        # the encoder's own check stands in the way of the others: the decoder stops at them, before it reads on
        given = symbols if fits else codec.symbols(data)
        z, y = coded_streams(codec, opened.variant, from_array(crop), opened.parameters, 1, given)[0]
        changed = _core.encode_stream(z.codebook, symbols[0].copy(), z.index, 512 // z.stride, 512, 1)
        streams = [[changed, y.encode(512, 512)]]
        ids = bytes.fromhex(variant.symbol_id), bytes.fromhex(variant.picture_id)
        made = _core.write(*ids, 70, 70, 512, list(opened.parameters.values()), streams)
        if fits:
            assert largest_difference(decoder.decode(made).numpy(), codec.decode(made)) <= 1
            continue
        for decode in (codec.decode, decoder.decode):
            with pytest.raises(nicrt.CorruptError):
                decode(made)


def planned(bundle: Bundle, variant: str) -> _core.Plan:
    values = _core.default_values(bundle.core, variant, (64, 64))
    return _core.plan(bundle.core, variant, values, (64, 64), windows=False)


def test_limits_of_symbols(codec: nicrt.Codec) -> None:
    limits = symbol_limits(planned(codec.bundle, "shallow"), codec.bundle.manifest.graphs)
    assert limits == {0: (-127, 127), 2: (-32768, 32767)}  # by step: 1 and 3 run graphs


def test_ranges_that_exact_graphs_state_are_ranges() -> None:
    """The next graph is exact for the sum of symbols and offsets in its stated range, not in a wider one or in any."""
    bundle = nicrt.load("flow").bundle
    plan, graphs = planned(bundle, "flow"), bundle.manifest.graphs
    assert (-32768, 32767) in symbol_limits(plan, graphs).values()
    stated = graphs["plus_offset"].outputs["q"]
    for range_ in ((-(1 << 20), 1 << 20), None):
        stated.range = range_
        with pytest.raises(nicrt.UnsupportedError, match="only the CPU checks"):
            symbol_limits(plan, graphs)


def test_parameters_that_an_exact_graph_is_not_exact_for(codec: nicrt.Codec) -> None:
    bundle = nicrt.Codec(codec.bundle, threads=1, backend="auto", limits=nicrt.Limits()).bundle
    plan, graphs = planned(bundle, "shallow"), copy.deepcopy(bundle.manifest.graphs)
    check_parameters(plan, graphs)
    port = graphs["hyper"].inputs["step"]
    (values,) = {tuple(s.values) for s in plan.steps[1].inputs if s.port == "step"}  # type: ignore[union-attr]
    port.range = values[0] + 1, values[0] + 2
    with pytest.raises(nicrt.CorruptError, match="'step' for graph 'hyper'"):
        check_parameters(plan, graphs)

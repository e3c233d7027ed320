"""On real pictures: symbols decoded equal symbols encoded, and files stay within the format's budget."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from engine_runs import coded_streams
from PIL import Image

import nicrt
from nicrt import _core
from nicrt.runtime.backends import GraphSet
from nicrt.runtime.backends.native import NativeCpu
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu


@pytest.mark.parametrize("number", [1, 8, 19, 23])
def test_symbols_decoded_are_those_encoded(codec: nicrt.Codec, kodak: list[Path], number: int) -> None:
    pixels = np.asarray(Image.open(kodak[number - 1]).convert("RGB")).astype(np.float32) / 255
    name = next(iter(codec.bundle.manifest.variants))
    values = _core.default_values(codec.bundle.core, name, pixels.shape[:2])
    written = [coded.symbols for stage in coded_streams(codec, name, pixels, values) for coded in stage]
    parameters = {name: values[0] for name, values in values.items()}
    read = codec.symbols(codec.encode(pixels, parameters=parameters))
    assert len(read) == len(written) > 0
    for a, b in zip(read, written, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.count_nonzero(a) > 100


@pytest.mark.skipif(
    not os.environ.get("NICRT_LONG_TESTS"), reason="takes minutes: NICRT_LONG_TESTS=1, as .ci/nightly has it"
)
@pytest.mark.parametrize("bundle", ["shallow", "slim", "mean-scale"])
@pytest.mark.parametrize("quality", [10, 50, 90])
def test_backends_and_instruction_sets_are_at_most_one_level_apart(
    bundle: str, quality: int, kodak: list[Path]
) -> None:
    codec = nicrt.load(bundle, threads=2)
    onnxruntime = nicrt.load(bundle, threads=2, backend="onnxruntime")
    for file in kodak:
        data = codec.encode(np.asarray(Image.open(file).convert("RGB")), quality=quality, effort=1)
        expected = onnxruntime.decode(data).astype(int)
        for arithmetic in _core.arithmetics()[1:]:  # without `scalar`, which takes minutes more
            backends = [NativeCpu(2, arithmetic=arithmetic), OnnxRuntimeCpu(2)]
            codec._graphs = GraphSet(codec.bundle, backends, threads=2)
            assert np.abs(codec.decode(data) - expected).max() <= 1, (file.name, arithmetic)

"""On real pictures: symbols decoded equal symbols encoded, and files stay within the format's budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nicrt
from nicrt.runtime.interpreter import Interpreter
from nicrt.runtime.plan import default_parameters


@pytest.mark.parametrize("number", [1, 8, 19, 23])
def test_symbols_decoded_are_those_encoded(codec: nicrt.Codec, kodak: list[Path], number: int) -> None:
    pixels = np.asarray(Image.open(kodak[number - 1]).convert("RGB")).astype(np.float32) / 255
    variant = next(iter(codec.bundle.manifest.variants.values()))
    interpreter = Interpreter(codec.bundle, variant.program, codec._graphs, 2)
    written: list[np.ndarray] = []
    interpreter.encode(
        pixels,
        default_parameters(variant.program, pixels.shape[:2]),
        tile=512,
        symbols_per_lane=16384,
        effort=5,
        watch=lambda _, symbols: written.append(symbols.copy()),
    )
    parameters = {name: values[0] for name, values in default_parameters(variant.program, pixels.shape[:2]).items()}
    read = codec.symbols(codec.encode(pixels, parameters=parameters))
    assert len(read) == len(written) > 0
    for a, b in zip(read, written, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.count_nonzero(a) > 100

"""Golden files: the same symbols on every path, and pixels within one grey level of those stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import nicrt
from conftest import GOLDEN
from golden.make import symbols_sha256
from nicrt.runtime.backends import GraphSet
from nicrt.runtime.backends.onnxruntime_cpu import OPTIMIZATION_LEVELS, OnnxRuntimeCpu

GOOD = json.loads((GOLDEN / "good.json").read_text())


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_symbols_and_pixels(name: str, threads: int) -> None:
    codec = nicrt.load("shallow", threads=threads)
    data = (GOLDEN / f"{name}.nic").read_bytes()
    assert symbols_sha256(codec, data) == GOOD[name]["symbols_sha256"]
    # Float graphs may round a pixel the other way on another processor; one level is the design's promise.
    expected = np.asarray(Image.open(GOLDEN / f"{name}.png")).astype(int)
    assert np.abs(codec.decode(data) - expected).max() <= 1


@pytest.mark.parametrize("level", OPTIMIZATION_LEVELS)
def test_symbols_at_every_optimisation_level(level: str) -> None:
    codec = nicrt.load("shallow", threads=2)
    codec._graphs = GraphSet(codec.bundle, [OnnxRuntimeCpu(2, optimization=level)])
    for name in GOOD:
        assert symbols_sha256(codec, (GOLDEN / f"{name}.nic").read_bytes()) == GOOD[name]["symbols_sha256"]


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_symbols_with_every_instruction_set_in_another_process(isa: str) -> None:
    from nicrt import _core

    if isa not in _core.isas():
        pytest.skip(f"this processor has no {isa}")
    script = """
import hashlib, sys
import numpy as np
import nicrt
for path in sys.argv[1:]:
    digest = hashlib.sha256()
    data = open(path, "rb").read()
    for tensor in nicrt.load_for(data, threads=1).symbols(data):
        digest.update(np.ascontiguousarray(tensor, dtype="<i4").tobytes())
    print(digest.hexdigest())
"""
    files = [str(GOLDEN / f"{name}.nic") for name in GOOD]
    result = subprocess.run(
        [sys.executable, "-c", script, *files],
        env={**os.environ, "NICRT_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == [GOOD[name]["symbols_sha256"] for name in GOOD]


def test_golden_files_are_not_alike() -> None:
    """A decoder that ignored its input would pass the tests above only if they were."""
    lanes_and_tiles = {"harbour-parallel", "harbour-tiles", "harbour-untiled"}  # one picture, three layouts
    hashes = {name: GOOD[name]["symbols_sha256"] for name in GOOD}
    assert len({hashes[name] for name in lanes_and_tiles}) == 1
    assert len(set(hashes.values())) == len(GOOD) - 2

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

BUNDLES = sorted(path.parent.name for path in GOLDEN.glob("*/good.json"))
GOOD: dict[str, dict[str, str]] = {b: json.loads((GOLDEN / b / "good.json").read_text()) for b in BUNDLES}


def data_of(bundle: str, name: str) -> bytes:
    return (GOLDEN / bundle / f"{name}.nic").read_bytes()


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_symbols_and_pixels(bundle: str, threads: int) -> None:
    codec = nicrt.load(bundle, threads=threads)
    for name, sha256 in GOOD[bundle].items():
        data = data_of(bundle, name)
        assert symbols_sha256(codec, data) == sha256, name
        # Float graphs may round a pixel the other way on another processor; one level is the design's promise.
        expected = np.asarray(Image.open(GOLDEN / bundle / f"{name}.png")).astype(int)
        assert np.abs(codec.decode(data) - expected).max() <= 1, name


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("level", OPTIMIZATION_LEVELS)
def test_symbols_at_every_optimisation_level(bundle: str, level: str) -> None:
    codec = nicrt.load(bundle, threads=2)
    codec._graphs = GraphSet(codec.bundle, [OnnxRuntimeCpu(2, optimization=level)])
    for name, sha256 in GOOD[bundle].items():
        assert symbols_sha256(codec, data_of(bundle, name)) == sha256, name


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_symbols_with_every_instruction_set_in_another_process(isa: str) -> None:
    from nicrt import _core

    if isa not in _core.isas():
        pytest.skip(f"this processor has no {isa}")
    script = """
import hashlib, sys
import numpy as np
import nicrt
from nicrt import _core
assert _core.isas()[-1] == sys.argv[1], _core.isas()
for path in sys.argv[2:]:
    digest = hashlib.sha256()
    data = open(path, "rb").read()
    for tensor in nicrt.load_for(data, threads=1).symbols(data):
        digest.update(np.ascontiguousarray(tensor, dtype="<i4").tobytes())
    print(digest.hexdigest())
"""
    names = [(bundle, name) for bundle in BUNDLES for name in GOOD[bundle]]
    files = [str(GOLDEN / bundle / f"{name}.nic") for bundle, name in names]
    result = subprocess.run(
        [sys.executable, "-c", script, isa, *files],
        env={**os.environ, "NICRT_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == [GOOD[bundle][name] for bundle, name in names]


def test_golden_files_are_not_alike() -> None:
    """A decoder that ignored its input would pass the tests above only if they were."""
    layouts = {"harbour-parallel", "harbour-tiles", "harbour-untiled"}  # one picture, three layouts
    hashes = GOOD["shallow"]
    assert len({hashes[name] for name in layouts}) == 1
    assert len(set(hashes.values())) == len(hashes) - 2


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_case_has_a_purpose_and_a_file(bundle: str) -> None:
    cases = json.loads((GOLDEN / bundle / "cases.json").read_text())
    assert list(cases) == list(GOOD[bundle]) and all(case["purpose"] for case in cases.values())

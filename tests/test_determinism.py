"""What docs/DETERMINISM.md promises: bytes that do not depend on threads, windows, regions and batches, and how far
pixels of other backends and instruction sets may be from them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_native import NORMED, Case, normed_case, random_case

import nicrt
from conftest import GOLDEN
from made_pictures import MADE
from nicrt import _core
from nicrt.runtime.backends import Backend, GraphSet
from nicrt.runtime.backends.native import NativeCpu
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.rect import Rect

BUNDLES: dict[str, dict[str, Any]] = {
    "shallow": {"quality": 50},
    "slim": {"variant": "w96", "quality": 50},
    "mean-scale": {"quality": 50},
    "compass": {"scales": [1, 2]},
    "flow": {"quality": 50},
}
CHAINS = ["shallow", "slim", "mean-scale"]  # whose pictures a native chain makes
BACKENDS = [*_core.arithmetics(), "onnxruntime"]
BFLOAT16_BOUND = 2  # levels, on pictures that are no photographs


def codec_of(bundle: str, backend: str, threads: int = 1) -> nicrt.Codec:
    codec = nicrt.load(bundle, threads=threads)
    backends: list[Backend] = [OnnxRuntimeCpu(threads)]
    if backend != "onnxruntime":
        backends.insert(0, NativeCpu(threads, arithmetic=backend))
    codec._graphs = GraphSet(codec.bundle, backends, threads=threads)
    return codec


@contextmanager
def windows_of(codec: nicrt.Codec, edge: int) -> Iterator[None]:
    """Pictures of any size run in windows of this edge in pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec._graphs.engine, "window_edge", edge)
        yield


def mosaic() -> np.ndarray:
    """uint8 [371, 379, 3]: nine made pictures, so that windows see what has nothing to do with the rest."""
    made = [make() for make in MADE.values()]
    rows = [np.concatenate(made[i : i + 3], axis=1) for i in (0, 3, 6)]
    return np.concatenate(rows)[:371, :379]


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: nicrt.load(name, threads=2).encode(mosaic(), tile=64, **how) for name, how in BUNDLES.items()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bundle", CHAINS)
def test_threads_windows_and_regions_do_not_change_a_byte(files: dict[str, bytes], bundle: str, backend: str) -> None:
    if (bundle, backend) == ("mean-scale", "scalar"):
        pytest.skip("takes long, and the slimmable codec has the same layers")
    codec, data = codec_of(bundle, backend), files[bundle]
    quick = backend == "scalar" or bundle == "mean-scale"
    whole = codec.decode(data)
    for threads in (3,) if quick else (2, 3, 8):
        np.testing.assert_array_equal(codec_of(bundle, backend, threads).decode(data), whole)
    for edge in (128,) if quick else (64, 128, 192):
        with windows_of(codec, edge):
            np.testing.assert_array_equal(codec.decode(data), whole, err_msg=f"windows of {edge}")
    rng = np.random.default_rng(5)
    for _ in range(4 if quick else 8):
        width, height = (int(n) for n in rng.integers(1, 200, 2))
        x, y = int(rng.integers(0, 380 - width)), int(rng.integers(0, 372 - height))
        part = codec.decode(data, region=(x, y, width, height))
        np.testing.assert_array_equal(part, whole[y : y + height, x : x + width], err_msg=f"{x, y, width, height}")


@pytest.mark.parametrize("bundle", ["compass", "flow"])
def test_so_of_families_that_onnx_runtime_makes(bundle: str) -> None:
    picture = mosaic()[90:230, 60:230]
    data = nicrt.load(bundle, threads=2).encode(picture, tile=64, **BUNDLES[bundle])
    codec = nicrt.load(bundle, threads=1)
    whole = codec.decode(data)
    np.testing.assert_array_equal(nicrt.load(bundle, threads=3).decode(data), whole)
    np.testing.assert_array_equal(codec.decode(data, region=(11, 70, 60, 33)), whole[70:103, 11:71])
    with windows_of(codec, 64):
        np.testing.assert_array_equal(codec.decode(data), whole)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_files_do_not_depend_on_threads_and_windows(bundle: str) -> None:
    picture, how = mosaic()[60:250, 100:290], BUNDLES[bundle]
    data = nicrt.load(bundle, threads=1).encode(picture, **how)
    codec = nicrt.load(bundle, threads=3)
    assert codec.encode(picture, **how) == data
    with windows_of(codec, 128):
        assert codec.encode(picture, **how) == data


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_files_at_once_give_what_each_gives(files: dict[str, bytes], backend: str) -> None:
    codec = codec_of("slim", backend, 2)
    alone = codec.decode(files["slim"])
    for picture in codec.decode_many([files["slim"]] * 3, jobs=2):
        np.testing.assert_array_equal(picture, alone)


@pytest.mark.parametrize("arithmetic", _core.arithmetics())
def test_windows_of_any_chain_are_crops(arithmetic: str) -> None:
    """Strange kernels, strides and paddings too; latents that are not numbers or -0 stay where they are."""
    cases: list[Case] = [random_case(seed) for seed in range(20)] + [normed_case(name) for name in NORMED]
    for number, case in enumerate(cases):
        executable = NativeCpu(2, arithmetic).load(case.build())
        tensors = case.tensors(14, 37)
        tensors["mean"][:, :, 3, 5], tensors["mean"][:, :, 9, 20] = -0.0, np.nan
        (whole,) = executable.run(tensors, ["picture"])
        reach = sum(kernel[0] + kernel[1] for kernel in case.kernels)  # latents, more than enough
        rows, columns = whole.shape[1] // 14, whole.shape[2] // 37
        for top, left, bottom, right in ((0, 0, 5, 37), (4, 3, 9, 20), (8, 20, 14, 37), (6, 17, 7, 18)):
            around = Rect(top, left, bottom, right).grown(reach, 1, Rect(0, 0, 14, 37))
            y, x = slice(around.top, around.bottom), slice(around.left, around.right)
            cut = {name: a[:, :, y, x] if a.ndim == 4 else a for name, a in tensors.items()}
            (part,) = executable.run(cut, ["picture"])
            first, last = (top - around.top) * rows, (bottom - around.top) * rows
            start, end = (left - around.left) * columns, (right - around.left) * columns
            np.testing.assert_array_equal(
                part[:, first:last, start:end],
                whole[:, top * rows : bottom * rows, left * columns : right * columns],
                err_msg=f"case {number}",
            )


def test_small_regions_run_on_more_than_they_need() -> None:
    """Matrix products of few columns add in another order in ONNX Runtime."""
    codec = codec_of("shallow", "onnxruntime")
    data = codec.encode(mosaic(), tile=64)
    whole = codec.decode(data)
    for y in range(0, 354, 40):
        for x in range(0, 362, 40):
            part = codec.decode(data, region=(x, y, 17, 17))
            np.testing.assert_array_equal(part, whole[y : y + 17, x : x + 17])


SCRIPT = """
import hashlib, sys
import nicrt
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    codec = nicrt.load_for(data, threads=2)
    sys.stdout.buffer.write(codec.decode(data).tobytes())
"""


@pytest.mark.parametrize("cap", [cap for cap in ("scalar", "avx2", "avx512") if cap in _core.isas()])
def test_golden_pictures_under_a_cap_of_instruction_sets(cap: str) -> None:
    """NICRT_ISA in another process. Golden pictures are photographs: at most one level apart."""
    files = [GOLDEN / bundle / f"{name}.nic" for bundle, name in (("shallow", "harbour-q20"), ("slim", "harbour-w96"))]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, files)],
        env={**os.environ, "NICRT_ISA": cap},
        capture_output=True,
        check=True,
    )
    expected = np.concatenate([np.asarray(Image.open(file.with_suffix(".png"))).ravel() for file in files])
    assert apart(np.frombuffer(run.stdout, np.uint8), expected) <= 1


@pytest.mark.parametrize("bundle", CHAINS)
def test_made_pictures_keep_to_the_stated_bound(files: dict[str, bytes], bundle: str) -> None:
    backends = BACKENDS[bundle == "mean-scale" :]  # without `scalar`, which takes long
    pictures = {name: codec_of(bundle, name, 2).decode(files[bundle]) for name in backends}
    coarse = pictures.pop("avx512_bf16", None)
    for a in pictures.values():
        assert all(apart(a, b) <= 1 for b in pictures.values())
        assert coarse is None or apart(a, coarse) <= BFLOAT16_BOUND


@pytest.mark.parametrize("bundle", CHAINS)
def test_photographs_are_at_most_one_level_apart(bundle: str, harbour: np.ndarray) -> None:
    data = nicrt.load(bundle, threads=2).encode(harbour, **BUNDLES[bundle])
    expected = codec_of(bundle, "onnxruntime", 2).decode(data)
    for backend in _core.arithmetics():
        assert apart(codec_of(bundle, backend, 2).decode(data), expected) <= 1, backend

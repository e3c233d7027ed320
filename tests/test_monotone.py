"""More bytes are never a worse picture: what the encoder does about pictures unlike photographs, and what a quality is.

`benchmarks/monotone.py` walks all bundles; here are those that encode a picture in a few milliseconds.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nicrt
from made_pictures import MADE, SIDE
from nicrt import _core
from nicrt.runtime import analysis_choice
from nicrt.runtime.choose import Wish, choose
from nicrt.runtime.evaluate import psnr

QUALITIES = range(0, 101, 5)
TINY_BYTES = 600  # files whose bytes may fall: rounding of the few symbols of a flat picture moves them by some dozens


def walked(codec: nicrt.Codec, pixels: np.ndarray, **options: object) -> tuple[list[int], list[float]]:
    files = [codec.encode(pixels, quality=quality, **options) for quality in QUALITIES]
    return [len(data) for data in files], [psnr(codec.decode(data), pixels) for data in files]


def parameters(codec: nicrt.Codec, data: bytes) -> dict[str, list[int]]:
    return codec.opened(data).parameters


@pytest.fixture(scope="module")
def slim() -> nicrt.Codec:
    return nicrt.load("slim", threads=1)


@pytest.fixture(scope="module")
def half_dithered(harbour: np.ndarray) -> np.ndarray:
    """uint8 [256, 384, 3]: a photograph, and dither right of it."""
    photograph = np.pad(harbour, ((0, 96), (0, 16), (0, 0)), mode="reflect")
    return np.concatenate([photograph, MADE["dither"]().repeat(2, 0)], axis=1)


@pytest.mark.parametrize("name", MADE)
def test_made_pictures(codec: nicrt.Codec, name: str) -> None:
    sizes, fidelity = walked(codec, MADE[name]())
    for (smaller, larger), (worse, better) in zip(pairwise(sizes), pairwise(fidelity), strict=True):
        assert better >= worse - 0.02
        assert larger >= 0.995 * smaller or (smaller < TINY_BYTES and better > worse)


@pytest.mark.parametrize("bundle", ["shallow", "slim"])
def test_photographs(codec: nicrt.Codec, slim: nicrt.Codec, harbour: np.ndarray, bundle: str) -> None:
    sizes, fidelity = walked(slim if bundle == "slim" else codec, harbour)
    assert all(larger >= 0.995 * smaller for smaller, larger in pairwise(sizes))
    assert all(better >= worse - 0.02 for worse, better in pairwise(fidelity))


def test_slim_on_kodak(slim: nicrt.Codec, kodak: list[Path]) -> None:
    """At the widths' borders, on those whose rates differ most from one width to the next."""
    for number in (2, 4, 12, 23):
        pixels = np.asarray(Image.open(kodak[number - 1]).convert("RGB"))
        files = [slim.encode(pixels, quality=quality) for quality in (5, 10, 25, 30, 35, 65, 70)]
        fidelity = [psnr(slim.decode(data), pixels) for data in files]
        assert all(len(larger) >= 0.995 * len(smaller) for smaller, larger in pairwise(files))
        assert all(better >= worse - 0.02 for worse, better in pairwise(fidelity))


@pytest.mark.parametrize("variant", ["w48", "w144", "scalable"])
def test_a_variant_has_all_qualities(slim: nicrt.Codec, variant: str) -> None:
    found = [choose(slim.bundle, Wish(quality, variant), (64, 64))[1]["step"][0] for quality in QUALITIES]
    assert found == sorted(found, reverse=True) and found[0] - found[-1] > 90
    assert found[-1] >= -128 and found[0] <= 128


def test_parameters_beyond_the_points_stay_within_their_limits(slim: nicrt.Codec) -> None:
    assert choose(slim.bundle, Wish(100, "w48"), (64, 64))[1]["step"] == [-128]


@pytest.mark.parametrize(
    "name, quality, at_least, most_bytes",
    [("dither", 50, 22, 12500), ("dither", 90, 23, 22000), ("checker-5", 50, 35, 9600), ("text", 50, 29, 9600)],
)
def test_latents_are_those_of_the_picture(
    codec: nicrt.Codec, name: str, quality: int, at_least: float, most_bytes: int
) -> None:
    """Without refinement: 18.0, 16.9, 29.0 and 25.0 dB; the second file had 30 704 bytes."""
    data = codec.encode(MADE[name](), quality=quality)
    assert psnr(codec.decode(data), MADE[name]()) > at_least
    assert len(data) < most_bytes


def test_side_information_is_not_clipped(codec: nicrt.Codec) -> None:
    pixels = MADE["dither"]()
    data = codec.encode(pixels, quality=80, effort=1)
    assert parameters(codec, data)["dz"] == [5]
    assert np.abs(codec.symbols(data)[0]).max() < 127
    asked = codec.encode(pixels, quality=80, effort=1, parameters={"dz": 3})
    assert parameters(codec, asked)["dz"] == [3] and len(asked) > 1.3 * len(data)
    assert parameters(codec, codec.encode(pixels, like=asked))["dz"] == [3]


def test_saturated_fields_are_coded_whole(codec: nicrt.Codec) -> None:
    """Before, 1061 bytes gave 27.1 dB and 3723 bytes 31.4 dB."""
    data = codec.encode(MADE["flags"](), quality=10)
    assert parameters(codec, data)["skip"] == [0]
    assert len(data) < 2600 and psnr(codec.decode(data), MADE["flags"]()) > 34
    asked = codec.encode(MADE["flags"](), quality=10, parameters={"skip": 8})
    assert parameters(codec, asked)["skip"] == [8]


@pytest.mark.parametrize("quality, most", [(10, 27), (50, 24), (100, 17)])
def test_the_border_of_a_saturated_field(codec: nicrt.Codec, quality: int, most: int) -> None:
    """Before: 46, 30 and 25 grey levels."""
    flat = np.full((256, 256, 3), (10, 200, 30), np.uint8)
    shown = codec.decode(codec.encode(flat, quality=quality))
    assert np.abs(shown.astype(int) - flat).max() <= most


def test_what_no_coding_helps_stays_small(codec: nicrt.Codec) -> None:
    """A synthesis that cannot show a checkerboard of single pixels is not given its symbols."""
    assert len(codec.encode(MADE["checker-1"](), quality=0)) < 400


@pytest.mark.parametrize("quality", [0, 50, 90])
def test_photographs_are_coded_as_ever(
    codec: nicrt.Codec, harbour: np.ndarray, quality: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = codec.encode(harbour, quality=quality)
    monkeypatch.setattr(analysis_choice.AnalysisChoice, "ran", lambda *_: None)
    assert codec.encode(harbour, quality=quality) == data


def test_fast_efforts_do_not_look(codec: nicrt.Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(analysis_choice, "refine", fail)
    codec.encode(MADE["text"](), quality=50, effort=4)
    with pytest.raises(AssertionError):
        codec.encode(MADE["text"](), quality=50, effort=5)


def test_only_what_does_not_fit_is_changed(
    codec: nicrt.Codec, half_dithered: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    refined = codec.symbols(codec.encode(half_dithered, quality=50))[1]
    monkeypatch.setattr(analysis_choice, "refine", lambda *_: None)
    plain = codec.symbols(codec.encode(half_dithered, quality=50))[1]
    changed = (refined != plain).any(0)
    assert not changed[:, :16].any()
    assert changed[:, 16:].mean() > 0.9


def test_tiles_lanes_and_windows(
    codec: nicrt.Codec, half_dithered: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = codec.symbols(codec.encode(half_dithered, quality=50))
    for options in ({"tile": 64}, {"tile": 0, "lanes": "parallel"}, {"lanes": "balanced"}):
        data = codec.encode(half_dithered, quality=50, **options)
        np.testing.assert_array_equal(codec.symbols(data)[1], symbols[1])
    monkeypatch.setattr(codec._graphs.engine, "window_edge", 64)
    windowed = codec.symbols(codec.encode(half_dithered, quality=50))
    assert np.mean(windowed[1] != symbols[1]) < 1e-3  # float sums in another order


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (65, 129), (63, 64)])
@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_any_size(codec: nicrt.Codec, size: tuple[int, int], kind: str) -> None:
    pixels = np.resize(MADE[kind](), (*size, 3))
    assert codec.decode(codec.encode(pixels, quality=60)).shape == pixels.shape


def test_memory_for_a_look_counts_and_is_bounded(codec: nicrt.Codec) -> None:
    def seeing(graph: str) -> float:
        return codec.bundle.manifest.graphs[graph].workspace_bytes_per_pixel or 0.0

    def blind(graph: str) -> float:
        return 0.0 if graph == "synthesis" else seeing(graph)

    def extra(size: tuple[int, int]) -> int:
        name, values = choose(codec.bundle, Wish(), size)
        needs = [
            _core.plan(codec.bundle.core, name, values, size, encode=True, effort=5, workspace=each).memory_bytes
            for each in (seeing, blind)
        ]
        return needs[0] - needs[1]

    assert 0 < extra((512, 512)) < extra((2048, 2048)) == extra((8192, 8192)) < 200 << 20


def test_windows_of_a_large_picture(codec: nicrt.Codec) -> None:
    """More than one window of refinement: none is seen at its seam."""
    pixels = np.tile(MADE["checker-5"](), (1, 5, 1))[:, : 4 * SIDE + 90]
    shown = codec.decode(codec.encode(pixels, quality=70)).astype(float) - pixels
    by_column = np.square(shown).mean((0, 2)).reshape(-1, 2).mean(1)
    assert by_column.max() < 16  # without refinement 103, in the mean 42


def test_flow_keeps_the_mean_colour(harbour: np.ndarray) -> None:
    """At -q 0 it was off by 8.6 grey levels here, and by 20 in a Kodak picture."""
    flow = nicrt.load("flow", threads=1)
    for quality in (0, 10):
        shown = flow.decode(flow.encode(harbour, quality=quality))
        assert np.abs((shown.astype(float) - harbour).mean((0, 1))).max() < 3

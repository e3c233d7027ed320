"""Transparency is shown on white, and depth follows the type of the samples: against arithmetic done here."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

import nicrt
from nicrt.runtime.pictures import from_array
from picture_files import PRECISION, WHITE, grey, load, on_white, png, save, tiff

# transparency


def test_keys(small: np.ndarray, deep: np.ndarray) -> None:
    """tRNS names one transparent colour in the file's own depth, 16 bits of it too."""
    for bits in (1, 2, 4):
        levels = small[:, :, :1] >> (8 - bits)
        key = int(levels[20, 20, 0])
        pixels, said = load(png(levels, bits, [(b"tRNS", struct.pack(">H", key))]))
        expected = on_white(grey(levels[:, :, 0] * (255 / (2**bits - 1))), levels[:, :, 0] != key)
        assert said == [WHITE] and np.abs(pixels - expected).max() < 1e-3
    for samples, bits in ((small, 8), (deep, 16), (small[:, :, :1], 8), (deep[:, :, :1], 16)):
        key = samples[20, 20]
        pixels, said = load(png(samples, bits, [(b"tRNS", key.astype(">u2").tobytes())]))
        clear = (samples == key).all(axis=2)
        expected = on_white(np.broadcast_to(samples / (2**bits - 1) * 255, small.shape), ~clear)
        assert said[0] == WHITE and np.abs(pixels - expected).max() < 1e-3
        pixels, said = load(png(samples // 2, bits, [(b"tRNS", b"\xff\xff" * samples.shape[2])]))
        assert WHITE not in said


def test_deep_alpha(deep: np.ndarray, alpha: np.ndarray) -> None:
    expected = on_white(deep / 257, alpha / 65535)
    for data in (png(np.dstack([deep, alpha]), 16), tiff(np.dstack([deep, alpha]), 2, extra=2)):
        pixels, said = load(data)
        assert said == [WHITE, PRECISION] and np.abs(pixels - expected).max() < 1e-3
    pixels, said = load(png(np.dstack([deep[:, :, 0], alpha]), 16))
    assert said == [WHITE, PRECISION]
    assert np.abs(pixels - on_white(grey(deep[:, :, 0] / 257), alpha / 65535)).max() < 1e-3
    opaque = np.full_like(alpha, 65535)
    assert load(png(np.dstack([deep, opaque]), 16))[1] == [PRECISION]


def test_premultiplied_alpha(small: np.ndarray, deep: np.ndarray, alpha: np.ndarray) -> None:
    for samples, white, limit in ((deep, 65535, 0.01), (small, 255, 1)):
        opacity = alpha if white == 65535 else (alpha >> 8).astype(np.uint8)
        product = np.rint(samples * (opacity[:, :, None] / white)).astype(samples.dtype)
        expected = on_white(samples / white * 255, opacity / white)
        pixels, said = load(tiff(np.dstack([product, opacity]), 2, extra=1))
        assert said[0] == WHITE and np.abs(pixels - expected).max() < limit
    pixels, said = load(tiff(np.dstack([product[:, :, 0], opacity]), 1, extra=1))
    assert said == [WHITE] and np.abs(pixels - grey(expected[:, :, 0])).max() < 1
    assert load(tiff(np.dstack([deep, alpha]), 2, extra=0))[1] == [PRECISION]  # a channel that means nothing


# depth


def test_scale_follows_the_type(deep: np.ndarray) -> None:
    level = deep[:, :, :1]
    expected = level[:, :, :1].repeat(3, axis=2) / 257
    files = [
        png(level, 16), tiff(level, 1), tiff(level.astype(">u2"), 1), tiff(65535 - level, 0),
        tiff(level.astype(np.uint32) * 65537, 1), tiff((level / 65535).astype("<f4"), 1, 3),
        tiff((level / 65535).astype(">f4"), 1, 3), tiff((1 - level / 65535).astype("<f4"), 0, 3),
    ]  # fmt: skip
    for data in files:
        pixels, said = load(data)
        assert said == [PRECISION] and np.abs(pixels - expected).max() < 1e-3
    for order in "<>":
        assert np.abs(load(tiff(deep.astype(f"{order}u2"), 2))[0] - deep / 257).max() < 1e-3
    assert np.abs(load(save(level[:, :, 0], "JPEG2000"))[0] - expected).max() < 1e-3
    twelve = level[:, :, 0] >> 4
    packed = np.stack(
        [twelve[:, ::2] >> 4, (twelve[:, ::2] & 15) << 4 | twelve[:, 1::2] >> 8, twelve[:, 1::2] & 255], axis=2
    ).astype(np.uint8)
    pixels, said = load(tiff(packed.reshape(40, -1, 1), 1, bits=12, width=60))
    assert said == [PRECISION] and np.abs(pixels - grey(twelve / 4095 * 255)).max() < 1e-3


def test_dark_pictures_stay_dark() -> None:
    """The largest value that occurs is no white."""
    for data in (
        tiff(np.full((4, 4, 1), 0.01, "<f4"), 1, 3),
        tiff(np.full((4, 4, 1), 655, "<u2"), 1),
        b"Pf\n4 4\n-1.0\n" + np.full(16, 0.01, "<f4").tobytes(),
    ):
        assert np.abs(load(data)[0] - 2.55).max() < 0.01


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_signed_integers_are_refused(dtype: type) -> None:
    samples = np.ones((4, 4, 1), dtype)
    with pytest.raises(nicrt.ImageError, match="signed integers"):
        load(tiff(samples, 1, 2))
    with pytest.raises(TypeError, match="unsigned"):
        from_array(samples)


def test_planes_apart(small: np.ndarray, deep: np.ndarray) -> None:
    pixels, said = load(tiff(small, 2, planar=True))
    assert said == [] and np.abs(pixels - small).max() < 1e-3
    with pytest.raises(nicrt.ImageError, match="separate planes"):
        load(tiff(deep, 2, planar=True))


def test_clipping_is_said() -> None:
    values = np.array([[0.5, 1.01, 4.0, -1.0]], "<f4")
    _, said = load(tiff(values[:, :, None], 1, 3))
    assert said == ["3 of 4 values (75%) outside 0..1 (from -1 to 4), clipped", PRECISION]
    tiny = np.array([[0.0, 1.0001, -0.0001, 1.0]], "<f4")  # less than half a grey level
    assert load(tiff(tiny[:, :, None], 1, 3))[1] == [PRECISION]
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(nicrt.ImageError, match="not finite"):
            load(tiff(np.full((2, 2, 1), bad, "<f4"), 1, 3))


def test_orientations(small: np.ndarray) -> None:
    turned = {
        1: small, 2: small[:, ::-1], 3: small[::-1, ::-1], 4: small[::-1], 5: small.swapaxes(0, 1),
        6: np.rot90(small, -1), 7: small.swapaxes(0, 1)[::-1, ::-1], 8: np.rot90(small),
    }  # fmt: skip
    for orientation, expected in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        opacity = np.full(small.shape[:2], 51, np.uint8)
        for data, wanted in (
            (save(small, "PNG", exif=exif), expected),
            (save(small, "TIFF", exif=exif), expected),
            (save(np.dstack([small, opacity]), "PNG", exif=exif), 255 - (255 - expected.astype(float)) / 5),
            (png(small * np.uint16(257), 16, [(b"eXIf", exif.tobytes()[6:])]), expected),
        ):
            assert np.abs(load(data)[0] - wanted).max() < 0.01

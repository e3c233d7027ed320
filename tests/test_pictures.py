"""Pictures of every common kind in, and what is said about what they lose."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

import nicrt
from nicrt.runtime.pictures import from_array, load_picture, output_format, resample, save_picture


def load(image: Image.Image, kind: str, **options: object) -> tuple[np.ndarray, list[str]]:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    picture = load_picture(buffer.getvalue(), 1 << 20)
    assert picture.pixels.dtype == np.float32 and picture.pixels.flags["C_CONTIGUOUS"]
    return picture.pixels, picture.dropped


@pytest.mark.parametrize(
    ("mode", "kind", "dropped"),
    [
        ("RGB", "PNG", 0), ("L", "PNG", 0), ("P", "PNG", 0), ("1", "PNG", 0), ("CMYK", "TIFF", 1), ("RGBA", "PNG", 1),
        ("LA", "PNG", 1), ("YCbCr", "JPEG", 0), ("CMYK", "JPEG", 1), ("P", "GIF", 0),
    ],
)  # fmt: skip
def test_modes(harbour: np.ndarray, mode: str, kind: str, dropped: int) -> None:
    pixels, said = load(Image.fromarray(harbour).convert(mode), kind)
    assert pixels.shape == harbour.shape and pixels.min() >= 0 and pixels.max() <= 1
    assert len(said) == dropped, said
    if mode == "RGB":
        np.testing.assert_allclose(pixels * 255, harbour, atol=1e-4)


def test_sixteen_bit_grey_keeps_its_precision() -> None:
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + 77
    pixels, said = load(Image.fromarray(values), "PNG")
    np.testing.assert_allclose(pixels[:, :, 0] * 65535, values, atol=0.01)
    assert said == ["precision beyond 8 bits at the decoder"]


def test_orientation_is_applied(harbour: np.ndarray) -> None:
    image = Image.fromarray(harbour)
    exif = image.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    pixels, _ = load(image, "PNG", exif=exif)
    np.testing.assert_allclose(pixels * 255, np.rot90(harbour, -1), atol=1e-4)


def test_transparency_is_shown_on_white(harbour: np.ndarray) -> None:
    clear = np.dstack([harbour, np.zeros(harbour.shape[:2], np.uint8)])
    pixels, said = load(Image.fromarray(clear), "PNG")
    assert pixels.min() == 1 and "transparency" in said[0]


def test_profiles(harbour: np.ndarray) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels, said = load(Image.fromarray(harbour), "PNG", icc_profile=srgb)
    assert said == [] and np.abs(pixels * 255 - harbour).max() <= 1.01
    _, said = load(Image.fromarray(harbour), "PNG", icc_profile=b"not a profile")
    assert "profile" in said[0]


@pytest.mark.parametrize("data", [b"", b"junk", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_not_a_picture(data: bytes) -> None:
    with pytest.raises(nicrt.ImageError):
        load_picture(data, 100)


def test_damaged_picture(harbour: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(harbour).save(buffer, "PNG")
    with pytest.raises(nicrt.ImageError):
        load_picture(buffer.getvalue()[:2000], 1 << 20)


def test_pixel_limit(harbour: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(harbour).save(buffer, "PNG")
    with pytest.raises(nicrt.LimitError):
        load_picture(buffer.getvalue(), 100)


def test_output_formats(harbour: np.ndarray) -> None:
    assert [output_format(name) for name in ("a.png", "b.PPM", "c.jpeg", "webp", "x.tif")] == [
        "PNG", "PPM", "JPEG", "WEBP", "TIFF",
    ]  # fmt: skip
    for name in ("PNG", "PPM", "WEBP", "TIFF"):
        back = np.asarray(Image.open(io.BytesIO(save_picture(harbour, name))).convert("RGB"))
        np.testing.assert_array_equal(back, harbour)
    for bad in ("a", "a.nope", "a.psd"):
        with pytest.raises(nicrt.ImageError):
            output_format(bad)


def test_resample(harbour: np.ndarray) -> None:
    pixels = from_array(harbour)
    assert resample(pixels, (160, 240)) is pixels
    small = resample(pixels, (40, 60))
    assert small.shape == (40, 60, 3) and small.dtype == np.float32
    blocks = pixels.reshape(40, 4, 60, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - blocks).mean() < 0.02

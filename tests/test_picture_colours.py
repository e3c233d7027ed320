"""First colour, then transparency, then depth: what files of every kind become, against arithmetic done here."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

import nicrt
from conftest import ROOT, SHARED
from nicrt.runtime.pictures import from_array, load_picture
from picture_files import (
    P3_PRIMARIES,
    SRGB_PRIMARIES,
    chunk,
    gamma_chunk,
    grey_profile,
    matrix_profile,
    png,
    primaries_chunk,
    profile_chunk,
    save,
    table_profile,
    tiff,
)

CASES = ROOT / "tests" / "cases" / "pictures"
PRECISION = "precision beyond 8 bits at the decoder"
WHITE = "transparency (shown on white)"
SWAP = "colour profile 'made for tests' (converted to sRGB)"


def load(data: bytes) -> tuple[np.ndarray, list[str]]:
    """Values 0..255, and what was said."""
    picture = load_picture(data, 1 << 20)
    assert picture.pixels.dtype == np.float32 and picture.pixels.flags["C_CONTIGUOUS"]
    return picture.pixels * 255, picture.dropped


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light → sRGB values 0..255."""
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def decoded(values: np.ndarray) -> np.ndarray:
    """sRGB values 0..1 → linear light."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def on_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return 255 - (255 - values) * alpha[:, :, None]


def grey(values: np.ndarray) -> np.ndarray:
    """[height, width] → [height, width, 3]"""
    return np.repeat(values[:, :, None], 3, axis=2)


@pytest.fixture(scope="module")
def small() -> np.ndarray:
    """uint8 [40, 60, 3]"""
    return np.asarray(Image.open(ROOT / "tests" / "pictures" / "harbour.png").convert("RGB"))[::4, ::4].copy()


@pytest.fixture(scope="module")
def deep(small: np.ndarray) -> np.ndarray:
    """uint16 [40, 60, 3]: whose lower bytes matter"""
    noise = np.random.default_rng(5).integers(0, 256, small.shape)
    return (small.astype(np.uint16) << 8) + noise.astype(np.uint16)


@pytest.fixture(scope="module")
def alpha(small: np.ndarray) -> np.ndarray:
    """uint16 [40, 60], with both ends in it"""
    values = np.random.default_rng(6).integers(0, 65536, small.shape[:2]).astype(np.uint16)
    values[0, :2] = 0, 65535
    return values


# the cases that were reported


def row(name: str, *columns: int) -> list[list[int]]:
    pixels, _ = load((CASES / name).read_bytes())
    return np.rint(pixels[len(pixels) // 2, list(columns)]).astype(int).tolist()


def test_reported_ramps() -> None:
    assert row("icc_greylin.png", 0, 50, 191) == [[0] * 3, [140] * 3, [255] * 3]
    assert row("icc_greylin16.png", 0, 50, 191) == [[0] * 3, [140] * 3, [255] * 3]
    # level 0 is the transparent one of this file, and so on white; the last column is white itself
    assert row("g16_trns.png", 0, 1, 50, 191) == [[255] * 3, [1] * 3, [67] * 3, [255] * 3]
    assert load((CASES / "rgb16.png").read_bytes())[1] == [PRECISION]


def test_reported_exif() -> None:
    pixels, said = load((CASES / "exif_copyright_rot6.jpg").read_bytes())
    assert pixels.shape == (160, 120, 3) and said == ["metadata: EXIF (copyright, camera)"]


@pytest.mark.skipif(not (SHARED / "cases" / "pictures").is_dir(), reason="needs ../shared/cases")
def test_reported_siblings() -> None:
    """Files with alpha against those without, and others as their table says."""

    def of(name: str) -> tuple[np.ndarray, list[str]]:
        return load((SHARED / "cases" / "pictures" / name).read_bytes())

    assert np.abs(of("p3_rgba_opaque.png")[0] - of("p3_rgb.png")[0]).max() < 1e-3
    rgba = np.asarray(Image.open(SHARED / "cases" / "pictures" / "p3_rgba.png"))
    assert np.abs(of("p3_rgba.png")[0] - on_white(of("p3_rgb.png")[0], rgba[:, :, 3] / 255)).max() < 1e-3
    opaque = np.asarray(Image.open(SHARED / "cases" / "pictures" / "icc_swap_rgba.png"))
    swapped, said = of("icc_swap_rgba.png")
    assert np.abs(swapped - on_white(of("icc_swap.png")[0], opaque[:, :, 3] / 255)).max() < 1.01 and len(said) == 2
    assert of("rgba_opaque.png")[1] == [] and "gamma 1 " in of("gama_1.0.png")[1][0]
    assert [round(float(value)) for value in of("gama_1.0.png")[0][60, 0]] == [202, 196, 168]
    assert "12, 13" in of("cicp_p3.png")[1][0] and np.ptp(of("f32_1.01.tif")[0]) > 254
    assert "clipped" in of("f32_1.01.tif")[1][0] and "clipped" in of("float_hdr_0to4.tif")[1][0]
    assert of("float_hdr_0to4.tif")[0].mean() > 250
    with pytest.raises(nicrt.ImageError, match="signed"):
        of("int32_0to255.tif")


# colour


def test_profile_comes_before_transparency(small: np.ndarray) -> None:
    profile = matrix_profile(1.8, "bgr")
    plain, said = load(save(small, "PNG", icc_profile=profile))
    assert said == [SWAP] and np.abs(plain - encoded((small[:, :, ::-1] / 255) ** 1.8)).max() < 1
    opacity = small[:, :, 0]
    for kind in ("PNG", "TIFF"):
        pixels, said = load(save(np.dstack([small, opacity]), kind, icc_profile=profile))
        assert said == [SWAP, WHITE] and np.abs(pixels - on_white(plain, opacity / 255)).max() < 1e-3
    pixels, said = load(save(np.dstack([small, np.full_like(opacity, 255)]), "PNG", icc_profile=profile))
    assert said == [SWAP] and np.array_equal(pixels, plain)
    light, _ = load(save(small[:, :, 0], "PNG", icc_profile=grey_profile(1.8)))
    pixels, _ = load(save(np.dstack([small[:, :, 0], opacity]), "PNG", icc_profile=grey_profile(1.8)))
    assert np.abs(pixels - on_white(light, opacity / 255)).max() < 1e-3


def test_palettes_are_expanded_before_profiles(small: np.ndarray) -> None:
    picture = Image.fromarray(small).quantize(40)
    colours = np.asarray(picture.convert("RGB")) / 255
    expected = encoded(colours[:, :, ::-1] ** 1.8)
    pixels, said = load(save(picture, "PNG", icc_profile=matrix_profile(1.8, "bgr")))
    assert said == [SWAP] and np.abs(pixels - expected).max() < 1
    pixels, said = load(save(picture, "PNG", icc_profile=matrix_profile(1.8, "bgr"), transparency=3))
    assert said == [SWAP, WHITE]
    assert np.abs(pixels - on_white(expected, np.asarray(picture) != 3)).max() < 1
    data = save(picture, "PNG")
    place = data.index(b"PLTE") - 4
    pixels, _ = load(data[:place] + chunk(*gamma_chunk(1 / 1.8)) + data[place:])
    assert np.abs(pixels - encoded(colours**1.8)).max() < 0.01


def test_deep_pictures_by_profile(small: np.ndarray, deep: np.ndarray, alpha: np.ndarray) -> None:
    profile = matrix_profile(2.2, "gbr")
    linear = (deep / 65535) ** 2.19922  # as the profile's 8 bits of fraction have it
    expected = encoded(linear[:, :, [2, 0, 1]])  # the profile's channels are green, blue and red
    for data in (png(deep, 16, [profile_chunk(profile)]), tiff(deep, 2, profile=profile)):
        pixels, said = load(data)
        assert said == [SWAP, PRECISION]
        assert np.abs(pixels - expected).max() < 0.1
    light = encoded((deep[:, :, :1] / 65535) ** 1.80078).repeat(3, axis=2)
    pixels, said = load(png(deep[:, :, :1], 16, [profile_chunk(grey_profile(1.8))]))
    assert said == [SWAP, PRECISION] and np.abs(pixels - light).max() < 0.1
    pixels, said = load(png(np.dstack([deep[:, :, 0], alpha]), 16, [profile_chunk(grey_profile(1.8))]))
    assert said == [SWAP, WHITE, PRECISION] and np.abs(pixels - on_white(light, alpha / 65535)).max() < 0.1
    floats = (deep[:, :, :1] / 65535).astype("<f4")
    pixels, said = load(tiff(floats, 1, 3, profile=grey_profile(1.8)))
    assert said == [SWAP, PRECISION] and np.abs(pixels - light).max() < 0.1


def test_profiles_with_tables(small: np.ndarray, deep: np.ndarray) -> None:
    """They are run at 8 bits: CMYK, and RGB of 16 bits. These go by their first channel alone."""
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[:, None], (64, 8))
    lightness = ramp[:, 0] * (100 / 255)
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    expected = grey(np.broadcast_to(encoded(luminance)[:, None], (64, 8)))
    noise = np.broadcast_to(small[0, :8, 0], (64, 8))
    rgb = np.stack([ramp, noise, noise], axis=2)
    pixels, said = load(png(rgb.astype(np.uint16) * 257, 16, [profile_chunk(table_profile(b"RGB "))]))
    assert said == [SWAP, PRECISION] and np.abs(pixels - expected).max() < 2.1
    inks = Image.fromarray(np.stack([255 - ramp, noise, noise, noise], axis=2), "CMYK")
    pixels, said = load(save(inks, "TIFF", icc_profile=table_profile(b"CMYK")))
    assert said == [SWAP] and np.abs(pixels - expected).max() < 2.1


def test_profiles_of_other_colours(small: np.ndarray, deep: np.ndarray) -> None:
    misfit = "a colour profile that does not fit the picture"
    for data in (
        save(small, "PNG", icc_profile=grey_profile(1.8)),
        save(small, "PNG", icc_profile=table_profile(b"CMYK")),
        save(small, "PNG", icc_profile=b"not a profile"),
        save(small, "PNG", icc_profile=b"x" * 500),
    ):
        pixels, said = load(data)
        assert said == [misfit] and np.abs(pixels - small).max() < 1e-3
    pixels, said = load(png(deep, 16, [profile_chunk(grey_profile(1.8))]))
    assert said == [misfit, PRECISION] and np.abs(pixels - deep / 257).max() < 1e-3
    for data in (  # grey goes through profiles of RGB
        save(small[:, :, 0], "PNG", icc_profile=matrix_profile(1.8)),
        png(small[:, :, :1].astype(np.uint16) * 257, 16, [profile_chunk(matrix_profile(1.8))]),
    ):
        pixels, said = load(data)
        assert said[0] == SWAP and np.abs(pixels - encoded(grey(small[:, :, 0] / 255) ** 1.80078)).max() < 1


def test_profiles_of_srgb_are_nothing_to_say(small: np.ndarray) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels, said = load(save(small, "PNG", icc_profile=srgb))
    assert said == [] and np.abs(pixels - small).max() <= 1.01


def p3_in_srgb(values: np.ndarray) -> np.ndarray:
    """Display P3 0..1 → sRGB 0..255, by the matrix of CSS Color 4."""
    matrix = [[1.2249402, -0.2249402, 0], [-0.0420570, 1.0420570, 0], [-0.0196376, -0.0786361, 1.0982735]]
    return encoded(np.clip(decoded(values) @ np.array(matrix).T, 0, 1))


CICP_P3 = b"cICP", bytes([12, 13, 0, 1])
CICP_SRGB = b"cICP", bytes([1, 13, 0, 1])


def test_numbers_of_png(small: np.ndarray, deep: np.ndarray) -> None:
    for chunks in ([CICP_P3], [primaries_chunk(P3_PRIMARIES)], [gamma_chunk(0.45455), primaries_chunk(P3_PRIMARIES)]):
        pixels, said = load(png(small, 8, chunks))
        assert len(said) == 1 and "converted to sRGB" in said[0]
        assert np.abs(pixels - p3_in_srgb(small / 255)).max() < 0.2
    linear = np.rint(decoded(deep / 65535) * 65535).astype(np.uint16)
    for chunks in ([gamma_chunk(1)], [(b"cICP", bytes([1, 8, 0, 1]))]):
        pixels, said = load(png(linear, 16, chunks))
        assert said[1:] == [PRECISION] and np.abs(pixels - deep / 257).max() < 0.05
    pixels, _ = load(png(small[:, :, :1], 8, [gamma_chunk(1 / 1.8)]))
    assert np.abs(pixels - encoded(grey(small[:, :, 0] / 255) ** 1.8)).max() < 0.05
    narrow = np.rint((16 + small / 255 * 219) * 256)
    pixels, said = load(png(narrow, 16, [(b"cICP", bytes([1, 13, 0, 0]))]))
    assert len(said) == 2 and np.abs(pixels - small).max() < 0.05


def test_precedence_of_png(small: np.ndarray) -> None:
    """cICP, then iCCP, then sRGB, then gAMA and cHRM."""
    profile, linear, srgb = profile_chunk(matrix_profile(1.8, "bgr")), gamma_chunk(1), (b"sRGB", b"\0")
    for chunks in ([CICP_SRGB, profile], [CICP_SRGB, linear], [srgb, linear]):
        pixels, said = load(png(small, 8, chunks))
        assert said == [] and np.abs(pixels - small).max() < 1e-3
    assert load(png(small, 8, [profile, linear]))[1] == [SWAP]
    assert "12, 13" in load(png(small, 8, [CICP_P3, profile]))[1][0]
    for chunks in ([gamma_chunk(0.45455)], [gamma_chunk(0.45455), primaries_chunk(SRGB_PRIMARIES)]):
        pixels, said = load(png(small, 8, chunks))
        assert said == [] and np.abs(pixels - small).max() < 1e-3


def test_numbers_that_give_no_colours(small: np.ndarray) -> None:
    flat = primaries_chunk((0.64, 0.33, 0.64, 0.33, 0.15, 0.06))
    for chunks in ([gamma_chunk(0)], [(b"cHRM", bytes(32))], [flat]):
        pixels, said = load(png(small, 8, chunks))
        assert len(said) == 1 and "gAMA and cHRM" in said[0] and np.abs(pixels - small).max() < 1e-3
    refused = {(9, 16, 0, 1): "PQ", (9, 18, 0, 1): "HLG", (99, 13, 0, 1): "99", (1, 13, 1, 1): "matrix"}
    for code_points, word in refused.items():
        with pytest.raises(nicrt.ImageError, match=word):
            load(png(small, 8, [(b"cICP", bytes(code_points))]))


def test_numbers_of_avif(small: np.ndarray) -> None:
    data = save(small, "AVIF", quality=100, subsampling="4:4:4")
    place = data.index(b"nclx") + 4
    plain, said = load(data)
    assert said == []
    pixels, said = load(data[:place] + struct.pack(">HH", 12, 13) + data[place + 4 :])
    assert "12, 13" in said[0] and np.abs(pixels - p3_in_srgb(plain / 255)).max() < 0.2
    with pytest.raises(nicrt.ImageError, match="PQ"):
        load(data[:place] + struct.pack(">HH", 9, 16) + data[place + 4 :])
    assert load(data[:place] + struct.pack(">HH", 2, 2) + data[place + 4 :])[1] == []


def test_profiles_that_pillow_does_not_find(small: np.ndarray) -> None:
    """In JPEG 2000, BMP and GIF."""
    profile = matrix_profile(1.8, "bgr")
    expected = encoded((small[:, :, ::-1] / 255) ** 1.8)
    data = save(small, "JPEG2000")
    start, header = data.index(b"colr") - 4, data.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", data, start)
    box = struct.pack(">I", 11 + len(profile)) + b"colr\2\0\0" + profile
    whole = struct.pack(">I", struct.unpack_from(">I", data, header)[0] + len(box) - length)
    pixels, said = load(data[:header] + whole + data[header + 4 : start] + box + data[start + length :])
    assert said == [SWAP] and np.abs(pixels - expected).max() < 1
    with pytest.raises(nicrt.ImageError, match="kind 14"):  # CIELAB
        load(data[: start + 14] + b"\x0e" + data[start + 15 :])
    rows = save(small, "BMP")[54:]
    height, width = small.shape[:2]
    head = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 24, 0, len(rows), 0, 0, 0, 0) + bytes(16) + b"DEBM"
    head += bytes(48) + struct.pack("<IIII", 4, 124 + len(rows), len(profile), 0)
    file = b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows) + len(profile), 0, 0, 14 + len(head))
    pixels, said = load(file + head + rows + profile)
    assert said == [SWAP] and np.abs(pixels - expected).max() < 1
    data = save(Image.fromarray(small).quantize(256), "GIF")
    parts = b"".join(bytes([len(profile[i : i + 255])]) + profile[i : i + 255] for i in range(0, len(profile), 255))
    place = 13 + 3 * 256
    pixels, said = load(data[:place] + b"\x21\xff\x0bICCRGBG1012" + parts + b"\0" + data[place:])
    colours = load(data)[0][:, :, ::-1] / 255
    assert said == [SWAP] and np.abs(pixels - encoded(colours**1.8)).max() < 1


def test_models_of_colour(small: np.ndarray) -> None:
    picture = Image.fromarray(small)
    for mode, limit in (("CMYK", 1), ("YCbCr", 3.1), ("LAB", 0)):
        if mode == "LAB":
            spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
            data = save(ImageCms.profileToProfile(picture, *spaces, outputMode="LAB"), "TIFF")
            pixels, _ = load(data)
            assert np.abs(pixels - small).mean() < 2
        else:
            pixels, _ = load(save(picture.convert(mode), "TIFF"))
            assert np.abs(pixels - small).max() < limit


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

"""Colours come before transparency and depth: what files of every kind become, against arithmetic done here."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

import nicrt
from conftest import ROOT, SHARED
from picture_files import (
    P3_PRIMARIES,
    PRECISION,
    SRGB_PRIMARIES,
    WHITE,
    chunk,
    decoded,
    encoded,
    gamma_chunk,
    grey,
    grey_profile,
    load,
    matrix_profile,
    on_white,
    png,
    primaries_chunk,
    profile_chunk,
    save,
    table_profile,
    tiff,
)

CASES = ROOT / "tests" / "cases" / "pictures"
SWAP = "colour profile 'made for tests' (converted to sRGB)"


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
    for chunks in ([CICP_P3], [primaries_chunk(P3_PRIMARIES)]):
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


def test_colours_without_profile(small: np.ndarray) -> None:
    """EXIF's mark for Adobe RGB, which cameras write alone, and the tags of TIFF."""
    matrix = [[1.3983558, -0.3983558, 0], [0, 1, 0], [0, -0.0429291, 1.0429291]]  # Adobe RGB → sRGB
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 65535, 0xA005: {1: "R03"}}
    plain, _ = load(save(small, "JPEG", quality=100, subsampling=0))
    pixels, said = load(save(small, "JPEG", quality=100, subsampling=0, exif=exif))
    expected = encoded(np.clip((plain / 255) ** 2.19921875 @ np.array(matrix).T, 0, 1))
    assert said == ["Adobe RGB (converted to sRGB)"] and np.abs(pixels - expected).max() < 0.2
    both = [gamma_chunk(1 / 2.19921875), primaries_chunk((0.64, 0.33, 0.21, 0.71, 0.15, 0.06))]
    pixels, _ = load(png(plain.round(), 8, both))
    assert np.abs(pixels - expected).max() < 0.2
    pixels, said = load(save(small, "TIFF", tiffinfo={318: (0.3127, 0.3290), 319: P3_PRIMARIES}))
    assert len(said) == 1 and np.abs(pixels - p3_in_srgb(small / 255)).max() < 0.2
    pixels, said = load(save(small, "TIFF", tiffinfo={318: (0.3127, 0.3290), 319: SRGB_PRIMARIES}))
    assert said == [] and np.abs(pixels - small).max() < 1e-3


def test_damaged_descriptions_are_said(small: np.ndarray) -> None:
    unreadable = "a colour profile that cannot be read"
    profile = matrix_profile(1.8)
    cut = bytearray(save(small, "JPEG", icc_profile=profile))
    place = cut.index(b"ICC_PROFILE\0") + 13
    cut[place] = 2  # the second of which is missing
    assert load(bytes(cut))[1] == [unreadable]
    assert load(png(small, 8, [(b"iCCP", b"name\0\0junk")]))[1] == [unreadable]
    assert load(png(small, 8, [(b"cICP", b"\1")]))[1] == ["a cICP chunk that cannot be read"]


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

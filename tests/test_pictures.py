"""Pictures of every common type in and out, arrays, and what is said about what they lose. Colours, transparency and
depth: test_picture_colours.py, test_picture_depth.py.
"""

from __future__ import annotations

import io
import struct
import sys
import warnings
import zlib
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import nicrt
from conftest import GOLDEN
from nicrt.runtime.cli import main
from nicrt.runtime.pictures import READ_SUFFIXES, from_array, load_picture, output_format, resample, save_picture
from picture_files import PRECISION, chunk, load, matrix_profile, png, save, tiff


def load_as(image: Image.Image, kind: str, **options: object) -> tuple[np.ndarray, list[str]]:
    return load(save(image, kind, **options))


@pytest.mark.parametrize(
    ("mode", "kind", "dropped"),
    [
        ("RGB", "PNG", 0), ("L", "PNG", 0), ("P", "PNG", 0), ("1", "PNG", 0), ("CMYK", "TIFF", 1), ("RGBA", "PNG", 0),
        ("LA", "PNG", 0), ("YCbCr", "JPEG", 0), ("CMYK", "JPEG", 1), ("P", "GIF", 0),
    ],
)  # fmt: skip
def test_modes(harbour: np.ndarray, mode: str, kind: str, dropped: int) -> None:
    pixels, said = load_as(Image.fromarray(harbour).convert(mode), kind)
    assert pixels.shape == harbour.shape and pixels.min() >= 0 and pixels.max() <= 255.001
    assert len(said) == dropped, said
    if mode == "RGB":
        np.testing.assert_allclose(pixels, harbour, atol=1e-4)


def test_sixteen_bit_grey_keeps_its_precision() -> None:
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + 77
    pixels, said = load_as(Image.fromarray(values), "PNG")
    np.testing.assert_allclose(pixels[:, :, 0] * 257, values, atol=0.02)
    assert said == [PRECISION]


# what else a file holds


def test_metadata_is_said(harbour: np.ndarray) -> None:
    picture = Image.fromarray(harbour)
    exif = Image.Exif()
    exif[0x013B], exif[0x8298], exif[0x0110] = "artist", "copyright", "camera"
    exif[0x8769], exif[0x8825] = {0x829A: 0.01}, {1: "N", 2: (1.0, 2.0, 3.0)}
    words = "EXIF (artist, copyright, camera, exposure, place)"
    assert load_as(picture, "PNG", exif=exif)[1] == [f"metadata: {words}"]
    for kind in ("WEBP", "AVIF"):
        assert load_as(picture, kind, exif=exif, xmp=b"<x/>")[1] == [f"metadata: {words}, XMP"]
    assert load_as(picture, "JPEG", exif=exif, xmp=b"<x/>", comment=b"hello")[1] == [f"metadata: {words}, XMP, comment"]
    texts = PngInfo()
    for name in ("Author", "Software", "date:create"):
        texts.add_text(name, "x")
    assert load_as(picture, "PNG", pnginfo=texts)[1] == ["metadata: text (Author)"]
    data = save(picture, "PNG")
    assert load(data[:-12] + chunk(b"tEXt", b"Title\0x") + data[-12:])[1] == ["metadata: text (Title)"]


def test_damaged_exif(harbour: np.ndarray) -> None:
    """The picture is fine."""
    for exif in (b"Exif\0\0junkjunkjunk", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\x7f"):
        with warnings.catch_warnings(action="ignore"):
            pixels, said = load_as(Image.fromarray(harbour), "PNG", exif=exif)
        assert np.abs(pixels - harbour).max() < 1e-3 and said in ([], ["metadata: EXIF (that cannot be read)"])
    assert np.abs(load(png(harbour, 8, [(b"eXIf", b"junkjunkjunk")]))[0] - harbour).max() < 1e-3


def test_nothing_is_said_of_nothing(harbour: np.ndarray) -> None:
    """Alpha of 255 everywhere, resolution, orientation, software and comments of programs."""
    picture = Image.fromarray(harbour)
    opaque = picture.convert("RGBA")
    for kind in ("PNG", "WEBP", "AVIF", "TIFF", "TGA", "JPEG2000"):
        assert load_as(opaque, kind)[1] == [], kind
    exif = Image.Exif()
    exif[0x0131], exif[0x0112] = "software", 1
    for kind in ("PNG", "JPEG", "TIFF"):
        assert load_as(picture, kind, exif=exif, dpi=(300, 300))[1] == []
    assert load_as(picture, "JPEG", comment=b"CREATOR: a program")[1] == []
    assert load_as(picture.quantize(16), "GIF", transparency=200)[1] == []


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_further_pictures_are_said(harbour: np.ndarray, kind: str) -> None:
    small = Image.fromarray(harbour[::4, ::4])
    pixels, said = load_as(small, kind, save_all=True, append_images=[Image.fromarray(255 - harbour[::4, ::4])])
    assert said == ["all frames but the first"] and np.abs(pixels - np.asarray(small)).mean() < 12


def test_gain_maps_are_said(harbour: np.ndarray) -> None:
    """JPEG files of phones that hold an HDR picture besides."""
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>'
    data = save(Image.fromarray(harbour), "MPO", save_all=True, append_images=[Image.fromarray(harbour[::2, ::2])])
    place = 2 + 2 + int.from_bytes(data[4:6], "big")  # behind the first segment
    said = load(data[:place] + b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp + data[place:])[1]
    assert said == ["gain map", "metadata: XMP"]


# files that are refused


def refused(data: bytes, max_pixels: int = 1 << 20) -> str:
    with pytest.raises(nicrt.NicrtError) as caught:
        load_picture(data, max_pixels)
    text = str(caught.value)
    assert "\n" not in text and " at 0x" not in text and "<_io" not in text, text
    return text


@pytest.mark.parametrize(
    "data",
    [
        b"junk", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xc5\xd0\xd3\xc6" + bytes(60), b"%PDF-1.4\n",
        b"\xd7\xcd\xc6\x9a" + bytes(60), b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(60), b"8BPS\0\1" + bytes(40),
        b"\0\0\0\x18ftypheic" + bytes(60), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GRIB" + bytes(40),
        b"\x89HDF\r\n\x1a\n" + bytes(40), save(Image.new("RGB", (32, 32)), "ICO"),
        save(Image.new("RGB", (8, 8)), "EPS"),
    ],
)  # fmt: skip
def test_only_listed_types_are_opened(data: bytes) -> None:
    assert refused(data).startswith("not a picture of a type that is read (PNG, JPEG, ")


def test_no_other_plugin_is_loaded(harbour: np.ndarray) -> None:
    """Nor does a refused file make Pillow look for who might read it."""
    script = (
        "import sys; from nicrt.runtime.pictures import load_picture\n"
        "try: load_picture(b'%!PS-Adobe-3.0 EPSF-3.0', 100)\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print([name for name in sys.modules if name.endswith('ImagePlugin')])"
    )
    done = run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "ImageError\n[]\n"


def test_empty_file() -> None:
    assert refused(b"") == "an empty file"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF", "BMP", "JPEG2000", "QOI", "TGA", "PPM"])
def test_cut_files(harbour: np.ndarray, kind: str) -> None:
    data = save(Image.fromarray(harbour[:40, :60]), kind)
    for length in (12, 20, len(data) // 2):
        with warnings.catch_warnings(action="ignore"):
            text = refused(data[:length])
        assert "picture" in text
    assert kind not in ("PNG", "JPEG", "BMP", "GIF") or "truncated" in text


def test_damaged_pixels(harbour: np.ndarray) -> None:
    data = bytearray(save(Image.fromarray(harbour), "PNG"))
    data[len(data) // 2] ^= 1
    assert "checksum" in refused(bytes(data))


def png_that_claims(width: int, height: int) -> bytes:
    flat = png(np.zeros((1, 1, 3), np.uint8), 8)
    header = struct.pack(">II", width, height) + flat[24:29]
    return flat[:8] + chunk(b"IHDR", header) + flat[33:]


def test_no_pixels_and_too_many() -> None:
    assert "PNG" in refused(png_that_claims(0, 0))
    assert "without pixels" in refused(b"P5\n0 7\n255\n")
    bomb = png_that_claims(1 << 15, 1 << 15)
    for data in (bomb, b"P6\n32768 32768\n255\n", b"PF 32768 32768 -1 "):
        with pytest.raises(nicrt.LimitError, match="32768 x 32768"):
            load_picture(data, 1 << 26)
    with pytest.raises(nicrt.ImageError):  # a limit of ours alone, whatever Pillow's is
        load_picture(bomb, 1 << 31)


def test_large_texts_and_profiles() -> None:
    flat = np.zeros((4, 4, 3), np.uint8)
    large = zlib.compress(bytes(1 << 22))
    for part in ((b"zTXt", b"name\0\0" + large), (b"iTXt", b"name\0\1\0\0\0" + large), (b"iCCP", b"name\0\0" + large)):
        assert "too large" in refused(png(flat, 8, [part]))


# Netpbm, at full depth


def test_netpbm() -> None:
    ramp = np.arange(24).reshape(2, 4, 3)
    for head, body, white in (
        (b"P6\n4 2\n# a comment\n1023\n", ramp.astype(">u2").tobytes(), 1023),
        (b"P6 4 2 255\n", ramp.astype(np.uint8).tobytes(), 255),
        (b"P6 4 2 23 ", ramp.astype(np.uint8).tobytes(), 23),
        (b"P3\n4 2\n65535\n", b"# a comment\n" + b" ".join(b"%d" % v for v in ramp.ravel()), 65535),
        (b"PF\n4 2\n-1.0\n", (ramp[::-1] / 23).astype("<f4").tobytes(), 23),
        (b"PF\n4 2\n1.0\n", (ramp[::-1] / 23).astype(">f4").tobytes(), 23),
    ):
        pixels, said = load(head + body)
        assert np.abs(pixels - ramp * (255 / white)).max() < 1e-3
        assert said == ([] if b"6" in head and white < 256 else [PRECISION]), head
    pixels, said = load(b"P5\n2 1\n65535\n" + np.array([77, 65535], ">u2").tobytes() + b"P5\n")
    assert np.abs(pixels[0, :, 0] - [77 / 257, 255]).max() < 1e-3 and said[0] == "all frames but the first"
    pixels, said = load(b"Pf\n2 1\n-1\n" + np.array([0.5, 3], "<f4").tobytes())
    assert "1 of 2 values" in said[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P6\n2 2\n255\nabc", "truncated"), (b"P3 1 1 7 1 2", "truncated"), (b"P6\n0 5\n255\n", "without pixels"),
        (b"P6\n2 2\n70000\n", "maxval"), (b"P6\n2 2\n0\n", "maxval"), (b"P3 1 1 7 9 0 0", "above its maxval"),
        (b"P3 1 1 7 x 0 0", "no number"), (b"P6\n2", "header"), (b"P6\n1e5 4 255\n", "a number that is none"),
        (b"PF\n1 1\n-1\n" + np.full(3, np.nan, "<f4").tobytes(), "not finite"), (b"P3 1 1 7 -1 0 0", "number|maxval"),
    ],
)  # fmt: skip
def test_damaged_netpbm(data: bytes, reason: str) -> None:
    with pytest.raises(nicrt.ImageError, match=reason):
        load(data)


def test_pixel_limit(harbour: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(harbour).save(buffer, "PNG")
    with pytest.raises(nicrt.LimitError):
        load_picture(buffer.getvalue(), 100)


# arrays


def test_arrays() -> None:
    """The scale is the type's, as it is for files."""
    for dtype in (np.uint8, np.uint16, np.uint32):
        top = np.iinfo(dtype).max
        assert from_array(np.array([[0, top // 5, top]], dtype))[0, :, 0].tolist() == pytest.approx([0, 0.2, 1])
    for dtype in (np.float16, np.float32, np.float64):
        assert from_array(np.array([[0, 0.25, 1]], dtype))[0, :, 0].tolist() == [0, 0.25, 1]
    for bad in (np.ones((2, 2), np.int32), np.ones((2, 2), bool), np.ones((2, 2), complex)):
        with pytest.raises(TypeError):
            from_array(bad)
    for bad in (np.ones((2, 2, 4)), np.ones(4), np.ones((0, 2)), np.full((2, 2), np.nan), np.full((2, 2), 1e300)):
        with pytest.raises(ValueError):
            from_array(bad)


def test_training_pictures_are_read_alike(tmp_path: Path, harbour: np.ndarray) -> None:
    """The recipes' photographs go the same way: by their profile, and by the list of types."""
    pytest.importorskip("torch")
    from nicrt.export.recipes.data import Photos

    large = np.tile(harbour, (2, 2, 1))[:, :320]  # a crop of all of it
    (tmp_path / "a.png").write_bytes(save(large, "PNG", icc_profile=matrix_profile(1.8, "bgr")))
    photos = Photos(tmp_path)
    crop = photos.crop(0, np.random.default_rng(1), large.shape[0])
    expected = load((tmp_path / "a.png").read_bytes())[0]
    np.testing.assert_allclose(crop.mean((0, 2, 3)) * 255, expected.mean((0, 1)), atol=0.01)
    (tmp_path / "a.png").write_bytes(save(Image.fromarray(large), "EPS"))
    with pytest.raises(nicrt.ImageError):
        Photos(tmp_path).crop(0, np.random.default_rng(1), 64)


def test_arrays_and_files_agree(codec: nicrt.Codec) -> None:
    """What the command line says of a file, the API warns of, and both encode the same."""
    values = np.linspace(-0.5, 4, 32 * 32, dtype=np.float32).reshape(32, 32)
    picture = load_picture(tiff(values[:, :, None].astype("<f4"), 1, 3), 1 << 20)
    with pytest.warns(nicrt.ClippingWarning, match=r"796 of 1024 values \(78%\) outside 0\.\.1") as caught:
        data = codec.encode(values, quality=30)
    assert caught[0].filename == __file__ and picture.dropped[0] in str(caught[0].message)
    with warnings.catch_warnings(action="error"):
        assert codec.encode(picture.pixels, quality=30) == data


def test_resample(harbour: np.ndarray) -> None:
    pixels = from_array(harbour)
    assert resample(pixels, (160, 240)) is pixels
    small = resample(pixels, (40, 60))
    assert small.shape == (40, 60, 3) and small.dtype == np.float32
    blocks = pixels.reshape(40, 4, 60, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - blocks).mean() < 0.02


# files out


def test_output_formats(harbour: np.ndarray) -> None:
    assert [output_format(name) for name in ("a.png", "b.PPM", "c.jpeg", "webp", "x.tif")] == [
        "PNG", "PPM", "JPEG", "WEBP", "TIFF",
    ]  # fmt: skip
    for name in ("PNG", "PPM", "WEBP", "TIFF", "BMP", "QOI", "TGA", "JPEG2000", "PCX"):
        back = np.asarray(Image.open(io.BytesIO(save_picture(harbour, name))).convert("RGB"))
        np.testing.assert_array_equal(back, harbour)
    for bad in ("a", "a.nope", "a.psd"):
        with pytest.raises(nicrt.ImageError):
            output_format(bad)


@pytest.mark.parametrize("name", ["ico", "icns", "cur", "xbm", "msp", "palm", "blp", "pgm", "pbm", "pfm", "bw", "wmf"])
def test_types_that_cannot_hold_the_picture(name: str) -> None:
    for options in ({}, {"allow_palette": True}):
        with pytest.raises(nicrt.ImageError, match=r"try \.png"):
            output_format(f"a.{name}", **options)


def test_palettes_are_to_be_accepted(harbour: np.ndarray) -> None:
    with pytest.raises(nicrt.ImageError, match="--allow-palette"):
        output_format("a.gif")
    assert output_format("a.gif", allow_palette=True) == "GIF"
    back = np.asarray(Image.open(io.BytesIO(save_picture(harbour, "GIF"))).convert("RGB")).astype(int)
    assert np.abs(back - harbour).mean() < 10


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_output_quality(harbour: np.ndarray, kind: str) -> None:
    assert output_format(f"a.{kind}", quality=5) == kind
    files = [save_picture(harbour, kind, quality=quality) for quality in (0, 30, 90)]
    assert len(files[0]) < len(files[1]) < len(files[2])
    errors = [np.abs(np.asarray(Image.open(io.BytesIO(f)).convert("RGB")).astype(int) - harbour).mean() for f in files]
    assert errors[0] > errors[1] > errors[2] > 0
    with pytest.raises(nicrt.ImageError, match="no quality"):
        output_format("a.png", quality=5)


def test_pictures_that_do_not_fit_a_type() -> None:
    with pytest.raises(nicrt.ImageError, match="20000 x 1 pixels as WEBP"):
        save_picture(np.zeros((1, 20000, 3), np.uint8), "WEBP")


# the command line


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hdr, nic = tmp_path / "hdr.pfm", GOLDEN / "parrots.nic"
    hdr.write_bytes(b"Pf\n8 8\n-1.0\n" + np.linspace(0, 2, 64, dtype="<f4").tobytes())
    assert main(["encode", str(hdr), str(tmp_path / "a.nic")]) == 0
    assert "hdr.pfm: not kept: 32 of 64 values (50%) outside 0..1" in capsys.readouterr().err
    postscript = tmp_path / "a.eps"
    postscript.write_bytes(save(Image.new("RGB", (8, 8)), "EPS"))
    assert main(["encode", str(postscript), str(tmp_path / "b.nic")]) == 9
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "b.nic").exists()
    sizes = []
    for quality in ("10", "80"):
        assert main(["decode", str(nic), str(tmp_path / "a.jpg"), "--output-quality", quality]) == 0
        sizes.append((tmp_path / "a.jpg").stat().st_size)
    assert 2 * sizes[0] < sizes[1]
    for name, flags in (("a.png", ["--output-quality", "5"]), ("a.gif", []), ("a.ico", []), ("a.icns", [])):
        assert main(["decode", str(nic), str(tmp_path / name), *flags]) == 9
        assert "try .png" in (said := capsys.readouterr().err) or "no quality" in said
        assert not (tmp_path / name).exists()
    assert main(["decode", str(nic), str(tmp_path / "a.gif"), "--allow-palette"]) == 0


def test_folders_of_pictures_hold_what_is_read() -> None:
    assert {".png", ".jpg", ".tif", ".pfm", ".avif", ".jp2", ".qoi"} <= READ_SUFFIXES and ".eps" not in READ_SUFFIXES

"""ICC profiles → sRGB: by LittleCMS at 8 bits; here, at any depth, profiles that are curves and a matrix."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np

from .arrays import Rgb
from .colour import D50, ColourSpace, Curve, power, srgb_curve, srgb_from_xyz

if TYPE_CHECKING:
    from PIL import Image

_TAG_TABLE = 128
_MAX_TAGS = 1024


def profile_space(profile: bytes) -> ColourSpace | None:
    """The space of a grey or RGB profile that consists of curves and a matrix; None for any other."""
    try:
        return _read_space(profile)
    except (struct.error, ValueError, IndexError, np.linalg.LinAlgError):
        return None


def colour_model(profile: bytes) -> str:
    """The profile's colours as its header names them: "RGB", "GRAY", "CMYK", "Lab", ..."""
    return profile[16:20].decode("ascii", "replace").strip()


def is_srgb(profile: bytes) -> bool:
    """Whether pixels stay what they are (within a grey level of 8 bits) by this profile."""
    space = profile_space(profile)
    if space is None or (space.to_srgb is not None and not np.allclose(space.to_srgb, np.eye(3), atol=0.003)):
        return False
    encoded = np.linspace(0, 1, 256, dtype=np.float32)
    return all(np.allclose(curve(encoded), srgb_curve(encoded), atol=0.003) for curve in space.curves)


def _read_space(profile: bytes) -> ColourSpace | None:
    count = min(struct.unpack_from(">I", profile, _TAG_TABLE)[0], _MAX_TAGS)
    tags = {}
    for place in range(_TAG_TABLE + 4, _TAG_TABLE + 4 + 12 * count, 12):
        name, start, length = struct.unpack_from(">4sII", profile, place)
        tags[name] = profile[start : start + length]
    if profile[20:24] != b"XYZ " and colour_model(profile) != "GRAY":
        return None
    if any(name in tags for name in (b"A2B0", b"A2B1", b"A2B2", b"D2B0")):  # tables, which go before the matrix
        return None
    if colour_model(profile) == "GRAY":
        return ColourSpace(profile_name(profile), (_curve(tags.get(b"kTRC", b"")),))
    if colour_model(profile) != "RGB":
        return None
    columns = np.array([_xyz(tags.get(name, b"")) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]).T
    curves = tuple(_curve(tags.get(name, b"")) for name in (b"rTRC", b"gTRC", b"bTRC"))
    return ColourSpace(profile_name(profile), curves, srgb_from_xyz(D50) @ columns)


def _xyz(tag: bytes) -> tuple[float, float, float]:
    x, y, z = struct.unpack_from(">3i", tag, 8)
    return x / 65536, y / 65536, z / 65536


def _curve(tag: bytes) -> Curve:
    """Encoded → linear light, of a `curv` or `para` tag. Raises ValueError or struct.error."""
    kind = tag[:4]
    if kind == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return power(1.0)
        if count == 1:
            return power(struct.unpack_from(">H", tag, 12)[0] / 256)
        table = np.frombuffer(tag, ">u2", count, 12).astype(np.float64) / 65535
        places = np.linspace(0, 1, count)
        return lambda values: np.interp(values, places, table).astype(np.float32)
    if kind == b"para":
        (function,) = struct.unpack_from(">H", tag, 8)
        count = (1, 3, 4, 5, 7)[function]
        return _parametric([value / 65536 for value in struct.unpack_from(f">{count}i", tag, 12)])
    raise ValueError("no curve")


def _parametric(values: list[float]) -> Curve:
    """ICC's parametric curves 0 to 4, told apart by how many parameters they have, as the last of them: (ax + b)^g + e
    from d on and cx + f below.
    """
    g, a, b, c, d, e, f = 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if len(values) == 1:
        (g,) = values
    elif len(values) == 3:  # 0 below -b / a
        g, a, b = values
        d = -b / a if a else 0.0
    elif len(values) == 4:  # the constant c on both sides
        g, a, b, e = values
        d, f = (-b / a if a else 0.0), e
    elif len(values) == 5:
        g, a, b, c, d = values
    else:
        g, a, b, c, d, e, f = values

    def linear(encoded: Rgb) -> Rgb:
        bent = np.power(np.maximum(np.float32(a) * encoded + np.float32(b), 0), np.float32(g)) + np.float32(e)
        return np.where(encoded >= np.float32(d), bent, np.float32(c) * encoded + np.float32(f)).astype(np.float32)

    return linear


def convert_image(image: Image.Image, profile: bytes) -> Image.Image:
    """An 8-bit picture of the profile's colours → RGB in sRGB. Raises ValueError for a profile that cannot be used."""
    from PIL import Image as Images
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError):
        raise ValueError("a profile that does not fit the picture") from None
    assert isinstance(converted, Images.Image)
    return converted


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """CIELAB (D50, 8 bits) → RGB in sRGB."""
    from PIL import Image as Images
    from PIL import ImageCms

    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert isinstance(converted, Images.Image)
    return converted


def profile_name(profile: bytes) -> str:
    """The profile's description, one printable line; "" without one."""
    from PIL import ImageCms

    try:
        name = ImageCms.getProfileName(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError, TypeError):
        return ""
    return "".join(character for character in " ".join(name.split()) if character.isprintable())[:80]

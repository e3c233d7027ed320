"""Pictures in and out: files and arrays of any common kind ↔ RGB arrays. Says what it drops."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import ImageError, LimitError

if TYPE_CHECKING:
    from PIL import Image

Rgb = npt.NDArray[np.float32]


def resize(pixels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """uint8 [h, w, 3] → [*size, 3], bicubic with antialiasing."""
    if pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC))


@dataclass
class LoadedPicture:
    """pixels: float32 [height, width, 3] in [0, 1]. dropped: what the file had and the codec cannot keep, in words."""

    pixels: Rgb
    dropped: list[str] = field(default_factory=list)


def from_array(array: npt.ArrayLike) -> Rgb:
    """uint8, uint16 or float (0..1) array [h, w], [h, w, 1] or [h, w, 3] → float32 [h, w, 3] in [0, 1].

    Raises TypeError for another dtype and ValueError for another shape, an empty picture or a value that is not finite.
    """
    pixels = np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(f"a picture is an array [height, width, 3] or [height, width], not {np.shape(array)}")
    if pixels.dtype == np.uint8 or pixels.dtype == np.uint16:
        scaled = pixels.astype(np.float32) * np.float32(1 / np.iinfo(pixels.dtype).max)
    elif pixels.dtype.kind == "f":
        scaled = pixels.astype(np.float32)
        if not np.isfinite(scaled).all():
            raise ValueError("the picture has values that are not finite")
        scaled = scaled.clip(0, 1)
    else:
        raise TypeError(f"a picture is of uint8, uint16 or float, not {pixels.dtype}")
    return np.ascontiguousarray(np.broadcast_to(scaled, (*scaled.shape[:2], 3)))


def resample(picture: Rgb, size: tuple[int, int]) -> Rgb:
    """[h, w, 3] → [*size, 3], bicubic with antialiasing; the picture itself when it has that size."""
    if picture.shape[:2] == size:
        return picture
    from PIL import Image

    planes = [
        np.asarray(Image.fromarray(picture[:, :, c]).resize(size[::-1], Image.Resampling.BICUBIC)) for c in range(3)
    ]
    return np.stack(planes, axis=-1).clip(0, 1).astype(np.float32)


def load_picture(data: bytes, max_pixels: int) -> LoadedPicture:
    """An image file of any format Pillow reads. Raises ImageError, or LimitError above `max_pixels`."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own pixel limit: ours is checked right below
        try:
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > max_pixels:
                raise LimitError(
                    f"the picture has {image.width} x {image.height} pixels, more than the limit of {max_pixels} "
                    "(--max-pixels raises it)"
                )
            image.load()
        except LimitError:
            raise
        except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
            raise ImageError(f"not a picture that Pillow can read: {_line(error)}") from error
        try:
            return _convert(image)
        except (ValueError, OSError, MemoryError) as error:
            raise ImageError(f"cannot convert the picture to RGB: {_line(error)}") from error


def _convert(image: Image.Image) -> LoadedPicture:
    from PIL import ImageOps

    dropped = []
    if getattr(image, "n_frames", 1) > 1:
        dropped.append("all frames but the first")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        dropped.append("transparency (shown on white)")
        image = _on_white(image)
    if image.mode.startswith("I") or image.mode == "F":
        return LoadedPicture(_from_high_depth(image, dropped), dropped)
    profile = image.info.get("icc_profile")
    if profile:
        image = _to_srgb(image, profile, dropped)
    if image.mode == "CMYK" or image.mode == "YCCK":
        dropped.append("CMYK inks (converted to RGB without a profile)")
    return LoadedPicture(from_array(np.asarray(image.convert("RGB"))), dropped)


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image as Images

    layer = image.convert("RGBA")
    white = Images.new("RGBA", layer.size, "white")
    return Images.alpha_composite(white, layer).convert("RGB")


def _from_high_depth(image: Image.Image, dropped: list[str]) -> Rgb:
    """16-bit grey (modes I;16*, I) or float grey (F). Mode I holds 16-bit values, wider ones are scaled by their
    maximum.
    """
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F" and values.size and values.min() >= 0 and values.max() <= 1:
        top = 1.0
    else:
        top = max(65535.0, float(values.max(initial=0)))
    dropped.append("precision beyond 8 bits at the decoder")
    return from_array(np.clip(values / top, 0, 1))


def _to_srgb(image: Image.Image, profile: bytes, dropped: list[str]) -> Image.Image:
    from PIL import Image as Images
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        dropped.append("a colour profile that does not fit the picture")
        return image
    name = ImageCms.getProfileName(source).strip()
    if not name.lower().startswith("srgb"):
        dropped.append(f"colour profile {name!r} (converted to sRGB)")
    assert isinstance(converted, Images.Image)
    return converted


# Pillow's defaults trade much time for few bytes here; a decoder's output is mostly read once
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 1},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "method": 0},
    "AVIF": {"quality": 90},
}


def output_format(name: str) -> str:
    """Pillow's format for a file name; ImageError when it can write none such."""
    from PIL import Image

    suffix = "." + name.rpartition(".")[2].lower()
    known = {".png": "PNG", ".ppm": "PPM", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    if suffix in known:  # spares the import of every Pillow plugin
        return known[suffix]
    Image.init()
    chosen = Image.registered_extensions().get(suffix)
    if chosen is None or chosen not in Image.SAVE:
        raise ImageError(f"cannot write pictures of type {suffix!r}; try .png, .ppm, .jpg or .webp")
    return chosen


def save_picture(pixels: npt.NDArray[np.uint8], format_name: str) -> bytes:
    """uint8 [height, width, 3] → image file bytes. Raises ImageError."""
    from PIL import Image

    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, format_name, **_SAVE_OPTIONS.get(format_name, {}))
    except (OSError, ValueError, KeyError) as error:
        raise ImageError(f"cannot write the picture as {format_name}: {_line(error)}") from error
    return buffer.getvalue()


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

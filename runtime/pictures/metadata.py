"""What else a picture file holds, besides its first picture, that a .nic file does not keep; in words.

Left unsaid, because they describe the file and not the picture: resolution, software, thumbnails, time stamps of the
file, interlacing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_EXIF_WORDS = {
    "title": (0x010E, 0x9C9B, 0x9C9F),
    "artist": (0x013B, 0x9C9D),
    "copyright": (0x8298,),
    "camera": (0x010F, 0x0110),
    "comment": (0x9286, 0x9C9C, 0x9C9E),
    "exposure": (0x829A, 0x829D, 0x8827, 0x9003, 0x9004, 0x920A),
    "place": (0x8825,),
}
_STRUCTURAL_TEXTS = ("software", "date:", "raw profile type", "xml:com.adobe.xmp")
_SOFTWARE_COMMENTS = ("created by", "created with", "creator:", "file written by", "lavc")
_ORIENTATION = 0x0112
_IPTC_TAG, _XMP_TAG = 33723, 700  # of TIFF


def not_kept(image: ImageFile) -> list[str]:
    """Other pictures in the file, and its metadata in one entry. The picture has been loaded."""
    found = []
    if getattr(image, "is_animated", False):
        found.append("all frames but the first")
    if image.format == "JPEG" and "mp" in image.info:
        found.append("gain map")
    parts = _metadata(image)
    if parts:
        found.append(f"metadata: {', '.join(parts)}")
    return found


def _metadata(image: ImageFile) -> list[str]:
    tags = getattr(image, "tag_v2", {})
    texts = getattr(image, "text", {})
    parts = []
    if words := _exif_words(image):
        parts.append(f"EXIF ({', '.join(words)})")
    if _XMP_TAG in tags or any(name in image.info for name in ("xmp", "XML:com.adobe.xmp", "Raw profile type xmp")):
        parts.append("XMP")
    if _IPTC_TAG in tags or "Raw profile type iptc" in texts or 0x0404 in image.info.get("photoshop", {}):
        parts.append("IPTC")
    comment = image.info.get("comment") or b""
    comment = comment.decode("latin-1") if isinstance(comment, bytes) else comment
    if comment.strip("\0 ") and not comment.lower().startswith(_SOFTWARE_COMMENTS):
        parts.append("comment")
    names = [_printable(name) for name in texts if not name.lower().startswith(_STRUCTURAL_TEXTS)]
    if names:
        parts.append(f"text ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})")
    return parts


def _exif_words(image: ImageFile) -> list[str]:
    """What EXIF tells, of what a person would miss."""
    tags = _exif_tags(image)
    if tags is None:
        return ["that cannot be read"]
    return [word for word, numbers in _EXIF_WORDS.items() if any(tags.get(number) for number in numbers)]


def orientation(image: ImageFile) -> object:
    """EXIF's 1..8, 1 for upright and where nothing is said, or what a damaged file has there. The picture has been
    loaded.
    """
    return (_exif_tags(image) or {}).get(_ORIENTATION, 1)


def says_adobe_rgb(image: ImageFile) -> bool:
    """Whether EXIF has the mark by which cameras say so, which write no profile (DCF 2.0)."""
    return bool((_exif_tags(image) or {}).get("interoperability", {}).get(1) == "R03")


def _exif_tags(image: ImageFile) -> dict[Any, Any] | None:
    """Tags of the picture and of how it was taken, and the directory "interoperability"; None for damaged EXIF."""
    from PIL.ExifTags import IFD

    try:
        exif = image.getexif()
        taken = exif.get_ifd(IFD.Exif)
        return {**exif, **taken, "interoperability": exif.get_ifd(IFD.Interop) if IFD.Interop in taken else {}}
    except Exception:  # Pillow raises nearly anything here, of which a picture need not fall
        return None


def _printable(name: str) -> str:
    return "".join(character for character in name if character.isprintable())[:40]

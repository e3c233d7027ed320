"""Pictures in and out: files and arrays of any common kind ↔ RGB arrays. Says what it drops.

A file becomes sRGB in this order: palettes are expanded; colours are converted, by the file's ICC profile or by what
else it says of them; transparency is shown on white; depth is scaled by a rule for each type of sample (`arrays`).
"""

from .arrays import ClippingWarning, Pixels, Rgb, from_array, resample, resize, rounded
from .reading import READ_SUFFIXES, LoadedPicture, load_picture
from .writing import output_format, save_picture

__all__ = [
    "READ_SUFFIXES",
    "ClippingWarning",
    "LoadedPicture",
    "Pixels",
    "Rgb",
    "from_array",
    "load_picture",
    "output_format",
    "resample",
    "resize",
    "rounded",
    "save_picture",
]

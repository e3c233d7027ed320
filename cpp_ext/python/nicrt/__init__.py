"""nicrt: encode and decode pictures with learned codecs.

    codec = nicrt.load("shallow")
    data = codec.encode(pixels, quality=60)     # uint8 [height, width, 3] → bytes of a .nic file
    pixels = nicrt.decode(data)                 # finds the bundle by the file's id

Names are imported when first used: `import nicrt` alone loads neither NumPy nor ONNX Runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from .runtime.backends import backend_names as backend_names
    from .runtime.codec import Codec as Codec
    from .runtime.codec import PictureIdWarning as PictureIdWarning
    from .runtime.device.codec import DeviceCodec as DeviceCodec
    from .runtime.device.decoder import DeviceDecoder as DeviceDecoder
    from .runtime.device.options import DeviceOptions as DeviceOptions
    from .runtime.device.picture import DevicePicture as DevicePicture
    from .runtime.errors import CancelledError as CancelledError
    from .runtime.errors import CorruptError as CorruptError
    from .runtime.errors import ImageError as ImageError
    from .runtime.errors import InternalError as InternalError
    from .runtime.errors import LimitError as LimitError
    from .runtime.errors import NicrtError as NicrtError
    from .runtime.errors import TruncatedError as TruncatedError
    from .runtime.errors import UnsupportedError as UnsupportedError
    from .runtime.errors import WrongBundleError as WrongBundleError
    from .runtime.fileinfo import FileInfo as FileInfo
    from .runtime.fileinfo import info as info
    from .runtime.limits import Limits as Limits
    from .runtime.loading import decode as decode
    from .runtime.loading import load as load
    from .runtime.loading import load_for as load_for
    from .runtime.pictures import ClippingWarning as ClippingWarning
    from .runtime.private_folder import CacheWarning as CacheWarning
    from .runtime.saturation import SaturationWarning as SaturationWarning
    from .runtime.target import Encoded as Encoded
    from .runtime.target import TargetWarning as TargetWarning

_HOME = {
    "backend_names": "backends",
    "Codec": "codec",
    "DeviceCodec": "device.codec",
    "DeviceDecoder": "device.decoder",
    "DeviceOptions": "device.options",
    "DevicePicture": "device.picture",
    "Encoded": "target",
    "FileInfo": "fileinfo",
    "CacheWarning": "private_folder",
    "PictureIdWarning": "codec",
    "TargetWarning": "target",
    "decode": "loading",
    "info": "fileinfo",
    "load": "loading",
    "load_for": "loading",
    "CancelledError": "errors",
    "CorruptError": "errors",
    "ImageError": "errors",
    "InternalError": "errors",
    "LimitError": "errors",
    "NicrtError": "errors",
    "TruncatedError": "errors",
    "UnsupportedError": "errors",
    "WrongBundleError": "errors",
    "Limits": "limits",
    "ClippingWarning": "pictures",
    "SaturationWarning": "saturation",
}

__all__ = [  # noqa: RUF022 - the order in which a reader needs them
    "load", "load_for", "decode", "info", "Codec", "Encoded", "FileInfo", "Limits", "backend_names",
    "PictureIdWarning", "TargetWarning", "SaturationWarning", "DeviceCodec", "DeviceOptions", "DevicePicture",
    "DeviceDecoder",
    "NicrtError", "TruncatedError", "CorruptError", "UnsupportedError", "LimitError", "WrongBundleError", "ImageError",
    "InternalError", "CancelledError", "ClippingWarning", "CacheWarning",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nicrt' has no attribute {name!r}")
    value = getattr(import_module(f".runtime.{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

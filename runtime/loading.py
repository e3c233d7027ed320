"""From a name, a path, bytes or a file's id to a codec."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, overload

from nicrt import _core

from .backends import AUTO
from .bundle import Bundle
from .codec import Codec, Pixels
from .device.devices import KINDS as DEVICE_KINDS
from .errors import ImageError, WrongBundleError
from .fileinfo import Buffer, parse
from .installed import open_bundle, open_by_symbol_id
from .limits import DEFAULT_LIMITS, MAX_WORKERS, Limits, cpu_count

if TYPE_CHECKING:
    from .device.codec import DeviceCodec
    from .device.options import DeviceOptions


@overload
def load(
    bundle: str | os.PathLike[str] | Buffer,
    *,
    device: None = None,
    threads: int | None = None,
    backend: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
) -> Codec: ...


@overload
def load(
    bundle: str | os.PathLike[str] | Buffer,
    *,
    device: str,
    device_options: DeviceOptions | None = None,
    threads: int | None = None,
    backend: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
) -> DeviceCodec: ...


def load(
    bundle: str | os.PathLike[str] | Buffer,
    *,
    device: str | None = None,
    device_options: DeviceOptions | None = None,
    threads: int | None = None,
    backend: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
) -> Codec:
    """Open a codec bundle by name ("shallow"; NICRT_BUNDLE_PATH adds places), by the path of its folder or packed file,
    or from the bytes of a packed one.

    device: where `decode` leaves pictures, "cuda" or "cuda:N" for the memory of an NVIDIA GPU (see DeviceCodec), "host"
    for the same on the CPU, for tests; None for NumPy arrays. threads: for graphs and entropy coder on the CPU, None
    for all processors. backend: who runs graphs on the CPU, "auto" or one of `nicrt.backend_names()`.
    Raises UnsupportedError when there is no such bundle, it is not valid, or backend or device cannot be used here: it
    says what to install then. Raises ValueError for names that there are not.
    """
    opened = open_bundle(bundle) if isinstance(bundle, str | os.PathLike) else Bundle.of_bytes(bundle)
    return _codec(opened, device, device_options, threads, backend, limits)


def _codec(
    bundle: Bundle,
    device: str | None,
    device_options: DeviceOptions | None,
    threads: int | None,
    backend: str,
    limits: Limits,
) -> Codec:
    _core.check_isa_variable()
    threads = cpu_count() if threads is None else threads
    if not 1 <= threads <= MAX_WORKERS:
        raise ValueError(f"threads is 1..{MAX_WORKERS}, not {threads}")
    if backend.partition(":")[0] in DEVICE_KINDS:
        raise ValueError(f"{backend!r} is a device, not a backend: --device {backend}, in Python device={backend!r}")
    if device is None:
        if device_options is not None:
            raise ValueError("device_options go with a device")
        return Codec(bundle, threads=threads, backend=backend, limits=limits)
    from .device.codec import DeviceCodec
    from .device.options import DeviceOptions

    options = device_options or DeviceOptions()
    return DeviceCodec(bundle, device=device, options=options, threads=threads, backend=backend, limits=limits)


@overload
def load_for(
    data: Buffer,
    *,
    device: None = None,
    threads: int | None = None,
    backend: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
) -> Codec: ...


@overload
def load_for(
    data: Buffer,
    *,
    device: str,
    device_options: DeviceOptions | None = None,
    threads: int | None = None,
    backend: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
) -> DeviceCodec: ...


def load_for(
    data: Buffer,
    *,
    device: str | None = None,
    device_options: DeviceOptions | None = None,
    threads: int | None = None,
    backend: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
) -> Codec:
    """Open the bundle that a .nic file was made with, found by the file's symbol id; the rest as for `load`. Raises
    WrongBundleError if there is none.
    """
    symbol = parse(data, limits).symbol_id.hex()
    bundle = open_by_symbol_id(symbol)
    if bundle is None:
        raise WrongBundleError(
            f"the file was made with codec bundle {symbol}, which is not installed; "
            "put its folder into NICRT_BUNDLE_PATH"
        )
    return _codec(bundle, device, device_options, threads, backend, limits)


_loaded: dict[str, Codec] = {}
_loaded_lock = threading.Lock()


def decode(source: Buffer | str | os.PathLike[str]) -> Pixels:
    """Decode a .nic file, given by its bytes or its path, with the bundle that its id names → uint8 [height, width, 3].
    Keeps the bundle loaded. Raises as `Codec.decode` does, ImageError for a file that cannot be read.
    """
    data = _bytes_of(source)
    symbol = parse(data, DEFAULT_LIMITS).symbol_id.hex()
    with _loaded_lock:
        codec = _loaded.get(symbol)
        if codec is None:
            codec = _loaded[symbol] = load_for(data)
    return codec.decode(data)


def _bytes_of(source: Buffer | str | os.PathLike[str]) -> Buffer:
    if not isinstance(source, str | os.PathLike):
        try:
            return memoryview(source)
        except TypeError:
            raise TypeError(f"a file is given as bytes or a path, not as {type(source).__name__}") from None
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        raise ImageError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from None

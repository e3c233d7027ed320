"""The codec for each file: the one that was asked for, or the one that the file names."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ..limits import Limits

if TYPE_CHECKING:
    from ..codec import Codec, Pixels
    from ..device.picture import DevicePicture


class CodecSource:
    """Loads each bundle once, for all jobs."""

    def __init__(
        self, bundle: str | None, threads: int, backend: str, limits: Limits, device: str | None = None
    ) -> None:
        from ..loading import load

        self._settings: dict[str, Any] = {"threads": threads, "backend": backend, "limits": limits, "device": device}
        self._lock = threading.Lock()
        self._by_id: dict[str, Codec] = {}
        self._chosen: Codec | None = load(bundle, **self._settings) if bundle is not None else None

    def codec_for(self, data: bytes, symbol_id: str) -> Codec:
        """Raises WrongBundleError when no bundle with this id is installed."""
        from ..loading import load_for

        if self._chosen is not None:
            return self._chosen
        with self._lock:
            if symbol_id not in self._by_id:
                self._by_id[symbol_id] = load_for(data, **self._settings)
            return self._by_id[symbol_id]


def on_host(picture: Pixels | DevicePicture) -> Pixels:
    """What `decode` has given, in the host's memory."""
    import numpy as np

    return picture if isinstance(picture, np.ndarray) else picture.numpy()

"""The codec for each file: the one that was asked for, or the one that the file names."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..limits import Limits

if TYPE_CHECKING:
    from ..codec import Codec


class CodecSource:
    """Loads each bundle once, for all jobs."""

    def __init__(self, bundle: str | None, threads: int, backend: str, limits: Limits) -> None:
        from ..codec import load

        self._threads = threads
        self._backend = backend
        self._limits = limits
        self._lock = threading.Lock()
        self._by_id: dict[str, Codec] = {}
        self._chosen = load(bundle, threads=threads, backend=backend, limits=limits) if bundle is not None else None

    def codec_for(self, data: bytes, symbol_id: str) -> Codec:
        """Raises WrongBundleError when no bundle with this id is installed."""
        from ..codec import load_for

        if self._chosen is not None:
            return self._chosen
        with self._lock:
            if symbol_id not in self._by_id:
                self._by_id[symbol_id] = load_for(
                    data, threads=self._threads, backend=self._backend, limits=self._limits
                )
            return self._by_id[symbol_id]

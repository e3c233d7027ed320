"""The old name of a codec on a device."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..backends import AUTO
from ..codec import Codec, Trace
from ..fileinfo import Buffer
from ..installed import open_bundle
from ..limits import DEFAULT_LIMITS, Limits
from .codec import DeviceCodec
from .options import DeviceOptions


class DeviceDecoder(DeviceCodec):
    """Deprecated: `nicrt.load(bundle, device=..., device_options=nicrt.DeviceOptions(...))` gives the same, and goes on
    when this name is gone.

    bundle: as for `nicrt.load`, or a Codec, whose limits do not count here. The rest: as for `nicrt.load` and
    `nicrt.DeviceOptions`.
    """

    def __init__(
        self,
        bundle: Codec | str | os.PathLike[str],
        device: str = "cuda",
        *,
        plans: int = 8,
        capture: bool = True,
        tf32: bool = False,
        conv_search: str = "exhaustive",
        threads: int = 1,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        options = DeviceOptions(plans=plans, capture=capture, tf32=tf32, conv_search=conv_search)
        opened = bundle.bundle if isinstance(bundle, Codec) else open_bundle(bundle)
        super().__init__(opened, device=device, options=options, threads=threads, backend=AUTO, limits=limits)

    def trace(self, files: Sequence[Buffer], report: Trace) -> None:
        """As `decode_batch` with `trace=report`."""
        self.decode_batch(files, trace=report)

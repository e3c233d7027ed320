"""nicrt._device_cuda: `nicrt._device_host` compiled for NVIDIA GPUs. Its types are those of that module, which has the
docstrings; the classes themselves are other ones, and a buffer has `__cuda_array_interface__` besides.
"""

from typing import Any

from ._device_host import Buffer as _HostBuffer
from ._device_host import Event as Event
from ._device_host import Graph as Graph
from ._device_host import Queue as Queue
from ._device_host import StreamDecoder as StreamDecoder
from ._device_host import available as available
from ._device_host import crop as crop
from ._device_host import device_count as device_count
from ._device_host import device_name as device_name
from ._device_host import kind as kind
from ._device_host import pinned as pinned
from ._device_host import store as store

class Buffer(_HostBuffer):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

"""What `nicrt.load` takes besides a device."""

from __future__ import annotations

from dataclasses import dataclass

CONV_SEARCHES = ("exhaustive", "heuristic", "default")


@dataclass(frozen=True)
class DeviceOptions:
    """How a device decodes. plans: for how many picture sizes (and batches) to keep memory, calls and captured graphs.
    capture: replay CUDA graphs. tf32: let float graphs round the factors of products to 10 bits; exact graphs never do.
    conv_search: "exhaustive", "heuristic" or "default", how ONNX Runtime chooses algorithms for float graphs.

    Raises ValueError for other values.
    """

    plans: int = 8
    capture: bool = True
    tf32: bool = False
    conv_search: str = "exhaustive"

    def __post_init__(self) -> None:
        if self.plans < 1:
            raise ValueError(f"plans is 1 or more, not {self.plans}")
        if self.conv_search not in CONV_SEARCHES:
            raise ValueError(f"a search is one of {', '.join(CONV_SEARCHES)}, not {self.conv_search!r}")

"""Files of tensors in the format safetensors, as bundles have them. The library's own writer puts tensors of one size
in the order of its types, which would be other bytes for the bundles that are there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT_BYTES = 8
CODES = {
    "float32": "F32",
    "float16": "F16",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint16": "U16",
    "uint8": "U8",
}


def written(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The file of these tensors, larger elements first (so that all are aligned), then by name."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        array = tensors[name]
        offsets = [end, end + array.nbytes]
        header[name] = {"dtype": CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        end = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT_BYTES)
    data = (np.ascontiguousarray(tensors[name], tensors[name].dtype.newbyteorder("<")).tobytes() for name in order)
    return b"".join([len(text).to_bytes(8, "little"), text, *data])

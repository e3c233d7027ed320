"""Files of tensors in the format safetensors (github.com/huggingface/safetensors, version 0.x), read tensor by tensor.

The library maps a file or copies all of it; a bundle's start reads only what it uses, and never from a mapping.
Stricter than the format: tensors fill the data without gaps, as every writer leaves them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from .byte_range import ByteRange
from .errors import UnsupportedError, one_line
from .native_form import unique_fields

MAX_HEADER_BYTES = 16 << 20
ALIGNMENT_BYTES = 8
METADATA = "__metadata__"
DTYPES = {
    "F32": "float32",
    "F16": "float16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U16": "uint16",
    "U8": "uint8",
}
_CODES = {name: code for code, name in DTYPES.items()}


class _Entry(Struct, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=1 << 40)]], Meta(max_length=8)]
    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


@dataclass(frozen=True)
class Stored:
    """A tensor of a file: type and shape, and where its bytes lie."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    size: int


class TensorFile:
    """The header has been read and checked; `read` gets a tensor."""

    def __init__(self, content: ByteRange, metadata: Mapping[str, str], tensors: Mapping[str, Stored]) -> None:
        self.content, self.metadata, self.tensors = content, metadata, tensors

    @classmethod
    def open(cls, content: ByteRange) -> TensorFile:
        """Raises UnsupportedError for what is not such a file."""
        header_bytes = int.from_bytes(content.read(0, 8), "little")
        if header_bytes > min(MAX_HEADER_BYTES, content.size - 8):
            raise UnsupportedError(f"{content.place}: not a safetensors file")
        text = content.read(8, header_bytes)
        try:
            json.loads(text.decode(), object_pairs_hook=unique_fields)
            fields = msgspec.json.decode(text, type=dict[str, Any])  # refuses halves of surrogate pairs
            metadata = msgspec.convert(fields.pop(METADATA, {}), dict[str, str])
            entries = msgspec.convert(fields, dict[str, _Entry])
            tensors = _checked(entries, 8 + header_bytes, content.size)
        except (ValueError, msgspec.ValidationError) as error:
            raise UnsupportedError(f"{content.place}: {one_line(error)}") from None
        except RecursionError:
            raise UnsupportedError(f"{content.place}: its header is nested too deeply") from None
        return cls(content, metadata, tensors)

    def read(self, name: str) -> npt.NDArray[Any]:
        """The tensor, a copy. Raises UnsupportedError where there is none of that name, or of that shape in memory."""
        stored = self._stored(name)
        values = np.frombuffer(self.content.read(stored.start, stored.size), stored.dtype)
        try:
            return values.reshape(stored.shape)
        except ValueError:  # no elements, and yet dimensions that are too large
            raise UnsupportedError(f"{self.content.place}: {name!r} has no shape that an array can have") from None

    def read_corner(self, name: str, shape: Sequence[int]) -> npt.NDArray[Any]:
        """Of each dimension the first `shape` places, a copy; only what lies up to the last of the first dimension is
        read. Raises UnsupportedError where the tensor has no such corner."""
        stored = self._stored(name)
        fits = len(shape) == len(stored.shape) and all(map(int.__le__, shape, stored.shape))
        if not fits or 0 in stored.shape:
            raise UnsupportedError(f"{self.content.place}: {name!r} has no corner of {list(shape)}; install it again")
        data = self.content.read(stored.start, stored.size // stored.shape[0] * shape[0])
        rows = np.frombuffer(data, stored.dtype).reshape(shape[0], *stored.shape[1:])
        return np.ascontiguousarray(rows[tuple(slice(extent) for extent in shape)])

    def bytes_of(self, name: str) -> ByteRange:
        """The bytes of a tensor that holds a file: uint8 [bytes]. Raises UnsupportedError for any other."""
        stored = self._stored(name)
        if stored.dtype != np.uint8 or len(stored.shape) != 1:
            raise UnsupportedError(f"{self.content.place}: {name!r} is not bytes; export or install it again")
        return self.content.part(stored.start, stored.size, name)

    def _stored(self, name: str) -> Stored:
        if name not in self.tensors:
            raise UnsupportedError(f"{self.content.place}: it lacks {name!r}; export or install it again")
        return self.tensors[name]


def _checked(entries: Mapping[str, _Entry], start: int, size: int) -> dict[str, Stored]:
    """By place. Raises ValueError unless they fill the data."""
    tensors, end = {}, 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in DTYPES:
            raise ValueError(f"tensor {name!r} is of type {entry.dtype}")
        dtype = np.dtype(DTYPES[entry.dtype]).newbyteorder("<")
        first, past = entry.data_offsets
        if first != end or past - first != dtype.itemsize * math.prod(entry.shape):
            raise ValueError(f"tensor {name!r} is not where or as large as it should be")
        tensors[name] = Stored(dtype, tuple(entry.shape), start + first, past - first)
        end = past
    if start + end != size:
        raise ValueError("its tensors are not all of its data")
    return tensors


def write(tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str] | None = None) -> bytes:
    """The file of these tensors, larger elements first (so that all are aligned), then by name."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        array = tensors[name]
        offsets = [end, end + array.nbytes]
        header[name] = {"dtype": _CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        end = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT_BYTES)
    data = (np.ascontiguousarray(tensors[name], tensors[name].dtype.newbyteorder("<")).tobytes() for name in order)
    return b"".join([len(text).to_bytes(8, "little"), text, *data])

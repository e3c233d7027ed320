"""A bundle's files, from a folder or a packed file, and the tensors of a safetensors file (BUNDLE.md section 1)."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from .errors import require
from .grammar import parse_json

MIB = 1 << 20
MANIFEST_BYTES, TABLES_BYTES, WEIGHTS_BYTES, ONNX_BYTES, CARD_BYTES = MIB, 64 * MIB, 1024 * MIB, 512 * MIB, MIB
HEADER_BYTES = 16 * MIB
ENTRIES = 1 << 16
DTYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U16": "<u2", "U8": "u1"}


def read_regular(path: Path, limit: int) -> bytes:
    """Whole content of a regular file of at most `limit` bytes."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a FIFO must not make us wait
    except OSError as error:
        require(False, f"{path.name}: {error.strerror}")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        require(False, f"{path.name}: no regular file")
    with os.fdopen(handle, "rb") as file:
        size = os.fstat(handle).st_size
        require(size <= limit, f"{path.name}: more than {limit} bytes")
        data = file.read(size)
    require(len(data) == size, f"{path.name}: it changes while it is read")
    return data


def safetensors(data: bytes, limit: int = HEADER_BYTES) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(tensors, metadata); every rule of section 1 about such files is checked."""
    require(len(data) >= 8, "safetensors: shorter than its first field")
    size = int.from_bytes(data[:8], "little")
    require(size <= limit and 8 + size <= len(data), "safetensors: header beyond its limit or the file")
    header = parse_json(data[8 : 8 + size])
    require(isinstance(header, dict), "safetensors: the header is no object")
    metadata = header.pop("__metadata__", {})
    require(isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values()), "safetensors: metadata")
    require(len(header) + len(metadata) <= ENTRIES, "safetensors: more than 65536 tensors and texts")
    body = data[8 + size :]
    tensors: dict[str, np.ndarray] = {}
    place = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(item[1])):
        start, end = _offsets(entry)
        require(set(entry) == {"dtype", "shape", "data_offsets"}, f"safetensors: fields of {name}")
        require(isinstance(entry["dtype"], str) and entry["dtype"] in DTYPES, f"safetensors: type of {name}")
        shape = entry["shape"]
        require(isinstance(shape, list) and all(type(d) is int and d >= 0 for d in shape), f"safetensors: shape {name}")
        dtype = np.dtype(DTYPES[entry["dtype"]])
        require(start == place and end - start == math.prod(shape) * dtype.itemsize, f"safetensors: place of {name}")
        require(end <= len(body), f"safetensors: {name} ends beyond the file")
        tensors[name] = np.frombuffer(body[start:end], dtype).reshape(shape)
        place = end
    require(place == len(body), "safetensors: bytes left over")
    return tensors, metadata


def _utf8(text: str) -> bytes:
    require(not any("\ud800" <= c <= "\udfff" for c in text), "packed bundle: half of a surrogate pair")
    return text.encode()


def _offsets(entry: Any) -> tuple[int, int]:
    pair = entry.get("data_offsets") if isinstance(entry, dict) else None
    require(isinstance(pair, list) and len(pair) == 2 and all(type(v) is int and v >= 0 for v in pair), "data_offsets")
    return (pair[0], pair[1])


class Files:
    """The files of one bundle by name; `packed` ones are in memory."""

    def __init__(self, path: Path) -> None:
        self.folder, self.packed = (path, None) if path.is_dir() else (None, self._unpack(path))

    def _unpack(self, path: Path) -> dict[str, bytes]:
        data = read_regular(path, MANIFEST_BYTES + TABLES_BYTES + WEIGHTS_BYTES + 256 * ONNX_BYTES)
        tensors, metadata = safetensors(data)
        require("nicrt.manifest" in metadata, "packed bundle without a manifest")
        for name, tensor in tensors.items():
            require(tensor.dtype == np.uint8 and tensor.ndim == 1, f"packed bundle: {name} is not bytes")
        files = {name: tensor.tobytes() for name, tensor in tensors.items()}
        require("manifest.json" not in files, "packed bundle: the manifest is no file of it")
        return files | {"manifest.json": _utf8(metadata["nicrt.manifest"])}

    def read(self, name: str, limit: int) -> bytes:
        if self.packed is None:
            assert self.folder is not None
            return read_regular(self.folder / name, limit)
        require(name in self.packed, f"{name}: missing")
        require(len(self.packed[name]) <= limit, f"{name}: more than {limit} bytes")
        return self.packed[name]

    def only(self, names: set[str]) -> None:
        """A packed bundle has no other file."""
        require(self.packed is None or set(self.packed) <= names | {"manifest.json"}, "a tensor that is no file")

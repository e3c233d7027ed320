"""What `torch.save` wrote, read without running anything that the file names.

A pickle may name any function for its reader to call. Here names are looked up in a short list: storages, what puts
tensors together from them, ordered dictionaries. Every other name, be it a class of a training script or `os.system`,
stands for an `Inert` object, which keeps what it is given and does nothing. So whole modules, argument namespaces and
optimisers are read as plain data. Both of PyTorch's formats are known: the ZIP archive (since 1.6) and the one before.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nicrt.runtime.errors import UnsupportedError

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_HEAD = 3  # pickles before the object: magic number, protocol, facts about the machine

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

Storages = Callable[[torch.dtype, str, int], Tensor]
"""Type, key and number of elements of a storage → its contents, [elements]."""


class Inert(dict[Any, Any]):
    """Stands for an object of a class that is not on the list: has its items and its `state`, and no behaviour."""

    state: Any = None

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return Inert()

    def append(self, _: Any) -> None:
        """What pickle does with the items of a list; `extend` and `add` are for others."""

    extend = add = append
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


def load(data: bytes) -> Any:
    """The object that a file holds: dictionaries, lists and tensors as such, all else as `Inert`. Raises
    UnsupportedError for what is damaged or no file of `torch.save`."""
    try:
        return _archive(data) if data.startswith(ZIP_MAGIC) else _legacy(data)
    except UnsupportedError:
        raise
    except Exception as error:  # a damaged pickle can make its reader raise anything
        raise UnsupportedError("not a PyTorch checkpoint that can be read: the file is damaged") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, storages: Storages | None = None) -> None:
        super().__init__(file, encoding="utf-8")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        return _KNOWN.get((module, name), Inert)

    def persistent_load(self, saved: Any) -> Any:
        kind, *facts = saved
        if kind == "module":  # a class, with its source code
            return facts[0]
        dtype, key, _, count, *view = facts
        if kind != "storage" or not isinstance(dtype, torch.dtype) or self._storages is None:
            return Inert()
        storage = self._storages(dtype, str(key), int(count))
        if view and view[0] is not None:
            _, start, length = view[0]
            return storage[start : start + length]
        return storage


def _tensor(storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor | Inert:
    if not isinstance(storage, Tensor):
        return Inert()
    if math.prod(size) > storage.numel():
        raise ValueError("a tensor is larger than its storage")
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _first(value: Any, *_: Any) -> Any:
    """Of a parameter the tensor."""
    return value


def _with_attributes(make: Callable[..., Any], _: Any, arguments: Sequence[Any], *__: Any) -> Any:
    return make(*arguments)


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _with_attributes,
}


def _archive(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
            raise UnsupportedError("the file is a TorchScript program: save the model's state_dict() instead")
        if len(pickles) != 1:
            raise UnsupportedError("not a PyTorch checkpoint: an archive without the one data.pkl of torch.save")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise UnsupportedError("the checkpoint was written on a big-endian machine: save it again on another one")
        known: dict[str, Tensor] = {}

        def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
            if key not in known:
                record = archive.getinfo(f"{root}data/{key}")
                if record.file_size != count * dtype.itemsize:
                    raise ValueError("a storage is not as large as the pickle says")
                known[key] = _elements(archive.read(record), dtype)
            return known[key]

        return _Unpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _legacy(data: bytes) -> Any:
    """Storages follow the pickled object, in the order of a list of their keys: number of elements, then bytes."""
    file = io.BytesIO(data)
    try:
        magic = _Unpickler(file).load()
    except Exception:  # as in `load`
        magic = None
    if magic != LEGACY_MAGIC:
        raise UnsupportedError("not a PyTorch checkpoint or a safetensors file")
    for _ in range(_LEGACY_HEAD - 1):
        _Unpickler(file).load()
    known: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        if not 0 <= count * dtype.itemsize <= len(data):
            raise ValueError("a storage larger than the file")
        return known.setdefault(key, torch.zeros(count, dtype=dtype))

    loaded = _Unpickler(file, storage).load()
    for key in _Unpickler(file).load():
        target = known[str(key)]
        count = int.from_bytes(file.read(8), "little")
        content = _elements(file.read(count * target.dtype.itemsize), target.dtype)
        target.copy_(content)
    return loaded


def _elements(content: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)

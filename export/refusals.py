"""Errors of an export as the typed ones of nicrt, which say what file they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nicrt.runtime.errors import LimitError, NicrtError

_NO_MEMORY = "DefaultCPUAllocator"  # in what PyTorch raises on the CPU: a RuntimeError as any other


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Errors of nicrt begin with the name of this file, once."""
    try:
        yield
    except NicrtError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise type(error)(f"{path}: {error}") from error


@contextmanager
def memory_for(path: Path) -> Iterator[None]:
    """Where memory does not suffice for what is made of this file, that is a LimitError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise LimitError(f"{path}: there is not enough memory for it") from error


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _NO_MEMORY in str(error)

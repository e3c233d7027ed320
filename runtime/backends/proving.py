"""Proofs of exactness: run once per graph, backend, device and library version, remembered on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress

from ..bundle import StoredGraph
from ..errors import NicrtError, UnsupportedError
from ..manifest import INTEGERS
from ..private_folder import PrivateFolder, cache_folder, say_once
from ..proofs import outputs_sha256, proof_inputs
from .allowance import Allowance, OverLimitError
from .base import Array, Executable, Stoppable

MARKS = "proofs"  # folder of the cache


def prove(stored: StoredGraph, executable: Executable, identity: str, allowance: Allowance | None = None) -> None:
    """Raise UnsupportedError unless the graph gives the very integers it should on this backend, and OverLimitError
    where it does not get there within the allowance."""
    allowance = allowance or Allowance()
    graph, mark = stored.entry, _mark(stored, identity)
    if _is_marked(mark):
        return
    outputs = [name for name, port in graph.outputs.items() if port.dtype in INTEGERS]
    for proof in graph.proofs:
        try:
            results = _run(executable, proof_inputs(graph, proof), outputs, allowance)
        except OverLimitError:
            raise
        except NicrtError as error:
            raise UnsupportedError(f"it fails on a proof vector ({error})") from error
        if outputs_sha256(graph, dict(zip(outputs, results, strict=True))) != proof.sha256:
            raise UnsupportedError("its results differ from the proof vectors: not exact on this device")
    _set(mark)


def _run(executable: Executable, inputs: Mapping[str, Array], outputs: list[str], allowance: Allowance) -> list[Array]:
    left_s = allowance.left_s()
    if left_s == 0:
        raise allowance.too_long()
    if isinstance(executable, Stoppable):
        return executable.run_within(left_s, inputs, outputs)
    return executable.run(inputs, outputs)


def _mark(stored: StoredGraph, identity: str) -> str:
    """The name of a proof's mark."""
    key = "\n".join([stored.sha256, identity, *(f"{p.seed} {p.sizes} {p.sha256}" for p in stored.entry.proofs)])
    return hashlib.sha256(key.encode()).hexdigest()


def _is_marked(mark: str) -> bool:
    try:
        return PrivateFolder(cache_folder() / MARKS).has(mark)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        if isinstance(error, OSError):
            say_once(error)
        return False


def _set(mark: str) -> None:
    """What cannot be kept, as in a read-only home, only costs the proof again."""
    with suppress(OSError, RuntimeError):
        PrivateFolder.create(cache_folder() / MARKS).write(mark, b"")

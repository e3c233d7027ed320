"""Proofs of exactness: run once per graph, backend, device and library version, remembered on disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..errors import NicrtError, UnsupportedError
from ..manifest import Graph
from ..proofs import outputs_sha256, proof_inputs
from .base import Executable

CACHE_VARIABLE = "NICRT_CACHE"


def cache_folder() -> Path:
    """Where nicrt keeps what it can make again; $NICRT_CACHE, else the user's cache folder."""
    if CACHE_VARIABLE in os.environ:
        return Path(os.environ[CACHE_VARIABLE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nicrt"


def prove(graph: Graph, executable: Executable, identity: str) -> None:
    """Raise UnsupportedError unless the graph gives the very integers it should on this backend."""
    mark = _mark(graph, identity)
    if mark is not None and mark.exists():
        return
    outputs = [name for name, port in graph.outputs.items() if port.dtype != "float32"]
    for proof in graph.proofs:
        try:
            results = executable.run(proof_inputs(graph, proof), outputs)
        except NicrtError as error:
            raise UnsupportedError(f"it fails on a proof vector ({error})") from error
        if outputs_sha256(graph, dict(zip(outputs, results, strict=True))) != proof.sha256:
            raise UnsupportedError("its results differ from the proof vectors: not exact on this device")
    if mark is not None:
        try:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError:
            pass  # a read-only home only costs the proof again


def _mark(graph: Graph, identity: str) -> Path | None:
    key = "\n".join([graph.sha256, identity, *(f"{p.seed} {p.sizes} {p.sha256}" for p in graph.proofs)])
    try:
        return cache_folder() / "proofs" / hashlib.sha256(key.encode()).hexdigest()
    except (OSError, RuntimeError):  # no home folder
        return None

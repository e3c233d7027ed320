"""Our own kernels hold the proofs of the shipped bundles with every instruction set, and say which build they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nicrt import _core
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.native_form import IntegerNetwork

ENGINES = Path(__file__).resolve().parent.parent / "engines"
BUNDLES = sorted(path.parent.name for path in ENGINES.glob("*/manifest.json"))


@pytest.mark.parametrize("name", BUNDLES)
def test_kernels_hold_all_proofs(name: str) -> None:
    bundle = Bundle.open(ENGINES / name)
    networks = [
        graph
        for graph, entry in bundle.manifest.graphs.items()
        if entry.exact and entry.native is not None and isinstance(entry.native.operations[0], IntegerNetwork)
    ]
    assert networks or name == "flow"  # whose exact graphs are of ONNX alone
    for isa in _core.integer_isas():
        assert _core.prove_native(bundle.core, isa=isa, threads=2) == networks


def test_build_has_an_id() -> None:
    assert re.fullmatch("[0-9a-f]{32}", _core.build_id)

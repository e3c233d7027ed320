"""The tables of a bundle as codebooks: which tables a stream uses, and what its symbols cost, against the reader of
bundles that was written from the documents alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from independent_reader.bundle import Bundle as IndependentBundle
from independent_reader.coder import Table

from nicrt import _core
from nicrt.runtime.errors import LimitError, UnsupportedError
from nicrt.runtime.installed import SHIPPED

REACH = 300
BUNDLES = sorted(path.parent for path in SHIPPED.glob("*/manifest.json"))


def lengths_of(tables: list[Table], reach: int = REACH) -> npt.NDArray[np.float64]:
    """Bits of symbols -reach .. reach with each table, as FORMAT.md has them coded: float64 [tables, symbols]."""
    symbols = np.arange(-reach, reach + 1)
    rows = []
    for table in tables:
        escape = len(table.frequencies) - 1
        ids = (symbols >> table.shift) - table.low
        escaped = (ids < 0) | (ids >= escape)
        bits = 12 - np.log2(table.frequencies[np.where(escaped, escape, ids)].astype(np.float64))
        rows.append(bits + table.shift + 16 * escaped)
    return np.stack(rows)


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)
def test_codebooks_of_shipped_bundles(folder: Path) -> None:
    core, other = _core.Bundle.open(str(folder)), IndependentBundle(folder)
    generator = np.random.default_rng(1)
    for group, (tables, channel) in other.tables.items():
        if channel is None:
            codebook = core.codebook(group)
            assert len(codebook) == len(tables)
            lengths = codebook.code_lengths(REACH)
            assert np.abs(lengths - lengths_of(tables)).max() <= 2**-17
            continue
        for sets in ([0], [len(channel) - 1], generator.integers(len(channel), size=channel.shape[1]).tolist()):
            codebook, own = core.channel_codebook(group, sets)
            assert own.dtype == np.uint8 and len(codebook) == own.max() + 1
            wanted = channel[np.broadcast_to(sets, channel.shape[1]), np.arange(channel.shape[1])]
            assert len(codebook) == len(np.unique(wanted))
            expected = lengths_of([tables[t] for t in wanted])
            assert np.abs(codebook.code_lengths(REACH)[own] - expected).max() <= 2**-17


def test_costs() -> None:
    """In any order of adding up: they are exact."""
    bundle = _core.Bundle.open(str(SHIPPED / "shallow"))
    codebook = bundle.codebook("y")
    generator = np.random.default_rng(2)
    symbols = generator.laplace(0, 40, (7, 13, 11)).astype(np.int32)
    index = generator.integers(len(codebook) + 3, size=symbols.shape).astype(np.uint8)
    lengths = codebook.code_lengths(32767).astype(np.float64)
    coded = index < len(codebook)
    each = lengths[np.where(coded, index, 0), symbols + 32767]
    assert _core.cost_of_stream(codebook, symbols, index) == (each[coded].sum(), coded.sum())
    of_channels = np.arange(7, dtype=np.uint8)
    by_channel = lengths[of_channels[:, None, None], symbols + 32767]
    assert _core.cost_of_stream(codebook, symbols, of_channels) == (by_channel[::-1].sum(), symbols.size)


def test_wrong_arguments() -> None:
    bundle = _core.Bundle.open(str(SHIPPED / "shallow"))
    codebook = bundle.codebook("y")
    for call in (
        lambda: bundle.codebook("nothing"),
        lambda: bundle.channel_codebook("nothing", [0]),
        lambda: bundle.channel_codebook("y", [0]),
        lambda: bundle.channel_codebook("z", []),
        lambda: bundle.channel_codebook("z", [10**6]),
        lambda: bundle.channel_codebook("z", [-1]),
        lambda: bundle.channel_codebook("z", [0, 0]),
        lambda: codebook.code_lengths(-1),
        lambda: codebook.code_lengths(1 << 20),
        lambda: _core.cost_of_stream(codebook, np.zeros((1, 2, 3), np.int32), np.zeros(2, np.uint8)),
    ):
        with pytest.raises((ValueError, TypeError)) as error:
            call()
        assert not isinstance(error.value, UnsupportedError | LimitError)

"""Entropy tables: valid, close to the entropy, accepted by the coder."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nicrt import _core  # noqa: E402
from nicrt.export.models.entropy import LOG_SCALE_STEP, SCALE_COUNT, SCALE_MIN, FactorizedPrior  # noqa: E402
from nicrt.export.tables import (  # noqa: E402
    ESCAPE_BITS,
    RAW_BITS_WORTH,
    TOTAL,
    Table,
    TableSet,
    build,
    by_channel,
    by_channel_and_step,
    by_scale,
    gaussian,
    logistic,
    normalise,
    with_outliers,
)
from nicrt.runtime.errors import UnsupportedError  # noqa: E402

SCALES = [SCALE_MIN * math.exp(LOG_SCALE_STEP * index) for index in range(SCALE_COUNT)]
FAMILIES = {"gaussian": gaussian, "logistic": logistic, "outliers": with_outliers(gaussian)}


def _cost(table: Table, symbols: np.ndarray) -> np.ndarray:
    """Bits of each symbol by the format's rules."""
    ids = (symbols >> table.shift) - table.low
    escaped = (ids < 0) | (ids >= len(table.frequency) - 1)
    bits = np.log2(TOTAL / table.frequency[np.where(escaped, -1, ids)].astype(np.float64))
    return bits + table.shift + ESCAPE_BITS * escaped


@pytest.mark.parametrize("family", FAMILIES)
def test_tables_keep_to_the_format(family: str) -> None:
    for table in by_scale(FAMILIES[family], SCALES):
        count = len(table.frequency) - 1
        assert table.frequency.dtype == np.uint16
        assert int(table.frequency.sum()) == TOTAL
        assert table.frequency.min() >= 1 and table.frequency.max() <= TOTAL - 1
        assert 1 <= count <= 255
        assert -127 <= table.low <= 128 - count
        assert 0 <= table.shift <= 12


@pytest.mark.parametrize(("family", "share"), [("gaussian", 0.0007), ("logistic", 0.0011), ("outliers", 0.0013)])
def test_twelve_bits_cost_little(family: str, share: float) -> None:
    for table in by_scale(FAMILIES[family], SCALES):
        # RAW_BITS_WORTH: what a table may cost more to have fewer raw bits
        assert table.overhead_bits <= 0.0012 + (share + RAW_BITS_WORTH) * table.expected_bits


@pytest.mark.parametrize("scale", [0.11, 0.6, 3.0, 30.0, 256.0])
def test_expected_bits_are_what_symbols_cost(scale: float) -> None:
    distribution = gaussian(scale)
    table = build(distribution)
    reach = math.ceil(9 * scale) + 2
    symbols = np.arange(-reach, reach + 1)
    mass = distribution.mass(np.append(symbols - 0.5, reach + 0.5))
    assert table.expected_bits == pytest.approx(float(mass @ _cost(table, symbols)), abs=1e-6)


def test_known_values() -> None:
    narrow = build(gaussian(0.11))
    assert (narrow.low, narrow.shift, narrow.frequency.tolist()) == (0, 0, [4095, 1])
    unit = build(gaussian(1.0))
    assert unit.low == -4
    assert abs(int(unit.frequency[4]) - TOTAL * math.erf(0.5 / math.sqrt(2))) < 1
    assert unit.frequency[:-1].tolist() == unit.frequency[-2::-1].tolist()
    assert build(gaussian(256.0)).shift > 0


def test_normalise() -> None:
    assert normalise(np.array([0.5, 0.25, 0.25])).tolist() == [2048, 1024, 1024]
    assert normalise(np.array([1.0, 1e-12])).tolist() == [4095, 1]
    many = normalise(np.full(200, 1e-9))
    assert many.sum() == TOTAL and many.max() - many.min() <= 1
    crowded = np.full(200, 1e-7)
    crowded[7] = 1 - 199e-7
    assert normalise(crowded)[7] == TOTAL - 199


def test_tables_of_a_factorised_prior_follow_it() -> None:
    torch.manual_seed(3)
    prior = FactorizedPrior(6)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, 0, 0.8)
    tables = by_channel(lambda x: prior.logits(torch.from_numpy(np.array(x))).detach().numpy(), 6)
    symbols = torch.arange(-40, 41).repeat(6, 1)[None, :, None, :].double()
    ideal = prior.bits(symbols)[0, :, 0].detach().numpy()
    for channel, table in enumerate(tables):
        assert table.shift == 0
        mass = 2 ** -ideal[channel]
        paid = _cost(table, symbols[0, channel, 0].numpy().astype(int))
        assert float(mass @ paid) == pytest.approx(float(mass @ ideal[channel]), abs=0.02)


def test_wider_bins_of_z_have_their_own_tables() -> None:
    torch.manual_seed(3)
    prior = FactorizedPrior(2)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, 0, 0.8)

    def logits(x: np.ndarray) -> np.ndarray:
        return prior.logits(torch.from_numpy(np.array(x))).detach().numpy()

    group = by_channel_and_step(logits, 2)
    assert group.channel is not None and group.channel.shape == (7, 2)
    assert [t.frequency.tolist() for t in group.tables[6:8]] == [t.frequency.tolist() for t in by_channel(logits, 2)]
    for channel in range(2):
        entropy = [group.tables[number].entropy_bits for number in group.channel[:, channel]]
        assert entropy == sorted(entropy, reverse=True)  # a coarser step costs less


def test_a_distribution_out_of_reach_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no mass"):
        by_channel(lambda x: x - 1e9, 1)


@pytest.mark.parametrize("centre", [300.0, -300.0])
def test_clipped_symbols_have_the_mass_beyond(centre: float) -> None:
    (table,) = by_channel(lambda x: x - centre, 1, limit=127)
    end = math.copysign(127, centre)
    assert (table.low, table.shift, table.frequency.tolist()) == (end, 0, [TOTAL - 1, 1])


@pytest.mark.parametrize(("centre", "width"), [(0.0, 60.0), (200.0, 1.0), (-200.0, 9.0)])
def test_latents_that_are_not_clipped_have_raw_bits(centre: float, width: float) -> None:
    (table,) = by_channel(lambda x: (x - centre) / width, 1)
    assert table.shift > 0
    assert table.overhead_bits < 1.2 if centre else table.overhead_bits < 0.01


def test_medians_of_a_prior() -> None:
    prior = FactorizedPrior(3, (2,))
    with torch.no_grad():
        for parameter in prior.parameters():
            torch.nn.init.normal_(parameter, 0, 0.5)
        weight = torch.nn.functional.softplus(prior.H[0])
        prior.B[0] -= weight * torch.tensor([0.0, 250.0, -9000.0])[:, None, None]
    medians = prior.medians()
    assert torch.allclose(prior.logits(medians[:, None]), torch.zeros(3, 1, dtype=torch.float64), atol=1e-6)
    assert [round(float(m), -1) for m in medians[1:]] == [250, -9000]


def test_the_coder_takes_the_tables() -> None:
    tables = by_scale(with_outliers(gaussian), SCALES)
    arrays = TableSet(tables).arrays("y")
    assert len(_core.Codebook(*(arrays[f"y.{part}"] for part in ("low", "shift", "size", "frequency")))) == SCALE_COUNT
    with pytest.raises(UnsupportedError, match="more than 256"):
        TableSet(tables * 5).arrays("y")

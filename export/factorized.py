"""Export of codecs with a factorised prior on the latents (`bmshj2018-factorized`): graphs, tables and program.

Symbols are rounded latents less the integer part of their channel's median, which the synthesis adds again: tables lie
around 0, and where a distribution is wider than a table, quotients have raw bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.manifest import Entropy, Port, Program, QualityPoint, Run, Stage

from .bundle import BundleSource, described_graph
from .described import SHOWN, Description
from .layers import INT16
from .mean_scale import shown_layers
from .models.entropy import FactorizedPrior
from .models.mean_scale import LATENT_STRIDE, Factorized
from .tables import ESCAPE_BITS, MAX_TABLES, TOTAL, Floats, Table, TableSet, by_channel

TILE = 512
_REACH = 1 << 10  # symbols that the choice of tables to merge looks at
_MEDIAN_MAX = 30000
_PICTURE = Port("float32", ["n", 3, "16h", "16w"])


def _analysis(model: Factorized, shift: npt.NDArray[np.int64]) -> Description:
    """Picture float32 [n, 3, 16h, 16w] → symbols int32 [n, m, h, w], clipped to int16. `shift`: int64 [m]."""
    described = Description()
    value = described.strided("v", ["x"], described.chain("analysis", model.g_a.named_children()))
    if shift.any():
        value = described.affine("shifted", [value], [described.constant("analysis.shift", -shift)])
    described.quantise("y", value, *INT16)
    return described


def _synthesis(model: Factorized, shift: npt.NDArray[np.int64]) -> Description:
    """Symbols int32 [n, m, h, w] → picture uint8 [n, 16h, 16w, 3]. `shift`: int64 [m]."""
    described = Description()
    offset = [described.constant("synthesis.shift", shift)] if shift.any() else []
    described.transposed("picture", ["y"], shown_layers(described, model.g_s), offset, SHOWN)
    return described


def shifts(prior: FactorizedPrior) -> npt.NDArray[np.int64]:
    """Integer part of every channel's median, int64 [channels]. Raises UnsupportedError for one that symbols cannot
    hold."""
    medians = prior.medians().numpy()
    channel = int(np.argmax(np.abs(medians)))
    if abs(medians[channel]) > _MEDIAN_MAX:
        raise UnsupportedError(
            f"channel {channel} of the latents has its median at {medians[channel]:.1f}: symbols hold -32768 .. 32767"
        )
    return np.rint(medians).astype(np.int64)


def factorized(model: Factorized, name: str, summary: str) -> BundleSource:
    """A loaded model → everything that its bundle is written from."""
    model.eval().requires_grad_(False)
    symbols = Port("int32", ["n", model.latents, "h", "w"])
    shift = shifts(model.prior)
    stage = Stage(
        align=LATENT_STRIDE,
        tile=TILE,
        steps=[
            Run("analysis", {"x": "@x"}, {"y": "y"}, enc=True),
            Entropy("y", model.latents, LATENT_STRIDE, "y", by="channel"),
        ],
        show=Run("synthesis", {"y": "y"}, {"picture": "picture"}),
    )
    picture = Port("uint8", ["n", "16h", "16w", 3])
    graphs = [
        described_graph("analysis", _analysis(model, shift), {"x": _PICTURE}, {"y": symbols}, encoder=True),
        described_graph("synthesis", _synthesis(model, shift), {"y": symbols}, {"picture": picture}),
    ]
    return BundleSource(
        name=name,
        summary=summary,
        unit=LATENT_STRIDE,
        graphs=graphs,
        tables={"y": tables(model.prior, shift)},
        programs={name: Program([], [stage])},
        quality=[QualityPoint(50.0, name)],
    )


def tables(prior: FactorizedPrior, shift: npt.NDArray[np.int64], most: int = MAX_TABLES) -> TableSet:
    """At most `most` tables for all channels, whose symbols are latents less `shift`, int64 [channels]. Where there are
    more channels, some use the table of another one: those that this costs the fewest bits."""
    channels = len(shift)

    def logits(values: Floats) -> Floats:
        return prior.logits(torch.from_numpy(values + shift[:, None])).numpy()

    built = by_channel(logits, channels)
    edges = np.arange(-_REACH, _REACH + 2, dtype=np.float64) - 0.5
    cumulative = torch.sigmoid(torch.from_numpy(logits(np.broadcast_to(edges, (channels, len(edges))))))
    kept = merge(np.diff(cumulative.numpy(), axis=1), built, most)
    used = np.unique(kept)
    return TableSet([built[number] for number in used], np.searchsorted(used, kept).astype(np.int32)[None])


def merge(mass: Floats, built: list[Table], most: int) -> npt.NDArray[np.int64]:
    """Probabilities of the symbols -_REACH .. _REACH, float64 [channels, n], and the channels' own tables → the table
    of each channel, int64 [channels]. One by one the table whose channels lose the least gives them to another."""
    symbols = np.arange(-_REACH, _REACH + 1)
    bits = mass @ np.stack([_bits(table, symbols) for table in built], axis=1)  # of a table's channels with each table
    kept = np.arange(len(built))
    for _ in range(len(built) - most):
        extra = bits - np.diag(bits)[:, None]
        np.fill_diagonal(extra, np.inf)
        gone, heir = np.unravel_index(int(np.argmin(extra)), extra.shape)
        kept[kept == gone] = heir
        bits[heir] += bits[gone]
        bits[gone, :] = bits[:, gone] = np.inf
        bits[gone, gone] = 0.0
    return kept


def _bits(table: Table, symbols: npt.NDArray[np.int64]) -> Floats:
    """What each symbol costs with a table; its last frequency is that of the escape."""
    place = (symbols >> table.shift) - table.low
    inside = (place >= 0) & (place < len(table.frequency) - 1)
    frequency = table.frequency[np.where(inside, place, -1)].astype(np.float64)
    return np.asarray(np.log2(TOTAL / frequency) + table.shift + np.where(inside, 0, ESCAPE_BITS))

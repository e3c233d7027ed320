"""Export of codecs with a factorised prior on the latents (`bmshj2018-factorized`): graphs, tables and program."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nicrt.runtime.manifest import Entropy, Port, Program, QualityPoint, Run, Stage

from .bundle import BundleSource, GraphSource, float_digest
from .mean_scale import Synthesis
from .models.entropy import FactorizedPrior
from .models.mean_scale import LATENT_STRIDE, Factorized
from .phases import in_phases
from .tables import ESCAPE_BITS, MAX_TABLES, TOTAL, Floats, Table, TableSet, by_channel

TILE = 512
_REACH = 1 << 10  # symbols that the choice of tables to merge looks at
_PICTURE = Port("float32", ["n", 3, "16h", "16w"])


class Analysis(torch.nn.Module):
    """Picture float32 [n, 3, 16h, 16w] → symbols int32 [n, m, h, w], clipped to int16."""

    def __init__(self, model: Factorized) -> None:
        super().__init__()
        self.layers = model.g_a

    def forward(self, x: Tensor) -> Tensor:
        return torch.round(self.layers(x)).clamp(-(2**15), 2**15 - 1).to(torch.int32)


class SymbolSynthesis(Synthesis):
    """Symbols int32 [n, m, h, w] → picture uint8 [n, 16h, 16w, 3]."""

    def forward(self, y: Tensor) -> Tensor:
        return super().forward(y.float())


def factorized(model: Factorized, name: str, summary: str) -> BundleSource:
    """A loaded model → everything that its bundle is written from."""
    model.eval().requires_grad_(False)
    symbols = Port("int32", ["n", model.latents, "h", "w"])
    analysis, synthesis = Analysis(model), SymbolSynthesis(model.g_s)
    stage = Stage(
        align=LATENT_STRIDE,
        tile=TILE,
        steps=[
            Run("analysis", {"x": "@x"}, {"y": "y"}, enc=True),
            Entropy("y", model.latents, LATENT_STRIDE, "y", by="channel"),
        ],
        show=Run("synthesis", {"y": "y"}, {"picture": "picture"}),
    )
    graphs = [
        GraphSource(
            "analysis",
            analysis,
            {"x": _PICTURE},
            {"y": symbols},
            float_digest("GDN analysis 1", analysis),
            encoder=True,
        ),
        GraphSource(
            "synthesis",
            in_phases(synthesis),
            {"y": symbols},
            {"picture": Port("uint8", ["n", "16h", "16w", 3])},
            float_digest("GDN synthesis of symbols 1", synthesis),
        ),
    ]
    return BundleSource(
        name=name,
        summary=summary,
        unit=LATENT_STRIDE,
        graphs=graphs,
        tables={"y": tables(model.prior, model.latents)},
        programs={name: Program([], [stage])},
        quality=[QualityPoint(50.0, name)],
    )


def tables(prior: FactorizedPrior, channels: int, most: int = MAX_TABLES) -> TableSet:
    """At most `most` tables for all channels. Where there are more channels, some use the table of another one: those
    that this costs the fewest bits."""

    def logits(values: Floats) -> Floats:
        return prior.logits(torch.from_numpy(np.array(values))).numpy()

    built = by_channel(logits, channels)
    edges = np.arange(-_REACH, _REACH + 2, dtype=np.float64) - 0.5
    values = torch.sigmoid(prior.logits(torch.from_numpy(edges).expand(channels, -1))).numpy()
    kept = merge(np.diff(values, axis=1), built, most)
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

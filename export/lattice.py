"""The exact network of side information on a lattice (`models.side_information`), for steps that a file gives for each
channel as places in a table: z → table indices, and offsets, which are means in whole steps.

Its means are integers of MEAN_UNIT; one float32 multiplication by MEAN_UNIT / step and one rounding, each the same on
every device, make offsets of them. Symbols are places on the lattice less offsets, so that an offset takes part in what
is decoded, not only in what it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .described import Description
from .exact import ExactNetwork, lower_hyper_synthesis
from .exact_form import INDEX, INDEX_RULE, MEAN, integer_network
from .exact_reference import index_of as reference_index_of
from .exact_reference import scaled_sums
from .exact_reference import sums as reference_sums
from .integers_torch import IntegerModule, indexed
from .models.entropy import LOG_SCALE_STEP, STEPS_PER_INDEX
from .models.side_information import Z_LIMIT, SideInformation

MEAN_UNIT = 2.0**-8
MAX_MEAN = 1 << 22
MAX_OFFSET = 1 << 15

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Lattice:
    """`network`: its means are in MEAN_UNIT. `steps`: the table, float64 [sets]."""

    network: ExactNetwork
    steps: npt.NDArray[np.float64]

    @classmethod
    def of(cls, side: SideInformation, steps: npt.NDArray[np.float64]) -> Lattice:
        network = lower_hyper_synthesis(side.synthesis(), Z_LIMIT)
        assert network.mean is not None
        scaled = replace(network.mean, multiplier=network.mean.multiplier * np.float32(1 / MEAN_UNIT))
        return cls(replace(network, mean=scaled), steps)

    @property
    def eighths(self) -> npt.NDArray[np.int32]:
        """Steps in eighths of a table step, to the nearest."""
        return np.rint(np.log(self.steps) * (STEPS_PER_INDEX / LOG_SCALE_STEP)).astype(np.int32)

    @property
    def inverse(self) -> npt.NDArray[np.float32]:
        """MEAN_UNIT / steps."""
        return (MEAN_UNIT / self.steps).astype(np.float32)

    def reference(self, values: Arrays) -> Arrays:
        """z int32 [1, c, h, w], d int32 [m], skip and dz int32 [1] → index uint8, offset int32 [1, m, 2h, 2w]."""
        places, (skip,), (dz,) = (values[name].astype(np.int64) for name in ("d", "skip", "dz"))
        eighths, means = reference_sums(self.network, values["z"].astype(np.int32), int(dz))
        assert means is not None and self.network.mean is not None
        index = reference_index_of(eighths, self.eighths[places][:, None, None], int(skip))
        mean = np.clip(np.rint(scaled_sums(self.network.mean, means)), -MAX_MEAN, MAX_MEAN)
        offset = np.rint(mean * self.inverse[places][:, None, None]).clip(-MAX_OFFSET, MAX_OFFSET)
        return {"index": index, "offset": offset.astype(np.int32)[None]}


class LatticeHyper(nn.Module):
    """z int32 [n, c, h, w], d int32 [m] (places in the table of steps), skip and dz int32 [1] → index uint8, offset
    int32 [n, m, 2h, 2w]."""

    eighths: Tensor
    inverse: Tensor

    def __init__(self, lattice: Lattice) -> None:
        super().__init__()
        described = Description()
        operation = integer_network(described, "network", lattice.network, coded=False)
        self.network = IntegerModule(operation, described.arrays)
        self.register_buffer("eighths", torch.from_numpy(lattice.eighths))
        self.register_buffer("inverse", torch.from_numpy(lattice.inverse))

    def forward(self, z: Tensor, d: Tensor, skip: Tensor, dz: Tensor) -> tuple[Tensor, ...]:
        heads = self.network({"z": z, "dz": dz})
        step, inverse = (table.index_select(0, d)[:, None, None] for table in (self.eighths, self.inverse))
        mean = torch.round(heads[MEAN]).clamp(-MAX_MEAN, MAX_MEAN)
        offset = torch.round(mean * inverse).clamp(-MAX_OFFSET, MAX_OFFSET)
        return indexed(torch.round(heads[INDEX]), step, skip, INDEX_RULE), offset.to(torch.int32)


class PlusOffset(nn.Module):
    """Exact: symbols and offsets int32 (same shape) → places on the lattice."""

    def forward(self, y: Tensor, offset: Tensor) -> Tensor:
        return y + offset


class LessOffset(nn.Module):
    """Encoder: places on the lattice and offsets int32 (same shape) → symbols, clipped to int16."""

    def forward(self, q: Tensor, offset: Tensor) -> Tensor:
        return (q - offset).clamp(-(2**15), 2**15 - 1)

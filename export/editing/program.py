"""A bundle's program in PyTorch, from continuous latents to bits and pixels, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nicrt import _core
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.manifest import MAX_INDEX_TABLES

from .onnx_torch import TorchGraph, straight_through

BEST_EFFORT = 9  # its graphs make what is optimised
REACH = 2047
"""Symbols beyond it cost as much as it does; escapes begin far below."""

Quantiser = Callable[[Tensor], Tensor]
Coder = Callable[["Rate", Tensor, Tensor], tuple[Tensor, Tensor]]
"""Rate of a stream, the numbers of its tables, its latents → bits of every symbol, and the symbols."""


@dataclass
class Outcome:
    """bits: sum over all streams. picture: float32 [height, width, 3] in grey levels. symbols: of each stream, as the
    quantiser left them, zeros where not coded."""

    bits: Tensor
    picture: Tensor
    symbols: list[Tensor]


class Rate:
    """Bits by the stream's own integer tables: linear between integer symbols, which makes the cost of a relaxed symbol
    its expected cost; and between tables the slope of the central difference."""

    def __init__(self, lengths: npt.NDArray[np.float32]) -> None:
        self.count = len(lengths)
        self._lengths = torch.from_numpy(lengths)

    def __call__(self, table: Tensor, symbols: Tensor) -> Tensor:
        """table (whole numbers) and symbols float32, one shape → bits, the same shape."""
        places = (symbols + REACH).clamp(0, self._lengths.shape[1] - 1.001)
        below = places.detach().floor()
        share, column = places - below, below.long()

        def bits(row: Tensor) -> Tensor:
            start = self._bits(row, column)
            return start + share * (self._bits(row, column + 1) - start)

        return self._sloped(table, bits)

    def rounded(self, table: Tensor, latents: Tensor) -> Tensor:
        """The same of rounded latents. In a latent the slope is that of the parabola through the costs of its symbol
        and of the two beside it."""
        nearest = latents.detach().round()
        column = (nearest + REACH).clamp(1, self._lengths.shape[1] - 2).long()

        def bits(row: Tensor) -> Tensor:
            middle = self._bits(row, column)
            if not (latents.requires_grad and torch.is_grad_enabled()):
                return middle
            below, above = self._bits(row, column - 1), self._bits(row, column + 1)
            slope = (above - below) / 2 + (above + below - 2 * middle) * (latents.detach() - nearest)
            return straight_through(latents * slope, middle)

        return self._sloped(table, bits)

    def _bits(self, row: Tensor, column: Tensor) -> Tensor:
        return self._lengths.view(-1)[row * self._lengths.shape[1] + column]

    def _sloped(self, table: Tensor, bits: Callable[[Tensor], Tensor]) -> Tensor:
        """What `bits` makes of the tables' numbers, with a slope in them too."""
        row = table.detach().long()
        cost = bits(row)
        if not table.requires_grad:
            return cost
        with torch.no_grad():
            slope = (bits((row + 1).clamp(max=self.count - 1)) - bits((row - 1).clamp(min=0))) / 2
        return cost + straight_through(table * slope, torch.zeros_like(slope))


class SoftProgram:
    """One program at given parameters for one picture.

    `leaves` are the tensors to optimise: what the encoder graphs make of the picture, not rounded. Encoder graphs that
    do not see the picture (quantisers) run again each time, relaxed.
    """

    def __init__(
        self, bundle: Bundle, variant: str, values: dict[str, list[int]], picture: npt.NDArray[np.float32]
    ) -> None:
        """picture: float32 [height, width, 3] in [0, 1]."""
        stages = bundle.manifest.variants[variant].program.stages
        if len(stages) != 1 or stages[0].each is not None:
            raise UnsupportedError("iterative encoding (effort 6 to 9) is for programs of one stage; use 1 to 5")
        size = picture.shape[0], picture.shape[1]
        self._bundle = bundle
        self._plan = _core.plan(bundle.core, variant, values, size, encode=True, effort=BEST_EFFORT, windows=False)
        self._decoding = _core.plan(bundle.core, variant, values, size, windows=False)
        self._graphs: dict[str, TorchGraph] = {}
        self._tables = {step.out: self._tables_of(step) for step in self._streams}
        self.leaves: dict[str, Tensor] = {}
        with torch.no_grad():
            self._analyse(picture)
        for leaf in self.leaves.values():
            leaf.requires_grad_(True)

    @property
    def _streams(self) -> list[_core.EntropyStep]:
        return [step for step in self._plan.steps if isinstance(step, _core.EntropyStep)]

    def _analyse(self, picture: npt.NDArray[np.float32]) -> None:
        (item,) = self._plan.rounds
        height, width = item.size
        pads = ((0, item.padded[0] - height), (0, item.padded[1] - width), (0, 0))
        planes = np.pad(picture, pads, mode="edge").transpose(2, 0, 1)[None]
        padded = torch.from_numpy(np.ascontiguousarray(planes))
        for step in self._plan.steps:
            if isinstance(step, _core.GraphStep) and step.enc and _sees_picture(step):
                found = self._run(self._plan, step, self.leaves, picture=padded, relaxed=True)
                self.leaves.update({name: tensor.detach().clone() for name, tensor in found.items()})

    @property
    def side_information(self) -> list[Tensor]:
        """The leaves that other streams' tables come from: those coded by channel, where any stream is by index."""
        streams = self._streams
        if all(step.index is None for step in streams):
            return []
        return [self.leaves[step.name] for step in streams if step.index is None and step.name in self.leaves]

    def run(self, quantise: Quantiser) -> Outcome:
        """Latents → symbols by `quantise` → bits and picture."""

        def coder(rate: Rate, table: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
            symbols = quantise(latents)
            return rate(table, symbols), symbols

        bits, tensors, symbols = self._code_all(coder)
        coded = sum(not (isinstance(step, _core.GraphStep) and step.enc) for step in self._plan.steps)
        for step in self._decoding.steps[coded:]:  # those that show
            assert isinstance(step, _core.GraphStep)
            tensors.update(self._run(self._decoding, step, tensors))
        assert self._decoding.shown is not None
        shown = tensors[self._decoding.tensors[self._decoding.shown].name]
        height, width = self._decoding.rounds[0].size
        return Outcome(bits, shown[0, :height, :width].float(), symbols)

    def rounded_bits(self) -> Tensor:
        """Bits of the rounded latents, whose gradients are `Rate.rounded`'s."""
        return self._code_all(_rounded)[0]

    def _code_all(self, coder: Coder) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Bits of all streams, every tensor up to the last of them, and their symbols."""
        tensors = dict(self.leaves)
        bits = torch.zeros(())
        symbols = []
        for step in self._plan.steps:
            if isinstance(step, _core.EntropyStep):
                cost, tensors[step.name] = self._code(step, tensors, coder)
                bits = bits + cost
                symbols.append(tensors[step.name])
            elif not step.enc or not _sees_picture(step):
                tensors.update(self._run(self._plan, step, tensors, relaxed=step.enc))
        return bits, tensors, symbols

    def _tables_of(self, step: _core.EntropyStep) -> tuple[Rate, Tensor | None]:
        """The rate of a stream, and the numbers of its channels' tables; None for a stream by index."""
        if step.index is not None:
            return Rate(self._bundle.core.codebook(step.tables).code_lengths(REACH)), None
        codebook, channels = self._bundle.core.channel_codebook(step.tables, step.sets)
        return Rate(codebook.code_lengths(REACH)), torch.from_numpy(channels.astype(np.float32))

    def _code(self, step: _core.EntropyStep, tensors: dict[str, Tensor], coder: Coder) -> tuple[Tensor, Tensor]:
        """Bits of a stream, and its symbols without those that are not coded."""
        (rate, channels), latents = self._tables[step.out], tensors[step.name]
        if channels is not None:
            cost, symbols = coder(rate, channels[None, :, None, None].expand(latents.shape), latents)
            return cost.sum(), symbols
        assert step.index is not None
        index = tensors[self._plan.tensors[step.index].name]
        table = index[:, :, : latents.shape[2], : latents.shape[3]].float()
        coded = table.detach() < MAX_INDEX_TABLES
        cost, symbols = coder(rate, table.clamp(max=rate.count - 1), latents)
        return (cost * coded).sum(), symbols * coded

    def _run(
        self,
        plan: _core.Plan,
        step: _core.GraphStep,
        tensors: dict[str, Tensor],
        *,
        picture: Tensor | None = None,
        relaxed: bool = False,
    ) -> dict[str, Tensor]:
        """What a step of a plan makes, by the names of its tensors."""
        if step.graph not in self._graphs:
            self._graphs[step.graph] = TorchGraph(self._bundle.graph_bytes(step.graph))
        made = plan.tensors
        inputs = {source.port: self._source(source, made, tensors, picture) for source in step.inputs}
        outputs = self._graphs[step.graph](inputs, relaxed=relaxed)
        return {made[number].name: outputs[port] for port, number in step.outputs}

    def _source(
        self, source: _core.Source, made: list[_core.Tensor], tensors: dict[str, Tensor], picture: Tensor | None
    ) -> Tensor:
        if source.kind == "tensor":
            return tensors[made[source.tensor].name]
        if source.kind == "picture":
            assert picture is not None
            return picture
        if source.kind in ("rows", "columns"):
            rows, columns = self._plan.rounds[0].padded
            return torch.arange(columns if source.kind == "columns" else rows, dtype=torch.int32)
        return torch.tensor(source.values, dtype=torch.int32)


def _sees_picture(step: _core.GraphStep) -> bool:
    return any(source.kind == "picture" for source in step.inputs)


def _rounded(rate: Rate, table: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
    return rate.rounded(table, latents), straight_through(latents, torch.round(latents))

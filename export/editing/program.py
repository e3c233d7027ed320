"""A bundle's program in PyTorch, from continuous latents to bits and pixels, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nicrt.runtime.bundle import Bundle
from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.manifest import Entropy, Program, Run
from nicrt.runtime.plan import Parameters, Round, rounds
from nicrt.runtime.validate import BY_CHANNEL, COLUMNS, MAX_INDEX_TABLES, PICTURE, SIZE, parameter_source

from .onnx_torch import TorchGraph, straight_through

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
            slope = (bits((row + 1).clamp(max=len(self._lengths) - 1)) - bits((row - 1).clamp(min=0))) / 2
        return cost + straight_through(table * slope, torch.zeros_like(slope))


class SoftProgram:
    """One program at given parameters for one picture.

    `leaves` are the tensors to optimise: what the encoder graphs make of the picture, not rounded. Encoder graphs that
    do not see the picture (quantisers) run again each time, relaxed.
    """

    def __init__(self, bundle: Bundle, program: Program, values: Parameters, picture: npt.NDArray[np.float32]) -> None:
        """picture: float32 [height, width, 3] in [0, 1]."""
        if len(program.stages) != 1 or program.stages[0].each is not None:
            raise UnsupportedError("iterative encoding (effort 6 to 9) is for programs of one stage; use 1 to 5")
        (self._round,) = rounds(program, values, (picture.shape[0], picture.shape[1]))
        self._bundle = bundle
        self._values = values
        self._graphs: dict[str, TorchGraph] = {}
        self._rates = {name: Rate(group.code_lengths(REACH)) for name, group in bundle.groups.items()}
        self.leaves: dict[str, Tensor] = {}
        with torch.no_grad():
            self._analyse(self._round, picture)
        for leaf in self.leaves.values():
            leaf.requires_grad_(True)

    def _analyse(self, item: Round, picture: npt.NDArray[np.float32]) -> None:
        height, width = item.size
        pads = ((0, item.padded[0] - height), (0, item.padded[1] - width), (0, 0))
        planes = np.pad(picture, pads, mode="edge").transpose(2, 0, 1)[None]
        padded = torch.from_numpy(np.ascontiguousarray(planes))
        for step in item.stage.steps:
            if isinstance(step, Run) and step.enc and PICTURE in step.inputs.values():
                graph = step.effort[max(step.effort)] if step.effort else step.graph
                found = self._run(step, self.leaves, graph=graph, picture=padded, relaxed=True)
                self.leaves.update({name: tensor.detach().clone() for name, tensor in found.items()})

    @property
    def side_information(self) -> list[Tensor]:
        """The leaves that other streams' tables come from: those coded by channel, where any stream is by index."""
        streams = [step for step in self._round.stage.steps if isinstance(step, Entropy)]
        if all(step.by == BY_CHANNEL for step in streams):
            return []
        return [self.leaves[step.out] for step in streams if step.by == BY_CHANNEL and step.out in self.leaves]

    def run(self, quantise: Quantiser) -> Outcome:
        """Latents → symbols by `quantise` → bits and picture."""

        def coder(rate: Rate, table: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
            symbols = quantise(latents)
            return rate(table, symbols), symbols

        bits, tensors, symbols = self._code_all(coder)
        for run in self._round.stage.show_runs:
            tensors.update(self._run(run, tensors))
        shown = tensors[self._round.stage.shown]
        height, width = self._round.size
        return Outcome(bits, shown[0, :height, :width].float(), symbols)

    def rounded_bits(self) -> Tensor:
        """Bits of the rounded latents, whose gradients are `Rate.rounded`'s."""
        return self._code_all(_rounded)[0]

    def _code_all(self, coder: Coder) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Bits of all streams, every tensor up to the last of them, and their symbols."""
        tensors = dict(self.leaves)
        bits = torch.zeros(())
        symbols = []
        for step in self._round.stage.steps:
            if isinstance(step, Entropy):
                cost, tensors[step.out] = self._code(step, tensors, coder)
                bits = bits + cost
                symbols.append(tensors[step.out])
            elif not step.enc:
                tensors.update(self._run(step, tensors))
            elif PICTURE not in step.inputs.values():
                tensors.update(self._run(step, tensors, relaxed=True))
        return bits, tensors, symbols

    def _code(self, step: Entropy, tensors: dict[str, Tensor], coder: Coder) -> tuple[Tensor, Tensor]:
        """Bits of a stream, and its symbols without those that are not coded."""
        group, rate, latents = self._bundle.groups[step.tables], self._rates[step.tables], tensors[step.out]
        if step.by == BY_CHANNEL:
            own = group.tables_of_channels(self._values[step.set] if step.set else [0])
            table = torch.from_numpy(own.astype(np.float32))[None, :, None, None].expand(latents.shape)
            cost, symbols = coder(rate, table, latents)
            return cost.sum(), symbols
        table = tensors[step.by][:, :, : latents.shape[2], : latents.shape[3]].float()
        coded = table.detach() < MAX_INDEX_TABLES
        cost, symbols = coder(rate, table.clamp(max=group.count - 1), latents)
        return (cost * coded).sum(), symbols * coded

    def _run(
        self,
        step: Run,
        tensors: dict[str, Tensor],
        *,
        graph: str | None = None,
        picture: Tensor | None = None,
        relaxed: bool = False,
    ) -> dict[str, Tensor]:
        name = graph or step.graph
        if name not in self._graphs:
            self._graphs[name] = TorchGraph(self._bundle.graph_bytes(name))
        inputs = {port: self._source(source, tensors, picture) for port, source in step.inputs.items()}
        outputs = self._graphs[name](inputs, relaxed=relaxed)
        return {tensor: outputs[port] for port, tensor in step.outputs.items()}

    def _source(self, source: str, tensors: dict[str, Tensor], picture: Tensor | None) -> Tensor:
        if source == PICTURE:
            assert picture is not None
            return picture
        if source == SIZE:
            return torch.tensor(self._round.size, dtype=torch.int32)
        if source.startswith("$"):
            return torch.tensor(self._values[parameter_source(source)[0]], dtype=torch.int32)
        if source.startswith("@"):
            rows, columns = self._round.padded
            return torch.arange(columns if source == COLUMNS else rows, dtype=torch.int32)
        return tensors[source]


def _rounded(rate: Rate, table: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
    return rate.rounded(table, latents), straight_through(latents, torch.round(latents))

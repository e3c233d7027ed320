"""Halos found from ONNX nodes against halos measured by changing one input place after the other."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

import nicrt
from nicrt.export.onnx_export import export_module
from nicrt.export.reach import halo
from nicrt.runtime.manifest import Port

PLACES = 24


class Positive(nn.Module):
    """A network whose weights are all 1: no place is lost to a zero."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        for parameter in self.parameters():
            nn.init.ones_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


def up(kernel: int, stride: int, padding: int, extra: int) -> nn.Module:
    return nn.ConvTranspose2d(1, 1, kernel, stride, padding, extra)


# layers, places out per unit, places in per unit
CASES = {
    "pointwise": (Positive(nn.Conv2d(1, 1, 1)), 1, 1),
    "k3": (Positive(nn.Conv2d(1, 1, 3, padding=1)), 1, 1),
    "k5 s2": (Positive(nn.Conv2d(1, 1, 5, 2, 2), nn.ReLU(), nn.Conv2d(1, 1, 5, 2, 2)), 1, 4),
    "k32 s16": (Positive(nn.Conv2d(1, 1, 32, 16, 8)), 1, 16),
    "up k13 s8, k5 s2": (Positive(up(13, 8, 3, 1), nn.LeakyReLU(), up(5, 2, 2, 1)), 16, 1),
    "up k18 s16": (Positive(up(18, 16, 1, 0)), 16, 1),
    "down and up": (Positive(nn.Conv2d(1, 1, 5, 2, 2), up(5, 2, 2, 1)), 1, 1),
    "pixel shuffle": (Positive(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2)), 2, 1),
}


@pytest.mark.parametrize("name", CASES)
def test_halo_is_what_is_measured(name: str) -> None:
    module, out, into = CASES[name]
    inputs = {"x": Port("float32", [1, 1, f"{into}h", f"{into}w"])}
    outputs = {"y": Port("float32", [1, 1, f"{out}h", f"{out}w"])}
    data = export_module(module.eval(), inputs, outputs)
    unit = max(out, into)  # the finer side counts pixels
    found = halo(onnx.load_from_string(data), inputs, outputs, unit)
    session = onnxruntime.InferenceSession(data)
    x = np.zeros((1, 1, into * PLACES, into * PLACES), np.float32)
    (base,) = session.run(None, {"x": x})
    first, last = out * PLACES // 2, out * (PLACES // 2 + 1) - 1  # the outputs of the unit in the middle
    touched = []
    for row in range(x.shape[2]):
        changed = x.copy()
        changed[0, 0, row, x.shape[3] // 2] = 1e3
        (result,) = session.run(None, {"x": changed})
        if (result != base)[0, 0, first : last + 1].any():
            touched.append(row)
    stride, middle = unit // into, PLACES // 2 * unit
    measured = max(middle - touched[0] * stride, (touched[-1] + 1) * stride - (middle + unit), 0)
    assert found == measured


def test_a_table_leaves_places_where_they_are() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("values", torch.arange(9.0))

        def forward(self, x: Tensor) -> Tensor:
            padded = nn.functional.pad(x, (1, 1, 1, 1))
            places = torch.cat([padded[:, :, :-2, :-2], padded[:, :, 2:, 2:]], 1).to(torch.int32)
            return nn.functional.embedding(places, self.values[:, None]).squeeze(-1)

    port = {"x": Port("float32", [1, 1, "h", "w"])}
    data = export_module(Table(), port, {"y": Port("float32", [1, 2, "h", "w"])})
    assert halo(onnx.load_from_string(data), port, {"y": port["x"]}, 16) == 16


def test_unknown_nodes_have_no_halo() -> None:
    class Global(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean((2, 3), keepdim=True)

    port = {"x": Port("float32", [1, 1, "h", "w"])}
    data = export_module(Global(), port, {"y": port["x"]})
    assert halo(onnx.load_from_string(data), port, {"y": port["x"]}, 1) is None


def test_shipped_graphs_know_their_halos() -> None:
    graphs = nicrt.load("shallow").bundle.manifest.graphs
    assert {name: graph.halo for name, graph in graphs.items()} == {
        "analysis": 120, "keep": 0, "analysis-deep": 74, "hyper": 128, "quantise": 0, "synthesis": 16,
    }  # fmt: skip
    assert torch.get_num_threads() >= 1

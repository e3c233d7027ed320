"""The bundle's graphs against PyTorch's own evaluation of the float model, on photographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

from nicrt.export.exact import lower_hyper_synthesis  # noqa: E402
from nicrt.export.exact_reference import reference  # noqa: E402
from nicrt.export.layers import GAIN_UNIT  # noqa: E402
from nicrt.export.models.entropy import gaussian_bits  # noqa: E402
from nicrt.export.models.shallow import Evaluation, Shallow  # noqa: E402

POSITIONS = (0.7, 3.0, 6.3)  # among the trained gains


class _Graphs:
    """A bundle's graphs on one CPU thread."""

    def __init__(self, folder: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._sessions = {
            name: ort.InferenceSession(folder / "graphs" / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
            for name in ("analysis", "hyper", "quantise", "synthesis")
        }

    def __call__(self, name: str, **inputs: np.ndarray | int) -> list[np.ndarray]:
        feeds = {k: np.array([v], np.int32) if isinstance(v, int) else v for k, v in inputs.items()}
        return self._sessions[name].run(None, feeds)


@dataclass
class _Case:
    """One picture at one quality, through the graphs and through PyTorch."""

    x: np.ndarray
    position: float
    gain: int
    v: np.ndarray
    z: np.ndarray
    index: np.ndarray
    mean: np.ndarray
    y: np.ndarray
    own: Evaluation


@pytest.fixture(scope="module")
def graphs(fresh: Path) -> _Graphs:
    return _Graphs(fresh)


@pytest.fixture(scope="module")
def cases(graphs: _Graphs, model: Shallow, photographs: list[np.ndarray]) -> list[_Case]:
    def make() -> Iterator[_Case]:
        for x in photographs:
            for position in POSITIONS:
                gain = round(GAIN_UNIT * position)
                v, z = graphs("analysis", x=x, gain=gain, dz=3)
                index, mean = graphs("hyper", z=z, step=0, skip=0, dz=3)
                (y,) = graphs("quantise", v=v, mean=mean, step=0)
                own = model.evaluate(torch.from_numpy(x), position)
                yield _Case(x, position, gain, v, z, index, mean, y, own)

    return list(make())


def test_lowered_indices_cost_the_same_rate(cases: list[_Case]) -> None:
    lowered, own = [], []
    for case in cases:
        lowered.append(float(gaussian_bits(torch.from_numpy(case.y), torch.from_numpy(case.index).int()).sum()))
        own.append(case.own.symbol_bits)
        assert lowered[-1] == pytest.approx(own[-1], rel=0.002)
    assert sum(lowered) == pytest.approx(sum(own), rel=0.0005)


def test_indices_are_the_integer_reference(cases: list[_Case], model: Shallow) -> None:
    network = lower_hyper_synthesis(model.hyper_synthesis, 127)
    for case in cases[:: len(POSITIONS)]:
        index, mean = reference(network, case.z, 0, 0, 3)
        np.testing.assert_array_equal(case.index, index)
        np.testing.assert_array_equal(case.mean, mean)


def test_encoder_symbols_are_those_of_torch(cases: list[_Case], model: Shallow) -> None:
    for case in cases:
        v, z = model.analyse(torch.from_numpy(case.x), case.position)
        for symbols, own in (
            (case.z, torch.round(z).clamp(-127, 127)),
            (case.y, torch.round(v - torch.from_numpy(case.mean))),
        ):
            difference = np.abs(symbols - own.numpy())
            assert difference.max() <= 1
            assert (difference > 0).mean() < 1e-4


def test_pixels_are_within_one_grey_level(cases: list[_Case], graphs: _Graphs, model: Shallow) -> None:
    for case in cases:
        (picture,) = graphs("synthesis", y=case.y, mean=case.mean, gain=case.gain, step=0)
        latents = torch.from_numpy(case.y) + torch.from_numpy(case.mean)
        own = (model.synthesise(latents, case.position).clamp(0, 1) * 255).round().numpy()[0].transpose(1, 2, 0)
        difference = np.abs(picture[0].astype(np.float32) - own)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


def test_quality_is_that_of_torch(cases: list[_Case], graphs: _Graphs) -> None:
    for case in cases:
        (picture,) = graphs("synthesis", y=case.y, mean=case.mean, gain=case.gain, step=0)
        original = case.x[0].transpose(1, 2, 0) * 255
        own = case.own.reconstruction.clamp(0, 1).mul(255).round().numpy()[0].transpose(1, 2, 0)
        assert _psnr(picture[0], original) == pytest.approx(_psnr(own, original), abs=0.05)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def test_a_step_scales_quantiser_and_latents(cases: list[_Case], graphs: _Graphs) -> None:
    case = cases[0]
    finer = graphs("quantise", v=case.v, mean=case.mean, step=-16)[0]
    assert np.abs(finer).sum() > np.abs(case.y).sum()
    fine = graphs("synthesis", y=finer, mean=case.mean, gain=case.gain, step=-16)[0][0]
    coarse = graphs("synthesis", y=case.y, mean=case.mean, gain=case.gain, step=0)[0][0]
    original = case.x[0].transpose(1, 2, 0) * 255
    assert _psnr(fine, original) > _psnr(coarse, original)

"""Synthesis transforms in phases against the transposed convolutions that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from torch import Tensor, nn  # noqa: E402

from nicrt.export.models.gdn import GDN  # noqa: E402
from nicrt.export.onnx_export import export_module, macs, workspace_bytes  # noqa: E402
from nicrt.export.phases import in_phases  # noqa: E402
from nicrt.export.reach import halo  # noqa: E402
from nicrt.runtime.manifest import Port  # noqa: E402

CHANNELS = 6


def _up(inputs: int, outputs: int, kernel: int, stride: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride, kernel // 2, stride - 1)


class _Normalised(nn.Module):
    """As the slimmable synthesis: GDN first, layers and norms in two lists."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_up(4, CHANNELS, 5, 2), _up(CHANNELS, CHANNELS, 5, 2), _up(CHANNELS, 3, 9, 4)])
        self.norms = nn.ModuleList([_norm(4), _norm(CHANNELS), _norm(CHANNELS)])

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(norm(x))
        return x


def _norm(channels: int) -> GDN:
    result = GDN(channels, inverse=True)
    with torch.no_grad():
        result.beta.uniform_(0.5, 2)
        result.gamma.uniform_(0, 0.3)
    return result


class _Hyperprior(nn.Module):
    """As the mean-scale synthesis: the last layer is named apart from the others."""

    def __init__(self) -> None:
        super().__init__()
        n = CHANNELS
        self.body = nn.Sequential(_up(4, n, 5, 2), _norm(n), _up(n, n, 5, 2), _norm(n))
        self.last = _up(n, 3, 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x))


FACTORS = {"GDN between": 8, "GDN first": 16}


@dataclass(frozen=True)
class _Case:
    """A network of random weights, the form in phases, both as ONNX models, and their ports."""

    network: nn.Module
    form: nn.Module
    plain: bytes
    phased: bytes
    ports: tuple[dict[str, Port], dict[str, Port]]
    factor: int


@pytest.fixture(scope="module", params=FACTORS)
def case(request: pytest.FixtureRequest) -> _Case:
    torch.manual_seed(4)
    factor = FACTORS[request.param]
    network = (_Hyperprior() if factor == 8 else _Normalised()).eval().requires_grad_(False)
    names = list(network.state_dict())
    form = in_phases(network)
    assert list(network.state_dict()) == names, "the network itself stays as it is"
    ports = (
        {"x": Port("float32", ["n", 4, "h", "w"])},
        {"y": Port("float32", ["n", 3, f"{factor}h", f"{factor}w"])},
    )
    return _Case(network, form, export_module(network, *ports), export_module(form, *ports), ports, factor)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 3), (2, 2, 7)], ids=str)
def test_phases_give_what_transposed_convolutions_give(case: _Case, size: tuple[int, int, int]) -> None:
    n, h, w = size
    x = torch.randn(n, 4, h, w)
    expected = case.network(x)
    torch.testing.assert_close(case.form(x), expected, rtol=1e-4, atol=1e-4)
    (result,) = ort.InferenceSession(case.phased).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-4, atol=1e-4)


def test_the_form_costs_and_looks_as_far_as_the_layers_and_takes_less_memory(case: _Case) -> None:
    sizes = {"n": 1, "h": 8, "w": 8}
    assert macs(case.phased, sizes) == macs(case.plain, sizes)
    assert workspace_bytes(case.phased, sizes) < 0.7 * workspace_bytes(case.plain, sizes)
    plain, phased = (halo(onnx.load_from_string(d), *case.ports, case.factor) for d in (case.plain, case.phased))
    assert plain is not None and plain == phased
    assert len(case.phased) < len(case.plain) + 20_000, "weights are not held twice"


@pytest.mark.parametrize(
    "layers",
    [
        [_up(4, 4, 5, 2), nn.ConvTranspose2d(4, 3, (5, 3), 2, (2, 1), 1)],
        [_up(4, 4, 5, 2), nn.ConvTranspose2d(4, 3, 5, 2, 0)],
        [_up(4, 4, 5, 2), nn.ConvTranspose2d(4, 3, 4, 4, 0)],
        [_up(4, 3, 5, 2)],
    ],
    ids=["not square", "another size", "begins at 0", "one alone"],
)
def test_what_has_no_such_form_is_refused(layers: list[nn.Module]) -> None:
    with pytest.raises(ValueError, match="phases"):
        in_phases(nn.Sequential(*layers))

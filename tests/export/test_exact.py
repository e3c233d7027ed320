"""Exact lowering: refusals, and the same integers from the reference, PyTorch and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import nn  # noqa: E402

from nicrt.export.exact import (  # noqa: E402
    MAX_SUM,
    NOT_CODED,
    ExactNetwork,
    FloatLayer,
    largest_sums,
    lower_first_layer,
    lower_hyper_synthesis,
    lower_layer,
)
from nicrt.export.exact_form import exact_module  # noqa: E402
from nicrt.export.exact_reference import reference  # noqa: E402
from nicrt.export.integers_torch import int8_weights  # noqa: E402
from nicrt.export.models.entropy import HyperSynthesis  # noqa: E402
from nicrt.export.models.shallow import Shallow  # noqa: E402
from nicrt.export.native_torch import NativeModule  # noqa: E402
from nicrt.export.onnx_export import export_module  # noqa: E402
from nicrt.export.proving import sessions  # noqa: E402
from nicrt.runtime.errors import UnsupportedError  # noqa: E402
from nicrt.runtime.manifest import Port  # noqa: E402

SIZES = ((1, 1), (3, 5), (4, 2))
SETTINGS = ((0, 0, 3), (-37, 9, 0), (50, 64, 6), (128, 3, 1), (0, 0, 4))  # step, skip, dz


def _latents(channels: int, size: tuple[int, int], extremes: bool) -> np.ndarray:
    generator = np.random.default_rng(11)
    shape = (1, channels, *size)
    values = generator.choice([-127, 127], shape) if extremes else generator.integers(-127, 128, shape)
    return values.astype(np.int32)


def _ports(channels: int, latents: int) -> tuple[dict[str, Port], dict[str, Port]]:
    inputs = {
        "z": Port("int32", [1, channels, "h", "w"]),
        "step": Port("int32", [1]),
        "skip": Port("int32", [1]),
        "dz": Port("int32", [1]),
    }
    outputs = {
        "index": Port("uint8", [1, latents, "4h", "4w"]),
        "mean": Port("float32", [1, latents, "4h", "4w"]),
    }
    return inputs, outputs


def _lower(layer: nn.Module, input_bound: int = 255) -> object:
    return lower_layer(FloatLayer.of("head", layer), 1.0, 1.0, input_bound=input_bound, activation=False)


def test_a_layer_beyond_the_bound_is_refused_by_name_and_channel() -> None:
    layer = nn.Conv2d(600, 3, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, 0] = 1
        layer.weight[1] = 1
    with pytest.raises(UnsupportedError, match=r"head: the sums of channel 1 can reach 1\.1\d of 2\^24"):
        _lower(layer)
    _lower(layer, input_bound=200)


def test_a_huge_bias_is_refused() -> None:
    layer = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.bias[1] = 1e9
    with pytest.raises(UnsupportedError, match="bias of channel 1"):
        _lower(layer)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3),
        nn.Conv2d(2, 2, 3, stride=2),
        nn.ConvTranspose2d(2, 2, 3, padding=1),
        nn.ConvTranspose2d(2, 2, 4, 2, groups=2),
    ],
    ids=["k3 unpadded", "k3 s2", "transposed k3", "groups"],
)
def test_layers_that_may_run_inexactly_are_refused(layer: nn.Module) -> None:
    with pytest.raises(UnsupportedError):
        _lower(layer)


def test_the_bound_of_a_transposed_convolution_is_reached_and_never_passed(
    small_network: ExactNetwork,
) -> None:
    layer = small_network.first[0]
    sign = np.sign(layer.weight.astype(np.int64))
    bound = largest_sums(layer, 127)
    for channel in range(layer.weight.shape[1]):
        reached = 0
        for row in range(2):
            for column in range(2):
                # inputs around one output place, all with the sign of the weight that meets it
                taps = layer.weight[:, channel, row::2, column::2].astype(np.int64)
                inputs = 127 * sign[:, channel, row::2, column::2]
                reached = max(reached, abs(int((taps * inputs).sum())) + abs(int(layer.bias[channel])))
        assert reached == bound[channel]


@pytest.mark.parametrize("extremes", [False, True])
def test_reference_torch_and_every_optimisation_level_agree(small_network: ExactNetwork, extremes: bool) -> None:
    module = exact_module(small_network)
    inputs, outputs = _ports(4, 3)
    data = export_module(module, inputs, outputs, int8_weights(module))
    _compare(small_network, module, data, 4, extremes)


def test_the_shipped_network_agrees_too(model: Shallow, fresh: Path) -> None:
    network = lower_hyper_synthesis(model.hyper_synthesis, 127)
    assert max(network.shares().values()) < 1
    _compare(network, exact_module(network), (fresh / "graphs" / "hyper.onnx").read_bytes(), 128, True)


def _compare(network: ExactNetwork, module: NativeModule, data: bytes, channels: int, extremes: bool) -> None:
    expected = {}
    for size in SIZES:
        z = _latents(channels, size, extremes)
        for setting in SETTINGS:
            index, mean = expected[size, setting] = reference(network, z, *setting)
            scalars = [torch.tensor([value], dtype=torch.int32) for value in setting]
            got = module(torch.from_numpy(z), *scalars)
            np.testing.assert_array_equal(got[0].numpy(), index)
            np.testing.assert_array_equal(got[1].numpy(), mean)
    for level, session in sessions(data):
        for (size, setting), (index, mean) in expected.items():
            z = _latents(channels, size, extremes)
            numbers = zip(("step", "skip", "dz"), setting, strict=True)
            feeds = {"z": z, **{name: np.array([value], np.int32) for name, value in numbers}}
            got = session.run(["index", "mean"], feeds)
            np.testing.assert_array_equal(got[0], index, err_msg=level)
            np.testing.assert_array_equal(got[1], mean, err_msg=level)


def test_step_moves_the_index_and_skip_hides_it(small_network: ExactNetwork) -> None:
    z = _latents(4, (3, 5), False)
    plain, mean = reference(small_network, z, 0, 0, 3)
    assert plain.max() < 64
    finer, same_mean = reference(small_network, z, -8, 0, 3)
    np.testing.assert_array_equal(finer, np.minimum(plain.astype(int) + 1, 63)[...])
    np.testing.assert_array_equal(mean, same_mean)
    threshold = int(np.median(plain)) + 1
    hidden, _ = reference(small_network, z, 0, threshold, 3)
    np.testing.assert_array_equal(hidden, np.where(plain < threshold, NOT_CODED, plain))


@pytest.mark.parametrize("dz", range(7))
def test_the_z_step_scales_what_symbols_stand_for(dz: int) -> None:
    """Symbols n at step s are the float network at n * s, as far as 8 bits go."""
    torch.manual_seed(8)
    model = HyperSynthesis(8, 5, hidden=(12, 16)).requires_grad_(False)
    step = 2 ** ((dz - 3) / 2)
    z = np.rint(np.random.default_rng(2).normal(0, 6, (1, 8, 3, 4)) / step).astype(np.int32)
    mean, index = model(torch.from_numpy(z * step).float())
    lowered_index, lowered_mean = reference(lower_hyper_synthesis(model, 127), z, 0, 0, dz)
    assert np.abs(lowered_index - index.clamp(0, 63).numpy()).max() < 1
    assert np.abs(lowered_mean - mean.numpy()).max() < 0.05


def test_all_z_steps_share_the_integer_weights_and_keep_to_the_bound(small_network: ExactNetwork) -> None:
    first = small_network.first
    assert len(first) == 7
    for layer in first:
        np.testing.assert_array_equal(layer.weight, first[0].weight)
        assert largest_sums(layer, 127).max() < MAX_SUM
    np.testing.assert_allclose(first[5].multiplier, 2 * first[3].multiplier, rtol=1e-7)
    conv = nn.ConvTranspose2d(1, 1, 5, 2, padding=2, output_padding=1)
    with torch.no_grad():
        conv.weight.fill_(1)
        conv.bias.fill_(0.99 * MAX_SUM / 127)  # within the bound at step 1, beyond it at 2^-1.5
    layer = FloatLayer.of("head", conv)
    lower_layer(layer, 1.0, 1.0, input_bound=1, activation=True)
    with pytest.raises(UnsupportedError, match="head: the bias of channel 0"):
        lower_first_layer(layer, 1.0, 1)


def test_lowering_stays_near_the_float_network() -> None:
    torch.manual_seed(7)
    model = HyperSynthesis(8, 5, hidden=(12, 16)).requires_grad_(False)
    z = _latents(8, (4, 6), False) // 16
    mean, index = model(torch.from_numpy(z).float())
    lowered_index, lowered_mean = reference(lower_hyper_synthesis(model, 127), z, 0, 0, 3)
    assert np.abs(lowered_index - index.clamp(0, 63).numpy()).max() < 1
    assert np.abs(lowered_mean - mean.numpy()).max() < 0.05

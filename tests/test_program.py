"""The program language, by a bundle of hand-written graphs whose every symbol and pixel NumPy can predict."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from engine_runs import coded_streams, encoded_streams
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nicrt
import synthetic
from nicrt import _core
from nicrt.runtime import manifest as m
from nicrt.runtime.pictures import from_array, resample

Size = tuple[int, int]


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> nicrt.Codec:
    return nicrt.load(synthetic.layered(tmp_path_factory.mktemp("bundles") / "layered"), threads=1)


def encode_layers(
    codec: nicrt.Codec, picture: np.ndarray, sizes: list[Size], floor: int = 0, table_set: int = 0, effort: int = 5
) -> bytes:
    """Encode with any list of sizes, without what `Codec.encode` refuses: the last is to be the picture's."""
    variant = codec.bundle.manifest.variants["only"]
    values = {"layers": [side for size in sizes for side in size], "set": [table_set], "floor": [floor]}
    streams = encoded_streams(codec, "only", from_array(picture), values, 32, 64, effort)
    height, width = picture.shape[:2]
    ids = bytes.fromhex(variant.symbol_id), bytes.fromhex(variant.picture_id)
    return _core.write(*ids, width, height, 32, list(values.values()), streams)


def blocks(picture: np.ndarray, size: Size, step: float, floor: bool = False) -> np.ndarray:
    """What graph_analysis makes: float64 [3, h, w]."""
    pixels = resample(from_array(picture), size).astype(np.float64)
    pad = [(0, -side % 8) for side in size]
    padded = np.pad(pixels, [*pad, (0, 0)], mode="edge")
    height, width = padded.shape[:2]
    means = padded.reshape(height // 4, 4, width // 4, 4, 3).mean(axis=(1, 3)).transpose(2, 0, 1) * (255 / step)
    return np.floor(means) if floor else np.rint(means)


def shown(symbols: np.ndarray, size: Size, step: float) -> np.ndarray:
    wide = np.clip(symbols * step, 0, 255).repeat(4, axis=1).repeat(4, axis=2)
    return wide.transpose(1, 2, 0)[: size[0], : size[1]].astype(np.uint8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    smaller=st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), max_size=3),
    with_layers=st.booleans(),
    floor=st.integers(0, 4),
    table_set=st.integers(0, 1),
    effort=st.integers(1, 6),
)
def test_every_stage_shows_what_numpy_predicts(
    codec: nicrt.Codec, size: Size, smaller: list[Size], with_layers: bool, floor: int, table_set: int, effort: int
) -> None:
    layers = [*smaller, size] if with_layers else []
    smooth = np.add.outer(np.arange(size[0]) * 3, np.arange(size[1]) * 2)[:, :, None] + np.array([0, 40, 90])
    picture = (smooth % 256).astype(np.uint8)
    data = encode_layers(codec, picture, layers, floor, table_set, effort)

    tolerance = 8  # one symbol: the graph's float32 mean may fall on the other side of a half
    base = shown(blocks(picture, size, 8, floor=effort < 5), size, 8)
    assert np.abs(codec.decode(data, stage=1).astype(int) - base).max() <= tolerance
    for number, layer in enumerate(layers):
        index = np.minimum(np.abs(blocks(picture, layer, 64)), 3)
        symbols = np.where(index < floor, 0, blocks(picture, layer, 4))
        got = codec.decode(data, stage=number + 2).astype(int)
        wrong = np.abs(got - shown(symbols, layer, 4)) > 4
        assert wrong.mean() <= 0.05  # places where u itself fell on the other side
    assert codec.decode(data).shape[:2] == size


def test_partial_decoding_of_a_truncated_file(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    layers = [(40, 60), (160, 240)]
    data = encode_layers(codec, harbour, layers)
    whole = nicrt.info(data)
    first = whole.header_bytes + sum(whole.stream_bytes[0])
    second = first + sum(whole.stream_bytes[1])
    for size in (whole.header_bytes, first - 1):
        with pytest.raises(nicrt.TruncatedError):
            codec.decode(data[:size], partial=True)
    for size in (first, second - 1, second, len(data) - 1):
        stages = 1 if size < second else 2
        with pytest.raises(nicrt.TruncatedError):
            codec.decode(data[:size])
        assert nicrt.info(data[:size]).complete_stages == stages
        np.testing.assert_array_equal(codec.decode(data[:size], partial=True), codec.decode(data, stage=stages))
        np.testing.assert_array_equal(codec.decode(data[:size], stage=stages), codec.decode(data, stage=stages))


def test_stages_must_be_those_of_the_program(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    variant = codec.bundle.manifest.variants["only"]
    ids = bytes.fromhex(variant.symbol_id), bytes.fromhex(variant.picture_id)
    values = {"layers": [160, 240], "set": [0], "floor": [0]}
    streams = encoded_streams(codec, "only", from_array(harbour), values, 32, 64)
    parameters = list(values.values())

    def write(parameters: list[list[int]], stages: list[list[_core.EncodedStream]], tile: int = 32) -> bytes:
        return _core.write(*ids, 240, 160, tile, parameters, stages)

    codec.decode(write(parameters, streams))
    for bad in (
        write(parameters, streams[:1]),
        write(parameters, [*streams, streams[0]]),
        write(parameters, [streams[1], streams[0]]),
        write(parameters, [streams[0], streams[1][:1]]),
        write(parameters, [streams[0], [*streams[1], streams[1][0]]]),
        write(parameters, streams, tile=64),
        write(parameters, streams, tile=30),
        write(parameters[:2], streams),
        write([[160, 240], [2], [0]], streams),
        write([[40], [0], [0]], streams),
        write([[40, 0], [0], [0]], streams),
        write([[160, 240], [0, 0], [0]], streams),
        write([[1 << 25, 60], [0], [0]], streams),
        write([[40, 60], [0], [0]], streams),  # shows another size than the header's
    ):
        with pytest.raises(nicrt.CorruptError):
            codec.decode(bad)


def test_values_outside_an_exact_graphs_range_are_refused() -> None:
    shallow, picture = nicrt.load("shallow", threads=1), np.zeros((64, 64, 3), np.float32)
    name = next(iter(shallow.bundle.manifest.variants))
    values = _core.default_values(shallow.bundle.core, name, (64, 64))
    symbols = [coded.symbols.copy() for coded in coded_streams(shallow, name, picture, values)[0]]
    low, high = shallow.bundle.manifest.graphs["hyper"].inputs["z"].range
    for value in (low, high):
        symbols[0][1, 0, 0] = value
        coded_streams(shallow, name, picture, values, given=symbols)
    for value in (low - 1, high + 1):
        symbols[0][1, 0, 0] = value
        with pytest.raises(nicrt.CorruptError, match=f"'z' of graph 'hyper' are outside {low}..{high}"):
            coded_streams(shallow, name, picture, values, given=symbols)


@pytest.mark.parametrize("quality", [0, 50, 100])
def test_bands_sizes_and_parameters_of_a_round(tmp_path: Path, harbour: np.ndarray, quality: float) -> None:
    codec = nicrt.load(synthetic.banded(tmp_path / "banded"), threads=1)
    data = codec.encode(harbour, quality=quality, scales=[1, 2.5, 5], parameters={"sets": [1, 0, 1]})
    facts = nicrt.info(data)
    weights = facts.parameters[1]
    assert weights == {0: [1, 2, 3], 50: [3, 2, 6], 100: [5, 2, 9]}[quality]
    assert facts.parameters[0] == [32, 48, 80, 120, 160, 240] and facts.stages == 3
    for stage, (height, width) in enumerate([(32, 48), (80, 120), (160, 240)]):
        ramp = np.add.outer(np.arange(height) * weights[stage], np.arange(width)) + height
        expected = np.repeat((ramp % 251).astype(np.uint8)[:, :, None], 3, axis=2)
        np.testing.assert_array_equal(codec.decode(data, stage=stage + 1), expected)
    with pytest.raises(ValueError, match="layers"):  # a fourth layer has no weight
        codec.encode(harbour, scales=[1, 2, 3, 4])
    for scales in ([2, 1], [0, 1], []):
        with pytest.raises(ValueError):
            codec.encode(harbour, scales=scales)


def test_lists_of_sizes_and_of_numbers(tmp_path: Path, harbour: np.ndarray) -> None:
    """A list of exactly one size, one of any number, and a list of numbers that goes on with its last."""
    codec = nicrt.load(synthetic.banded(tmp_path / "banded", base=True), threads=1)
    for scales, layers in (([1], []), ([1, 2.5], [160, 240]), ([1, 2, 4], [80, 120, 160, 240])):
        data = codec.encode(harbour, scales=scales, parameters={"weight": [1, 4]})
        first, rest, weight, _ = nicrt.info(data).parameters
        assert rest == layers and weight == [1, 4, 4]
        assert codec.decode(data, stage=1).shape[:2] == tuple(first) == (160 / scales[-1], 240 / scales[-1])
        assert codec.decode(data).shape[:2] == (160, 240)
    for parameters in ({"base": []}, {"base": [2, 2, 4, 4]}, {"weight": [1, 2, 3, 4]}):
        with pytest.raises(ValueError):
            codec.encode(harbour, parameters=parameters)
    alone = nicrt.load(synthetic.banded(tmp_path / "alone"), threads=1)
    with pytest.raises(ValueError, match="no layer"):
        alone.encode(harbour, parameters={"layers": []})


def test_encoding_like_another_file(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    first = codec.encode(harbour, scales=[1, 3], parameters={"floor": 2})
    again = codec.encode(harbour, like=first)
    assert again == first
    assert nicrt.info(first).parameters == [[53, 80, 160, 240], [0], [2]]
    smaller = codec.encode(harbour[:80], like=first)  # its layers have the same shares of another size
    assert nicrt.info(smaller).parameters == [[26, 80, 80, 240], [0], [2]]
    assert codec.decode(smaller).shape == (80, 240, 3)


def test_variants_are_found_by_name(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    assert codec.encode(harbour, variant="only") == codec.encode(harbour)
    with pytest.raises(ValueError, match="only"):
        codec.encode(harbour, variant="96")


def test_a_bundle_without_encoder_graphs_only_decodes(codec: nicrt.Codec, tmp_path: Path, harbour: np.ndarray) -> None:
    def without(program: m.Program, stages: int) -> m.Program:
        """The program without the encoder's steps of its first stages."""
        kept = [
            msgspec.structs.replace(stage, steps=[s for s in stage.steps if isinstance(s, m.Entropy) or not s.enc])
            for stage in program.stages[:stages]
        ]
        return msgspec.structs.replace(program, stages=[*kept, *program.stages[stages:]])

    def written(name: str, program: m.Program, graphs: dict[str, synthetic.Parts]) -> Path:
        return synthetic.write_bundle(tmp_path / name, name, graphs, program, {"floor": 4}, {"floor": 0})

    program = synthetic.layered_program()
    graphs = {name: parts for name, parts in synthetic.LAYERED_GRAPHS.items() if "y" not in parts[2]}
    decoder = nicrt.load(written("decoder", without(program, 2), graphs), threads=1)
    data = encode_layers(codec, harbour, [(40, 60), (160, 240)])
    for stage in (1, 2, 3):
        np.testing.assert_array_equal(decoder.decode(data, stage=stage, strict=True), codec.decode(data, stage=stage))
    decoder.verify(data)
    with pytest.raises(nicrt.UnsupportedError, match="only decodes"):
        decoder.encode(harbour)
    with pytest.raises(nicrt.UnsupportedError, match="no encoder step writes 'y'"):
        nicrt.load(written("half", without(program, 1), synthetic.LAYERED_GRAPHS))

"""Plans: what a program will do for a picture holds together before anything runs, for every bundle and any request."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nicrt
import synthetic
from nicrt import _core
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.choose import Wish, choose
from nicrt.runtime.errors import CorruptError, LimitError, UnsupportedError
from nicrt.runtime.installed import SHIPPED

BUNDLES = sorted(path.parent.name for path in SHIPPED.glob("*/manifest.json"))
MIN_WINDOWED = 4 << 20
Edges = tuple[int, int, int, int]


def _area(rect: Edges) -> int:
    return (rect[2] - rect[0]) * (rect[3] - rect[1])


def _within(inner: Edges, outer: Edges) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def _reads(step: _core.GraphStep | _core.EntropyStep) -> list[int]:
    if isinstance(step, _core.GraphStep):
        return [source.tensor for source in step.inputs if source.kind == "tensor"]
    return [tensor for tensor in (step.symbols, step.index) if tensor is not None]


def _makes(step: _core.GraphStep | _core.EntropyStep) -> list[int]:
    return [tensor for _, tensor in step.outputs] if isinstance(step, _core.GraphStep) else [step.out]


def _check(plan: _core.Plan) -> None:
    """Tensors are there from the step that makes them to the one that reads them last; calls tile what a step makes."""
    tensors, alive = plan.tensors, set[int]()
    for step in plan.steps:
        if not step.needed:
            continue
        height, width = plan.rounds[step.round].padded
        bounds = (0, 0, height, width)
        assert _within(step.rect, bounds) and set(_reads(step)) <= alive
        alive |= set(_makes(step))
        for number in _makes(step):
            tensor = tensors[number]
            if tensor.stride:
                extents = tensor.rect[2] - tensor.rect[0], tensor.rect[3] - tensor.rect[1]
                assert [tensor.shape[axis] * tensor.stride for axis in tensor.axes] == list(extents)
        if isinstance(step, _core.GraphStep):
            kept = [call[1] for call in step.calls]
            if step.banded:
                assert [call[2] for call in step.calls] == [0, *(call[3] for call in step.calls[:-1])]
                assert step.calls[-1][3] == height
            else:
                assert sum(map(_area, kept)) == _area(step.rect)
            for around, window, _, _ in step.calls:
                assert _within(window, around) and _within(window, step.rect) and _within(around, bounds)
        else:
            assert step.whole[1:] == (-(-height // step.stride), -(-width // step.stride))
        assert set(step.dies) <= alive
        alive -= set(step.dies)
    assert alive == (set() if plan.shown is None else {plan.shown})


def _requests(core: _core.Bundle, bundle: Bundle, seed: int) -> Iterator[tuple[str, dict[str, list[int]], dict]]:
    rng = random.Random(seed)
    for name, variant in bundle.manifest.variants.items():
        for limit in (90, 90, 700, 4000):
            size = rng.randint(1, limit), rng.randint(1, limit)
            layered = any(p.is_sizes for p in variant.program.parameters)
            scales = sorted(rng.sample([0.1, 0.25, 0.5, 0.75, 1.0], rng.randint(1, 3))) if layered else None
            _, values = choose(bundle, Wish(rng.uniform(0, 100), name, scales), size)
            rounds = _core.rounds_of(core, name, values, size)
            last = rng.randrange(len(rounds))
            top, left = (rng.randrange(side) for side in rounds[last].size)
            bottom, right = (rng.randint(a + 1, side) for a, side in zip((top, left), rounds[last].size, strict=True))
            common = {"size": size, "tile": rng.choice([0, 512]), "batch": rng.choice([1, 1, 3])}
            yield name, values, common | {"encode": True, "effort": rng.randint(1, 9)}
            yield name, values, common | {"rounds": last + 1}
            yield name, values, common | {"rounds": last + 1, "show": False}
            yield name, values, common | {"rounds": last + 1, "region": (top, left, bottom, right)}


@pytest.mark.parametrize("name", BUNDLES)
def test_plans_of_every_bundle_hold_together(name: str) -> None:
    bundle = Bundle.open(SHIPPED / name)
    for variant, values, request in _requests(bundle.core, bundle, 5):
        plan = _core.plan(bundle.core, variant, values, **request)
        _check(plan)
        assert plan.memory_bytes > 0


@pytest.mark.parametrize("name", BUNDLES)
def test_a_region_gives_the_calls_of_the_whole_picture_or_parts_of_them(name: str) -> None:
    bundle = Bundle.open(SHIPPED / name)
    variant = next(reversed(bundle.manifest.variants))
    size, region = (2300, 2900), (600, 500, 1900, 1537)
    values = _core.default_values(bundle.core, variant, size)
    whole = _core.plan(bundle.core, variant, values, size, tile=512)
    part = _core.plan(bundle.core, variant, values, size, tile=512, region=region)
    _check(part)
    for step, cut in zip(whole.steps, part.steps, strict=True):
        if not cut.needed or isinstance(cut, _core.EntropyStep):
            continue
        for around, window, *rows in cut.calls:
            found = [call for call in step.calls if _within(window, call[1]) and list(call[2:]) == rows]
            assert len(found) == 1 and _within(around, found[0][0]), (cut.graph, window)


def test_small_pictures_and_their_regions_run_in_one_call(codec: nicrt.Codec) -> None:
    values = _core.default_values(codec.bundle.core, "shallow", (1500, 1500))
    for region in (None, (3, 5, 1400, 1300)):
        plan = _core.plan(codec.bundle.core, "shallow", values, (1500, 1500), tile=512, region=region)
        assert all(len(step.calls) == 1 for step in plan.steps if isinstance(step, _core.GraphStep))


def test_the_plan_of_a_known_program(codec: nicrt.Codec) -> None:
    core = codec.bundle.core
    values = _core.default_values(core, "shallow", (100, 70))
    plan = _core.plan(core, "shallow", values, (100, 70), tile=512)
    z, hyper, y, synthesis = plan.steps
    assert isinstance(z, _core.EntropyStep) and isinstance(y, _core.EntropyStep)
    assert isinstance(hyper, _core.GraphStep) and isinstance(synthesis, _core.GraphStep)
    assert (z.name, z.whole, z.sets, z.index) == ("z", (128, 2, 2), [3], None)
    assert (y.name, y.whole, y.stream) == ("y", (320, 8, 8), 1)
    assert (hyper.graph, hyper.unit, hyper.symbols) == ("hyper", 64, {"n": 1, "h": 2, "w": 2})
    assert [(source.port, source.kind, source.values) for source in hyper.inputs if source.kind == "parameter"] == [
        ("step", "parameter", [0]), ("skip", "parameter", [8]), ("dz", "parameter", [3]),
    ]  # fmt: skip
    index, mean = (plan.tensors[tensor] for _, tensor in hyper.outputs)
    assert (index.name, index.dtype, index.shape, index.stride) == ("index", "uint8", (1, 320, 8, 8), 16)
    assert (index.first_step, index.last_step, mean.last_step) == (1, 2, 3)
    assert plan.tensors[y.index].name == "index" and [plan.tensors[t].name for t in y.dies] == ["index"]
    assert synthesis.calls == [((0, 0, 128, 128), (0, 0, 128, 128), 0, 128)]
    shown = plan.tensors[plan.shown]
    assert (shown.shape, shown.last_step, plan.region) == ((1, 128, 128, 3), None, (0, 0, 100, 70))


def test_a_batch_of_graphs_that_take_one_picture_runs_one_by_one(tmp_path: Path) -> None:
    core = _core.Bundle.open(str(synthetic.layered(tmp_path / "layered")))
    values = _core.default_values(core, "only", (40, 40))
    plan = _core.plan(core, "only", values, (40, 40), batch=3)
    _check(plan)
    assert plan.tensors[plan.shown].shape[0] == 3
    graphs = [step for step in plan.steps if isinstance(step, _core.GraphStep)]
    assert all(step.one_by_one for step in graphs if any(source.per_picture for source in step.inputs))


def test_what_does_not_fit_is_refused(codec: nicrt.Codec) -> None:
    core = codec.bundle.core
    values = _core.default_values(core, "shallow", (64, 64))

    def plan(**changed: object) -> _core.Plan:
        request = {"variant": "shallow", "values": values, "size": (64, 64)} | changed
        return _core.plan(core, **request)  # type: ignore[arg-type]

    for wrong in (
        {"region": (0, 0, 65, 64)}, {"region": (-1, 0, 5, 5)}, {"region": (5, 5, 5, 9)},
        {"show": False, "region": (0, 0, 1, 1)}, {"size": (0, 5)}, {"size": (64, (1 << 24) + 1)},
        {"batch": 0}, {"tile": 96}, {"rounds": 0}, {"variant": "other"}, {"values": {}},
        {"values": values | {"gain": [701]}}, {"values": values | {"gain": []}},
        {"values": values | {"gain": [1 << 40]}}, {"values": values | {"more": [1]}},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            plan(**wrong)
    with pytest.raises(TypeError):
        plan(values=values | {"gain": ["x"]})
    with pytest.raises(ZeroDivisionError):  # of the function that is asked
        plan(workspace=lambda graph: 1 / 0)
    compass = _core.Bundle.open(str(SHIPPED / "compass"))
    with pytest.raises(ValueError, match="last layer"):
        _core.plan(compass, "compass", _core.default_values(compass, "compass", (64, 64)), (65, 64))


def test_a_picture_of_too_many_calls_is_refused(tmp_path: Path) -> None:
    core = _core.Bundle.open(str(synthetic.banded(tmp_path / "banded")))
    size = (1 << 24, 1 << 24)
    with pytest.raises(LimitError, match="too large"):
        _core.plan(core, "only", _core.default_values(core, "only", size), size)


def test_values_are_those_that_the_program_takes() -> None:
    compass = _core.Bundle.open(str(SHIPPED / "compass"))
    values = _core.default_values(compass, "compass", (101, 67))
    assert values["base"] == [25, 17] and values["layers"] == [50, 34, 101, 67]  # 50.5 and 33.5: to even
    _core.check_values(compass, "compass", values)
    for wrong in ({"base": [25]}, {"base": []}, {"base": [25, 17, 25, 17]}, {"layers": [0, 3]}, {"step": [0] * 14}):
        with pytest.raises(ValueError):
            _core.check_values(compass, "compass", values | wrong)
    with pytest.raises(ValueError, match="at most 2 sizes"):
        _core.check_values(compass, "compass", values | {"layers": [1, 1] * 3}, max_stages=2)
    with pytest.raises(LimitError, match="beyond the limit of 1000 pixels"):
        _core.check_values(compass, "compass", values, max_pixels=1000)
    with pytest.raises(ValueError, match="'step' has 15 values for 16 layers"):
        _core.check_values(compass, "compass", values | {"layers": [101, 67] * 16})


def test_choosing(codec: nicrt.Codec) -> None:
    bundle = codec.bundle
    low, high = (choose(bundle, Wish(quality), (64, 64))[1] for quality in (0, 100))
    assert low["gain"] < high["gain"]
    points = {point.quality: point.parameters for point in bundle.manifest.quality}
    for quality, parameters in points.items():
        _, values = choose(bundle, Wish(quality), (64, 64))
        assert all(values[name] == [value] for name, value in parameters.items())
    assert choose(bundle, Wish(parameters={"gain": 9}), (64, 64))[1]["gain"] == [9]
    slim = Bundle.open(SHIPPED / "slim")
    assert choose(slim, Wish(30, "96"), (64, 64))[0] == "w96"
    compass = Bundle.open(SHIPPED / "compass")
    _, values = choose(compass, Wish(scales=[1, 2, 4], parameters={"step": [1, 2]}), (64, 32))
    assert (values["base"], values["layers"]) == ([16, 8], [32, 16, 64, 32]) and values["step"] == [1] + [2] * 14
    for wrong in (
        Wish(-1), Wish(101), Wish(float("nan")), Wish(variant="w7"), Wish(scales=[1, 2]), Wish(parameters={"other": 1}),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            choose(bundle, wrong, (64, 64))
    for scales in ([], [0.0, 1.0], [2, 1], [1, 1]):
        with pytest.raises(ValueError, match="rising"):
            choose(compass, Wish(scales=scales), (64, 64))


def test_a_file_is_held_against_its_program(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    data = codec.encode(harbour, tile=64)
    file = _core.parse(data)
    name, values, rounds = _core.open_file(codec.bundle.core, file)
    assert (name, rounds[0].size, rounds[0].padded) == ("shallow", harbour.shape[:2], (192, 256))
    assert list(values.values()) == file.parameters
    with pytest.raises(nicrt.WrongBundleError, match="not with 'slim'"):
        _core.open_file(_core.Bundle.open(str(SHIPPED / "slim")), file)
    places = 1, 1, 1
    stream = _core.encode_stream(
        codec.bundle.core.codebook("y"), np.zeros(places, np.int32), np.zeros(places, np.uint8), 0, 512, 1
    )
    fit = [[1], [0], [8], [3]]
    for parameters, stages, tile, message in (
        ([], [[stream]], 0, "sets 0 parameters, its program has 4"),
        ([[701], *fit[1:]], [[stream]], 0, "'gain' is outside 0..700"),
        ([[1, 2], *fit[1:]], [[stream]], 0, "'gain' has 2 values"),
        (fit, [[stream]] * 2, 0, "2 stages, its program 1"),
        (fit, [[stream]], 0, "1 streams, its program 2"),
        (fit, [[stream] * 2], 96, "do not fit the bundle's stride 64"),
        (fit, [[stream] * 2], 64, "a stream of 1 tiles, where the picture has 2"),
    ):
        broken = _core.parse(_core.write(file.symbol_id, file.picture_id, 65, 64, tile, parameters, stages))
        with pytest.raises(CorruptError, match=message):
            _core.open_file(codec.bundle.core, broken)


def test_most_pixels_are_those_of_the_largest_plan_within_memory() -> None:
    core = _core.Bundle.open(str(SHIPPED / "flow"))
    memory_bytes = 1 << 30
    pixels = _core.most_pixels(core, "flow", 1 << 40, memory_bytes)
    side = round(pixels**0.5)
    assert side * side == pixels

    def needed(side: int) -> int:
        size = side, side
        return _core.plan(core, "flow", _core.default_values(core, "flow", size), size).memory_bytes

    assert needed(side) <= memory_bytes < needed(side + 1)
    assert _core.most_pixels(core, "flow", 10_000, memory_bytes) == 10_000
    assert _core.most_pixels(core, "flow", 10_001, memory_bytes) == 10_000
    assert _core.most_pixels(core, "flow", 1 << 26, 1000) == 0


def test_a_bundle_without_an_encoder_plans_no_encoder(tmp_path: Path) -> None:
    from tiny_bundle import tiny

    changed = tiny().copy()
    (variant,) = changed.manifest["variants"].values()
    (stage,) = variant["program"]["stages"]
    stage["steps"] = [step for step in stage["steps"] if not step.get("enc")]
    core = _core.Bundle.open(str(changed.bound().write(tmp_path / "decoder")))
    (name,) = changed.manifest["variants"]
    values = _core.default_values(core, name, (9, 9))
    _check(_core.plan(core, name, values, (9, 9)))
    with pytest.raises(UnsupportedError, match="only decodes"):
        _core.plan(core, name, values, (9, 9), encode=True)

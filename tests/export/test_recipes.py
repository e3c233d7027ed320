"""The recipes: losses fall, runs go on as if nothing had happened, checkpoints export."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from safetensors.torch import load_file, save_file  # noqa: E402

import nicrt  # noqa: E402
from nicrt.export.cli import export_family, recipe_facts  # noqa: E402
from nicrt.export.models.compass import Compass  # noqa: E402
from nicrt.export.models.entropy import clamped  # noqa: E402
from nicrt.export.models.flow import Flow  # noqa: E402
from nicrt.export.models.mean_scale import MeanScale  # noqa: E402
from nicrt.export.models.shallow import Shallow  # noqa: E402
from nicrt.export.models.side_information import Z_LIMIT, SideInformation  # noqa: E402
from nicrt.export.models.slim import WIDTHS, Slim  # noqa: E402
from nicrt.export.recipes import (  # noqa: E402
    compass,
    data,
    flow,
    loop,
    mean_scale,
    shallow,
    side,
    slim,
    transforms,
    variants,
)
from nicrt.export.recipes.__main__ import main  # noqa: E402
from nicrt.export.recipes.data import Photos  # noqa: E402
from nicrt.export.recipes.families import RECIPES  # noqa: E402

Bases = dict[str, dict[str, torch.Tensor]]

STEPS = 12
BASES = {"shallow-deep": "shallow", **dict.fromkeys(variants.TRAINED, "shallow")}
BASES |= {"slim-scalable": "slim", "slim-side": "slim", "compass": "mean-scale", "flow-side": "flow"}
"""Recipe → what it starts from here; the others start from nothing."""


KINDS = {
    "shallow-deep": shallow.ShallowRecipe,
    "slim": slim.SlimRecipe,
    "mean-scale": mean_scale.MeanScaleRecipe,
    "compass": compass.CompassRecipe,
    "flow-side": side.FlowSideRecipe,
}


@pytest.fixture(scope="module", autouse=True)
def _small() -> None:
    """Steps of a few milliseconds."""
    patch = pytest.MonkeyPatch()
    for module in (compass, flow, mean_scale, shallow, side, slim):
        patch.setattr(module, "BATCH", 2)
        patch.setattr(module, "CROP", 64)
    patch.setattr(compass, "LEAST_SIDE", 32)
    patch.setattr(side, "START_CROPS", 2)
    patch.setattr(data, "BLOCKS", 300)
    patch.setattr(transforms, "FIT_STEPS", 30)
    patch.setattr(variants, "FIT_BATCHES", 4)
    patch.setattr(variants, "FIT_CROP", 64)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two smooth pictures with some detail, and one that is too small."""
    random = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("photos")
    for number, length in enumerate((256, 300, 40)):
        coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize((length, length), Image.BICUBIC)
        noisy = np.asarray(coarse) + random.normal(0, 4, (length, length, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path / f"{number}.png")
    return path


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return Photos(folder)


@pytest.fixture(scope="module")
def bases(photos: Photos) -> Bases:
    """Untrained models."""
    torch.manual_seed(0)
    made = {name: RECIPES[name](photos, None).model.state_dict() for name in set(BASES.values())}
    return {name: {key: tensor.clone() for key, tensor in state.items()} for name, state in made.items()}


def _trainer(family: str, photos: Photos, bases: Bases, steps: int) -> loop.Trainer:
    torch.manual_seed(1)
    recipe = RECIPES[family](photos, bases.get(BASES.get(family, "")))
    return loop.Trainer(recipe, torch.device("cpu"), loop.State(loop.Schedule("steps", steps)), {})


@pytest.mark.parametrize("family", sorted(RECIPES))
def test_the_loss_falls_and_the_checkpoint_fits_the_export(
    family: str, photos: Photos, bases: Bases, tmp_path: Path
) -> None:
    trainer = _trainer(family, photos, bases, STEPS)
    recipe = trainer.recipe
    recipe.learning_rate = 2e-3 if family.startswith("shallow") else 2e-4
    batch = recipe.draw(np.random.default_rng(9), 0.99)

    def loss() -> float:
        torch.manual_seed(7)
        with torch.no_grad():
            return float(recipe.loss(batch, recipe.phase(0.99))[0])

    frozen = {name: p.detach().clone() for name, p in recipe.model.named_parameters() if not p.requires_grad}
    before = loss()
    loop.train(trainer, tmp_path / "out.safetensors", lambda _: None)
    assert loss() < before
    for name, tensor in recipe.model.named_parameters():
        assert name not in frozen or torch.equal(tensor, frozen[name])
    stored = load_file(tmp_path / "out.safetensors")
    assert {str(t.dtype) for t in stored.values() if t.ndim == 4} == {"torch.float16"}
    models = {"slim": Slim, "mean": MeanScale, "flow": Flow, "compass": Compass}
    kinds = {"shallow-deep": {"deep": True}, **variants.KINDS}
    options = {"side": True} if family.endswith("-side") else kinds.get(family, {})
    own = models.get(family.split("-")[0], Shallow)(**options).state_dict()
    wanted = {name: t for name, t in own.items() if family != "compass" or not name.startswith("base.")}
    assert {name: t.shape for name, t in stored.items()} == {name: t.shape for name, t in wanted.items()}


def test_mean_scale_is_trained_for_the_step_that_each_picture_has(photos: Photos, bases: Bases) -> None:
    """One picture at two steps: the coarser costs fewer bits and has the larger error."""
    model = MeanScale()
    model.load_state_dict(bases["mean-scale"])
    x = photos.crops(np.random.default_rng(1), 1, 64).repeat(2, 1, 1, 1)
    with torch.no_grad():
        pictures, bits = model(x, step=torch.tensor([0.5, 2.0])[:, None, None, None])
    errors = (pictures - x).square().mean((1, 2, 3))
    assert bits[1] < 0.8 * bits[0]
    assert errors[1] > 1.5 * errors[0]
    drawn = RECIPES["mean-scale"](photos, bases["mean-scale"]).draw(np.random.default_rng(1), 0)["step"]
    assert len(set(drawn.flatten().tolist())) == len(drawn) > 1


@pytest.mark.parametrize("family", sorted(KINDS))
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(
    family: str,
    folder: Path,
    bases: Bases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = [family, "--data", str(folder), "--seed", "5"]
    if family in BASES:
        save_file(bases[BASES[family]], tmp_path / "base.safetensors")
        arguments += ["--base", str(tmp_path / "base.safetensors")]
    main([*arguments, "--steps", "5", "--out", str(tmp_path / "whole.safetensors")])

    kind = KINDS[family]
    draw, drawn = kind.draw, []

    def interrupted(self: loop.Recipe, random: np.random.Generator, progress: float) -> loop.Batch:
        drawn.append(progress)
        if len(drawn) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(self, random, progress)

    monkeypatch.setattr(kind, "draw", interrupted)
    ended = main([*arguments, "--steps", "5", "--out", str(tmp_path / "parts.safetensors")])
    assert ended == 128 + signal.SIGTERM
    assert len(drawn) == 2 and recipe_facts((tmp_path / "parts.safetensors").read_bytes())["share_of_schedule"] == 0.4
    resumed = ["--resume", str(tmp_path / "parts.resume.pt"), "--out", str(tmp_path / "parts.safetensors")]
    main([family, "--data", str(folder), *resumed])
    assert len(drawn) == 5
    whole, parts = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=0)


def test_a_deep_analysis_exports_beside_the_linear_one(
    folder: Path, bases: Bases, tmp_path: Path, harbour: np.ndarray
) -> None:
    save_file(bases["shallow"], tmp_path / "base.safetensors")
    out = tmp_path / "deep.safetensors"
    options = ["--data", str(folder), "--steps", "3", "--base", str(tmp_path / "base.safetensors"), "--out", str(out)]
    main(["shallow-deep", *options])
    manifest = export_family("shallow", out, tmp_path / "bundle")
    assert manifest.provenance["steps"] == 3 and "2 photographs" in manifest.provenance["training_data"]
    codec = nicrt.load(tmp_path / "bundle", threads=1)
    linear, deep = (codec.encode(harbour, quality=40, effort=effort) for effort in (4, 5))
    own = Shallow(deep=True)
    own.load_state_dict({name: tensor.float() for name, tensor in load_file(out).items()})
    crop = harbour[:64, :128]
    x = torch.from_numpy(crop.transpose(2, 0, 1).copy())[None].float() / 255
    for effort, model_deep in ((5, own.deep), (4, None)):
        own.deep = model_deep
        data = codec.encode(crop, quality=50, effort=effort, parameters={"skip": 0})
        z, symbols = codec.symbols(data)
        expected = own.evaluate(x, nicrt.info(data).parameters[0][0] / 100)
        assert (z != expected.z[0].numpy()).mean() < 1e-3
        assert (symbols != expected.symbols[0].numpy()).mean() < 2e-2  # means are of integer weights
    assert linear != deep
    assert codec.decode(deep).shape == harbour.shape
    assert manifest.graphs["analysis-deep"].halo == 2 + 2 * 4 + 8 + 2 * 8 + 8 + 2 * 16


def test_the_karhunen_loeve_start_is_a_transform_and_its_inverse(photos: Photos) -> None:
    model = Shallow()
    shallow.start(model, photos)
    x = photos.crops(np.random.default_rng(2), 1, 128)
    with torch.no_grad():
        again = model.synthesise(model.analyse(x, 3.0)[0], 3.0)
    inside = (again - x)[:, :, 16:-16, 16:-16]
    assert inside.square().mean().sqrt() * 255 < 5  # the noise in the pictures is more than 320 directions hold


def test_widths_start_as_transforms_and_their_inverses(photos: Photos) -> None:
    torch.manual_seed(2)
    model = Slim()
    slim.start(model, photos)
    x = photos.crops(np.random.default_rng(2), 2, 128)
    errors, rates = [], []
    with torch.no_grad():
        for number in range(len(WIDTHS)):
            picture, bits = model(x, number)
            errors.append(float((picture - x).square().mean()) ** 0.5 * 255)
            rates.append(float(bits.mean()) / 128**2)
    assert errors[-1] < 8 and all(a > b for a, b in pairwise(errors))
    assert rates[-1] < 2 and all(a < b for a, b in pairwise(rates))


def test_mean_scale_starts_as_a_transform_and_its_inverse(photos: Photos) -> None:
    torch.manual_seed(2)
    model = RECIPES["mean-scale"](photos, None).model
    x = photos.crops(np.random.default_rng(2), 2, 128)
    with torch.no_grad():
        picture, bits = model(x)
    inside = (picture - x)[:, :, 16:-16, 16:-16]
    assert float(inside.square().mean()) ** 0.5 * 255 < 10
    assert float(bits.mean()) / 128**2 < 3


def test_scalable_streams_end_in_the_plain_codec(photos: Photos) -> None:
    torch.manual_seed(3)
    model = Slim()
    slim.start(model, photos)
    x = torch.rand(1, 3, 32, 32)
    pictures, bits = model.scalable(x)
    torch.testing.assert_close(pictures[-1], model(x, len(WIDTHS) - 1)[0])
    assert all(a < b for a, b in pairwise(bits))


def test_the_filter_comes_before_the_layers(photos: Photos, bases: Bases) -> None:
    recipe = _trainer("compass", photos, bases, 3).recipe
    assert [recipe.phase(progress) for progress in (0.0, 0.2, 0.7)] == [0, 1, 2]
    log = recipe.loss(recipe.draw(np.random.default_rng(0), 0.0), 0)[1]
    assert set(log) == {"psnr"}
    again = RECIPES["compass"](photos, bases["mean-scale"] | recipe.weights(recipe.model.state_dict()))
    assert again.phase(0.0) == compass.TOGETHER


def test_partial_paths_of_the_flow_are_those_of_its_evaluation(photos: Photos) -> None:
    torch.manual_seed(4)
    model = Flow()
    flow.start(model)
    x = photos.crops(np.random.default_rng(1), 1, 64)
    with torch.no_grad():
        shown, bits = model(x, torch.full((1, 1, 1, 1), 2.0))
        own = model.evaluate(x, (2.0, 2.0, 2.0))
    torch.testing.assert_close(shown[-1], own.reconstruction, rtol=0, atol=1e-5)
    for noisy, exact in zip(bits, own.bits, strict=True):
        assert abs(float(noisy) / exact - 1) < 0.1


@pytest.mark.parametrize("family", ["slim-side", "flow-side"])
def test_side_information_is_trained_on_codecs_that_stay(family: str, photos: Photos, bases: Bases) -> None:
    """Recipes of the codecs themselves go on from what these make."""
    trainer = _trainer(family, photos, bases, 2)
    trainer.step()
    base = bases[BASES[family]]
    trained = trainer.averaged()
    assert all(torch.equal(tensor, base[name]) for name, tensor in trained.items() if not name.startswith("side."))
    again = RECIPES[BASES[family]](photos, trained)
    log = again.loss(again.draw(np.random.default_rng(0), 0.0), 0)[1]
    assert all(torch.isfinite(values).all() for values in log.values())


def test_means_on_a_lattice_are_whole_steps() -> None:
    torch.manual_seed(4)
    model = SideInformation(6, 4, 5, lattice=True)
    v = torch.randn(1, 6, 8, 8) * 5
    model.start(v)
    model.h_s.last.weight.data.normal_(0, 0.5)
    for step in (0.5, 3.0):
        z, mean, symbols, bits = model.evaluate(v, step)
        assert torch.equal(mean / step, torch.round(mean / step)) and mean.abs().max() > 0
        torch.testing.assert_close(symbols + mean / step, torch.round(v / step))
        assert z.abs().max() <= Z_LIMIT and bits > 0
        trained, each, z_bits = model.cost(v, step)
        torch.testing.assert_close(trained / step, torch.round(trained / step))
        (each.sum() + z_bits.sum()).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_what_is_out_of_range_keeps_the_gradient_that_leads_back() -> None:
    x = torch.tensor([-2.0, -2.0, 0.5, 3.0, 3.0], requires_grad=True)
    clamped(x, 0.0, 1.0).backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))
    assert x.grad.tolist() == [0, -1, 1, 1, 0]


def test_pauses_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 2.0, 3.0, 1003.0, 1004.0])
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(times))
    clock = loop.Clock()
    assert [clock.lap() for _ in range(5)] == [1.0] * 5


def test_loading_and_checkpoints_count_in_minutes(
    folder: Path, bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of six seconds whose loading, first drawing, and each checkpoint take a second and more: it ends in time,
    and says how long it took."""
    kind, pauses = KINDS["mean-scale"], {"init": 1.5, "draw": 2.0, "save": 1.5}
    seen = []

    def slow(name: str, function: Callable[..., Any], only_first: bool = False) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if not only_first or name not in seen:
                time.sleep(pauses[name])
            seen.append(name)
            return function(*arguments, **options)

        return wrapped

    monkeypatch.setattr(kind, "__init__", slow("init", kind.__init__))
    monkeypatch.setattr(loop.Trainer, "save", slow("save", loop.Trainer.save))
    draws = slow("draw", kind.draw, only_first=True)
    after_pauses_were_known = iter([kind.draw] * 5)
    monkeypatch.setattr(kind, "draw", lambda *a: next(after_pauses_were_known, draws)(*a))
    save_file(bases["mean-scale"], tmp_path / "base.safetensors")
    out = tmp_path / "out.safetensors"
    arguments = ["--data", str(folder), "--base", str(tmp_path / "base.safetensors"), "--out", str(out)]
    start = time.monotonic()
    assert main(["mean-scale", *arguments, "--minutes", "0.1"]) == 0
    assert time.monotonic() - start < 10  # 12.5 and the last step, were they not counted
    assert seen.count("save") == 2
    assert recipe_facts(out.read_bytes())["share_of_schedule"] == 1


TRAIN_SMALL_STEPS = """
import sys
from nicrt.export.recipes import __main__, loop, mean_scale

mean_scale.BATCH, mean_scale.CROP = 1, 64
step = loop.Trainer.step

def main(arguments, taken):
    def marked(trainer):  # one byte more in the file `taken` after each step
        log = step(trainer)
        with open(taken, "a") as file:
            file.write("s")
        return log

    loop.Trainer.step = marked
    sys.exit(__main__.main(arguments))

"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_before_the_run_ends(
    folder: Path, bases: Bases, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    save_file(bases["mean-scale"], tmp_path / "base.safetensors")
    out = tmp_path / "out.safetensors"
    taken = tmp_path / "taken"
    script = TRAIN_SMALL_STEPS + f"main(sys.argv[1:], {str(taken)!r})"
    arguments = ["mean-scale", "--data", str(folder), "--base", str(tmp_path / "base.safetensors"), "--minutes", "60"]
    run = subprocess.Popen([sys.executable, "-c", script, *arguments, "--out", str(out)])
    try:
        until = time.monotonic() + 120
        while not (taken.is_file() and taken.stat().st_size >= 3) and time.monotonic() < until:
            time.sleep(0.05)
        assert recipe_facts(out.read_bytes())["steps"] == 1  # written after the first step
        run.send_signal(number)
        assert run.wait(60) == code
    finally:
        run.kill()
    assert recipe_facts(out.read_bytes())["steps"] >= 3
    assert loop.resume_file(out).is_file() and not list(tmp_path.glob(".*"))


def test_schedules() -> None:
    schedule = loop.Schedule("seconds", 100.0).spent(25.0).after_step()
    assert schedule.progress == 0.25
    rest = schedule.changed("steps", 3)
    assert rest.progress == 0.25 and rest.spent(9.0).after_step().progress == 0.5
    end = rest.after_step().after_step().after_step()
    assert end.progress == 1 and end.learning_rate(1000) == pytest.approx(loop.LEAST_RATE)

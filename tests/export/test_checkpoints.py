"""Checkpoints as people save them: where the weights lie, what lies beside them, and that nothing in a file runs."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import re
import shutil
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from safetensors.torch import save, save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from nicrt.export import checkpoints, cli, unpickle  # noqa: E402
from nicrt.export.cli import export_family  # noqa: E402
from nicrt.export.models.mean_scale import MeanScale  # noqa: E402
from nicrt.runtime.bundle import Bundle  # noqa: E402
from nicrt.runtime.cli import main  # noqa: E402
from nicrt.runtime.errors import LimitError, UnsupportedError  # noqa: E402
from nicrt.runtime.installed import SHIPPED  # noqa: E402

Weights = dict[str, Tensor]
NAMES = {"g_a.0.weight", "g_a.0.bias", "entropy.prior"}


def _weights(seed: int = 0) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"g_a.0.weight": (4, 3, 5, 5), "g_a.0.bias": (4,), "entropy.prior": (4, 3, 1)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _check(weights: Weights) -> None:
    if not weights.keys() >= NAMES:
        raise UnsupportedError("incomplete")


def _saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def _found(data: bytes, key: str | None = None) -> Weights:
    return checkpoints.weights_under(data, "g_a.0.", _check, key)


def _prefixed(prefix: str, seed: int = 0) -> Weights:
    return {f"{prefix}{name}": tensor for name, tensor in _weights(seed).items()}


class Codec(nn.Module):
    """Of a training script: a reader without the script does not have it."""

    def __init__(self) -> None:
        super().__init__()
        self.g_a = nn.Sequential(nn.Conv2d(3, 4, 5))
        self.entropy = nn.Module()
        self.entropy.prior = nn.Parameter(torch.zeros(4, 3, 1))
        self.entropy.register_buffer("count", torch.zeros(()))
        with torch.no_grad():
            for name, tensor in self.named_parameters():
                tensor.copy_(_weights()[name])


class Averaged(OrderedDict):
    """A dictionary of a class of its own."""


class Marks:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def _optimiser() -> dict[str, Any]:
    parameter = nn.Parameter(torch.ones(3))
    optimiser = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimiser.step()
    return optimiser.state_dict()


LAYOUTS: dict[str, Callable[[], Any]] = {
    "flat": _weights,
    **{key: lambda key=key: {key: _weights()} for key in ("state_dict", "net", "model", "ema", "model_state", "x")},
    "nested": lambda: {"checkpoint": {"weights": {"net": _weights()}}},
    "tuple": lambda: (_weights(), 17),
    **{
        prefix: lambda prefix=prefix: {"state_dict": _prefixed(prefix), "epoch": 3}
        for prefix in ("module.", "model.", "net.", "_orig_mod.", "model.module._orig_mod.", "ema_model.online.")
    },
    "beside others": lambda: {
        "args": argparse.Namespace(lr=1e-4, out=Path("x")),
        "best": np.float64(3.0),
        "loss": np.arange(3.0),
        "kind": np.dtype("float32"),
        "optimizer": _optimiser(),
        "history": defaultdict(list, {"psnr": [1.0, 2.0]}),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "random": torch.get_rng_state(),
        "state_dict": _weights(),
    },
    "averaged": lambda: {"n_averaged": torch.tensor(3), **_prefixed("module.")},
    "own dictionary": lambda: {"model": Averaged(_weights())},
    "parameters": lambda: {name: nn.Parameter(tensor) for name, tensor in _weights().items()},
    "whole module": Codec,
    "module in a wrapper": lambda: {"model": nn.DataParallel(Codec()), "epoch": 1},
    "twice the same": lambda: {"state_dict": _weights(), "model": Codec()},
    "one incomplete": lambda: {"ema": {"g_a.0.weight": torch.zeros(1)}, "state_dict": _weights()},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_found_wherever_they_lie(layout: str, legacy: bool) -> None:
    found = _found(_saved(LAYOUTS[layout](), _use_new_zipfile_serialization=not legacy))
    for name, tensor in _weights().items():
        assert torch.equal(found[name], tensor)


def test_tensors_are_as_torch_reads_them() -> None:
    base = torch.arange(24.0)
    kinds = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    state = {kind: torch.tensor([0, 1, 1]).to(getattr(torch, kind)) for kind in kinds}
    state |= {"part": base[5:9], "across": base.reshape(4, 6).t(), "number": torch.tensor(3.5), "none": base[:0]}
    state["channels"] = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    for legacy in (False, True):
        data = _saved(state, _use_new_zipfile_serialization=not legacy)
        ours, theirs = unpickle.load(data), torch.load(io.BytesIO(data), weights_only=True)
        for name, tensor in theirs.items():
            assert ours[name].dtype == tensor.dtype and ours[name].stride() == tensor.stride()
            assert torch.equal(ours[name], tensor)


def test_safetensors_are_read_for_importers_too() -> None:
    assert _found(save(_weights())).keys() == NAMES
    assert _found(save(_prefixed("model."))).keys() == NAMES


def test_several_sets_that_fit_are_named_and_one_can_be_chosen() -> None:
    data = _saved({"state_dict": _prefixed("model."), "ema": _weights(1), "lr": 0.1})
    with pytest.raises(UnsupportedError, match=r"several sets .*: ema, state_dict\.model; choose .* --weights-key"):
        _found(data)
    assert torch.equal(_found(data, "ema")["g_a.0.bias"], _weights(1)["g_a.0.bias"])
    assert torch.equal(_found(data, "state_dict")["g_a.0.bias"], _weights()["g_a.0.bias"])
    assert torch.equal(_found(data, "state_dict.model")["g_a.0.bias"], _weights()["g_a.0.bias"])
    with pytest.raises(UnsupportedError, match="no weights under 'net'"):
        _found(data, "net")
    flat = save({**_weights(), **_prefixed("ema.", 1)})
    assert torch.equal(_found(flat, checkpoints.TOP)["g_a.0.bias"], _weights()["g_a.0.bias"])
    assert torch.equal(_found(flat, "ema")["g_a.0.bias"], _weights(1)["g_a.0.bias"])


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
def test_nothing_in_a_file_runs(legacy: bool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    data = _saved({"a": Marks(mark), "state_dict": _weights()}, _use_new_zipfile_serialization=not legacy)
    assert _found(data).keys() == NAMES
    assert not mark.exists()
    pickle.loads(pickle.dumps(Marks(mark)))  # the control
    assert mark.exists()


def test_a_damaged_or_foreign_file_is_one_line() -> None:
    whole, legacy = _saved(_weights()), _saved(_weights(), _use_new_zipfile_serialization=False)
    program = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), program)
    picture = io.BytesIO()
    with zipfile.ZipFile(picture, "w") as archive:
        archive.writestr("a.txt", "a")
    for data, reason in (
        (b"", "not a PyTorch checkpoint or a safetensors file"),
        (b"no checkpoint", "not a PyTorch checkpoint or a safetensors file"),
        (pickle.dumps({"a": 1}), "not a PyTorch checkpoint or a safetensors file"),
        (save(_weights())[:-5], "not a safetensors file, or a damaged one"),
        (program.getvalue(), "TorchScript program: save the model's state_dict"),
        (picture.getvalue(), "not a PyTorch checkpoint"),
        (_saved({"epoch": 3}), "no state dict with tensors g_a.0."),
        (_saved({"net": {"conv.weight": torch.zeros(1)}, "ema": {"a": torch.zeros(1)}}), "looked under ema, net"),
        *((whole[:end], "damaged") for end in (100, len(whole) // 2, len(whole) - 1)),
        *((legacy[:end], "damaged") for end in (200, len(legacy) // 2, len(legacy) - 1)),
    ):
        with pytest.raises(UnsupportedError, match=reason) as refused:
            _found(data)
        assert re.fullmatch(r"[ -~]+", str(refused.value))


def test_a_tensor_larger_than_its_storage_is_refused() -> None:
    data = _saved({"g_a.0.weight": torch.zeros(3)})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in records if name.endswith("/data/0"))
    for content in (records[name][:8], records[name] * 2):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for record, value in {**records, name: content}.items():
                archive.writestr(record, value)
        with pytest.raises(UnsupportedError, match="damaged"):
            _found(file.getvalue())


def _mean_scale() -> Weights:
    return MeanScale(4, 6).state_dict()


def test_own_families_refuse_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the tensor's name, with the documented exit code, and before anything is traced."""
    state = _mean_scale()
    file = tmp_path / "checkpoint.safetensors"
    nan = state["g_s.2.bias"].clone()
    nan[1] = float("nan")
    lacking = {name: tensor for name, tensor in state.items() if name not in ("h_a.2.weight", "h_s.0.weight")}
    for saved, reason in (
        ({**state, "g_s.2.bias": nan}, "tensor 'g_s.2.bias' of the checkpoint: 1 of its 4 values are not finite"),
        ({**state, "g_s.2.bias": nan.double().fill_(1e300)}, "'g_s.2.bias' .* 4 of its 4 values are not finite"),
        (lacking, "no tensor 'h_s.0.weight'"),
        ({**lacking, "h_s.0.weight": state["h_s.0.weight"]}, "the checkpoint lacks h_a.2.weight"),
        ({**state, "more": torch.ones(1)}, "does not know: more"),
        (
            {**state, "g_a.0.weight": state["g_a.0.weight"][:, :1].clone()},
            "'g_a.0.weight' .* is 4 x 1 x 5 x 5, and 4",
        ),
        ({**state, "h_s.0.weight": torch.zeros(())}, r"other shapes \(.+\)"),
    ):
        save_file(saved, file)
        assert main(["export", "mean-scale", "--checkpoint", str(file), "-o", str(tmp_path / "out")]) == 6
        error = capsys.readouterr().err
        assert re.search(reason, error) and error.startswith(f"nicrt: {file}: ") and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_files_of_an_export_that_cannot_be_used_have_their_exit_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, facts, taken = (tmp_path / name for name in ("damaged", "facts", "taken"))
    damaged.write_bytes(b"{}")
    facts.write_bytes(save(_mean_scale(), metadata={"nicrt.recipe": "{"}))
    taken.write_bytes(b"")
    out = ["-o", str(tmp_path / "out")]
    imported = ["compressai", "--arch", "mbt2018-mean", "--checkpoint"]
    for arguments, code, reason in (
        (["mean-scale", "--checkpoint", str(tmp_path / "none"), *out], 9, "none: cannot read it: No such file"),
        (["mean-scale", "--checkpoint", str(tmp_path), *out], 9, "a folder, but a file is needed"),
        (["mean-scale", "--checkpoint", str(damaged), *out], 6, "damaged: not a safetensors file"),
        (["mean-scale", "--checkpoint", str(facts), *out], 6, "facts: what its header says"),
        (["none", "--checkpoint", str(damaged), *out], 6, "no family 'none'"),
        (["mean-scale", "--checkpoint", str(facts), "--weights-key", "ema", *out], 2, "no key of weights"),
        ([*imported, str(damaged), *out], 6, "damaged: not a PyTorch checkpoint or a safetensors file"),
        ([*imported, str(damaged), "--base", str(damaged), *out], 2, "takes no base checkpoint"),
        ([*imported, str(damaged), "--calibrate", str(damaged), *out], None, "damaged: "),
        ([*imported, str(damaged), "--calibrate", str(tmp_path / "none"), *out], 9, "none: cannot read it"),
    ):
        ended = main(["export", *arguments])
        error = capsys.readouterr().err
        assert ended == code if code is not None else ended in (6, 9)
        assert reason in error and error.startswith("nicrt: ") and error.count("\n") == 1, error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    from nicrt.runtime.errors import ImageError

    torch.manual_seed(1)
    save_file(_mean_scale(), tmp_path / "checkpoint")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="cannot write it"):
        export_family("mean-scale", tmp_path / "checkpoint", tmp_path / "file" / "out")


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), None])
@pytest.mark.parametrize("where", ["write_bundle", "check_finite"])
def test_what_fails_says_why_and_memory_is_a_limit(
    where: str, error: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: what PyTorch raises itself, on the CPU."""

    def fail(*_: object, **__: object) -> None:
        if error is not None:
            raise error
        torch.empty(1 << 50)

    torch.manual_seed(1)
    save_file(_mean_scale(), tmp_path / "checkpoint")
    monkeypatch.setattr(cli, where, fail)
    with pytest.raises(LimitError, match="checkpoint: there is not enough memory"):
        export_family("mean-scale", tmp_path / "checkpoint", tmp_path / "out", report=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ValueError("odd\nshape"), UnsupportedError, r"a\.ckpt: the codec of these weights fails \(odd shape\)"),
        (UnsupportedError("damaged"), UnsupportedError, r"a\.ckpt: damaged"),
        (MemoryError(), LimitError, r"a\.ckpt: there is not enough memory for it"),
    ],
)
def test_why_files_cannot_be_compared_is_one_line(
    error: Exception, kind: type[Exception], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "compared", fail)
    with pytest.raises(kind, match=f"^{reason}$"):
        cli._comparison(None, Path("out"), [], Path("a.ckpt"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "error", "reason"),
    [
        ("write_bundle", RuntimeError("no such\noperator"), r"is it trained\? \(no such operator\)"),
        ("compared", UnsupportedError("weights are damaged"), "checkpoint: weights are damaged"),
    ],
)
def test_the_old_bundle_stays_where_a_new_one_fails(
    where: str, error: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    torch.manual_seed(1)
    save_file(_mean_scale(), tmp_path / "checkpoint")
    shutil.copytree(SHIPPED / "slim", tmp_path / "out")
    monkeypatch.setattr(cli, where, fail)
    with pytest.raises(UnsupportedError, match=reason) as refused:
        export_family("mean-scale", tmp_path / "checkpoint", tmp_path / "out", report=lambda _: None)
    assert "\n" not in str(refused.value)
    assert Bundle.open(tmp_path / "out").manifest.name == "slim"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "out"]

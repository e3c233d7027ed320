"""The C++ engine under Python: exceptions and signals on their way through it, memory that outlives a call, trials that
share their work."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from wrapped_backend import WrappedBackend

import nicrt
import synthetic
from nicrt import _core
from nicrt.runtime.backends import Executable, GraphSet
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.pictures import from_array


class OwnError(nicrt.LimitError):
    """A kind of error that the core knows nothing of."""


class _Replaced:
    workspace_bytes_per_pixel: float | None = None

    def __init__(self, executable: Executable, change: Callable[[list[np.ndarray]], list[np.ndarray]]) -> None:
        self._executable, self._change = executable, change

    def run(self, inputs: Mapping[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        return self._change(self._executable.run(inputs, outputs))


def changed(tmp_path: Path, change: Callable[[list[np.ndarray]], list[np.ndarray]]) -> tuple[nicrt.Codec, bytes]:
    """A codec whose picture is made by way of `change`, and a file of it."""
    codec = nicrt.load(synthetic.layered(tmp_path / "layered"), threads=1)
    data = codec.encode(np.zeros((40, 48, 3), np.uint8))

    def wrap(name: str, executable: Executable) -> Executable:
        return _Replaced(executable, change) if name.startswith("show") else executable

    codec._graphs = GraphSet(codec.bundle, [WrappedBackend(OnnxRuntimeCpu(1), wrap)])
    return codec, data


@pytest.mark.parametrize("error", [OwnError("too much of it"), KeyboardInterrupt(), ZeroDivisionError("of a backend")])
def test_what_a_backend_raises_comes_out_as_it_is(tmp_path: Path, error: BaseException) -> None:
    def fail(_: list[np.ndarray]) -> list[np.ndarray]:
        raise error

    codec, data = changed(tmp_path, fail)
    with pytest.raises(type(error)) as caught:
        codec.decode(data)
    assert caught.value is error


def test_what_a_trace_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    codec, data = changed(tmp_path, lambda made: made)

    def told(name: str, seconds: float) -> None:
        assert seconds >= 0
        if name.startswith("graph"):
            raise OwnError(name)

    with pytest.raises(OwnError, match="graph"):
        codec.decode(data, trace=told)
    assert codec.decode(data).shape == (40, 48, 3)


def test_outputs_that_are_not_what_was_planned(tmp_path: Path) -> None:
    for change in (lambda a: [a[0][:, :-1]], lambda a: [a[0].astype(np.float32)], lambda a: [a[0][0]]):
        codec, data = changed(tmp_path / str(id(change)), change)
        with pytest.raises(nicrt.UnsupportedError, match="its array"):
            codec.decode(data)
    codec, data = changed(tmp_path / "none", lambda a: [])
    with pytest.raises(ValueError, match="outputs"):
        codec.decode(data)
    codec, data = changed(tmp_path / "gaps", lambda a: [np.repeat(a[0], 2, axis=2)[:, :, ::2]])
    assert codec.decode(data).max() == 0  # what lies with gaps is copied


def test_arrays_outlive_what_made_them(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    data = codec.encode(harbour[:70, :90])
    again = nicrt.load("shallow", threads=1)
    symbols, streams, picture = again.symbols(data), again.coded(data), again.decode(data)
    copies = [array.copy() for array in (*symbols, picture)]
    del again
    gc.collect()
    for array, copy in zip((*symbols, picture), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert streams[1].cost()[1] > 0
    picture[0, 0] = 1  # the caller's


def test_a_trial_like_the_last_one_runs_nothing(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    picture, engine = from_array(harbour[:64, :96]), codec._graphs.engine
    (variant,) = codec.bundle.manifest.variants
    memo = _core.Memo(1 << 30, 1 << 29)
    values = {p.name: [p.default] for p in codec.bundle.manifest.variants[variant].program.parameters}

    def trial(**changes: list[int]) -> list[np.ndarray]:
        plan = engine.plan(variant, values | changes, (64, 96), encode=5)
        execution = _core.Execution.encode(engine, plan, picture, lambda h, w: picture, None, memo)
        found = []
        while (number := execution.step()) is not None:
            if isinstance(plan.steps[number], _core.EntropyStep):
                found.append(execution.coded(number).symbols)
        return found

    first, macs = trial(), memo.macs
    second = trial()
    assert macs > 0 and memo.macs == macs
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    small = _core.Memo(1 << 16, 1 << 15)
    plan = engine.plan(variant, values, (64, 96), encode=5)
    execution = _core.Execution.encode(engine, plan, picture, lambda h, w: picture, None, small)
    with pytest.raises(nicrt.LimitError):
        execution.run()


def test_an_interrupt_ends_a_graph(codec: nicrt.Codec, harbour: np.ndarray) -> None:
    """Ctrl-C while the core decodes, as a signal's handler raises: what has begun is not brought to its end."""
    large = np.tile(harbour, (26, 17, 1))[:4096, :4000]
    data = codec.encode(large, quality=20, effort=1)

    def synthesised() -> int:
        return {name: calls for name, _, _, calls, _ in codec._graphs.engine.report()}.get("synthesis", 0)

    before = synthesised()
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        codec.decode(data)
    timer.join()
    assert synthesised() == before

"""Graphs on a device: which backend runs them, what falls back to the CPU, what only queues work."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest
from on_device import largest_difference, on_device

import nicrt
from nicrt.runtime.backends import Backend, GraphSet
from nicrt.runtime.backends.allowance import Allowance
from nicrt.runtime.backends.base import Array
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.bundle import StoredGraph
from nicrt.runtime.device.graphs import REPLAYABLE, GraphOptions, _BoundSession, operators, why_not_alone
from nicrt.runtime.errors import UnsupportedError


def device_backend(codec: nicrt.DeviceCodec) -> Backend:
    return codec._decoding._backends(1, Allowance())[0]


class _Refusing:
    """A device backend that some graph does not load on."""

    def __init__(self, backend: Backend, graph: str) -> None:
        self._backend, self._graph, self.name = backend, graph, backend.name

    def load(self, stored: StoredGraph) -> object:
        if stored.name == self._graph:
            raise UnsupportedError("not today")
        return self._backend.load(stored)

    def identity(self) -> str:
        return self._backend.identity()


@pytest.mark.parametrize("graph", ["hyper", "synthesis"])
def test_a_graph_that_falls_back_to_the_cpu_is_reported(codec: nicrt.Codec, small_file: bytes, graph: str) -> None:
    decoder = on_device(codec)
    device = device_backend(decoder)
    refusing = _Refusing(device, graph)
    decoder._decoding.graphs = GraphSet(codec.bundle, [refusing, OnnxRuntimeCpu(1)])  # type: ignore[list-item]
    for _ in range(2):
        assert largest_difference(decoder.decode(small_file).numpy(), codec.decode(small_file)) <= 1
    assert decoder.fallbacks == {graph: [f"{device.name}: not today"]}
    assert decoder.plans[0]["by_way_of_host"] == [f"graph {graph}"]
    with pytest.raises(nicrt.UnsupportedError, match="not today"):
        decoder.decode(small_file, strict=True)


class _Inexact(_Refusing):
    """A backend whose integers are wrong by one somewhere."""

    def load(self, stored: StoredGraph) -> object:
        executable = self._backend.load(stored)
        if stored.name != self._graph:
            return executable

        class Wrong:
            def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> list[Array]:
                return [array + np.ones((), array.dtype) for array in executable.run(inputs, outputs)]

        return Wrong()

    def identity(self) -> str:
        return "a wrong device"


def test_an_exact_graph_that_is_not_exact_here_runs_on_the_cpu(codec: nicrt.Codec, small_file: bytes) -> None:
    decoder = on_device(codec)
    wrong = _Inexact(device_backend(decoder), "hyper")
    decoder._decoding.graphs = GraphSet(codec.bundle, [wrong, OnnxRuntimeCpu(1)])  # type: ignore[list-item]
    assert largest_difference(decoder.decode(small_file).numpy(), codec.decode(small_file)) <= 1
    assert "not exact on this device" in decoder.fallbacks["hyper"][0]


class _PlacedSession:
    """Says what a session of ONNX Runtime's CUDA provider says of its placement."""

    def __init__(self, memories: str, on_cpu: list[str]) -> None:
        self._memories = [SimpleNamespace(name=name) for name in memories.split()]
        nodes = [SimpleNamespace(op_type=name) for name in on_cpu]
        self._parts = [
            SimpleNamespace(ep_name="CUDAExecutionProvider", get_nodes=lambda: [SimpleNamespace(op_type="Conv")]),
            SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: nodes),
        ]

    def get_input_memory_infos(self) -> list[SimpleNamespace]:
        return self._memories

    def get_output_memory_infos(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="Cuda")]

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        return self._parts


def test_which_sessions_only_queue_work() -> None:
    assert why_not_alone(_PlacedSession("Cuda Cuda", []), b"Conv") is None
    assert why_not_alone(_PlacedSession("Cuda", ["Shape", "Concat"]), b"Conv") is None
    for session, model in (
        (_PlacedSession("Cuda", ["Pad"]), b"..MemcpyToHost.."),
        (_PlacedSession("Cuda Cpu", ["Pad"]), b"Pad"),
        (_PlacedSession("Cuda", ["Pad"]), None),
    ):
        assert "on the CPU: Pad" in str(why_not_alone(session, model))
    assert "later one" in str(why_not_alone(object(), b""))
    assert operators(_PlacedSession("Cuda", ["Shape"]), on_gpu=True) == {"Conv"} <= REPLAYABLE


@pytest.mark.parametrize("alone", [True, False])
def test_inputs_that_a_session_wants_on_the_host_are_bound_in_every_run(alone: bool) -> None:
    """ONNX Runtime copies such an input when it is bound, not when the session runs."""
    calls: list[str] = []
    binding = SimpleNamespace(
        bind_input=lambda port, *_: calls.append(f"bind {port}"), bind_output=lambda port, *_: calls.append(port)
    )
    session = SimpleNamespace(io_binding=lambda: binding, run_with_iobinding=lambda *_: calls.append("run"))
    queue = SimpleNamespace(synchronize=lambda: calls.append("wait"))
    device = SimpleNamespace(kind="cuda", index=0)
    buffer = SimpleNamespace(dtype="int32", shape=(1,), pointer=64)
    bound = _BoundSession(session, None, device, queue, Allowance(), alone=alone, capturable=False)  # type: ignore[arg-type]
    run = bound.bind({"x": buffer}, {"y": buffer})  # type: ignore[dict-item]
    assert calls == ["bind x", "y"]
    run()
    assert calls[2:] == (["run"] if alone else ["wait", "bind x", "run"])


def test_options_of_the_cuda_provider(codec: nicrt.Codec) -> None:
    graphs = codec.bundle.manifest.graphs
    options = GraphOptions(conv_search="heuristic", tf32=True)
    assert options.provider(graphs["hyper"]) == {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"}
    assert options.provider(graphs["synthesis"]) == {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "1"}

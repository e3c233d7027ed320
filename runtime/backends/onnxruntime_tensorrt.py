"""ONNX Runtime's own TensorRT provider, where an ONNX Runtime with it is installed.

It cannot switch TF32 off for one session (issue 26029 of microsoft/onnxruntime: only NVIDIA_TF32_OVERRIDE=0, for the
whole process and before the first session), so exact graphs run on the CUDA provider, which can. **This has not run**:
it follows the documentation, and the tests look at its options only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UnsupportedError
from ..manifest import Graph
from ..profiles import Profile
from .accuracy import check_against_cpu
from .onnxruntime_cpu import OnnxRuntimeCpu, Session
from .tensorrt_library import gpu_name
from .tensorrt_plans import plans_folder

PROVIDER = "TensorrtExecutionProvider"
EXACT_PROVIDER = ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"})


class OnnxRuntimeTensorRt(OnnxRuntimeCpu):
    """profiles: of each graph, by the graph's file. threads: of the CPU, for what the provider leaves to it."""

    name = "onnxruntime-tensorrt"

    def __init__(self, threads: int, profiles: Mapping[str, Profile]) -> None:
        super().__init__(threads)
        self._profiles = profiles
        if PROVIDER not in self._library.get_available_providers():
            raise UnsupportedError(f"this ONNX Runtime has no {PROVIDER}: install onnxruntime-gpu and TensorRT")

    def load(self, graph: Graph, data: bytes) -> Session:
        session = super().load(graph, data)
        wanted = self._providers(graph)[0][0]
        if wanted not in session.providers():
            raise UnsupportedError(f"ONNX Runtime does without its {wanted}")
        if not graph.exact:
            check_against_cpu(graph, data, session, self._profiles[graph.file])
        return session

    def _providers(self, graph: Graph) -> list[Any]:
        if graph.exact:
            return [EXACT_PROVIDER, "CPUExecutionProvider"]
        if graph.file not in self._profiles:
            raise UnsupportedError("its shapes are not known: no program of the bundle runs it")
        folder = plans_folder() / "onnxruntime" / f"{self._library.__version__}-{graph.sha256[:24]}"
        options = {
            **profile_options(graph, self._profiles[graph.file]),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
        return [(PROVIDER, options), EXACT_PROVIDER, "CPUExecutionProvider"]

    def identity(self) -> str:
        return f"{super().identity()} {self.name} {gpu_name()}"


def profile_options(graph: Graph, profile: Profile) -> dict[str, str]:
    """The provider's options for a profile: name:1x320x4x4,... of the inputs whose shapes are free, and the values of
    those that are shapes themselves."""
    options = {}
    for number, end in enumerate(("min", "opt", "max")):
        free = {
            name: profile.values[name][number] if name in profile.values else profile.shapes(port)[number]
            for name, port in graph.inputs.items()
            if name in profile.values or any(isinstance(dimension, str) for dimension in port.dims)
        }
        listed = (f"{name}:{'x'.join(map(str, shape))}" for name, shape in free.items())
        options[f"trt_profile_{end}_shapes"] = ",".join(listed)
    return options

"""ONNX Runtime's own TensorRT provider, where an ONNX Runtime with it is installed.

It cannot switch TF32 off for one session (issue 26029 of microsoft/onnxruntime: only NVIDIA_TF32_OVERRIDE=0, for the
whole process and before the first session), so exact graphs run on the CUDA provider, which can. **This has not run**:
it follows the documentation, and the tests look at its options only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..bundle import StoredGraph
from ..errors import UnsupportedError
from ..manifest import Graph
from ..private_folder import PrivateFolder, say_once
from ..profiles import Profile
from .accuracy import check_against_cpu
from .allowance import Allowance
from .onnxruntime_cpu import OnnxRuntimeCpu, Session
from .tensorrt_engines import engines_folder
from .tensorrt_library import gpu_name

PROVIDER = "TensorrtExecutionProvider"
EXACT_PROVIDER = ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"})


class OnnxRuntimeTensorRt(OnnxRuntimeCpu):
    """profiles: of each graph, by its name. threads: of the CPU, for what the provider leaves to it."""

    name = "onnxruntime-tensorrt"

    def __init__(self, threads: int, profiles: Mapping[str, Profile], allowance: Allowance | None = None) -> None:
        super().__init__(threads, allowance=allowance)
        self._profiles = profiles
        if PROVIDER not in self._library.get_available_providers():
            raise UnsupportedError(f"this ONNX Runtime has no {PROVIDER}: install onnxruntime-gpu and TensorRT")

    def load(self, stored: StoredGraph) -> Session:
        session = super().load(stored)
        wanted = self._providers(stored)[0][0]
        if wanted not in session.providers():
            raise UnsupportedError(f"ONNX Runtime does without its {wanted}")
        if not stored.entry.exact:
            check_against_cpu(stored, session, self._profiles[stored.name])
        return session

    def _providers(self, stored: StoredGraph) -> list[Any]:
        if stored.entry.exact:
            return [EXACT_PROVIDER, "CPUExecutionProvider"]
        if stored.name not in self._profiles:
            raise UnsupportedError("its shapes are not known: no program of the bundle runs it")
        options = profile_options(stored.entry, self._profiles[stored.name])
        options |= cache_options(engines_folder() / "onnxruntime" / f"{self._library.__version__}-{stored.sha256[:24]}")
        return [(PROVIDER, options), EXACT_PROVIDER, "CPUExecutionProvider"]

    def identity(self) -> str:
        return f"{super().identity()} {self.name} {gpu_name()}"


def cache_options(folder: Path) -> dict[str, str]:
    """The provider's options for engines kept in `folder`, which it reads and writes by itself; none are kept where
    somebody else could write there."""
    try:
        path = str(PrivateFolder.create(folder).path)
    except OSError as error:
        say_once(error)
        return {"trt_engine_cache_enable": "0", "trt_timing_cache_enable": "0"}
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": path,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": path,
    }


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

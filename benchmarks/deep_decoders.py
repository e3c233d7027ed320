"""Decoders of many layers on the CPU beside PyTorch, one thread each, in one process:

    python benchmarks/deep_decoders.py --kodak DIR --weights DIR

Three kinds of rows, each of runs that alternate, with the median of the paired ratios PyTorch / nicrt:

- `mbt2018-mean`: CompressAI's own decoding of one checkpoint (`compressai-mbt2018-mean.pth.tar`), on bytes of its own
  encoding, against nicrt's decoding of a file of the bundle imported from that checkpoint: bytes to pixels. Left
  out where CompressAI is not installed.
- `mean-scale` and `slim`: a file of the shipped bundle from bytes to RGB against the transforms of the float model,
  run by PyTorch eagerly on the file's symbols: no entropy coding, no conversion to bytes.
- `synthesis`, inside each of them: that graph alone, by the backend that nicrt chooses; also by ONNX Runtime
  (`phases`), and by that as exported from transposed convolutions as such (`transposed`), in place of their phases
  (`nicrt.export.phases`).

Times are on the wall clock, ratios also of processor time, which other load on a machine disturbs less. Writes
results/deep_decoders.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import nicrt
from nicrt.export import compressai, mean_scale, slim
from nicrt.export.cli import export_family
from nicrt.export.models.mean_scale import MeanScale
from nicrt.export.models.slim import WIDTHS, Slim
from nicrt.export.onnx_export import export_module
from nicrt.runtime.backends.base import Array
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.bench import machine
from nicrt.runtime.peers import CompressAiPeer

RESULTS = Path(__file__).parent / "results" / "deep_decoders.json"
COMPRESSAI_CHECKPOINT = "compressai-mbt2018-mean.pth.tar"
OURS, PEER, PHASES, TRANSPOSED = "nicrt", "pytorch", "phases", "transposed"
Pixels = npt.NDArray[np.uint8]
Runs = Mapping[str, Callable[[], object]]


def compare(runs: Runs, repeat: int) -> dict[str, Any]:
    """Milliseconds of each, run in turn, and how many times as long as `OURS` the others take."""
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    taken = {clock: {name: np.zeros(repeat) for name in runs} for clock in clocks}
    for number in range(-1, repeat):  # the first round warms up
        for name, run in runs.items():
            start = {clock: read() for clock, read in clocks.items()}
            run()
            if number >= 0:
                for clock, read in clocks.items():
                    taken[clock][name][number] = 1e3 * (read() - start[clock])
    result: dict[str, Any] = {
        name: {"median_ms": round(float(np.median(ms)), 2), "least_ms": round(float(ms.min()), 2)}
        for name, ms in taken["wall"].items()
    }
    for name in runs:
        if name != OURS:
            ratios = {clock: np.median(times[name] / times[OURS]) for clock, times in taken.items()}
            result[f"{name} / {OURS}"] = {clock: round(float(ratio), 3) for clock, ratio in ratios.items()}
    return result


def synthesis(
    codec: nicrt.Codec, name: str, transposed: nn.Module, inputs: dict[str, Array], peer: Callable[[], object]
) -> dict[str, Callable[[], object]]:
    """A graph of a bundle, the same by ONNX Runtime, also from its layers as they are, and the peer."""
    stored = codec.bundle.graph(name)
    graph, backend = stored.entry, OnnxRuntimeCpu(1)
    layers = export_module(transposed, graph.inputs, graph.outputs)
    models = {PHASES: stored, TRANSPOSED: replace(stored, onnx=lambda: layers)}
    loaded = {OURS: codec._graphs.get(name), **{kind: backend.load(model) for kind, model in models.items()}}
    outputs = list(graph.outputs)
    return {**{kind: partial(loaded[kind].run, inputs, outputs) for kind in loaded}, PEER: peer}


def _tensor(symbols: npt.NDArray[np.int32]) -> Tensor:
    return torch.from_numpy(symbols.astype(np.float32))[None]


def _hyperprior_synthesis(
    codec: nicrt.Codec, layers: nn.Sequential, y: npt.NDArray[np.int32], peer: nn.Module, repeat: int
) -> dict[str, Any]:
    """The synthesis of a mean-scale bundle with means of 0; `layers`: g_s of our float model, `peer`: what to run it
    against."""
    latents = _tensor(y)
    inputs = {"y": y[None], "mean": np.zeros(latents.shape, np.float32), "step": np.zeros(1, np.int32)}
    own = mean_scale.MeanSynthesis(layers)
    return compare(synthesis(codec, "synthesis", own, inputs, partial(peer, latents)), repeat)


def measure_mean_scale(weights: Path, pixels: Pixels, repeat: int) -> dict[str, Any]:
    model = MeanScale()
    state = load_file(weights / "mean-scale.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    model.eval().requires_grad_(False)
    codec = nicrt.load("mean-scale", threads=1)
    data = codec.encode(pixels)
    z, y = codec.symbols(data)

    def peer() -> None:
        mean, _ = model.gaussians(_tensor(z))
        model.g_s(_tensor(y) + mean)

    return {
        "bytes": len(data),
        "decode": compare({OURS: partial(codec.decode, data), PEER: peer}, repeat),
        "synthesis": _hyperprior_synthesis(codec, model.g_s, y, model.g_s, repeat),
    }


def _slim_peer(model: Slim, number: int, side: nn.Module, z: Tensor, latents: Tensor) -> None:
    model.synthesise(latents + side(z)[0], number)


def measure_slim(weights: Path, pixels: Pixels, repeat: int) -> dict[str, Any]:
    model = Slim.of(load_file(weights / "slim.safetensors"))
    assert model.side is not None
    codec = nicrt.load("slim", threads=1)
    rows = {}
    for number, width in enumerate(WIDTHS):
        variant = slim.variant(width)
        data = codec.encode(pixels, quality=20 * number + 10)
        z, y = codec.symbols(data)
        side, latents = model.side[number].synthesis(), _tensor(y)
        peer = partial(_slim_peer, model, number, side, _tensor(z), latents)
        inputs = {"y": y[None], "mean": np.zeros(latents.shape, np.float32), "step": np.zeros(1, np.int32)}
        own, alone = slim.MeanSynthesis(model, number), partial(model.synthesise, latents, number)
        graphs = synthesis(codec, f"synthesis_{variant}", own, inputs, alone)
        rows[variant] = {
            "bytes": len(data),
            "decode": compare({OURS: partial(codec.decode, data), PEER: peer}, repeat),
            "synthesis": compare(graphs, repeat),
        }
    return rows


def measure_compressai(checkpoint: Path, pixels: Pixels, repeat: int) -> dict[str, Any]:
    """CompressAI and the bundle imported from the same checkpoint."""
    from compressai.models import MeanScaleHyperprior  # not a dependency of the project

    state = compressai.state_dict(checkpoint.read_bytes())
    own = compressai.load("mbt2018-mean", state)
    model = MeanScaleHyperprior.from_state_dict(state).eval().requires_grad_(False)
    peer = CompressAiPeer(lambda _: model)
    rows, columns = (side // 64 * 64 for side in pixels.shape[:2])
    crop = np.ascontiguousarray(pixels[:rows, :columns])
    theirs = peer.encode(crop, 4)  # the one model stands for every quality
    with tempfile.TemporaryDirectory() as folder:
        export_family("compressai", checkpoint, Path(folder) / "bundle", arch="mbt2018-mean")
        codec = nicrt.load(Path(folder) / "bundle", threads=1)
        data = codec.encode(crop)
        _, y = codec.symbols(data)
        runs = {OURS: partial(codec.decode, data), PEER: partial(peer.decode, theirs)}
        return {
            "compressai": version("compressai"),
            "bytes": len(data),
            "pytorch_bytes": len(theirs),
            "decode": compare(runs, repeat),
            "synthesis": _hyperprior_synthesis(codec, own.g_s, y, model.g_s, repeat),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kodak", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the checkpoints")
    parser.add_argument("--picture", default="kodim23.png")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    pixels = np.asarray(Image.open(options.kodak / options.picture).convert("RGB"))
    rows: dict[str, Any] = {}
    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "mbt2018-mean": lambda: measure_compressai(options.weights / COMPRESSAI_CHECKPOINT, pixels, options.repeat),
        "mean-scale": lambda: measure_mean_scale(options.weights, pixels, options.repeat),
        "slim": lambda: measure_slim(options.weights, pixels, options.repeat),
    }
    for name, measure in kinds.items():
        try:
            rows[name] = measure()
        except ImportError as error:
            print(f"{name}: {error}")
            continue
        print(json.dumps({name: rows[name]}, indent=1), flush=True)
    result = {
        "machine": machine(),
        "threads": 1,
        "picture": options.picture,
        "size": [pixels.shape[1], pixels.shape[0]],
        "repeat": options.repeat,
        "rows": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

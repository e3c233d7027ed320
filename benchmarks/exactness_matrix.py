"""Every way to decode against one reference, bit by bit: python benchmarks/exactness_matrix.py [-o FILE.json]

All golden files, by every entropy coder (scalar, AVX2, AVX-512, the device's kernels compiled for the host and for
CUDA) and everything that runs graphs (ONNX Runtime on the CPU, on the GPU with TF32 on and off and with every algorithm
search, TensorRT where it is). Of each stream the symbols and the table indices (exact graphs' outputs) are compared by
SHA-256 of their int32 values, the pixels by the largest difference. The reference is the scalar coder with ONNX Runtime
on the CPU, unoptimised; its symbols must be those of tests/golden. What this machine does not have is listed as absent.

Each way runs in a process of its own, so that one that fails takes no other with it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import nicrt
from nicrt import _core
from nicrt.runtime.backends import GraphSet
from nicrt.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from nicrt.runtime.bench import machine
from nicrt.runtime.device.devices import open_device
from nicrt.runtime.device.graphs import CONV_SEARCHES, GraphOptions, OnnxRuntimeDevice
from nicrt.runtime.manifest import Graph

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
RESULTS = Path(__file__).parent / "results" / "exactness.json"
GOLDEN_FILES = sorted((p.parent.name, name) for p in GOLDEN.glob("*/good.json") for name in json.loads(p.read_text()))
ISAS = ("scalar", "avx2", "avx512")
BATCHES = (1, 8)


@dataclass(frozen=True)
class Way:
    """coder: an instruction set of the CPU's coder, "host" or "cuda" (the device's kernels). graphs: "onnxruntime
    unoptimised", "onnxruntime", "native", "onnxruntime-cuda" or "tensorrt". tf32, search: of the CUDA provider, for
    exact graphs too. capture: replay CUDA graphs.
    """

    coder: str
    graphs: str
    batch: int = 1
    tf32: bool = False
    search: str = "default"
    capture: bool = True

    def __str__(self) -> str:
        options = ""
        if self.graphs == "onnxruntime-cuda":
            options = f" tf32 {'on' if self.tf32 else 'off'} {self.search}"
        launches = "" if self.capture else " no replay"
        return f"{self.coder} x {self.graphs}{options}, batch {self.batch}{launches}"


REFERENCE = Way("scalar", "onnxruntime unoptimised")


def ways() -> list[Way]:
    """What matters most first."""
    found = [REFERENCE]
    found += [Way(isa, graphs) for isa in ISAS for graphs in ("onnxruntime", "native")]
    found += [Way("host", "onnxruntime", batch) for batch in BATCHES]
    for search in CONV_SEARCHES:
        for tf32 in (False, True):
            found += [Way("cuda", "onnxruntime-cuda", batch, tf32, search) for batch in BATCHES]
    found.append(Way("cuda", "onnxruntime-cuda", capture=False))
    found.append(Way("cuda", "onnxruntime"))
    found.append(Way(ISAS[-1], "onnxruntime-cuda"))
    found.append(Way(ISAS[-1], "tensorrt"))
    return found


class EveryGraph(GraphOptions):
    """The same options for exact graphs as for the others: here they have to prove themselves under all of them."""

    def provider(self, graph: Graph) -> dict[str, str]:
        return super().provider(_inexact(graph))


def _inexact(graph: Graph) -> Graph:
    import msgspec

    return msgspec.structs.replace(graph, exact=False)


def sha256(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, dtype="<i4").tobytes()).hexdigest()


def expected_pixels(bundle: str, name: str) -> npt.NDArray[np.int64]:
    return np.asarray(Image.open(GOLDEN / bundle / f"{name}.png")).astype(int)


def codec_of(way: Way, bundle: str) -> nicrt.Codec:
    if way.graphs == "onnxruntime unoptimised":
        codec = nicrt.load(bundle, threads=1)
        codec._graphs = GraphSet(codec.bundle, [OnnxRuntimeCpu(1, "disabled")])
    elif way.graphs == "onnxruntime-cuda":
        codec = nicrt.load(bundle, threads=1)
        device = open_device("cuda")
        options = replace(options_of(way), mixed=True)
        backend = OnnxRuntimeDevice(device, device.module.Queue(0), options, 1)
        codec._graphs = GraphSet(codec.bundle, [backend])
    else:
        codec = nicrt.load(bundle, threads=1, backend=way.graphs)
    return codec


def options_of(way: Way) -> GraphOptions:
    return EveryGraph(conv_search=way.search, exact_conv_search=way.search, tf32=way.tf32)


def by_codec(way: Way, files: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Decode by `Codec`: the CPU's coder."""
    assert _core.isas()[-1] == way.coder
    codecs: dict[str, nicrt.Codec] = {}
    found = {}
    for bundle, name in files:
        codec = codecs.setdefault(bundle, codecs.get(bundle) or codec_of(way, bundle))
        data = (GOLDEN / bundle / f"{name}.nic").read_bytes()
        streams, pixels = codec.coded(data), codec.decode(data)
        difference = int(np.abs(pixels - expected_pixels(bundle, name)).max())
        found[f"{bundle}/{name}"] = {
            "symbols": [[sha256(stream.symbols) for stream in streams]],
            "index": [[sha256(stream.index) if stream.index.ndim == 3 else "" for stream in streams]],
            "difference": difference,
        }
    ran = {f"{b}/{g}": by for b, codec in codecs.items() for g, by in codec.backends.items()}
    refused = {f"{b}/{g}": why for b, codec in codecs.items() for g, why in codec.fallbacks.items()}
    return {"files": found, "ran": ran, "refused": refused}


def by_decoder(way: Way, files: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Decode by `DeviceCodec`: the device's coder, `batch` times the same file."""
    decoders: dict[str, nicrt.DeviceCodec] = {}
    found = {}
    for bundle, name in files:
        if bundle not in decoders:
            settings = nicrt.DeviceOptions(capture=way.capture)
            decoders[bundle] = nicrt.load(bundle, device=way.coder, device_options=settings, threads=1)
            if way.coder == "cuda":
                decoders[bundle]._decoding.graphs = graphs_of(way, decoders[bundle])
        decoder = decoders[bundle]
        batch = [(GOLDEN / bundle / f"{name}.nic").read_bytes()] * way.batch
        expected = expected_pixels(bundle, name)
        difference = 0
        for _ in range(2):  # by launches, then by replay
            difference = max(difference, int(np.abs(decoder.decode_batch(batch).numpy() - expected).max()))
        streams = decoder.streams(batch)
        symbols = [[sha256(stream.symbols[i]) for stream in streams] for i in range(way.batch)]
        index = [
            [sha256(seen(s.index, s.symbols)[i]) if s.index is not None else "" for s in streams]
            for i in range(way.batch)
        ]
        found[f"{bundle}/{name}"] = {"symbols": symbols, "index": index, "difference": difference}
    ran = {f"{b}/{g}": by for b, decoder in decoders.items() for g, by in decoder.backends.items()}
    refused = {f"{b}/{g}": why for b, decoder in decoders.items() for g, why in decoder.fallbacks.items()}
    replayed = sorted({plan["captured"] for decoder in decoders.values() for plan in decoder.plans})
    return {"files": found, "ran": ran, "refused": refused, "replayed": replayed}


def seen(index: npt.NDArray[np.uint8], symbols: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """The part of an index tensor that its stream is coded with."""
    return index[:, :, : symbols.shape[2], : symbols.shape[3]]


def graphs_of(way: Way, codec: nicrt.DeviceCodec) -> GraphSet:
    bundle = codec.bundle
    if way.graphs == "onnxruntime":
        return GraphSet(bundle, [OnnxRuntimeCpu(1)])
    options = options_of(way)
    device, queue = codec._decoding.device, codec._decoding.queue
    return GraphSet(
        bundle,
        [
            OnnxRuntimeDevice(device, queue, options, 1),
            OnnxRuntimeDevice(device, queue, replace(options, mixed=True), 1),
        ],
    )


def run_way(way: Way, bundles: Iterable[str]) -> None:
    """In a process of its own: prints one JSON object."""
    warnings.simplefilter("ignore")
    files = [(bundle, name) for bundle, name in GOLDEN_FILES if bundle in bundles]
    on_device = way.coder in ("host", "cuda")
    try:
        _ = nicrt.load(files[0][0], device=way.coder) if on_device else codec_of(way, files[0][0])
    except nicrt.UnsupportedError as error:
        print(json.dumps({"absent": str(error)}))
        return
    try:
        result = by_decoder(way, files) if on_device else by_codec(way, files)
    except nicrt.NicrtError as error:
        result = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(result))


def in_process(way: Way, bundles: Sequence[str], until: float) -> dict[str, Any]:
    """Result and seconds of a way, or why there is none."""
    start = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if way.coder in ISAS:
        environment["NICRT_ISA"] = way.coder
    if way.coder in ISAS and way.coder not in _core.isas():
        return {"absent": f"this processor has no {way.coder}", "seconds": 0.0}
    if until - start < 1:
        return {"absent": "no time left", "seconds": 0.0}
    command = [sys.executable, __file__, "--way", json.dumps(asdict(way)), "--bundles", *bundles]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=until - start)
    except subprocess.TimeoutExpired:
        return {"failed": "out of time", "seconds": round(time.monotonic() - start, 1)}
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        lines = done.stderr.strip().splitlines()
        result = {"failed": f"exit code {done.returncode}: {lines[-1] if lines else ''}"}
    return {**result, "seconds": round(time.monotonic() - start, 1)}


def compare(result: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Counts of a way's result against the reference's."""
    row: dict[str, Any] = {k: result[k] for k in ("absent", "failed", "seconds", "refused", "replayed") if k in result}
    if "files" not in result:
        return row
    wrong = {"symbols": 0, "index": 0}
    count = {"symbols": 0, "index": 0}
    for name, found in result["files"].items():
        for kind in wrong:
            (expected,) = reference["files"][name][kind]
            for picture in found[kind]:
                same = [a == b for a, b in zip(picture, expected, strict=True)]
                coded = [bool(digest) for digest in expected]
                count[kind] += sum(coded)
                wrong[kind] += sum(not s for s, c in zip(same, coded, strict=True) if c)
    row |= {
        "files": len(result["files"]),
        "symbol_tensors": count["symbols"],
        "symbol_tensors_wrong": wrong["symbols"],
        "index_tensors": count["index"],
        "index_tensors_wrong": wrong["index"],
        "largest_pixel_difference": max(found["difference"] for found in result["files"].values()),
        "ran": dict(sorted((by, list(result["ran"].values()).count(by)) for by in set(result["ran"].values()))),
    }
    return row


def reference_is_golden(reference: dict[str, Any]) -> bool:
    """Whether the reference's symbols are those of the golden files: those hash all streams of a file at once."""
    for name in reference["files"]:
        bundle, _, file = name.partition("/")
        good = json.loads((GOLDEN / bundle / "good.json").read_text())[file]
        digest = hashlib.sha256()
        codec = nicrt.load(bundle, threads=1, backend="onnxruntime")
        tensors = codec.symbols((GOLDEN / bundle / f"{file}.nic").read_bytes())
        for tensor in tensors:
            digest.update(np.ascontiguousarray(tensor, dtype="<i4").tobytes())
        if digest.hexdigest() != good or [sha256(t) for t in tensors] != reference["files"][name]["symbols"][0]:
            return False
    return True


def matrix(bundles: Sequence[str], seconds: float, jobs: int) -> dict[str, Any]:
    until = time.monotonic() + seconds
    reference = in_process(REFERENCE, bundles, until)
    if "files" not in reference:
        raise SystemExit(f"the reference did not run: {reference}")
    is_golden = reference_is_golden(reference)
    others = ways()[1:]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda way: in_process(way, bundles, until), others))
    rows = [
        {"way": str(way), **asdict(way), **compare(result, reference)}
        for way, result in zip([REFERENCE, *others], [reference, *results], strict=True)
    ]
    return {"machine": machine(), "reference_is_golden": is_golden, "ways": rows}


def table(result: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'':66} {'files':>5} {'symbols':>14} {'indices':>14} {'pixels':>7} {'s':>6}"]
    for row in result["ways"]:
        if "files" in row:
            symbols = f"{row['symbol_tensors_wrong']} of {row['symbol_tensors']}"
            index = f"{row['index_tensors_wrong']} of {row['index_tensors']}"
            facts = f"{row['files']:5} {symbols:>14} {index:>14} {row['largest_pixel_difference']:7}"
            lines.append(f"{row['way']:66} {facts} {row['seconds']:6}")
        else:
            kind = "absent" if "absent" in row else "failed"
            lines.append(f"{row['way']:66} {kind}: {row[kind]}")
    lines.append(
        "symbols, indices: tensors that differ from the reference's. pixels: largest difference to tests/golden"
    )
    return "\n".join(lines)


def is_exact(result: dict[str, Any]) -> bool:
    """Whether everything that ran gave the reference's integers, and pixels within one grey level."""
    ran = [row for row in result["ways"] if "files" in row]
    wrong = [row for row in ran if row["symbol_tensors_wrong"] or row["index_tensors_wrong"]]
    pixels = [row for row in ran if row["largest_pixel_difference"] > 1 and not row["tf32"]]
    failed = [row for row in result["ways"] if "failed" in row]
    return bool(result["reference_is_golden"]) and not wrong and not pixels and not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, metavar="FILE.json")
    parser.add_argument("--bundles", nargs="+", default=sorted({bundle for bundle, _ in GOLDEN_FILES}))
    parser.add_argument("--seconds", type=float, default=1800, help="for all of it; what is not done then is absent")
    parser.add_argument("--jobs", type=int, default=1, help="ways at a time")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run_way(Way(**json.loads(options.way)), options.bundles)
        return 0
    result = matrix(options.bundles, options.seconds, options.jobs)
    print(table(result))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if is_exact(result) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What a bundle that is refused may take: every kind in little time, and in 64 MiB above what the process had."""

from __future__ import annotations

import copy
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import Tiny, safetensors, tiny, with_header

from nicrt.runtime.bundle import Bundle
from nicrt.runtime.errors import UnsupportedError

MIB = 1 << 20
HEADER_BYTES, MANIFEST_BYTES = 16 * MIB, MIB
MOST_SECONDS = 3.0  # of what takes 0.3 s, and took a minute and more

RUN = """
import resource, sys
from nicrt.runtime.bundle import Bundle
from nicrt.runtime.errors import UnsupportedError

taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 80 * 2**20,) * 2)  # 16 for the allocator
for path in sys.argv[1:]:
    try:
        Bundle.open(path)
    except UnsupportedError as error:
        print(str(error).rpartition(": ")[2])
"""


def filled(start: bytes, item: bytes, end: bytes, most_bytes: int = HEADER_BYTES) -> bytes:
    """As many items between commas as fit."""
    count = (most_bytes - len(start) - len(end)) // (len(item) + 1)
    return start + b",".join([item] * count) + end


def named(item: bytes, count: int) -> bytes:
    return b"{" + b",".join(b'"%x":%b' % (i, item) for i in range(count)) + b"}"


ENTRY = b'{"dtype":"U8","shape":[0,0,0,0,0,0,0,0],"data_offsets":[0,0]}'
HEADERS: dict[str, Callable[[], bytes]] = {
    "numbers": lambda: filled(b'{"a":[', b"0", b"]}"),
    "lists": lambda: filled(b'{"a":[', b"[]", b"]}"),
    "nested lists": lambda: filled(b'{"a":[', b"[[[[[0]]]]]", b"]}"),
    "names": lambda: named(b"0", 1_500_000),
    "tensors": lambda: named(ENTRY, 190_000),
    "tensors and a text": lambda: named(ENTRY, 65_535)[:-1] + b',"__metadata__":{"a":"' + b"x" * (11 * MIB) + b'"}}',
    "texts": lambda: b'{"__metadata__":' + named(b'""', 1_300_000) + b"}",
    "escapes": lambda: b'{"__metadata__":{"nicrt.manifest":"' + b"\\u0041" * 2_700_000 + b'"}}',
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory as Linux has them")
def test_headers_take_little_memory(tmp_path: Path) -> None:
    paths = []
    for name, make in HEADERS.items():
        header = make()
        assert len(header) <= HEADER_BYTES, name
        paths.append(tmp_path / f"{name}.nicb")
        paths[-1].write_bytes(with_header(header, b""))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = subprocess.run([sys.executable, "-c", RUN, *paths], capture_output=True, text=True, check=False)
    assert result.returncode == 0 and len(result.stdout.splitlines()) == len(HEADERS), result
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < len(HEADERS) * MOST_SECONDS


def port(dtype: str, dims: list[int]) -> dict[str, Any]:
    return {"dtype": dtype, "dims": dims}


def _wide_graph_in_loops(honest: Tiny) -> dict[str, Any]:
    """A graph of thousands of outputs, one step that names them all, and loops that name one each: in many programs."""
    manifest = honest.manifest
    outputs = {f"p{i}": port("float32", [1]) for i in range(5000)}
    one = {"name": "one", "min": 1, "max": 2, "default": 1}
    graph = {"inputs": {"x": port("int32", [1])}, "outputs": outputs, "onnx": {"file": "w.onnx", "sha256": "0" * 64}}
    manifest["graphs"]["wide"] = graph
    program = manifest["variants"]["tiny"]["program"]
    program["parameters"] += [one, {**one, "name": "sizes", "scales": [1]}]
    stage = program["stages"][0]

    def step(outputs: dict[str, str]) -> dict[str, Any]:
        return {"op": "graph", "graph": "wide", "in": {"x": "$one"}, "out": outputs}

    loop = [step({"p0": f"u{i}"}) for i in range(7)]
    program["stages"] += [{"align": 64, "each": "sizes", "steps": loop, "show": stage["show"]}] * 40
    stage["steps"].append(step({name: f"t{name}" for name in outputs}))
    size, tiny_variant = len(json.dumps(manifest)), manifest["variants"]["tiny"]
    for number in range((MANIFEST_BYTES - size) // len(json.dumps(tiny_variant)) - 1):
        manifest["variants"][f"v{number}"] = copy.deepcopy(tiny_variant)
    return manifest


def _provenance(honest: Tiny) -> dict[str, Any]:
    return {**honest.manifest, "provenance": {"a": [[]] * 250_000}, "surprise": 1}


def _ports(honest: Tiny) -> dict[str, Any]:
    ports = {f"p{i}": port("float32", [1] * 8) for i in range(11_000)}
    honest.manifest["graphs"]["deeper"]["inputs"] = ports
    return honest.manifest


def _dimensions(honest: Tiny) -> dict[str, Any]:
    honest.manifest["graphs"]["deeper"]["inputs"]["v"]["dims"] = [1] * 300_000
    return honest.manifest


MANIFESTS = [_wide_graph_in_loops, _provenance, _ports, _dimensions]


@pytest.mark.parametrize("make", MANIFESTS, ids=lambda make: make.__name__.strip("_"))
def test_manifests_take_little_time(make: Callable[[Tiny], dict[str, Any]], tmp_path: Path) -> None:
    folder = tiny().write(tmp_path / "tiny")
    text = json.dumps(make(tiny())).encode()
    assert len(text) <= MANIFEST_BYTES
    (folder / "manifest.json").write_bytes(text)
    start = time.process_time()
    with pytest.raises(UnsupportedError):
        Bundle.open(folder)
    assert time.process_time() - start < MOST_SECONDS


def test_channel_maps_of_all_groups_are_bounded(tmp_path: Path) -> None:
    """Each place has the hash go over a table of 512 bytes: 60 groups of 2^18 places took 20 s, in a file of 60 MiB."""
    honest = tiny()
    tables = dict(honest.tables)
    for group in ("a", "b"):
        tables |= {
            f"{group}.low": np.array([-127], np.int16),
            f"{group}.shift": np.zeros(1, np.uint8),
            f"{group}.size": np.array([256], np.int32),
            f"{group}.frequency": np.full(256, 16, np.uint16),
            f"{group}.channel": np.zeros((1 << 9, 1 << 8), np.int32),
        }
        honest.manifest["tables"]["groups"][group] = "0" * 64
    folder = honest.write(tmp_path / "tiny", tables=safetensors(tables))
    with pytest.raises(UnsupportedError, match="more than 262144 sets times channels, in all"):
        Bundle.open(folder)

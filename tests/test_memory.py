"""Memory that cannot be had is a LimitError, in every binding and through the whole API. In processes of their own,
whose address space is cut short."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import nicrt

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cuts its address space short as Linux does")

PRELUDE = """
import re, resource
from pathlib import Path
import numpy as np
import nicrt
from nicrt import _core

def allow(more_bytes):
    used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (used + more_bytes, resource.RLIM_INFINITY))

def outcome(call):
    try:
        call()
    except nicrt.LimitError as error:
        assert "\\n" not in str(error) and "memory" in str(error), error
        return "limit"
    return "done"
"""


def run_python(body: str, *arguments: str) -> str:
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(body), *arguments]
    # else a thread that has ended leaves 64 MiB of address space that others may fill
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory, codec: nicrt.Codec) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.nic"
    picture = np.zeros((1000, 1500, 3), np.uint8)
    picture[::7] = 200
    path.write_bytes(codec.encode(picture, quality=10, effort=1))
    return path


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
@pytest.mark.parametrize("call", ["decode", "verify", "encode"])
def test_whole_pictures(backend: str, call: str, large_file: Path) -> None:
    out = run_python(
        """
        import sys
        codec = nicrt.load("shallow", threads=1, backend=sys.argv[1])
        data = Path(sys.argv[3]).read_bytes()
        codec.decode(codec.encode(np.zeros((8, 8, 3), np.uint8)))  # loads the graphs
        picture = np.zeros((1000, 1500, 3), np.uint8)
        calls = {"decode": lambda: codec.decode(data), "verify": lambda: codec.verify(data),
                 "encode": lambda: codec.encode(picture, effort=1)}
        for mebibytes in (0, 1, 2, 4, 8, 16, 32, 64, 128, 4096):
            allow(mebibytes << 20)
            print(outcome(calls[sys.argv[2]]))
        """,
        backend,
        call,
        str(large_file),
    )
    outcomes = out.split()
    assert outcomes[0] == "limit" and outcomes[-1] == "done"


def test_every_binding() -> None:
    out = run_python(
        """
        from importlib import import_module

        book = _core.Codebook(np.zeros(1, np.int16), np.zeros(1, np.uint8), np.array([2], np.int32),
                              np.array([4095, 1], np.uint16))
        stream = _core.parse(nicrt.load("shallow", threads=1).encode(np.zeros((8, 8, 3), np.uint8))).stages[0][0]
        weights = np.zeros((1, 3, 64, 64), np.float32)
        chain = _core.Chain(
            [_core.ChainLayer(weights=weights, bias=np.zeros(3, np.float32), stride=(64, 64))], "scalar")
        latents = _core.ChainTerm(tensor=np.zeros((1, 1, 512, 512), np.float32), scale=np.ones(1, np.float32))
        layer = _core.NetworkLayer(
            weights=np.zeros((1, 1, 64, 64), np.int8), stride=(64, 64), pad=(0, 0), low=0, high=127)
        head = _core.NetworkHead(weights=np.zeros((1, 1, 1, 1), np.int8), pad=(0, 0))
        network = _core.IntegerNetwork([layer], [head], (-128, 127), "scalar")
        rescale = _core.Rescale(bias=np.zeros(1, np.int32), multiplier=np.ones(1, np.float32))
        device = import_module("nicrt._device_host")
        queue = device.Queue(0)
        large = np.zeros(64 << 20, np.uint8)
        buffer = device.Buffer(large.shape, "uint8", queue)
        symbols = np.full(12 << 20, 100, np.int16)
        noise = np.random.default_rng(1).integers(-300, 300, (1, 4000, 2000)).astype(np.int32)
        calls = {
            "decode_stream": lambda: _core.decode_stream(
                book, np.zeros(1, np.uint8), (1, 1 << 19, 1 << 19), 0, b"", stream, 1),
            "decode_segment": lambda: _core.decode_segment(book, large, b"", 1),
            "encode_segment": lambda: _core.encode_segment(book, large[: symbols.size], symbols, 1),
            "encode_stream": lambda: _core.encode_stream(book, noise, np.zeros(1, np.uint8), 0, 1 << 20, 1),
            "Chain": lambda: chain.run([latents], np.zeros(1, np.float32), 0.0, 255.0, 1),
            "IntegerNetwork": lambda: network.run(np.zeros((1, 1, 512, 512), np.int32), [rescale, rescale], [None], 1),
            "Buffer": lambda: device.Buffer((1 << 36,), "uint8", queue),
            "Buffer.download": buffer.download,
            "pinned": lambda: device.pinned((1 << 36,), "uint8"),
            "StreamDecoder": lambda: device.StreamDecoder(
                queue, book, (1, 1, 8192, 8192), 0, 64, 4, np.zeros(1, np.uint8)),
        }
        for name, call in calls.items():
            allow(16 << 20)
            print(name, outcome(call))
        """
    )
    assert [line for line in out.splitlines() if not line.endswith(" limit")] == []
    assert len(out.splitlines()) == 10

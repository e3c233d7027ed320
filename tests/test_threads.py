"""Threads of the C++ core in a host: forks, the end of the interpreter, pictures side by side."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import nicrt
from nicrt import _core

ROOT = Path(__file__).resolve().parent.parent


def _tiled() -> tuple[_core.Codebook, np.ndarray, np.ndarray]:
    """A codebook, an index and symbols that are worth several threads."""
    frequency = np.array([1000, 2000, 1000, 96], np.uint16)
    book = _core.Codebook(np.array([-1], np.int16), np.array([0], np.uint8), np.array([4], np.int32), frequency)
    symbols = np.random.default_rng(3).integers(-1, 2, (4, 640, 640), dtype=np.int32)
    return book, np.zeros(4, np.uint8), symbols


def _same_size(size_bytes: int) -> None:
    """Runs in a child: encodes on several threads again."""
    book, index, symbols = _tiled()
    assert _core.encode_stream(book, symbols, index, 64, 2048, 4).bytes == size_bytes


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_codes_on_threads_of_its_own() -> None:
    book, index, symbols = _tiled()
    size_bytes = _core.encode_stream(book, symbols.copy(), index, 64, 2048, 4).bytes
    ending = threading.Event()

    def work() -> None:
        while not ending.is_set():
            _core.encode_stream(book, symbols.copy(), index, 64, 2048, 4)

    thread = threading.Thread(target=work)
    thread.start()  # so that the fork comes while the pool is at work
    try:
        children = [multiprocessing.get_context("fork").Process(target=_same_size, args=(size_bytes,)) for _ in "123"]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        codes = [child.exitcode for child in children]
    finally:
        ending.set()
        thread.join()
        for child in children:
            child.kill()
    assert codes == [0, 0, 0]


@pytest.mark.parametrize("daemon", [False, True])
def test_interpreter_ends_while_threads_decode(small_file: bytes, tmp_path: Path, daemon: bool) -> None:
    path = tmp_path / "small.nic"
    path.write_bytes(small_file)
    code = f"""
import threading, nicrt
codec, data = nicrt.load("shallow", threads=4), open({str(path)!r}, "rb").read()
begun = threading.Event()
def work():
    for _ in range(1 << 30 if {daemon} else 20):
        codec.decode(data)
        begun.set()
for _ in range(2):
    threading.Thread(target=work, daemon={daemon}).start()
begun.wait()
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=60, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux shows them")
def test_calls_side_by_side_share_one_pool() -> None:
    code = """
import os, sys, threading, time
sys.path.insert(0, "tests")
from test_threads import _core, _tiled
book, index, symbols = _tiled()
def count():
    return len(os.listdir("/proc/self/task"))
before = count()
def work():
    _core.encode_stream(book, symbols.copy(), index, 64, 2048, 3)
callers = [threading.Thread(target=work) for _ in range(6)]
for caller in callers: caller.start()
for caller in callers: caller.join()
until = time.monotonic() + 10
while count() != before + 2 and time.monotonic() < until: time.sleep(0.01)  # until the callers have gone
print(count() - before)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert int(ended.stdout) == 2  # three threads per call: the caller and two of the pool, whoever calls


def test_too_many_threads_are_refused() -> None:
    book, index, symbols = _tiled()
    for threads in (0, 1025):
        with pytest.raises(ValueError, match=f"^{threads} threads; 1 to 1024 are possible$"):
            _core.encode_stream(book, symbols, index, 0, 2048, threads)


def test_cancelled_is_an_error_of_its_own() -> None:
    from nicrt.runtime.errors import from_status

    assert isinstance(from_status(8, "cancelled"), nicrt.CancelledError)


@pytest.mark.parametrize(
    "command", [["-m", "nicrt", "info", "absent.nic"], ["-c", "import nicrt; nicrt.load('shallow')"]]
)
def test_unknown_instruction_set_is_refused(command: list[str]) -> None:
    environment = {**os.environ, "NICRT_ISA": "sclar"}
    ended = subprocess.run([sys.executable, *command], env=environment, capture_output=True, timeout=60, text=True)
    assert ended.returncode != 0
    assert "NICRT_ISA is sclar; it can be scalar, avx2, avx512 or best" in ended.stderr.splitlines()[-1]

"""ONNX Runtime's telemetry stays off: no file outside nicrt's own cache and no socket, unless the user asks for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at files and sockets as Linux shows them")

WAIT_S = 10.5
"""ONNX Runtime 1.32 writes its files when a session is made, and looks its collector up 9 seconds later."""

SCRIPT = """
import os, sys, threading, time
import numpy as np

sockets, over = set(), threading.Event()

def watch():
    while not over.wait(0.001):
        for handle in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink("/proc/self/fd/" + handle)
            except OSError:
                continue
            if target.startswith("socket:"):
                sockets.add(target)

watcher = threading.Thread(target=watch)
watcher.start()
import nicrt
codec = nicrt.load("shallow", threads=1, backend="onnxruntime")
data = codec.encode(np.zeros((64, 64, 3), np.uint8))
assert codec.decode(data).shape == (64, 64, 3)
assert set(codec.backends.values()) == {"onnxruntime"}
time.sleep(float(sys.argv[1]))
over.set()
watcher.join()
print(len(sockets), os.environ.get("ORT_DISABLE_TELEMETRY"))
"""


def _run(home: Path, wait_s: float, trace: Path | None = None, **variables: str) -> str:
    """Encode and decode in a process whose home is an empty folder; what it saw of sockets, and the variable."""
    cache = home / "cache"
    cache.mkdir(parents=True)
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    folders = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "STATE")}
    environment = {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(cache), **folders, **variables}
    environment["NICRT_CACHE"] = str(home.parent / "nicrt")
    command = [sys.executable, "-c", SCRIPT, str(wait_s)]
    if trace is not None:
        command = ["strace", "-f", "-qq", "-e", "trace=socket,connect", "-e", "signal=none", "-o", str(trace), *command]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir())


def test_no_file_and_no_socket(tmp_path: Path) -> None:
    home, trace = tmp_path / "home", tmp_path / "trace"
    can_trace = (
        shutil.which("strace") is not None and subprocess.run(["strace", "true"], capture_output=True).returncode == 0
    )
    assert _run(home, WAIT_S, trace if can_trace else None) == "0 1"
    assert _files(home) == []
    if can_trace:
        assert "socket(" not in trace.read_text() and "connect(" not in trace.read_text()


def test_the_user_may_ask_for_it(tmp_path: Path) -> None:
    assert _run(tmp_path / "asked", 0, NICRT_ORT_TELEMETRY="1").split()[1] == "None"
    assert _run(tmp_path / "own", 0, ORT_DISABLE_TELEMETRY="0").split()[1] == "0"


def test_every_import_goes_through_one_place() -> None:
    """Who imports ONNX Runtime itself would load it with its telemetry on."""
    root = Path(__file__).resolve().parent.parent
    sources = [path for folder in ("runtime", "export", "benchmarks") for path in (root / folder).rglob("*.py")]
    direct = [p.name for p in sources if re.search(r"^\s*(import|from) onnxruntime\b", p.read_text(), re.MULTILINE)]
    assert direct == ["onnxruntime_library.py"]

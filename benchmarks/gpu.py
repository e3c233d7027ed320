"""Everything that needs a GPU, in one call: python benchmarks/gpu.py --out DIR [--seconds 570]

On a machine with an NVIDIA GPU, nvcc, CMake, ninja and a checkout of this repository: builds and installs nicrt (into a
folder of its own), measures decoding, runs the device tests and the exactness matrix. Every step is a process with a
time limit; one that fails does not stop the next. DIR gets gpu.json (steps, figures, what was missing; written anew
after each), exactness.json and gpu.log with what the steps printed.

    --wheels DIR...    Python packages to use besides those installed: *.whl, also in parts (NAME.whl.00, NAME.whl.01,
                       ... or NAME.whl.partaa, ...), which are joined. For machines without a package index:
                       onnxruntime-gpu with its CUDA provider; scikit-build-core, packaging, pathspec and nanobind to
                       build; msgspec, safetensors and pillow to run; pytest, iniconfig, pluggy, pygments and onnx to
                       test; each unless it is installed there, for nothing is fetched
    --host             the same steps with the host device in place of the GPU, few repeats: a rehearsal
    --installed        measure the nicrt that is installed, build nothing
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
PART = re.compile(r"^(?P<name>.+\.whl)\.(part)?(?P<number>[0-9a-z]+)$")


@dataclass(frozen=True)
class Step:
    """`share`: of the time that is left, at most. results: JSON files that it writes, to put into gpu.json."""

    name: str
    command: list[str]
    share: float
    results: tuple[str, ...] = ()


class Run:
    """Runs steps in the folder `work` and keeps gpu.json and gpu.log in `out` up to date."""

    def __init__(self, out: Path, work: Path, seconds: float) -> None:
        self.work = work
        self.site = work / "site"
        self._out = out
        self._until = time.monotonic() + seconds
        self._result: dict[str, Any] = {
            "machine": platform.platform(),
            "python": platform.python_version(),
            "steps": [],
        }
        path = [str(self.site), os.environ.get("PYTHONPATH", "")]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(part for part in path if part),
            "PATH": os.pathsep.join([str(self.site / "bin"), os.environ["PATH"]]),
            "LD_LIBRARY_PATH": os.pathsep.join([*library_folders(), os.environ.get("LD_LIBRARY_PATH", "")]).strip(":"),
            "NICRT_CACHE": str(work / "cache"),
            "PYTHONUNBUFFERED": "1",
        }
        (out / "gpu.log").write_bytes(b"")

    @property
    def left(self) -> float:
        return self._until - time.monotonic()

    def step(self, step: Step) -> bool:
        """Whether it ended well."""
        start, limit = time.monotonic(), max(1.0, self.left * step.share)
        log = self.work / f"{step.name}.log"
        code = self._process(step.command, log, limit)
        text = log.read_text(errors="replace")
        tail = text.strip().splitlines()[-3:]
        entry = {"name": step.name, "code": code, "seconds": round(time.monotonic() - start, 1), "tail": tail}
        self._result["steps"].append(entry)
        for name in step.results:
            try:
                self._result[Path(name).stem] = json.loads((self.work / name).read_text())
            except (OSError, ValueError) as error:  # not written, or stopped in the middle of it
                entry["no results"] = f"{name}: {error}"
        (self._out / "gpu.json").write_text(json.dumps(self._result, indent=2) + "\n")
        with (self._out / "gpu.log").open("a") as whole:
            whole.write(f"== {step.name}: {shlex.join(step.command)}\n{text}\n")
        print(f"{step.name:12} {entry['seconds']:7} s  {code}  {tail[-1] if tail else ''}", flush=True)
        return code == 0

    def _process(self, command: list[str], log: Path, limit: float) -> int | str:
        """Exit code, or why there is none. What the command has started ends with it."""
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=self.work,
                    env=self.environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                return str(error)
            try:
                return process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return f"stopped after {limit:.0f} s"


def library_folders() -> list[str]:
    """Where wheels that are installed, PyTorch's for one, have NVIDIA's libraries. ONNX Runtime looks for them beside
    itself, and here it is in a folder of its own.
    """
    return [str(folder) for place in sys.path for folder in sorted(Path(place).glob("nvidia/*/lib"))]


def join_wheels(folder: Path, target: Path) -> list[Path]:
    """All wheels of a folder; those in parts joined into `target`."""
    parts: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = PART.match(path.name)
        if match:
            parts.setdefault(match["name"], []).append(path)
    target.mkdir(parents=True, exist_ok=True)
    for name, pieces in parts.items():
        with (target / name).open("wb") as whole:
            for piece in pieces:
                with piece.open("rb") as source:
                    shutil.copyfileobj(source, whole)
    return [*sorted(folder.glob("*.whl")), *(target / name for name in parts)]


def install_steps(run: Run, wheels: list[Path], host: bool) -> list[Step]:
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(run.site)]
    steps = []
    found = [str(wheel) for folder in wheels for wheel in join_wheels(folder, run.work / "joined")]
    if found:
        steps.append(Step("wheels", [*pip, "--upgrade", *found], 0.3))
    # the native architecture alone: a quarter of the compiling
    cuda = ["NICRT_CUDA=OFF"] if host else ["NICRT_CUDA=ON", f"CMAKE_CUDA_ARCHITECTURES={architecture()}"]
    settings = [f"--config-settings=cmake.define.{define}" for define in cuda]
    steps.append(Step("build", [*pip, "--upgrade", "--no-build-isolation", *settings, str(ROOT)], 0.5))
    return steps


def architecture() -> str:
    """Compute capability of the first GPU, as CMake writes it."""
    try:
        query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
        return f"{done.stdout.splitlines()[0].strip().replace('.', '')}-real"
    except (OSError, subprocess.SubprocessError, IndexError):
        return "90-real"


def measuring_steps(run: Run, host: bool) -> Iterator[Step]:
    """Each is asked for when the one before has ended: the last ones share what time is left."""
    device = "host" if host else "cuda"
    python = sys.executable
    sizes = ["--size", "320x240"] if host else ["--size", "1920x1080", "--size", "768x512"]
    bench = [python, "-m", "nicrt.runtime.cli", "bench", "shallow", "--device", device, "--lanes", "parallel", *sizes]
    bench += ["--repeat", "3" if host else "300", "--threads", "1", "--json", "bench.json"]
    yield Step("bench", bench, 0.3, ("bench.json",))
    figures = [python, str(BENCHMARKS / "gpu_figures.py"), "--device", device, "-o", "figures.json"]
    yield Step("figures", [*figures, *(["--quick"] if host else [])], 0.35, ("figures.json",))
    entropy = [python, str(BENCHMARKS / "device_entropy.py"), "--device", device, "-o", "entropy.json"]
    yield Step("entropy", [*entropy, *(["--batches", "1", "--repeat", "2"] if host else [])], 0.2, ("entropy.json",))
    tests = sorted(map(str, (ROOT / "tests").glob("test_device*.py")))
    pytest = [python, "-m", "pytest", "-v", "-rs", "--tb=short", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    yield Step("tests", [*pytest, *tests], 0.4)
    matrix = [python, str(BENCHMARKS / "exactness_matrix.py"), "-o", "exactness.json", "--jobs", "1" if host else "4"]
    matrix += ["--seconds", f"{0.8 * run.left:.0f}", *(["--bundles", "slim"] if host else [])]
    yield Step("matrix", matrix, 0.9, ("exactness.json",))
    if not host and shutil.which("compute-sanitizer") is not None:
        yield Step("sanitizer", ["compute-sanitizer", "--error-exitcode", "9", *pytest, "-x", tests[0]], 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--wheels", type=Path, nargs="+", default=[], metavar="DIR")
    parser.add_argument("--seconds", type=float, default=570, help="for everything (default: 570)")
    parser.add_argument("--host", action="store_true")
    parser.add_argument("--installed", action="store_true")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        run = Run(out, Path(work), options.seconds)
        if not options.host:
            run.environment["NICRT_TEST_DEVICE"] = "cuda"
        for probe, command in (("nvidia-smi", ["nvidia-smi"]), ("nvcc", ["nvcc", "--version"])):
            run.step(Step(probe, command, 0.1))
        steps = [] if options.installed else install_steps(run, options.wheels, options.host)
        ended_well = [run.step(step) for step in itertools.chain(steps, measuring_steps(run, options.host))]
        if (run.work / "exactness.json").is_file():
            shutil.copy(run.work / "exactness.json", out)
    return 0 if all(ended_well) else 1


if __name__ == "__main__":
    sys.exit(main())

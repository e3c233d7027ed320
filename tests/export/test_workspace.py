"""Memory: what a manifest says of its graphs against their tensors, and against what a process really takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import Tensor, nn  # noqa: E402

from nicrt import _core  # noqa: E402
from nicrt.export.onnx_export import export_module, workspace_bytes  # noqa: E402
from nicrt.runtime.bundle import Bundle  # noqa: E402
from nicrt.runtime.manifest import Port  # noqa: E402


class _Upsampler(nn.Module):
    """4 channels at a quarter of the size → 8 at half → ReLU → 3."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 8, 3, 2, padding=1, output_padding=1)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.up(x)))


def test_workspace_is_the_live_tensors_and_columns() -> None:
    ports = {"x": Port("float32", [1, 4, "h", "w"])}, {"y": Port("float32", [1, 3, "2h", "2w"])}
    data = export_module(_Upsampler(), *ports)
    h, w = 5, 7
    upsampled, columns = 4 * 8 * 4 * h * w, 4 * (8 * 3 * 3) * h * w
    # while it is made: its columns; while the ReLU runs: its input and output
    assert workspace_bytes(data, {"h": h, "w": w}) == max(upsampled + columns, 2 * upsampled)


def test_every_graph_of_an_export_says_its_workspace(fresh: Path, tmp_path: Path) -> None:
    manifest = json.loads((fresh / "manifest.json").read_text())
    assert all(graph["workspace_bytes_per_pixel"] > 0 for graph in manifest["graphs"].values())
    folder = tmp_path / "without"
    shutil.copytree(fresh, folder)
    for graph in manifest["graphs"].values():
        del graph["workspace_bytes_per_pixel"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    Bundle.open(folder)  # checks the ids: they do not depend on it


_MEASURE = """
import sys
from pathlib import Path
import numpy as np
import nicrt


def kib(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1])


folder, file, encoding = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "encode"
codec = nicrt.load(folder, threads=1, backend="onnxruntime")
small = codec.encode(np.zeros((64, 64, 3), np.uint8))
codec.decode(small)
given = np.load(file) if encoding else file.read_bytes()
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = kib("VmRSS")
codec.encode(given) if encoding else codec.decode(given)
print(1024 * (kib("VmHWM") - before))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures with Linux's /proc")
@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_the_estimate_covers_what_a_process_takes(fresh: Path, tmp_path: Path, direction: str) -> None:
    import nicrt

    size = 1088, 1920
    noise = np.random.default_rng(3).integers(0, 256, (17, 30, 3), np.uint8)
    pixels = np.kron(noise, np.ones((64, 64, 1), np.uint8))
    codec = nicrt.load(fresh, threads=1, backend="onnxruntime")
    if direction == "encode":
        file = tmp_path / "picture.npy"
        np.save(file, pixels)
    else:
        file = tmp_path / "picture.nic"
        file.write_bytes(codec.encode(pixels))
    command = [sys.executable, "-c", _MEASURE, str(fresh), str(file), direction]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    core = codec.bundle.core
    values = _core.default_values(core, "shallow", size)
    estimate = _core.plan(core, "shallow", values, size, encode=direction == "encode", effort=5).memory_bytes
    assert taken <= estimate <= 2 * taken

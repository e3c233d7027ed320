"""Fixtures of the export's tests. PyTorch is imported inside them: without it the tests skip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from nicrt.export.exact import ExactNetwork
    from nicrt.export.models.shallow import Shallow
    from nicrt.export.models.slim import Slim

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    pytest.importorskip("torch").set_num_threads(1)


@pytest.fixture(scope="session")
def shipped() -> Path:
    return ROOT / "engines" / "shallow"


@pytest.fixture(scope="session")
def shipped_weights() -> Callable[[str], Path]:
    """Name of a checkpoint → what a shipped bundle is exported from: kept beside the export, or in ../shared, where
    training has not gone on from there."""

    def find(name: str) -> Path:
        folders = ROOT / "export" / "weights", SHARED / "weights"
        files = [folder / f"{name}.safetensors" for folder in folders]
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            pytest.skip("needs the trained weights in ../shared")
        return found

    return find


@pytest.fixture(scope="session")
def shipped_checkpoint(shipped_weights: Callable[[str], Path]) -> Path:
    """With a deep analysis."""
    return shipped_weights("shallow")


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """The codec with the linear analysis alone, from which training went on."""
    path = SHARED / "weights" / "shallow.safetensors"
    if not path.is_file():
        pytest.skip("needs the trained weights in ../shared")
    return path


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> Shallow:
    """The float model that the bundle comes from."""
    from safetensors.torch import load_file

    from nicrt.export.models.shallow import Shallow

    return Shallow.of(load_file(checkpoint))


@pytest.fixture(scope="session")
def fresh(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle exported now."""
    from nicrt.export.cli import export_family

    folder = tmp_path_factory.mktemp("export") / "shallow"
    export_family("shallow", checkpoint, folder)
    return folder


@pytest.fixture(scope="session")
def static_slim(tmp_path_factory: pytest.TempPathFactory) -> tuple[Slim, Path]:
    """A slimmable codec of random weights with factorised priors, as the paper has it, and the bundle of its narrowest
    width."""
    import torch

    from nicrt.export import slim
    from nicrt.export.bundle import write_bundle
    from nicrt.export.models.slim import Slim
    from nicrt.export.part import part

    torch.manual_seed(6)
    model = Slim()
    with torch.no_grad():
        for layer in (*model.enc, *model.dec):
            layer.weight.normal_(0, 0.05)
        for prior in model.prior:
            prior.start()
    folder = tmp_path_factory.mktemp("static") / "slim"
    write_bundle(part(slim.source(model.state_dict()), "48", False), folder)
    return model.eval().requires_grad_(False), folder


@pytest.fixture(scope="session")
def small_network() -> ExactNetwork:
    """A lowered hyper synthesis of random weights: 4 channels to 3 latents."""
    import torch

    from nicrt.export.exact import lower_hyper_synthesis
    from nicrt.export.models.entropy import HyperSynthesis

    torch.manual_seed(5)
    return lower_hyper_synthesis(HyperSynthesis(4, 3, hidden=(5, 6)), z_limit=127)


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Three Kodak pictures: float32 [1, 3, 512, 768] or [1, 3, 768, 512] in [0, 1]."""
    files = [SHARED / "data" / "kodak" / f"kodim{number:02}.png" for number in (3, 8, 19)]
    if not all(file.is_file() for file in files):
        pytest.skip("needs the Kodak pictures in ../shared")
    pictures = [np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file in files]
    return [np.ascontiguousarray(picture.transpose(2, 0, 1))[None] for picture in pictures]

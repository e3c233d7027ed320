"""Import of CompressAI 1.2.8 checkpoints: `bmshj2018-factorized`, `bmshj2018-hyperprior`, `mbt2018-mean`.

A state dict comes in, of any channel numbers (read from its shapes); tables need not be in it. GDN's parameters are
taken out of their reparametrisation; the networks of the entropy bottleneck become our factorised prior. CompressAI
rounds hyper latents around medians. Because of zero padding these cannot be folded into a bias: they are dropped, hyper
latents are rounded to integers, and the tables are built on that grid.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nicrt.runtime.errors import UnsupportedError

from .bundle import BundleSource
from .factorized import factorized
from .lowering import Sample, draw, draw_integers
from .mean_scale import hyperprior
from .models.mean_scale import ALIGN, Z_LIMIT, Factorized, Hyperprior, MeanScale, ScaleOnly

FACTORIZED, HYPERPRIOR, MEAN = ARCHITECTURES = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean")
LEAST_HALF_PSNR = 71.4
"""dB between the pictures of float16 and float32 weights from which on the former are stored: they then take less than
0.01 dB from a codec of up to 45 dB."""
DRAWN_SIDE = 16  # height and width of the latents that float16 weights are measured with
CALIBRATION_SIDE = 1024  # of the middle of a calibration picture that is used, pixels

_PARAMETERS = {"matrices": "H", "matrix": "H", "biases": "B", "bias": "B", "factors": "A", "factor": "A"}
_BOTTLENECK = re.compile(r"entropy_bottleneck\._?(matri(?:x|ces)|bias(?:es)?|factors?)\.?(\d+)$")
_REPARAMETRISED = re.compile(r"(g_[as]\.\d+\.(?:beta|gamma))_reparam\.pedestal$")
_UNUSED = re.compile(r"entropy_bottleneck\.|gaussian_conditional\.|g_[as]\.\d+\.(beta|gamma)_reparam\.")


def source(data: bytes, arch: str | None, pictures: Sequence[npt.NDArray[np.float32]] = ()) -> BundleSource:
    """Bytes of a checkpoint → everything that its bundle is written from. `arch`: which of ARCHITECTURES it is;
    `pictures`: float32 [h, w, 3] in [0, 1] to calibrate the lowering of the hyper synthesis with, besides what it makes
    itself (`lowering.draw`); a factorised prior needs none."""
    if arch not in ARCHITECTURES:
        raise UnsupportedError(f"the architecture is one of {', '.join(ARCHITECTURES)} (--arch), not {arch!r}")
    weights = state_dict(data)
    check_architecture(arch, weights)
    model = load(arch, weights)
    samples: list[Sample] = []
    if isinstance(model, Hyperprior):
        samples = [*(_sample(model, picture) for picture in pictures), *draw(model, Z_LIMIT)]
        latents = [sample.y for sample in samples]
    else:
        latents = [draw_integers(model.prior, model.latents, DRAWN_SIDE, Z_LIMIT, np.random.default_rng(1))]
    stored = with_half_weights(model, latents)
    summary = f"imported from CompressAI: {arch}, N = {model.channels}, M = {model.latents}"
    if isinstance(stored, Factorized):
        return factorized(stored, arch, summary)
    return hyperprior(stored, arch, summary, (0, 0, 0), samples)


def state_dict(data: bytes) -> dict[str, Tensor]:
    """A checkpoint's tensors: it is a state dict, or has one as `state_dict`."""
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the parser of an untrusted file raises
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnsupportedError(f"not a PyTorch checkpoint that can be read: {first}") from None
    inner = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(inner, Mapping) or not all(isinstance(tensor, Tensor) for tensor in inner.values()):
        raise UnsupportedError("the checkpoint is not a state dict and has none under the name 'state_dict'")
    return {str(name).removeprefix("module."): tensor for name, tensor in inner.items()}


def check_architecture(arch: str, weights: Mapping[str, Tensor]) -> None:
    """Refuse a state dict of another architecture, saying which one it is."""
    if any(name.startswith(("context_prediction.", "entropy_parameters.")) for name in weights):
        raise UnsupportedError(
            "the checkpoint has a context model (as mbt2018 and cheng2020 have): every symbol's table would hang on "
            "floats computed from the symbols before it, which is slow to decode and not the same on every device. "
            f"Architectures without one: {', '.join(ARCHITECTURES)}"
        )
    if not {"g_a.0.weight", "g_a.1.beta", "g_a.6.weight", "g_s.0.weight"} <= set(weights):
        raise UnsupportedError(
            "the checkpoint does not have the transforms (four convolutions with GDN, g_a and g_s) of "
            + ", ".join(ARCHITECTURES)
        )
    last = weights.get("h_s.4.weight")
    found = FACTORIZED
    if last is not None:
        found = MEAN if last.shape[0] == 2 * weights["g_s.0.weight"].shape[0] else HYPERPRIOR
    if found != arch:
        raise UnsupportedError(f"the checkpoint is of {found}, not of {arch}: pass --arch {found}")


def load(arch: str, weights: Mapping[str, Tensor]) -> Factorized | Hyperprior:
    """The float model of a state dict in CompressAI's layout."""
    channels, latents = weights["g_a.0.weight"].shape[0], weights["g_a.6.weight"].shape[0]
    ours = renamed(weights)
    filters = tuple(ours[f"prior.A.{i}"].shape[1] for i in range(len(ours)) if f"prior.A.{i}" in ours)
    model: Factorized | Hyperprior
    if arch == FACTORIZED:
        model = Factorized(channels, latents, filters)
    elif arch == HYPERPRIOR:
        model = ScaleOnly(channels, latents, filters)
    else:
        model = MeanScale(channels, latents, filters=filters)
    model.load_state_dict(ours)
    return model.eval().requires_grad_(False)


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CompressAI's state dict → the names and parameters of ours, float32."""
    pedestals = {m[1]: tensor for name, tensor in weights.items() if (m := _REPARAMETRISED.match(name))}
    result = {}
    for name, tensor in weights.items():
        match = _BOTTLENECK.match(name)
        if match:
            result[f"prior.{_PARAMETERS[match[1]]}.{match[2]}"] = tensor.float()
        elif name in pedestals:
            bound = weights[f"{name}_reparam.lower_bound.bound"].double()
            value = torch.maximum(tensor.double(), bound) ** 2 - pedestals[name].double()
            result[name] = value.float()
        elif not _UNUSED.match(name):
            result[name] = tensor.float()
    return result


def _sample(model: Hyperprior, picture: npt.NDArray[np.float32]) -> Sample:
    """Latents of the middle of a picture float32 [h, w, 3]."""
    top, left = (max(0, side - CALIBRATION_SIDE) // 2 for side in picture.shape[:2])
    middle = picture[top : top + CALIBRATION_SIDE, left : left + CALIBRATION_SIDE]
    x = torch.from_numpy(np.ascontiguousarray(middle.transpose(2, 0, 1)))[None]
    height, width = x.shape[2:]
    y, z = model.analyse(F.pad(x, (0, -width % ALIGN, 0, -height % ALIGN), mode="replicate"))
    return Sample(z.clamp(-Z_LIMIT, Z_LIMIT), y)


@torch.no_grad()
def with_half_weights(model: Factorized | Hyperprior, latents: Sequence[Tensor]) -> Factorized | Hyperprior:
    """The model with the convolutions' weights of its transforms rounded to float16, if the pictures of (a piece of)
    these latents stay the same within LEAST_HALF_PSNR; else the model."""
    half = deepcopy(model)
    for part in (half.g_a, half.g_s, *([half.h_a] if isinstance(half, Hyperprior) else [])):
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.copy_(module.weight.half().float())
    for y in (whole[:, :, :DRAWN_SIDE, :DRAWN_SIDE] for whole in latents):
        picture = model.g_s(y).clamp(0, 1)
        again = half.g_s(half.g_a(picture)) - model.g_s(model.g_a(picture))
        error = float((again**2).mean())
        if not error <= 10 ** (-LEAST_HALF_PSNR / 10):
            return model
    return half

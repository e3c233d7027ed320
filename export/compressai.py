"""Import of CompressAI 1.2.8 checkpoints: `bmshj2018-factorized`, `bmshj2018-hyperprior`, `mbt2018-mean`.

A state dict comes in, of any channel numbers (read from its shapes); tables and other buffers need not be in it. GDN's
parameters are taken out of their reparametrisation; the networks of the entropy bottleneck become our factorised prior.
CompressAI rounds hyper latents around medians. Because of zero padding these cannot be folded into a bias: they are
dropped, hyper latents are rounded to integers, and the tables are built on that grid. Of latents with a factorised
prior, which no convolution of the decoder pads, the integer part of the medians is kept (`factorized`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nicrt.runtime.errors import UnsupportedError

from .bundle import BundleSource, Framework
from .checkpoints import weights_under
from .compressai_reference import evaluate
from .factorized import factorized, shifts
from .lowering import Sample, draw, draw_integers, made_pictures
from .mean_scale import hyperprior
from .models.mean_scale import ALIGN, Z_LIMIT, Factorized, Hyperprior, MeanScale, ScaleOnly
from .tensors import check_finite, load_weights

FACTORIZED, HYPERPRIOR, MEAN = ARCHITECTURES = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean")
LEAST_HALF_PSNR = 71.4
"""dB between the pictures of float16 and float32 weights from which on the former are stored: they then take less than
0.01 dB from a codec of up to 45 dB."""
DRAWN_SIDE = 16  # height and width of the latents that float16 weights are measured with
PEDESTAL = 2.0**-36
"""Of CompressAI's reparametrisation of GDN: parameters are stored as sqrt(value + PEDESTAL)."""
SYMBOL_MAX = 32767  # they are int16
PRIOR_REACH = 1 << 10  # of drawn latents around the channels' medians
CALIBRATION_SIDE = 1024  # of the middle of a calibration picture that is used, pixels

_PARAMETERS = {"matrices": "H", "matrix": "H", "biases": "B", "bias": "B", "factors": "A", "factor": "A"}
_LISTS = {"H": "matrices", "B": "biases", "A": "factors"}
_BOTTLENECK = re.compile(r"entropy_bottleneck\._?(matri(?:x|ces)|bias(?:es)?|factors?)\.?(\d+)$")
_GDN = re.compile(r"g_[as]\.\d+\.(beta|gamma)$")
_LEAST = {"beta": 1e-6, "gamma": 0.0}  # of what GDN's parameters may be
_UNUSED = re.compile(r"entropy_bottleneck\.|gaussian_conditional\.|g_[as]\.\d+\.(beta|gamma)_reparam\.")


def source(
    data: bytes, arch: str | None, pictures: Sequence[npt.NDArray[np.float32]] = (), weights_key: str | None = None
) -> BundleSource:
    """Bytes of a checkpoint → everything that its bundle is written from. `arch`: which of ARCHITECTURES it is;
    `pictures`: float32 [h, w, 3] in [0, 1] to calibrate the lowering of the hyper synthesis with, besides what it makes
    itself (`lowering.draw`); a factorised prior needs none. `weights_key`: of the weights to take, where the checkpoint
    has several sets that fit."""
    if arch not in ARCHITECTURES:
        raise UnsupportedError(f"the architecture is one of {', '.join(ARCHITECTURES)} (--arch), not {arch!r}")
    weights = state_dict(data, arch, weights_key)
    check_finite(weights)
    model = load(arch, weights)
    check_finite(model.state_dict(), "the model")  # squares of what training left in GDN may not be
    padded = [_padded(picture) for picture in pictures]
    check_symbols(model, [*padded, *made_pictures(np.random.default_rng(1))])
    if isinstance(model, Hyperprior):
        samples = [*(_sample(model, x) for x in padded), *draw(model, Z_LIMIT)]
        latents = [sample.y for sample in samples]
    else:
        limit = PRIOR_REACH + int(np.abs(shifts(model.prior)).max())
        latents = [draw_integers(model.prior, model.latents, DRAWN_SIDE, limit, np.random.default_rng(1))]
    stored = with_half_weights(model, latents)
    summary = f"imported from CompressAI: {arch}, N = {model.channels}, M = {model.latents}"
    if isinstance(stored, Factorized):
        made = factorized(stored, arch, summary)
    else:
        made = hyperprior(stored, arch, summary, (0, 0, 0), samples)
    return replace(made, framework=Framework("CompressAI", partial(evaluate, arch, weights), arch, {}))


def state_dict(data: bytes, arch: str, weights_key: str | None = None) -> dict[str, Tensor]:
    """A checkpoint's tensors of an architecture by CompressAI's names (`checkpoints.weights_under`)."""

    def check(weights: Mapping[str, Tensor]) -> None:
        check_architecture(arch, weights)
        load(arch, weights)

    return weights_under(data, "g_a.0.", check, weights_key)


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
    if not any(_BOTTLENECK.match(name) for name in weights):
        raise UnsupportedError("the checkpoint lacks its factorised prior (entropy_bottleneck.matrices.0 and others)")
    quantiles, matrix = (weights.get(f"entropy_bottleneck.{name}") for name in ("quantiles", "matrices.0"))
    if quantiles is not None and matrix is not None and quantiles.shape != (len(matrix), 1, 3):
        raise UnsupportedError(f"tensor 'entropy_bottleneck.quantiles' of the checkpoint is not {len(matrix)} x 1 x 3")
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
    load_weights(model, ours, _theirs)
    return model.eval().requires_grad_(False)


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CompressAI's state dict → the names and parameters of ours, float32. Its GDN always has a reparametrisation;
    where averaging of weights has dropped the buffers with its constants, they are CompressAI's."""
    result = {}
    for name, tensor in weights.items():
        match = _BOTTLENECK.match(name)
        if match:
            result[f"prior.{_PARAMETERS[match[1]]}.{match[2]}"] = tensor.float()
        elif parameter := _GDN.match(name):
            pedestal = _buffer(weights, f"{name}_reparam.pedestal", PEDESTAL)
            least = _LEAST[parameter[1]]
            bound = _buffer(weights, f"{name}_reparam.lower_bound.bound", math.sqrt(least + PEDESTAL))
            result[name] = (torch.maximum(tensor.double(), bound) ** 2 - pedestal).float()
        elif not _UNUSED.match(name):
            result[name] = tensor.float()
    return result


def _theirs(name: str) -> str:
    """Our name of a tensor → CompressAI's."""
    match = re.match(r"prior\.([HBA])\.(\d+)$", name)
    return f"entropy_bottleneck.{_LISTS[match[1]]}.{match[2]}" if match else name


def _buffer(weights: Mapping[str, Tensor], name: str, default: float) -> Tensor:
    return weights.get(name, torch.tensor([default])).double()


def _padded(picture: npt.NDArray[np.float32]) -> Tensor:
    """The middle of a picture float32 [h, w, 3] as the models take it: [1, 3, 64h, 64w]."""
    top, left = (max(0, side - CALIBRATION_SIDE) // 2 for side in picture.shape[:2])
    middle = picture[top : top + CALIBRATION_SIDE, left : left + CALIBRATION_SIDE]
    x = torch.from_numpy(np.ascontiguousarray(middle.transpose(2, 0, 1)))[None]
    height, width = x.shape[2:]
    return F.pad(x, (0, -width % ALIGN, 0, -height % ALIGN), mode="replicate")


def _sample(model: Hyperprior, x: Tensor) -> Sample:
    y, z = model.analyse(x)
    return Sample(z.clamp(-Z_LIMIT, Z_LIMIT), y)


@torch.no_grad()
def check_symbols(model: Factorized | Hyperprior, pictures: Sequence[Tensor]) -> None:
    """Raises UnsupportedError if the latents of one of these pictures [1, 3, 64h, 64w], or what is made of them, are no
    finite numbers, or if latents are beyond what symbols hold: clipped, they would damage what is decoded."""
    for x in pictures:
        if isinstance(model, Hyperprior):
            y, z = model.analyse(x)
            mean, _ = model.gaussians(torch.round(z).clamp(-Z_LIMIT, Z_LIMIT))
        else:
            y, mean = model.g_a(x), torch.from_numpy(shifts(model.prior)).float()[:, None, None]
        symbols = y if mean is None else y - mean
        reached = symbols.abs().amax((0, 2, 3))
        channel = int(torch.argmax(torch.nan_to_num(reached, nan=math.inf)))
        if not float(reached[channel]) <= SYMBOL_MAX:
            raise UnsupportedError(
                f"channel {channel} of the latents reaches {float(reached[channel]):.6g} on calibration pictures, and "
                f"symbols hold {-SYMBOL_MAX - 1} .. {SYMBOL_MAX}: clipped, they would damage every picture"
            )
        if not bool(torch.isfinite(model.g_s(y)).all()):
            raise UnsupportedError("the synthesis (g_s) gives values that are not finite on calibration pictures")


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

"""Small random codecs in CompressAI's layout."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nicrt.export import compressai
from nicrt.export.models.gdn import GDN
from nicrt.export.models.mean_scale import Factorized, Hyperprior, MeanScale, ScaleOnly

HARBOUR = Path(__file__).with_name("pictures") / "harbour.png"
PEDESTAL = 2.0**-36
MODELS = dict(zip(compressai.ARCHITECTURES, (Factorized, ScaleOnly, MeanScale), strict=True))


def random_model(arch: str) -> Factorized | Hyperprior:
    """A model of 6 channels and 9 latents with symbols and scales that are not all 0."""
    torch.manual_seed(4)
    model = MODELS[arch](6, 9, filters=(3, 3, 3, 3))
    for name, parameter in model.named_parameters():
        if name.startswith("prior."):
            nn.init.normal_(parameter, 0, 0.4)
    with torch.no_grad():
        model.g_a[6].weight *= 40
        model.g_s[0].weight *= 0.1
        if isinstance(model, Hyperprior):
            model.h_a[4].weight *= 4
            model.h_s[4].bias[:9] += 1.5
        for module in model.modules():
            if isinstance(module, GDN):
                module.gamma += 0.01 * torch.rand_like(module.gamma)
    return model.eval().requires_grad_(False)


def state_dict_of(model: nn.Module) -> dict[str, Tensor]:
    """The model in CompressAI's layout."""
    lists = {"H": "matrices", "B": "biases", "A": "factors"}
    state: dict[str, Tensor] = {
        "entropy_bottleneck.quantiles": torch.zeros(len(model.prior.H[0]), 1, 3),
        "entropy_bottleneck._offset": torch.zeros(0, dtype=torch.int32),
    }
    for name, tensor in model.state_dict().items():
        owner, _, last = name.rpartition(".")
        if name.startswith("prior."):
            _, kind, number = name.split(".")
            state[f"entropy_bottleneck.{lists[kind]}.{number}"] = tensor
        elif last in ("beta", "gamma"):
            state[name] = torch.sqrt(tensor.double() + PEDESTAL).float()
            least = 1e-6 if last == "beta" else 0.0
            state[f"{owner}.{last}_reparam.pedestal"] = torch.tensor([PEDESTAL])
            state[f"{owner}.{last}_reparam.lower_bound.bound"] = torch.tensor([(least + PEDESTAL) ** 0.5])
        else:
            state[name] = tensor
    return state


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()

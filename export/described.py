"""A graph's one description, from which both of its forms in a bundle are made.

The description is the native form (`runtime.native_form`) and its tensors: the bundle stores them as they are, and
`native_torch` executes them in PyTorch, from where the ONNX form is traced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from nicrt.runtime.errors import InternalError
from nicrt.runtime.native_form import (
    NO_HASH,
    Affine,
    Constant,
    Factor,
    InterpolatedExponential,
    Layer,
    NativeForm,
    Normalisation,
    Operation,
    Picture,
    Quantise,
    StridedChain,
    Term,
    TransposedChain,
    View,
)

from .models.gdn import GDN
from .tensors import narrowed

Array = npt.NDArray[Any]
Values = Tensor | npt.NDArray[Any] | Sequence[float] | float
Convolution = nn.Conv2d | nn.ConvTranspose2d

SHOWN = Picture(0.0, 255.0)
"""Grey levels; the half that rounds is in the bias of the last layer."""


class Description:
    """Operations in their order, and the tensors that they use by their names in the bundle, which are its own: two
    graphs may only share a name where one tensor is a leading corner of the other."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.arrays: dict[str, Array] = {}

    def form(self) -> NativeForm:
        """Without the hashes of the tensors: those are of what is stored, and come with the manifest."""
        views = {
            name: View(array.dtype.name, list(array.shape), NO_HASH)  # type: ignore[arg-type]
            for name, array in self.arrays.items()
        }
        return NativeForm(views, self.operations)

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)

    def tensor(self, name: str, values: Values, corner: Sequence[int] | None = None) -> str:
        """Store a tensor, or of a tensor that wider graphs use too the leading `corner`. Floats become float32, or
        float16 where that loses nothing. Returns its name."""
        array = values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values)
        whole = narrowed(array.astype(np.float32) if array.dtype.kind == "f" else array)
        self.arrays[name] = np.ascontiguousarray(whole[tuple(slice(end) for end in corner or whole.shape)])
        return name

    def constant(self, name: str, values: Values) -> Constant:
        """A stored vector [channels], or a number."""
        array = values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values, np.float32)
        return Constant(self.tensor(name, array.reshape(-1)))

    def interpolated_exponential(
        self, name: str, logarithms: Tensor, parameter: str, unit: int
    ) -> InterpolatedExponential:
        """exp of a row of `logarithms`, float32 [rows, channels], linear between rows."""
        return InterpolatedExponential(self.tensor(name, logarithms), parameter, unit)

    def affine(self, out: str, terms: Iterable[Term | str], offset: Sequence[Factor] = (), slope: float = 1.0) -> str:
        self.add(Affine(out, _terms(terms), list(offset), slope))
        return out

    def strided(
        self, out: str, terms: Iterable[Term | str], layers: Sequence[Layer], offset: Sequence[Factor] = ()
    ) -> str:
        self.add(StridedChain(out, _terms(terms), list(layers), list(offset)))
        return out

    def transposed(
        self,
        out: str,
        terms: Iterable[Term | str],
        layers: Sequence[Layer],
        offset: Sequence[Factor] = (),
        picture: Picture | None = None,
    ) -> str:
        self.add(TransposedChain(out, _terms(terms), list(layers), list(offset), picture))
        return out

    def quantise(self, out: str, value: str, low: int, high: int) -> str:
        self.add(Quantise(out, value, low, high))
        return out

    def layer(self, name: str, module: Convolution, norm: Normalisation | None = None) -> Layer:
        """A convolution, its tensors stored under `name`. Raises InternalError unless it gives `stride` times its
        inputs (transposed), or one for each `stride` of them."""
        transposed = isinstance(module, nn.ConvTranspose2d)
        stride, pad = (cast(tuple[int, int], tuple(pair)) for pair in (module.stride, module.padding))
        missing = [s - k + 2 * p for s, k, p in zip(stride, module.kernel_size, pad, strict=True)]
        one_each = all(0 <= more < s for more, s in zip(missing, stride, strict=True))
        fits = tuple(missing) == module.output_padding if transposed else one_each
        if not fits or module.groups != 1 or module.dilation != (1, 1):
            raise InternalError(f"{name}: {module} has no native form")
        bias = None if module.bias is None else self.tensor(f"{name}.bias", module.bias)
        return Layer(self.tensor(f"{name}.weight", module.weight), bias, stride, pad, norm=norm)

    def norm(self, name: str, norm: GDN) -> Normalisation:
        return Normalisation(self.tensor(f"{name}.beta", norm.beta), self.tensor(f"{name}.gamma", norm.gamma))

    def chain(self, name: str, modules: Iterable[tuple[str, nn.Module]]) -> list[Layer]:
        """Layers of a sequence of convolutions, all transposed or none, with (leaky) ReLU and GDN behind them or, of
        transposed ones, inverse GDN before them. Tensors are stored under `name` and the modules' own names."""
        layers: list[Layer] = []
        before: Normalisation | None = None
        for key, module in modules:
            if isinstance(module, Convolution):
                layers.append(self.layer(f"{name}.{key}", module, norm=before))
                before = None
            elif isinstance(module, GDN):
                norm = self.norm(f"{name}.{key}", module)
                if module.inverse:
                    before = norm
                else:
                    layers[-1] = msgspec.structs.replace(layers[-1], norm=norm)
            elif isinstance(module, nn.ReLU | nn.LeakyReLU):
                slope = module.negative_slope if isinstance(module, nn.LeakyReLU) else 0.0
                layers[-1] = msgspec.structs.replace(layers[-1], slope=slope)
            else:
                raise InternalError(f"{name}.{key}: a {type(module).__name__} has no native form")
        return layers


def stored_tensors(graphs: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    """What the graphs of a bundle use → what it stores: each tensor once, as large as the largest corner that a graph
    uses of it. Raises InternalError where two graphs mean different tensors by one name."""
    stored: dict[str, Array] = {}
    uses = [(name, array) for graph in graphs for name, array in graph.items()]
    for name, array in sorted(uses, key=lambda use: -use[1].size):
        whole = stored.setdefault(name, array)
        corner = whole[tuple(slice(end) for end in array.shape)]
        if corner.dtype != array.dtype or not np.array_equal(corner, array):
            raise InternalError(f"two graphs mean different tensors by {name!r}")
    return stored


def _terms(terms: Iterable[Term | str]) -> list[Term]:
    return [Term(term) if isinstance(term, str) else term for term in terms]

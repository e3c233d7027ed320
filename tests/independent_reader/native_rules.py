"""What a native form must be (BUNDLE.md sections 5, 10 and 11): names, types, sizes, bounds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import require

FLOATS = ("float32", "float16")
MOST = {"uint8": 255, "uint16": 65535, "float32": 1}
Dim = tuple[int, str]  # factor, symbol; "" for a number


def dim_of(entry: int | str) -> Dim:
    if isinstance(entry, int):
        return entry, ""
    match = re.fullmatch(r"([0-9]*)([a-z]+)", entry)
    assert match
    return int(match[1] or 1), match[2]


@dataclass(frozen=True)
class Kind:
    """What is known of a value. bound: the largest magnitude of an integer, None if unknown. floats: whether a float
    had a part in it."""

    dtype: str
    dims: tuple[Dim, ...]
    bound: int | None = None
    floats: bool = False

    @property
    def channels(self) -> int:
        return self.dims[1][0]


def _is_unit(value: float, least: float) -> bool:
    return least <= value <= 1 and math.frexp(value)[0] == 0.5


class Checker:
    """Walks the operations of one graph."""

    def __init__(self, graph: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
        self.graph, self.weights, self.views = graph, weights, graph["native"]["tensors"]
        self.parameters: dict[str, list[int]] = {}
        self.used: set[str] = set()
        self.values: dict[str, Kind] = {}
        for name, port in graph["inputs"].items():
            if port["dtype"] == "int32" and port["dims"] == [1]:
                require(port["range"], f"parameter {name} without a range")
                self.parameters[name] = port["range"]
            else:
                self.values[name] = self._input(name, port)

    def _input(self, name: str, port: dict[str, Any]) -> Kind:
        dims = tuple(dim_of(entry) for entry in port["dims"])
        batch = dims[:1] in (((1, "n"),), ((1, ""),))
        spatial = len(dims) == 4 and batch and dims[1][1] == "" and dims[2][1] != "" and dims[3][1] != ""
        require(spatial and port["dtype"] in ("float32", "int32", "uint8"), f"input {name} is no value")
        bound = max(map(abs, port["range"])) if port["range"] else (255 if port["dtype"] == "uint8" else None)
        return Kind(port["dtype"], dims, bound, port["dtype"] == "float32")

    def check(self) -> None:
        for operation in self.graph["native"]["operations"]:
            for name, kind in getattr(self, operation["op"])(operation).items():
                require(name not in self.values and name not in self.parameters, f"{name} is written twice")
                most = [9_999_999 if symbol else 1 << 24 for _, symbol in kind.dims]
                require(all(dim[0] <= size for dim, size in zip(kind.dims, most, strict=True)), f"{name} is too large")
                self.values[name] = kind
        for name, port in self.graph["outputs"].items():
            require(name in self.values and name not in self.graph["inputs"], f"no operation gives output {name}")
            kind = self.values[name]
            fits = kind.dtype == port["dtype"] and kind.dims == tuple(dim_of(entry) for entry in port["dims"])
            require(fits, f"output {name}: another type or size than its port's")
            exact = not self.graph["exact"] or port["dtype"].startswith("float") or not kind.floats
            require(exact, f"output {name} of an exact graph depends on floats")
        require(self.used == set(self.views), "a tensor that nothing uses")

    def value(self, name: str, *dtypes: str) -> Kind:
        require(name in self.values, f"no value {name}")
        require(self.values[name].dtype in dtypes, f"{name} is of a wrong type")
        require(self.values[name].dims[1][1] == "", f"{name} has no channels to work on")
        return self.values[name]

    def tensor(self, name: str, shape: tuple[int | None, ...], *dtypes: str) -> tuple[int, ...]:
        """None in shape: any size."""
        require(name in self.views, f"no tensor {name}")
        view = self.views[name]
        fits = len(view["shape"]) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, view["shape"], strict=True)
        )
        require(fits and view["dtype"] in dtypes, f"tensor {name} has a wrong type or shape")
        self.used.add(name)
        return tuple(view["shape"])

    def parameter(self, name: str, rows: int | None = None) -> None:
        require(name in self.parameters, f"no parameter {name}")
        limits = self.parameters[name]
        inside = rows is None or 0 <= limits[0] <= limits[1] < rows
        require(inside, f"parameter {name} leaves the rows of a tensor")

    def vector(self, factors: list[dict[str, Any]], channels: int) -> None:
        for factor in factors:
            if "parameter" in factor and factor["kind"] != "row":
                self.parameter(factor["parameter"])
            if factor["kind"] == "constant":
                (size,) = self.tensor(factor["tensor"], (None,), *FLOATS)
                require(size in (1, channels), f"{factor['tensor']}: not one number, nor one for each channel")
            elif factor["kind"] == "row":
                rows, size = self.tensor(factor["tensor"], (None, None), *FLOATS)
                require(size in (1, channels), f"{factor['tensor']}: not one number, nor one for each channel")
                self.parameter(factor["parameter"], rows)
            elif factor["kind"] == "interpolated_exp":
                _, size = self.tensor(factor["tensor"], (None, None), *FLOATS)
                require(size in (1, channels), f"{factor['tensor']}: not one number, nor one for each channel")

    def sum(self, operation: dict[str, Any]) -> Kind:
        kinds = [self.value(term["value"], "float32", "int32") for term in operation["terms"]]
        require(all(kind.dims[1:] == kinds[0].dims[1:] for kind in kinds), "terms of different sizes")
        for vector in [operation["offset"], *(term["scale"] for term in operation["terms"])]:
            self.vector(vector, kinds[0].channels)
        batch = max((kind.dims[0] for kind in kinds), key=lambda dim: dim[1])  # n, if any has it
        return Kind("float32", (batch, *kinds[0].dims[1:]), None, True)

    def affine(self, operation: dict[str, Any]) -> dict[str, Kind]:
        return {operation["out"]: self.sum(operation)}

    def transposed_chain(self, operation: dict[str, Any]) -> dict[str, Kind]:
        kind = self.sum(operation)
        for layer in operation["layers"]:
            if layer["norm"]:
                self.norm(layer["norm"], kind.channels)
            kind = self.transposed(layer, kind, *FLOATS)
            if layer["bias"]:
                self.tensor(layer["bias"], (kind.channels,), *FLOATS)
        if operation["picture"]:
            n, channels, height, width = kind.dims
            require(channels[0] in (1, 3), "a picture has 1 or 3 channels")
            low, high, most = (
                *(operation["picture"][key] for key in ("low", "high")),
                MOST[operation["picture"]["dtype"]],
            )
            require(0 <= low <= high <= most, "a picture beyond the range of its type")
            kind = Kind(operation["picture"]["dtype"], (n, height, width, channels), None, True)
        return {operation["out"]: kind}

    def strided_chain(self, operation: dict[str, Any]) -> dict[str, Kind]:
        kind = self.sum(operation)
        for layer in operation["layers"]:
            shape = self.tensor(layer["weight"], (None, kind.channels, None, None), *FLOATS)
            n, _, *spatial = kind.dims
            for (factor, _), stride in zip(spatial, layer["stride"], strict=True):
                require(factor % stride == 0, "a stride that does not divide")
            smaller = [(dim[0] // stride, dim[1]) for dim, stride in zip(spatial, layer["stride"], strict=True)]
            kind = replace(kind, dims=(n, (shape[0], ""), *smaller))
            if layer["bias"]:
                self.tensor(layer["bias"], (kind.channels,), *FLOATS)
            if layer["norm"]:
                self.norm(layer["norm"], kind.channels)
        return {operation["out"]: kind}

    def norm(self, norm: dict[str, Any], channels: int) -> None:
        self.tensor(norm["beta"], (channels,), *FLOATS)
        self.tensor(norm["gamma"], (channels, channels), *FLOATS)

    def transposed(self, layer: dict[str, Any], kind: Kind, *dtypes: str) -> Kind:
        shape = self.tensor(layer["weight"], (kind.channels, None, None, None), *dtypes)
        n, _, *spatial = kind.dims
        larger = [(dim[0] * stride, dim[1]) for dim, stride in zip(spatial, layer["stride"], strict=True)]
        return replace(kind, dims=(n, (shape[1], ""), *larger))

    def integer_network(self, operation: dict[str, Any]) -> dict[str, Kind]:
        kind = self.value(operation["value"], "int32")
        require(operation["value"] in self.graph["inputs"], "a network of integers reads an input port")
        for layer in operation["hidden"]:
            require(layer["low"] <= layer["high"], "low of a layer above its high")
            kind = replace(self.integer_layer(layer, kind), bound=max(abs(layer["low"]), abs(layer["high"])))
        results = {}
        for head in operation["heads"]:
            result = self.integer_layer(head, kind)
            require(head["out"] not in results, f"{head['out']} is written twice")
            if head["index"]:
                self.index(head["index"])
                results[head["out"]] = replace(result, dtype="uint8", bound=255)
            else:
                results[head["out"]] = replace(result, dtype="float32", bound=None, floats=True)
        return results

    def integer_layer(self, layer: dict[str, Any], kind: Kind) -> Kind:
        require(kind.bound is not None, "a network of integers without a range")
        result = self.transposed(layer, kind, "int8")
        wanted: tuple[int | None, ...] = (result.channels,) if layer["row"] is None else (None, result.channels)
        shape = self.tensor(layer["bias"], wanted, "int32")
        self.tensor(layer["multiplier"], shape, "float32")
        if layer.get("negative"):
            self.tensor(layer["negative"], shape, "float32")
        if layer["row"] is not None:
            self.parameter(layer["row"], shape[0])
        assert kind.bound is not None
        sums = np.abs(self.view(layer["weight"]).astype(np.int64)).sum((0, 2, 3)) * kind.bound
        largest = int((sums + np.abs(self.view(layer["bias"]).astype(np.int64))).max())
        require(largest < 2**31, "sums of integers that can leave 2^31")
        return result

    def index(self, rule: dict[str, Any]) -> None:
        self.parameter(rule["skip"])
        self.parameter(rule["minus"])
        shifts = [rule["add"], *self.parameters[rule["minus"]]]
        require(max(map(abs, shifts)) <= 1 << 16 and _is_unit(rule["unit"], 2**-8), "an index rule that may round")
        require(0 <= rule["low"] <= rule["high"] <= 255, "indices that no byte holds")
        if scales := rule["scales"]:
            (size,) = self.tensor(scales["tensor"], (None,), "int16")
            low, high, limit = (scales[key] for key in ("low", "high", "limit"))
            require(0 <= low <= high <= 1 << 24 and _is_unit(scales["unit"], 2**-24), "scales: low, high or unit")
            require(max(abs(limit), abs(scales["add"])) <= 1 << 24, "scales: limit or add")
            fine = [low, min(high, limit - 1)] if low < limit else []
            coarse = [max(low, limit), high] if high >= limit else []  # monotone: its ends are its extremes
            places = fine + [math.floor(c * scales["unit"]) + scales["add"] for c in coarse]
            require(0 <= min(places) <= max(places) < size, "scales: a place outside the tensor")

    def view(self, name: str) -> np.ndarray:
        return self.weights[name][tuple(slice(0, size) for size in self.views[name]["shape"])]

    def concatenate(self, operation: dict[str, Any]) -> dict[str, Kind]:
        kinds = [self.value(name, "float32", "int32", "uint8") for name in operation["values"]]
        alike = all(
            (k.dtype, k.dims[0], k.dims[2:]) == (kinds[0].dtype, kinds[0].dims[0], kinds[0].dims[2:]) for k in kinds
        )
        require(alike, "concatenate: values of different types or sizes")
        bounds = [kind.bound for kind in kinds]
        bound = None if None in bounds else max(b for b in bounds if b is not None)
        channels = sum(kind.channels for kind in kinds)
        dims = (kinds[0].dims[0], (channels, ""), *kinds[0].dims[2:])
        return {operation["out"]: Kind(kinds[0].dtype, dims, bound, any(kind.floats for kind in kinds))}

    def select_channels(self, operation: dict[str, Any]) -> dict[str, Kind]:
        kind = self.value(operation["value"], "float32", "int32", "uint8")
        require(
            operation["first"] + operation["count"] <= kind.channels, "select_channels: channels that are not there"
        )
        return self.other_channels(operation, kind)

    def pad_channels(self, operation: dict[str, Any]) -> dict[str, Kind]:
        kind = self.value(operation["value"], "float32", "int32", "uint8")
        require(operation["count"] >= kind.channels, "pad_channels: fewer channels than there are")
        return self.other_channels(operation, kind)

    def other_channels(self, operation: dict[str, Any], kind: Kind) -> dict[str, Kind]:
        return {operation["out"]: replace(kind, dims=(kind.dims[0], (operation["count"], ""), *kind.dims[2:]))}

    def quantise(self, operation: dict[str, Any]) -> dict[str, Kind]:
        kind = self.value(operation["value"], "float32")
        require(-(2**24) <= operation["low"] <= operation["high"] <= 2**24, "quantise: low above high, or beyond 2^24")
        return {
            operation["out"]: replace(kind, dtype="int32", bound=max(abs(operation["low"]), abs(operation["high"])))
        }

    def tanh(self, operation: dict[str, Any]) -> dict[str, Kind]:
        return {operation["out"]: self.value(operation["value"], "float32")}

    absolute = log_magnitude = tanh

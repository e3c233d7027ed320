"""From a graph and a profile to a TensorRT engine.

Networks are strongly typed: a graph computes in the types that stand in it, and float16 comes from the export. Exact
graphs are built without TF32: their products are exact in it, but nothing promises that sums are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from ..bundle import Bundle, StoredGraph
from ..errors import ImageError, LimitError, UnsupportedError, one_line
from ..manifest import Graph
from ..profiles import Pictures, Profile, profiles
from .base import OtherKindError
from .tensorrt_engines import Key, engine_path, read_private, write_engine, write_private
from .tensorrt_library import Library

MAX_ELEMENTS = (1 << 31) - 1
"""Of one tensor: TensorRT counts them with 32 bits, and its builder does not object to more."""

MAX_LAYERS = 2500
"""Of a network. What the builder does with a chain of them nests as deep: 3500 additions in a row overran its stack,
which ended the process. Time grows with the square: 2500 took 10 s."""
MAX_TIMINGS_BYTES = 256 << 20


@dataclass(frozen=True)
class Built:
    """An engine that was made, and what that took."""

    graph: str
    profile: Profile
    seconds: float
    engine_bytes: int
    path: Path


def build_bundle(
    bundle: Bundle, pictures: Pictures, folder: Path, used: Library, *, encoding: bool = False, replace: bool = True
) -> Iterator[Built]:
    """Build every graph that decoding runs, with `encoding` the encoder's too, and keep the engines in `folder`. Raises
    as `build_engine`, with the graph's name, and ImageError for an engine that exists unless `replace`."""
    timings = None if used.ahead_of_time else folder / f"timings-{used.version}.cache"
    for name, profile in profiles(bundle, pictures, encoding=encoding).items():
        stored = bundle.graph(name)
        existing = engine_path(folder, name, key_of(stored, used), profile)
        if not replace and existing.exists():
            raise ImageError(f"cannot write {existing}: it exists")
        start = perf_counter()
        try:
            engine = build_engine(stored, profile, used, timings)
        except (UnsupportedError, LimitError) as error:
            raise type(error)(f"graph {name!r}: {error}") from None
        seconds = perf_counter() - start
        path = write_engine(folder, name, key_of(stored, used), profile, engine)
        yield Built(name, profile, seconds, len(engine), path)


def key_of(stored: StoredGraph, used: Library) -> Key:
    """What an engine of the graph built here is for. Raises OtherKindError for a graph without an ONNX form."""
    if stored.entry.onnx is None:
        raise OtherKindError(f"graph {stored.name!r} has no ONNX form, which TensorRT needs")
    tf32 = not stored.entry.exact
    return Key(graph=stored.entry.onnx.sha256, library=str(used), target=used.target(), tf32=tf32)


def build_engine(stored: StoredGraph, profile: Profile, used: Library, timings: Path | None = None) -> bytes:
    """timings: file in which `tensorrt` keeps what it measured, so that the next build is quicker (`tensorrt_rtx`
    measures nothing). Raises UnsupportedError for what TensorRT cannot parse or build, LimitError for shapes that are
    too large."""
    graph, data, trt = stored.entry, stored.onnx(), used.module
    builder = trt.Builder(used.log)
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0)
    parser = trt.OnnxParser(network, used.log)
    if not parser.parse(data):
        reasons = "; ".join(parser.get_error(number).desc() for number in range(parser.num_errors))
        used.errors()
        raise UnsupportedError(f"TensorRT cannot parse it: {one_line(reasons)}")
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    outputs = [network.get_output(number).name for number in range(network.num_outputs)]
    if {tensor.name for tensor in inputs} != set(graph.inputs) or set(outputs) != set(graph.outputs):
        raise UnsupportedError("the ports of the ONNX model are not those of the manifest")
    if network.num_layers > MAX_LAYERS:
        raise UnsupportedError(f"a network of {network.num_layers} layers, more than the {MAX_LAYERS} that are safe")
    check_elements(network, graph, profile)
    config = builder.create_builder_config()
    if graph.exact:
        config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(_optimization_profile(builder, graph, inputs, profile))
    if timings is not None:
        config.set_timing_cache(config.create_timing_cache(_known(timings)), ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UnsupportedError(f"TensorRT cannot build it: {one_line(used.errors())}")
    if timings is not None:
        write_private(timings, bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def _known(timings: Path) -> bytes:
    try:
        return read_private(timings, MAX_TIMINGS_BYTES)
    except FileNotFoundError:
        return b""


def _optimization_profile(builder: Any, graph: Graph, inputs: list[Any], profile: Profile) -> Any:
    result = builder.create_optimization_profile()
    for tensor in inputs:
        if tensor.is_shape_tensor:
            if tensor.name not in profile.values:
                raise UnsupportedError(f"TensorRT takes port {tensor.name!r} for a shape, which has to be @size")
            result.set_shape_input(tensor.name, *profile.values[tensor.name])
        else:
            result.set_shape(tensor.name, *profile.shapes(graph.inputs[tensor.name]))
    return result


def check_elements(network: Any, graph: Graph, profile: Profile) -> None:
    """Refuse a network of which a tensor would be too large at the profile's most: TensorRT itself derives the shapes
    of all tensors once those of the inputs are fixed. Those that hang on an input's values are smaller than what they
    are cut from."""
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    free = [tuple(tensor.shape) for tensor in inputs]
    for tensor in inputs:
        tensor.shape = profile.shapes(graph.inputs[tensor.name])[2]
    try:
        most = max(_elements(tensor) for tensor in _tensors(network))
    except RuntimeError as error:  # shapes that do not fit each other
        raise UnsupportedError(f"TensorRT finds no shapes in it: {one_line(error)}") from None
    for tensor, shape in zip(inputs, free, strict=True):
        tensor.shape = shape
    if most > MAX_ELEMENTS:
        raise LimitError(
            f"a tensor of {most} elements, more than the {MAX_ELEMENTS} that TensorRT can count: build for a smaller "
            "--max-shapes or --batch"
        )


def _tensors(network: Any) -> list[Any]:
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    layers = (network.get_layer(number) for number in range(network.num_layers))
    return [*inputs, *(layer.get_output(number) for layer in layers for number in range(layer.num_outputs))]


def _elements(tensor: Any) -> int:
    extents = list(tensor.shape)
    return 0 if any(extent < 0 for extent in extents) else math.prod(extents)

"""What the checks of a native form refuse: docs/BUNDLE.md, section 11, "native form"."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import native_graphs
import pytest

from nicrt.runtime.errors import UnsupportedError
from nicrt.runtime.manifest import Graph, Port
from nicrt.runtime.native_form import (
    Affine,
    Concatenate,
    Constant,
    Exponential,
    Head,
    IndexRule,
    IntegerLayer,
    IntegerNetwork,
    InterpolatedExponential,
    Layer,
    LogMagnitude,
    NativeForm,
    Normalisation,
    Operation,
    PadChannels,
    Picture,
    Quantise,
    Row,
    ScaleTable,
    SelectChannels,
    StridedChain,
    Tanh,
    Term,
    TransposedChain,
    View,
)
from synthetic import port

SHAPES: dict[str, tuple[str, list[int]]] = {
    "gain": ("float32", [4]),
    "one": ("float16", [1]),
    "short": ("float32", [3]),
    "rows": ("float32", [5, 4]),
    "more_rows": ("float32", [6, 4]),
    "rows_of_three": ("float32", [6, 3]),
    "up": ("float16", [4, 3, 5, 5]),
    "up_again": ("float32", [3, 3, 5, 5]),
    "down": ("float32", [2, 4, 5, 5]),
    "bias": ("float32", [3]),
    "beta": ("float32", [4]),
    "gamma": ("float32", [4, 4]),
    "beta_of_two": ("float32", [2]),
    "gamma_of_two": ("float32", [2, 2]),
    "integers": ("int8", [4, 6, 3, 3]),
    "sums": ("int32", [6]),
    "sums_by_row": ("int32", [6, 6]),
    "times": ("float32", [6]),
    "times_by_row": ("float32", [6, 6]),
    "head": ("int8", [6, 2, 1, 1]),
    "head_sums": ("int32", [2]),
    "head_times": ("float32", [2]),
    "scales": ("int16", [20]),
    "sixteen": ("int32", [4, 3, 5, 5]),
}  # fmt: skip

INPUTS = {
    "x": port("float32", "n", 4, "2h", "2w"),
    "y": port("int32", "n", 4, "2h", "2w", low=-9, high=9),
    "free": port("int32", "n", 4, "2h", "2w"),
    "bytes": port("uint8", "n", 4, "2h", "2w"),
    "other": port("float32", "n", 4, "h", "w"),
    "three": port("float32", "n", 3, "2h", "2w"),
    "alone": port("float32", 1, 4, "2h", "2w"),
    "p": port("int32", 1, low=0, high=5),
    "below": port("int32", 1, low=-1, high=3),
    "unbounded": port("int32", 1),
}

X = [Term(value="x")]
UP, DOWN = Layer(weight="up", bias="bias", stride=(2, 2), pad=(2, 2)), Layer(weight="down", stride=(2, 2), pad=(2, 2))
PICTURE = Picture(low=0, high=255)
NORM, NORM_OF_TWO = Normalisation(beta="beta", gamma="gamma"), Normalisation(beta="beta_of_two", gamma="gamma_of_two")
HIDDEN = IntegerLayer(weight="integers", bias="sums", multiplier="times", low=0, high=255, stride=(2, 2), pad=(1, 1))
SCALES = ScaleTable(tensor="scales", low=0, high=23, limit=16, unit=0.5, add=8)
RULE = IndexRule(add=4, unit=0.125, low=0, high=63, skip="p", skipped=255, minus="p", scales=SCALES)
MEAN = Head(out="mean", weight="head", bias="head_sums", multiplier="head_times")
INDEX = Head(out="index", weight="head", bias="head_sums", multiplier="head_times", index=RULE)


def _tensors(value: object) -> set[str]:
    """The stored tensors that operations name."""
    fields = {"tensor", "weight", "bias", "multiplier", "negative", "beta", "gamma"}
    if isinstance(value, dict):
        own = {item for name, item in value.items() if name in fields and isinstance(item, str)}
        return own.union(*(_tensors(item) for item in value.values()))
    return set().union(*(_tensors(item) for item in value)) if isinstance(value, list) else set()


def check(operations: Sequence[Operation], outputs: dict[str, Port], *, exact: bool = False, **views: View) -> None:
    named = _tensors(msgspec.to_builtins(list(operations)))
    tensors = {n: View(dtype=SHAPES[n][0], shape=SHAPES[n][1], sha256="0" * 64) for n in named if n in SHAPES}
    form = NativeForm(tensors={**tensors, **views}, operations=list(operations))
    inputs = {name: port for name, port in INPUTS.items() if port.range is not None or not exact}
    native_graphs.check("g", Graph(inputs=inputs, outputs=outputs, exact=exact, native=form))


def out(*dims: int | str, dtype: str = "float32", name: str = "out") -> dict[str, Port]:
    return {name: port(dtype, *dims)}


SAME = out("n", 4, "2h", "2w")
WIDE = out("n", 3, "4h", "4w")
NETWORK = {
    "mean": port("float32", "n", 2, "4h", "4w"),
    "index": port("uint8", "n", 2, "4h", "4w"),
}

VALID: dict[str, tuple[list[Operation], dict[str, Port]]] = {
    "affine": ([Affine(out="out", terms=[
        *X, Term(value="y", scale=[Constant(tensor="gain"), Constant(tensor="one")])])], SAME),
    "vectors of parameters": ([Affine(out="out", terms=X, offset=[
        Row(tensor="more_rows", parameter="p"), Exponential(parameter="below", factor=0.1),
        InterpolatedExponential(tensor="rows", parameter="p", unit=10)])], SAME),
    "up": ([TransposedChain(out="out", terms=X, layers=[msgspec.structs.replace(UP, norm=NORM)])], WIDE),
    "picture": ([TransposedChain(out="out", terms=X, layers=[UP], picture=PICTURE)],
                out("n", "4h", "4w", 3, dtype="uint8")),
    "down": ([StridedChain(out="out", terms=X, layers=[msgspec.structs.replace(DOWN, norm=NORM_OF_TWO)])],
             out("n", 2, "h", "w")),
    "a sum with what the batch shares": ([Affine(out="out", terms=[*X, Term(value="alone")])], SAME),
    "network": ([IntegerNetwork(value="y", hidden=[HIDDEN], heads=[MEAN, INDEX])], NETWORK),
    "rows of a network": ([IntegerNetwork(value="y", heads=[MEAN, INDEX], hidden=[msgspec.structs.replace(
        HIDDEN, bias="sums_by_row", multiplier="times_by_row", row="p")])], NETWORK),
    "the rest": ([
        SelectChannels(out="a", value="x", first=1, count=2), PadChannels(out="b", value="a", count=4),
        Concatenate(out="c", values=["a", "a"]), Affine(out="d", terms=[Term(value="b"), Term(value="c")]),
        Tanh(out="e", value="d"), LogMagnitude(out="f", value="e", floor=0.1),
        Quantise(out="out", value="f", low=-9, high=9)], out("n", 4, "2h", "2w", dtype="int32")),
}  # fmt: skip


@pytest.mark.parametrize("name", VALID)
def test_what_fits_is_taken(name: str) -> None:
    check(*VALID[name])


def affine(*offset: Any, terms: list[Term] | None = None) -> list[Operation]:
    return [Affine(out="out", terms=terms or X, offset=list(offset))]


def up(picture: Picture | None = None, **changes: Any) -> list[Operation]:
    return [TransposedChain(out="out", terms=X, layers=[msgspec.structs.replace(UP, **changes)], picture=picture)]


def down(*layers: Layer) -> list[Operation]:
    return [StridedChain(out="out", terms=X, layers=list(layers))]


def network(value: str = "y", hidden: IntegerLayer = HIDDEN, **changes: Any) -> list[Operation]:
    head = msgspec.structs.replace(INDEX, **changes)
    return [IntegerNetwork(value=value, hidden=[hidden], heads=[MEAN, head])]


def ruled(**changes: Any) -> list[Operation]:
    return network(index=msgspec.structs.replace(RULE, **changes))


def scaled(**changes: Any) -> list[Operation]:
    return ruled(scales=msgspec.structs.replace(SCALES, **changes))


def layer(**changes: Any) -> IntegerLayer:
    return msgspec.structs.replace(HIDDEN, **changes)


def _doubled(times: int) -> list[Operation]:
    """A value of 4 channels joined with itself over and over."""
    names = ["x", *(f"d{i}" for i in range(times))]
    return [Concatenate(out=after, values=[before, before]) for before, after in itertools.pairwise(names)]


REFUSED: dict[str, tuple[list[Operation], dict[str, Port], str]] = {
    # names
    "a value that is not there": (affine(terms=[Term(value="nothing")]), SAME, "no value"),
    "a value that comes later": ([Tanh(out="out", value="a"), Tanh(out="a", value="x")], SAME, "no value"),
    "a value written twice": ([Tanh(out="out", value="x"), Tanh(out="out", value="x")], SAME, "written twice"),
    "an input written": ([Tanh(out="x", value="x"), Tanh(out="out", value="x")], SAME, "written twice"),
    "a parameter written": ([Tanh(out="p", value="x"), Tanh(out="out", value="x")], SAME, "written twice"),
    "two heads of one name": (network(out="mean", index=None), NETWORK, "written twice"),
    "a head named as an input": (network(out="x"), NETWORK, "written twice"),
    "a parameter as a value": (affine(terms=[Term(value="p")]), SAME, "no value"),
    "a picture as a value": ([*up(PICTURE), Tanh(out="b", value="out")], WIDE, "no value"),
    "a tensor that is not there": (affine(Constant(tensor="absent")), SAME, "is not there"),
    "a parameter that is not there": (affine(Exponential(parameter="q", factor=1)), SAME, "not a parameter"),
    "a parameter without a range": (affine(Exponential(parameter="unbounded", factor=1)), SAME, "with a range"),
    "a value as a parameter": (affine(Exponential(parameter="x", factor=1)), SAME, "not a parameter"),
    "an output that nothing makes": (affine(), out("n", 4, "2h", "2w", name="q"), "no operation makes"),
    "an input as an output": (affine(), out("n", 4, "2h", "2w", name="x"), "no operation makes"),
    # types
    "an output of another type": (affine(), out("n", 4, "2h", "2w", dtype="int32"), "its port int32"),
    "a sum of bytes": (affine(terms=[Term(value="bytes")]), SAME, "a sum of uint8"),
    "a tangent of integers": ([Tanh(out="out", value="y")], SAME, "where float32 belongs"),
    "a quantiser of integers": ([Quantise(out="out", value="y", low=0, high=1)], SAME, "where float32 belongs"),
    "integers as weights of floats": (up(weight="sixteen"), WIDE, "not of its type"),
    "floats as weights of integers": (network(hidden=layer(weight="up")), NETWORK, "not of its type"),
    "floats as biases of integers": (network(hidden=layer(bias="times")), NETWORK, "not of its type"),
    "integers as multipliers": (network(hidden=layer(multiplier="sums")), NETWORK, "not of its type"),
    "values of different types joined": ([Concatenate(out="out", values=["x", "y"])], SAME, "concatenation"),
    "a network of floats": (network(value="x"), NETWORK, "not an int32 input"),
    "a network of unbounded integers": (network(value="free"), NETWORK, "with a range"),
    "a network of what was made": ([Quantise(out="q", value="x", low=0, high=1), *network(value="q")], NETWORK,
                                   "not an int32 input"),
    # channels
    "a vector of other channels": (affine(Constant(tensor="short")), SAME, "not of 4 channels"),
    "rows of other channels": (affine(Row(tensor="rows_of_three", parameter="p")), SAME, "not of 4 channels"),
    "a matrix as a vector": (affine(Constant(tensor="rows")), SAME, "and 1 dimensions"),
    "a vector as rows": (affine(Row(tensor="gain", parameter="p")), SAME, "and 2 dimensions"),
    "a sum of other channels": (affine(terms=[*X, Term(value="three")]), SAME, "different sizes"),
    "weights of other channels": (up(weight="up_again"), WIDE, "not for 4 channels"),
    "strided weights of other channels": (down(Layer(weight="up")), WIDE, "not for 4 channels"),
    "a bias of other channels": (up(bias="gain"), WIDE, "not of 3 channels"),
    "a normalisation of what comes out, upwards": (up(norm=NORM_OF_TWO), WIDE, "not of 4 channels"),
    "a normalisation of what goes in, downwards": (
        down(msgspec.structs.replace(DOWN, norm=NORM)), WIDE, "not of 2 channels"),
    "a next layer of other channels": ([TransposedChain(out="out", terms=X, layers=[UP, UP])], WIDE, "not for 3"),
    "integers of other channels": (network(hidden=layer(weight="head")), NETWORK, "not for 4 channels"),
    "sums of other channels": (network(hidden=layer(bias="head_sums")), NETWORK, "not of 6 channels"),
    "a head of other channels": (network(weight="integers"), NETWORK, "not for 6 channels"),
    "an output of other channels": (affine(), out("n", 3, "2h", "2w"), "other channels"),
    "channels that are not there": ([SelectChannels(out="out", value="x", first=3, count=2)], SAME, "does not have"),
    "padding to fewer channels": ([PadChannels(out="out", value="x", count=3)], SAME, "fewer channels"),
    # sizes
    "a sum of other sizes": (affine(terms=[*X, Term(value="other")]), SAME, "different sizes"),
    "other sizes joined": ([Concatenate(out="out", values=["x", "other"])], SAME, "concatenation"),
    "other batches joined": ([Concatenate(out="out", values=["x", "alone"])], SAME, "concatenation"),
    "an output of another size": (up(), SAME, "other channels or places"),
    "an output of another batch": (affine(), out(1, 4, "2h", "2w"), "of another number of pictures than its port"),
    "a picture in the order of a tensor": (up(PICTURE), out("n", 3, "4h", "4w", dtype="uint8"), "other channels"),
    "rows and columns exchanged": (affine(), out("n", 4, "2w", "2h"), "other channels or places"),
    "more places than a port may have": (
        [TransposedChain(out="out", terms=X, layers=[UP, *(3 * [Layer(weight="up_again", stride=(256, 1))])])],
        WIDE, "more places"),
    "more channels than a port may have": (_doubled(23), SAME, "more channels"),
    "a stride that does not divide": (down(msgspec.structs.replace(DOWN, stride=(4, 2))), WIDE, "does not divide"),
    # ranges
    "a parameter beyond the rows": (affine(Row(tensor="rows", parameter="p")), SAME, "row that is not there"),
    "a parameter below the rows": (affine(Row(tensor="rows", parameter="below")), SAME, "row that is not there"),
    "a layer's parameter below the rows": (
        network(hidden=layer(bias="sums_by_row", multiplier="times_by_row", row="below")), NETWORK, "row that is not"),
    "rows without a parameter": (network(hidden=layer(bias="sums_by_row")), NETWORK, "and 1 dimensions"),
    "a parameter without rows": (network(hidden=layer(row="p")), NETWORK, "and 2 dimensions"),
    "a picture beyond its type": (up(Picture(low=0, high=256)), WIDE, "beyond the range"),
    "a picture below 0": (up(Picture(low=-1, high=255)), WIDE, "beyond the range"),
    "a picture of floats beyond 1": (up(Picture(low=0, high=255, dtype="float32")), WIDE, "beyond the range"),
    "a picture clipped to nothing": (up(Picture(low=9, high=8)), WIDE, "beyond the range"),
    "a layer clipped to nothing": (network(hidden=layer(low=1, high=0)), NETWORK, "range that is none"),
    "a quantiser clipped to nothing": ([Quantise(out="out", value="x", low=1, high=0)], SAME, "range that is none"),
    "a quantiser beyond 2^24": ([Quantise(out="out", value="x", low=0, high=(1 << 24) + 1)], SAME, "beyond 2"),
    "indices beyond a byte": (ruled(high=256), NETWORK, "beyond 0..255"),
    "indices clipped to nothing": (ruled(low=64), NETWORK, "beyond 0..255"),
    "an index without its step": (ruled(minus="q"), NETWORK, "not a parameter"),
    "an index without its threshold": (ruled(skip="x"), NETWORK, "not a parameter"),
    "scales beyond their tensor": (scaled(high=24), NETWORK, "a place that is not there"),
    "fine scales beyond their tensor": (scaled(limit=24), NETWORK, "a place that is not there"),
    "scales below 0": (scaled(low=-1), NETWORK, "a place that is not there"),
    "coarse scales below 0": (scaled(add=-9), NETWORK, "a place that is not there"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str) -> None:
    operations, outputs, reason = REFUSED[name]
    with pytest.raises(UnsupportedError, match=rf"the native form of graph 'g': .*{reason}"):
        check(operations, outputs)


def test_a_tensor_that_nothing_uses_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="nothing uses tensor 'spare'"):
        check(affine(), SAME, spare=View(dtype="float32", shape=[1], sha256="0" * 64))


@pytest.mark.parametrize("dims", [["n", 4, 8, "w"], ["n", "c", "h", "w"], ["m", 4, "h", "w"], ["n", 4, "h"], ["r"]])
def test_inputs_are_parameters_or_tensors_of_places(dims: list[int | str]) -> None:
    form = NativeForm(tensors={}, operations=[Tanh(out="out", value="x")])
    graph = Graph(inputs={"x": port("float32", *dims)}, outputs=out(*dims), native=form)
    with pytest.raises(UnsupportedError, match="neither a parameter nor a tensor of places"):
        native_graphs.check("g", graph)


def test_integers_of_an_exact_graph_are_made_of_integers() -> None:
    made: list[Operation] = [
        Affine(out="sum", terms=[Term(value="y")]),
        Quantise(out="out", value="sum", low=0, high=9),
    ]
    integers = out("n", 4, "2h", "2w", dtype="int32")
    check(made, integers)
    with pytest.raises(UnsupportedError, match="of an exact graph is made of floats"):
        check(made, integers, exact=True)
    check(*VALID["network"], exact=True)  # its floats only move pixels
    check([SelectChannels(out="out", value="y", first=0, count=4)], integers, exact=True)


FIELDS: dict[str, Callable[[dict[str, Any]], None]] = {
    "an operation that is not known": lambda o: o.update(op="softmax"),
    "a field that is not known": lambda o: o.update(dilation=2),
    "a field left out": lambda o: o.pop("value"),
    "an integer beyond 32 bits": lambda o: o.update(low=-(1 << 31) - 1),
    "a name that is none": lambda o: o.update(out="../x"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_the_schema_refuses_the_rest(name: str) -> None:
    operation = msgspec.to_builtins(Quantise(out="out", value="x", low=0, high=9))
    FIELDS[name](operation)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"tensors": {}, "operations": [operation]}, NativeForm)


@pytest.mark.parametrize("dtype", ["int64", "uint16", "float16"])
def test_inputs_are_of_the_types_that_values_have(dtype: Any) -> None:
    dims: list[int | str] = ["n", 4, "h", "w"]
    graph = Graph(
        inputs={"x": Port(dtype, dims)},
        outputs={"out": Port(dtype, dims)},
        native=NativeForm({}, [PadChannels(out="out", value="x", count=4)]),
    )
    with pytest.raises(UnsupportedError, match=f"'x' is {dtype}, not float32 or int32 or uint8"):
        native_graphs.check("synthesis", graph)

"""Bundles that every reader must refuse, continued: graphs, their native forms and ONNX models."""

from __future__ import annotations

from typing import Any

import numpy as np
from bundle_refusals import CASES as CASES
from bundle_refusals import array, edited, element, graph, operation, put, stage, step, whole
from tiny_bundle import LATENT, Tiny, exp, port
from tiny_onnx import HONEST_NODES, onnx_model, proto_field

# graph


def _rename_output(tiny: Tiny) -> None:
    tiny.graph("deeper")["outputs"]["u"] = tiny.graph("deeper")["outputs"].pop("w")
    step(4)(tiny)["out"] = {"u": "w", "q": "q"}


def _other_sizes(tiny: Tiny) -> None:
    ports = {"v": port("float32", "n", 3, "2a", "2b"), "k": port("int32", "n", 3, "2a", "2b")}
    tiny.graph("deeper").update(inputs=ports, outputs={"w": ports["v"], "q": ports["k"]})
    tiny.onnx = tiny.onnx.replace(b"2h", b"2a").replace(b"2w", b"2b")


edited("graph", "no form", put(graph("deeper"), onnx=...))
edited("graph", "native: an output that no operation makes", put(operation("synthesis", 0), out="other"))
edited("graph", "native: an output that is an input", lambda t: t.graph("quantise")["outputs"].update(mean=LATENT))
edited(
    "graph",
    "native: an input that is neither value nor parameter",
    lambda t: t.graph("quantise")["inputs"].update(size=port("int32", 2)) or step(3)(t)["in"].update(size="@size"),
)
edited("graph", "ONNX: another name", _rename_output)
edited("graph", "ONNX: another type", lambda t: t.graph("deeper")["inputs"]["v"].update(dtype="float16"))
edited("graph", "ONNX: another size", lambda t: t.graph("deeper")["outputs"]["w"].update(dims=["n", 3, "4h", "2w"]))
edited("graph", "exact without proofs", put(graph("hyper"), proofs=...))
edited("graph", "exact with an input without a range", lambda t: t.graph("hyper")["inputs"]["z"].pop("range"))
edited(
    "graph",
    "exact with a float input",
    put(graph("synthesis"), exact=True, proofs=[{"seed": 1, "sizes": {"n": 1, "h": 1, "w": 1}, "sha256": "0" * 64}]),
)
edited("graph", "a range that is none", lambda t: t.graph("hyper")["inputs"]["z"].update(range=[7, -7]))
edited("graph", "exact and for the encoder", put(graph("hyper"), encoder=True))
edited("graph", "a proof without a size", lambda t: t.graph("hyper")["proofs"][0]["sizes"].pop("w"))
edited(
    "graph",
    "a proof without sizes of a graph that needs none",
    lambda t: t.graph("hyper").update(exact=False, in_loop=True) or t.graph("hyper")["proofs"][0].update(sizes={}),
)
edited("graph", "33 proofs", lambda t: t.graph("hyper").update(proofs=33 * t.graph("hyper")["proofs"][:1]))
edited(
    "graph", "a proof of more than 2^22 elements", lambda t: t.graph("hyper")["proofs"][0]["sizes"].update(h=1 << 21)
)
edited("graph", "a proof of more than 2^36 multiply-accumulates", lambda t: _many_products(t))
edited("graph", "a range of floats", lambda t: t.graph("analysis")["inputs"]["x"].update(range=[0, 1]))
edited(
    "graph",
    "a range of nothing",
    lambda t: t.graph("quantise")["outputs"]["y"].update(range=[1, 0]),
)
edited("graph", "a halo, and sizes of other names", lambda t: t.graph("deeper").update(halo=1) or _other_sizes(t))
edited("graph", "the ONNX file of another", lambda t: t.manifest["graphs"].update(again=dict(t.graph("deeper"))))
edited("graph", "9 dimensions", lambda t: t.graph("deeper")["inputs"]["v"].update(dims=["n", 3, *[1] * 6, "2w"]))
edited("graph", "n not in front", lambda t: t.graph("deeper")["inputs"]["v"].update(dims=[3, "n", "2h", "2w"]))


def _many_products(t: Tiny) -> None:
    """2^17 elements in, and 64 hidden layers of 128 x 128 kernels that share their weights."""
    network = t.graph("hyper")["native"]["operations"][0]
    t.weights["h.weight"] = np.zeros((2, 2, 128, 128), np.int8)
    t.graph("hyper")["native"]["tensors"]["h.weight"]["shape"] = [2, 2, 128, 128]
    network["hidden"][0].update(pad=[0, 0])
    network["hidden"] *= 64
    for proof in t.graph("hyper")["proofs"]:
        proof["sizes"].update(h=1 << 8, w=1 << 8)


# native form


def _picture_read(tiny: Tiny) -> None:
    tiny.graph("synthesis")["native"]["operations"].append(
        {"op": "affine", "out": "again", "terms": [{"value": "picture"}]}
    )


def _stretched(tiny: Tiny) -> None:
    """Rows of 2 * 256 ** 3 times h, which no port could have."""
    graph = tiny.graph("quantise")["native"]
    tiny.weights["wide.weight"] = np.zeros((3, 3, 1, 1), np.float32)
    graph["tensors"]["wide.weight"] = {"dtype": "float32", "shape": [3, 3, 1, 1]}
    layers = [{"weight": "wide.weight", "stride": [256, 1]} for _ in range(3)]
    graph["operations"].append(
        {"op": "transposed_chain", "out": "wide", "terms": [{"value": "mean"}], "layers": layers}
    )


def _floats_in_index(tiny: Tiny) -> None:
    """The integer output z of an exact graph goes through float32."""
    more = [
        {"op": "affine", "out": "halves", "terms": [{"value": "z"}]},
        {"op": "quantise", "out": "q", "value": "halves", "low": 0, "high": 3},
    ]
    tiny.graph("hyper")["native"]["operations"] += more
    tiny.graph("hyper")["outputs"]["q"] = port("int32", "n", 2, "h", "w")


def _large_sums(tiny: Tiny) -> None:
    tiny.graph("hyper")["native"]["operations"][0]["hidden"][0].update(low=-(2**24), high=2**24)
    tiny.weights["i.weight"][:] = 127


def layer(number: int, name: str = "analysis", op: int = 0) -> Any:
    return lambda t: t.operation(name, op)["layers"][number]


def hidden(t: Tiny) -> Any:
    return t.operation("hyper", 0)["hidden"][0]


def head(t: Tiny) -> Any:
    return t.operation("hyper", 0)["heads"][0]


def index(t: Tiny) -> Any:
    return head(t)["index"]


def view(name: str, tensor: str) -> Any:
    return lambda t: t.graph(name)["native"]["tensors"][tensor]


NATIVE = "native form"
edited(NATIVE, "an unknown operation", put(operation("analysis", 5), op="sigmoid"))
edited(
    NATIVE,
    "an unknown vector",
    lambda t: t.operation("quantise", 0)["terms"][0].update(scale=[{"kind": "log", "parameter": "step"}]),
)
edited(NATIVE, "no operations", lambda t: t.graph("quantise")["native"].update(operations=[]))
edited(NATIVE, "a tensor that is not there", put(layer(0), weight="other.weight"))
edited(NATIVE, "a tensor that is not stored", lambda t: t.weights.pop("up.bias"))
edited(
    NATIVE,
    "a tensor that nothing uses",
    lambda t: t.graph("quantise")["native"]["tensors"].update({"curve": dict(view("synthesis", "curve")(t))}),
)
edited(NATIVE, "a value that is not there", put(operation("analysis", 5), value="other"))
edited(NATIVE, "a value that comes later", lambda t: t.graph("analysis")["native"]["operations"].reverse())
edited(
    NATIVE,
    "a parameter that is not there",
    lambda t: t.operation("quantise", 0)["terms"][0].update(scale=[exp("dz", 1)]),
)
edited(NATIVE, "a value as a parameter", lambda t: t.operation("quantise", 0)["terms"][0].update(scale=[exp("v", 1)]))
edited(NATIVE, "a name that is written twice", put(operation("analysis", 2), out="size"))
edited(NATIVE, "a name that is an input's", put(operation("analysis", 2), out="x"))
edited(NATIVE, "two heads of one name", lambda t: t.operation("hyper", 0)["heads"][1].update(out="narrow"))
edited(NATIVE, "a picture as a value", _picture_read)
edited(NATIVE, "more places than a port may have", _stretched)
edited(
    NATIVE,
    "tanh of integers",
    lambda t: t.graph("synthesis")["native"]["operations"].append({"op": "tanh", "out": "t", "value": "y"}),
)
edited(NATIVE, "an output of another type", lambda t: t.graph("analysis")["outputs"]["z"].update(dtype="uint8"))
edited(
    NATIVE,
    "an output of other channels",
    lambda t: t.graph("analysis")["outputs"]["v"].update(dims=["n", 4, "2h", "2w"]),
)
edited(
    NATIVE, "an output of another size", lambda t: t.graph("analysis")["outputs"]["z"].update(dims=["n", 2, "2h", "w"])
)
edited(
    NATIVE,
    "an input without channels",
    lambda t: t.graph("quantise")["inputs"]["v"].update(dims=["n", "c", "2h", "2w"]),
)
edited(NATIVE, "a weight for other channels", put(layer(1), weight="half.weight"))
edited(
    NATIVE,
    "a weight of integers",
    lambda t: (
        t.weights.update({"up.bias": np.zeros(3, np.int32)}) or view("synthesis", "up.bias")(t).update(dtype="int32")
    ),
)
edited(
    NATIVE,
    "a bias of other channels",
    lambda t: (
        t.weights.update({"up.bias": np.zeros(2, np.float32)}) or view("synthesis", "up.bias")(t).update(shape=[2])
    ),
)
edited(NATIVE, "a norm of other channels", lambda t: view("synthesis", "gdn.gamma")(t).update(shape=[3, 2]))
edited(NATIVE, "a vector of other channels", lambda t: view("analysis", "pool.offset")(t).update(shape=[2]))
edited(
    NATIVE,
    "terms of different sizes",
    lambda t: (
        t.operation("synthesis", 0)["terms"].append({"value": "z"})
        or t.graph("synthesis")["inputs"].update(z=port("int32", "n", 2, "h", "w"))
        or stage(t)["show"]["in"].update(z="z")
    ),
)
edited(NATIVE, "values of different types side by side", put(operation("analysis", 3), values=["size", "x"]))
edited(NATIVE, "channels that are not there", put(operation("analysis", 4), first=5))
edited(NATIVE, "fewer channels than there are", put(operation("hyper", 1), count=1))
edited(NATIVE, "a view larger than its tensor", lambda t: view("hyper", "i.weight")(t).update(shape=[2, 6, 4, 4]))
edited(NATIVE, "a view of other dimensions", lambda t: view("analysis", "gains")(t).update(shape=[4]))
edited(NATIVE, "a view of another type", lambda t: view("analysis", "gdn.gamma")(t).update(dtype="float32"))
edited(NATIVE, "floats in an exact graph's integer outputs", _floats_in_index)
edited(NATIVE, "a parameter beyond the rows", lambda t: t.graph("analysis")["inputs"]["dz"].update(range=[0, 2]))
edited(
    NATIVE, "a parameter beyond the rows of a network", lambda t: t.graph("hyper")["inputs"]["dz"].update(range=[-1, 1])
)
edited(
    NATIVE,
    "rows without a parameter's range",
    lambda t: t.graph("analysis")["inputs"].update(dz={"dtype": "int32", "dims": [1]}),
)
edited(NATIVE, "sums beyond 2^31", _large_sums)
edited(NATIVE, "a bias beyond 2^31 with its sum", array("weights", "h.bias", element((0, 0), -(2**31))))
edited(NATIVE, "a stride that does not divide", put(layer(0), stride=[3, 4]))
edited(NATIVE, "indices beyond a byte", put(index, high=256))
edited(NATIVE, "indices from high to low", put(index, low=3, high=0))
edited(NATIVE, "indices in units that round", put(index, unit=0.1))
edited(NATIVE, "indices that are shifted far", put(index, add=1 << 17))
edited(NATIVE, "scales in units that round", lambda t: index(t)["scales"].update(unit=0.3))
edited(NATIVE, "a scale that is not there", lambda t: index(t)["scales"].update(high=17))
edited(
    NATIVE,
    "scales of floats",
    lambda t: (
        t.weights.update({"scales": t.weights["scales"].astype(np.float32)})
        or view("hyper", "scales")(t).update(dtype="float32")
    ),
)
edited(
    NATIVE,
    "a network of floats",
    lambda t: (
        t.graph("hyper")["native"]["operations"].append({"op": "integer_network", "value": "mean", "heads": []})
        or t.operation("hyper", 3).update(heads=[dict(t.operation("hyper", 0)["heads"][1], out="more")])
    ),
)
edited(NATIVE, "hidden values from high to low", put(hidden, low=1, high=0))
edited(NATIVE, "quantise from high to low", put(operation("analysis", 8), low=8))
edited(NATIVE, "a picture from high to low", lambda t: t.operation("synthesis", 0)["picture"].update(low=255, high=0))
edited(NATIVE, "a picture beyond a byte", lambda t: t.operation("synthesis", 0)["picture"].update(high=256))
edited(NATIVE, "tensors, and no weights", put(whole, weights=...))

# ONNX


def onnx(what: str, model: bytes) -> None:
    edited("ONNX", what, lambda t: setattr(t, "onnx", model))


HONEST = onnx_model(HONEST_NODES)
onnx("no bytes", b"")
onnx("cut", HONEST[:-3])
onnx("an overlong key", b"\x88\x80\x80\x80\x10\x0a" + HONEST[2:])
onnx("a longer varint", b"\x08\x8a\x00" + HONEST[2:])
onnx("field 0", HONEST + b"\x00\x00")
onnx("a group", HONEST + b"\x0b\x0c")
onnx("another format in the same bytes", b"\x14\0\0\0ORTM" + HONEST)
onnx(
    "external data",
    onnx_model(
        HONEST_NODES,
        extra_tensor=proto_field(14, 1) + proto_field(13, proto_field(1, "location") + proto_field(2, "x")),
    ),
)
onnx("a function", onnx_model(HONEST_NODES, extra_model=proto_field(25, proto_field(1, "Abs"))))
onnx(
    "a subgraph",
    onnx_model(
        HONEST_NODES, extra_node=proto_field(5, proto_field(1, "body") + proto_field(6, b"") + proto_field(20, 5))
    ),
)
onnx("a custom operator", onnx_model(HONEST_NODES, domain="ai.example"))
for _opset in (12, 21):
    onnx(f"operator set {_opset}", onnx_model(HONEST_NODES, opset=_opset))
for _version in (6, 11):
    onnx(f"IR version {_version}", HONEST.replace(b"\x08\x0a", bytes([8, _version]), 1))
onnx(
    "another opset beside it",
    onnx_model(HONEST_NODES, extra_model=proto_field(8, proto_field(1, "ai.example") + proto_field(2, 1))),
)
for _operator in ("Div", "Mod"):
    for _divisor in (0, -1):
        onnx(
            f"integer {_operator} by {_divisor}",
            onnx_model([("Abs", "v", "w"), (_operator, "k three", "q")], divisor=_divisor),
        )
    onnx(f"integer {_operator} by a variable", onnx_model([("Abs", "v", "w"), (_operator, "three k", "q")]))
onnx(
    "integer Div by a Max of 0",
    onnx_model([("Abs", "v", "w"), ("Max", "k three", "m"), ("Div", "k m", "q")], divisor=0),
)

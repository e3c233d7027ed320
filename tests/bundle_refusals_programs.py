"""Bundles that every reader must refuse, continued: programs and qualities."""

from __future__ import annotations

from typing import Any

from bundle_refusals import CASES as CASES
from bundle_refusals import edited, program, put, stage, step, whole
from tiny_bundle import LATENT, Tiny, port

# program


def parameter(number: int) -> Any:
    return lambda t: program(t)["parameters"][number]


def sizes(t: Tiny, **fields: Any) -> None:
    program(t)["parameters"].append({"name": "layers", "min": 1, "max": 4096, "default": 1, "scales": [1.0], **fields})
    stage(t)["each"] = "layers"


def listed(t: Tiny, **fields: Any) -> None:
    """One more parameter, a list for the two channels of z."""
    program(t)["parameters"].append({"name": "list", "min": 0, "max": 1, "default": 0, "length": 2, **fields})


def _unquantised(t: Tiny) -> None:
    """No encoder step writes y."""
    step(3)(t)["out"] = {"y": "k"}
    step(4)(t).update({"in": {"v": "v", "k": "k"}, "out": {"w": "w"}})


def _index_from_floats(t: Tiny) -> None:
    """A float graph in the symbol id makes the index."""
    t.graph("hyper").update(exact=False, in_loop=True)
    t.graph("hyper").pop("proofs")


def _index_of_float_input(t: Tiny) -> None:
    """An exact graph's integers follow from a float graph's: z again, made by one."""
    more = [
        {"op": "affine", "out": "f", "terms": [{"value": "z"}]},
        {"op": "quantise", "out": "again", "value": "f", "low": -7, "high": 7},
    ]
    t.manifest["graphs"]["loop"] = {
        "inputs": {"z": t.graph("hyper")["inputs"]["z"]},
        "outputs": {"again": port("int32", "n", 2, "h", "w")},
        "native": {"tensors": {}, "operations": more},
        "in_loop": True,
    }
    loop = {"op": "graph", "graph": "loop", "in": {"z": "z"}, "out": {"again": "loose_z"}}
    stage(t)["steps"].insert(2, loop)
    step(3)(t)["in"]["z"] = "loose_z"


def _loose_mean(t: Tiny) -> None:
    """Means come from a graph that no symbol id covers, and the encoder's quantise reads them."""
    t.manifest["graphs"]["means"] = {
        "inputs": {"mean": LATENT},
        "outputs": {"better": LATENT},
        "native": {"tensors": {}, "operations": [{"op": "tanh", "out": "better", "value": "mean"}]},
    }
    means = {"op": "graph", "graph": "means", "in": {"mean": "mean"}, "out": {"better": "mean"}}
    stage(t)["steps"].insert(3, means)


COPY = {"tensors": {}, "operations": [{"op": "pad_channels", "out": "to", "value": "from", "count": 2}]}


def _unsettled(t: Tiny) -> None:
    """Each round exchanges an exact tensor and one that is not."""
    _index_of_float_input(t)
    step(3)(t)["in"]["z"] = "z"
    first = stage(t)
    ends = port("int32", "n", 2, "h", "w", span=(-7, 7))
    proof = dict(t.graph("hyper")["proofs"][0])
    t.manifest["graphs"]["copy"] = {"inputs": {"from": ends}, "outputs": {"to": ends}, "native": COPY}
    t.graph("copy").update(exact=True, proofs=[proof])
    sizes(t)
    second = dict(first, steps=[_copy("z", "t"), _copy("loose_z", "z"), _copy("t", "loose_z")])
    del first["each"]
    program(t)["stages"].append(second)


def _copy(before: str, after: str) -> dict[str, Any]:
    return {"op": "graph", "graph": "copy", "in": {"from": before}, "out": {"to": after}}


def _encoder_show(t: Tiny) -> None:
    stage(t)["show"]["enc"] = True


def _sized(t: Tiny) -> None:
    """Height and width of an output follow from nothing, since the graph does not take @size."""
    t.graph("deeper")["outputs"]["w"]["dims"] = ["n", 3, "a", "b"]


PROGRAM = "program"
edited(PROGRAM, "no stage", put(program, stages=[]))
edited(PROGRAM, "two parameters of one name", put(parameter(1), name="step", min=-8))
edited(PROGRAM, "a default out of range", put(parameter(0), default=9))
edited(PROGRAM, "a parameter beyond its port's range", put(parameter(0), max=9))
edited(PROGRAM, "default sizes for other rounds", lambda t: sizes(t, length=2))
edited(PROGRAM, "a round for each of nothing", put(stage, each="layers"))
edited(PROGRAM, "a round for each of what are no sizes", put(stage, each="step"))
edited(PROGRAM, "an unknown graph", put(step(2), graph="other"))
edited(PROGRAM, "an input without a source", lambda t: step(2)(t)["in"].pop("skip"))
edited(PROGRAM, "a source without an input", lambda t: step(2)(t)["in"].update(other="z"))
edited(PROGRAM, "an output that the graph does not have", lambda t: step(2)(t)["out"].update(other="other"))
edited(PROGRAM, "two outputs of one name", put(step(4), out={"w": "w", "q": "w"}))
edited(PROGRAM, "a tensor that is not there", lambda t: step(2)(t)["in"].update(z="y"))
edited(PROGRAM, "an encoder's tensor in a decoder's step", lambda t: stage(t)["show"]["in"].update(mean="v"))
edited(PROGRAM, "a parameter that is not there", lambda t: step(2)(t)["in"].update(dz="$dy"))
edited(PROGRAM, "a place of what is no list", lambda t: sizes(t) or step(2)(t)["in"].update(dz="$dz[i]"))
edited(
    PROGRAM,
    "a place of a list in no round",
    lambda t: parameter(2)(t).update(length=2) or step(2)(t)["in"].update(dz="$dz[i]"),
)
edited(PROGRAM, "a list for one number", lambda t: listed(t) or step(2)(t)["in"].update(skip="$list"))
edited(PROGRAM, "an unknown builtin", lambda t: step(0)(t)["in"].update(x="@y"))
edited(PROGRAM, "the picture in a decoder's step", lambda t: stage(t)["show"]["in"].update(mean="@x"))
edited(PROGRAM, "a tensor of another type", lambda t: stage(t)["show"]["in"].update(y="mean"))
edited(PROGRAM, "a tensor of other channels", lambda t: stage(t)["show"]["in"].update(y="z"))
edited(PROGRAM, "sizes that follow from nothing", _sized)
edited(PROGRAM, "effort: an unknown graph", put(step(0), effort={"5": "other"}))
edited(PROGRAM, "effort: other ports", put(step(0), effort={"5": "quantise"}))
edited(PROGRAM, "effort in a decoder's step", put(step(2), effort={"5": "hyper"}))
edited(PROGRAM, "an encoder graph in a decoder's step", put(step(3), enc=False))
edited(PROGRAM, "show: a step of encoders", _encoder_show)
edited(PROGRAM, "show: no graph", put(stage, show=[]))
edited(PROGRAM, "show: nothing", lambda t: stage(t)["show"].update(out={}))
edited(PROGRAM, "show: a tensor that is not there", put(stage, show="picture"))
edited(PROGRAM, "show: a tensor that is no picture", put(stage, show="mean"))
edited(PROGRAM, "show: bytes that are no picture", put(stage, show="index"))
edited(PROGRAM, "bands of three rows", put(step(0), bands=3))
edited(PROGRAM, "513 steps", lambda t: stage(t).update(steps=stage(t)["steps"] + 506 * [step(4)(t)]))
edited(PROGRAM, "align is no multiple of a stride", put(stage, align=4))
edited(PROGRAM, "tile is no multiple of a stride", put(stage, tile=36))
edited(PROGRAM, "symbols of another type", lambda t: _unquantised(t) or step(4)(t).update(out={"w": "y"}))
edited(PROGRAM, "symbols that no encoder writes", _unquantised)
edited(PROGRAM, "unknown tables", put(step(5), tables="x"))
edited(PROGRAM, "an index tensor and tables by channel", put(step(5), tables="z"))
edited(PROGRAM, "an index tensor and a set", put(step(5), set="dz"))
edited(PROGRAM, "tables by channel that have none", put(step(1), tables="y"))
edited(PROGRAM, "tables of other channels", put(step(1), channels=3))
edited(PROGRAM, "a set that is no parameter", put(step(1), set="other"))
edited(PROGRAM, "a set that is not there", lambda t: listed(t, max=2) or step(1)(t).update(set="list"))
edited(PROGRAM, "a set below 0", lambda t: listed(t, min=-1) or step(1)(t).update(set="list"))
edited(PROGRAM, "sets for other channels", lambda t: listed(t, length=3) or step(1)(t).update(set="list"))
edited(PROGRAM, "an index tensor that is not there", put(step(5), by="other"))
edited(PROGRAM, "an index tensor of another type", put(step(5), by="z"))
edited(PROGRAM, "an index tensor of other channels", put(step(5), channels=2))
edited(PROGRAM, "an index from floats", _index_from_floats)
edited(PROGRAM, "an index from integers of a float graph", _index_of_float_input)
edited(PROGRAM, "an encoder reads what no symbol id covers", _loose_mean)
edited(PROGRAM, "rounds that do not settle", _unsettled)
edited(
    PROGRAM,
    "a tensor that the first round lacks",
    lambda t: sizes(t) or step(2)(t)["in"].update(z="before") or step(5)(t).update(out="before"),
)

# quality


def point(number: int) -> Any:
    return lambda t: t.manifest["quality"][number]


QUALITY = "quality"
edited(QUALITY, "none", put(whole, quality=[]))
edited(QUALITY, "falling", put(point(0), quality=100.5))
edited(QUALITY, "equal", put(point(0), quality=100))
edited(QUALITY, "falling", lambda t: t.manifest["quality"].reverse())
edited(QUALITY, "an unknown variant", put(point(0), variant="other"))
edited(QUALITY, "an unknown parameter", put(point(0), parameters={"other": 0}))
edited(QUALITY, "a value out of range", put(point(0), parameters={"step": 9}))
edited(QUALITY, "a list for a number", put(point(0), parameters={"step": [1, 2]}))
edited(
    QUALITY,
    "a number for a list",
    lambda t: listed(t) or point(0)(t).update(parameters={"list": 1}),
)

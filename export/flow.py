"""Export of the flow family: its graphs, tables and program."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nicrt.runtime.manifest import Entropy, Parameter, Port, Program, QualityPoint, Run, Stage

from .bundle import BundleSource, GraphSource
from .exact import DZ_RANGE, SKIP_RANGE
from .flow_modules import (
    STEPS_PER_OCTAVE,
    SYMBOLS,
    UNIT_STEP,
    Z0_STEPS,
    Analyse,
    Level0,
    Level1,
    Level2,
    SideAnalyse,
)
from .hyperprior import z_tables
from .lattice import MAX_OFFSET, Lattice, LatticeHyper, LessOffset, PlusOffset
from .models.entropy import DZ_DEFAULT, FactorizedPrior
from .models.flow import SIDE_CHANNELS, Z0, Z0_STRIDE, Z1, Z1_STRIDE, Z2, Z2_STRIDE, Flow
from .models.side_information import STRIDE as SIDE_STRIDE
from .models.side_information import Z_LIMIT, SideInformation
from .tables import Distribution, Floats, Table, TableSet, build
from .transmitted import (
    CLASSES,
    Activity,
    Arrays,
    ClassModel,
    Layout,
    Pick,
    Spread,
    activity_reference,
    scale_tables,
    spread_reference,
)

ALIGN, TILE = 16, 512

STEP_RANGE = (-256, 320)
"""step1 and step2 in eighths of a table step: from 1/51 to 138."""

# How z1 and z2 share classes, in blocks of 16 and 8 pixels. Offsets and classes were fitted on photographs at steps
# from 1/4 to 8. On kodim03, 08 and 23 at step 1, nothing skipped, z1 and z2 take 0.386 + 0.575 bpp of the files;
# PyTorch's own scales, which hang on floats, would take 0.374 + 0.545.
LAYOUT1 = Layout(
    groups=((3, 10, 11), (0, 1, 2, 4, 5, 6, 7, 8, 9)),
    offsets=(0, -1, 0, 3, -2, -2, -2, 0, -1, -2, 3, 4),
    block=4,
    patterns=np.ones((1, 4, 4), np.bool_),
)
_CHECKERS = (np.indices((4, 4)).sum(0) % 2).astype(np.bool_)
LAYOUT2 = Layout(
    groups=(tuple(range(Z2)),), offsets=(-1, 5, -1, 1, -1, -2), block=4, patterns=np.stack([~_CHECKERS, _CHECKERS])
)
CLASSES1 = (
    ClassModel(-4.7069, -0.0725, 0.0297, -0.2137, 0.0072),
    ClassModel(-6.2485, 0.1094, 0.025, 0.021, -0.0142),
)
CLASSES2 = (ClassModel(-0.5627, 0.4214, 0.0133, -0.8891, -0.008),)

Z0_OFFSETS = dict.fromkeys((0, 16), -2) | dict.fromkeys((11, 15, 18, 23, 33, 37, 43), -1)
Z0_OFFSETS |= dict.fromkeys((3, 7, 14, 19, 21, 31), 1)
"""Sets by which the step of a channel of z0 differs from the others': -2 times the binary logarithm of how much the
synthesis amplifies its squared errors, relative to the others', measured on photographs. On Kodak crops that gives
0.27 dB at step 8 and 0.07 dB at step 2, at equal rate."""

MEAN_COLOUR = (0, 16, 18)
"""Channels of z0 that carry the mean colour of a place: a change of 8 in one of them changes the mean of a colour
component of kodim23 by up to 46 grey levels, of any other channel by at most 9."""
COARSE_COLOUR = -4
"""Sets by which their steps are finer at quality 0, where the others' (22 units) would move the mean colour of whole
pictures by 20 grey levels. At equal rate that gives 0.4 dB more there (means over crops of five Kodak pictures)."""

_PICTURE = Port("uint8", ["n", "16h", "16w", 3])
_Y0 = Port("int32", ["n", Z0, "2h", "2w"], SYMBOLS)
_Y1 = Port("int32", ["n", Z1, "4h", "4w"], SYMBOLS)
_Y2 = Port("int32", ["n", Z2, "8h", "8w"], SYMBOLS)
_H1 = Port("float32", ["n", Z1, "4h", "4w"])
_H0 = Port("float32", ["n", Z2, "8h", "8w"])
_X1 = Port("uint8", ["n", Z1, "4h", "4w"])
_X2 = Port("uint8", ["n", Z2, "8h", "8w"])
_T1 = Port("int32", ["n", len(LAYOUT1.groups), "h", "w"], (0, CLASSES - 1))
_T2 = Port("int32", ["n", len(LAYOUT2.groups), "2h", "2w"], (0, CLASSES - 1))
_Q0 = Port("int32", ["n", Z0, "2h", "2w"], (SYMBOLS[0] - MAX_OFFSET, SYMBOLS[1] + MAX_OFFSET))
_OFFSET0 = Port("int32", ["n", Z0, "2h", "2w"], (-MAX_OFFSET, MAX_OFFSET))
_INDEX0 = Port("uint8", ["n", Z0, "2h", "2w"])
_Z = Port("int32", ["n", SIDE_CHANNELS, "h", "w"], (-Z_LIMIT, Z_LIMIT))
_D0 = Port("int32", [Z0], (0, Z0_STEPS - 1))
_DZ = Port("int32", [1], DZ_RANGE)
_STEP = Port("int32", [1], STEP_RANGE)
_SKIP = Port("int32", [1], SKIP_RANGE)


def source(weights: Mapping[str, Tensor]) -> BundleSource:
    """Checkpoint → everything that the bundle is written from."""
    model = Flow.of(weights)
    tables = scale_tables()
    return BundleSource(
        name="flow",
        summary="normalising flow: three levels that decode one by one, from low rate to near lossless",
        unit=ALIGN,
        graphs=[*_float_graphs(model), *_encoder_graphs(model, tables), *_exact_graphs(model)],
        tables={
            **_first_tables(model),
            "y": TableSet(tables),
            "t1": TableSet([table for classes in CLASSES1 for table in classes.tables()]),
            "t2": TableSet([table for classes in CLASSES2 for table in classes.tables()]),
        },
        programs={"flow": _program(side=model.side is not None)},
        quality=[
            _quality(0.0, d0=34, level_step=225, skip=8, stagger=1, colour=COARSE_COLOUR),
            _quality(30.0, d0=25, level_step=114, skip=9, stagger=1),
            _quality(70.0, d0=13, level_step=-34, skip=8, stagger=2),
            _quality(100.0, d0=4, level_step=-135, skip=0),
        ],
    )


def _float_graphs(model: Flow) -> list[GraphSource]:
    def graph(
        name: str, module: nn.Module, inputs: dict[str, Port], outputs: dict[str, Port], *, in_loop: bool
    ) -> GraphSource:
        return GraphSource(name, module, inputs, outputs, in_loop=in_loop)

    upper = {"h1": _H1, "mean1": _H1}
    lower = {"h0": _H0, "mean2": _H0}
    return [
        graph("level2", Level2(model), {"q0": _Q0, "d0": _D0}, {**upper, "none": _Y1}, in_loop=True),
        graph("level1", Level1(model), {"y1": _Y1, **upper, "step1": _STEP}, {**lower, "none": _Y2}, in_loop=True),
        graph(
            "level0",
            Level0(model),
            {"ya": _Y2, "yb": _Y2, **lower, "step2": _STEP},
            {"picture": _PICTURE},
            in_loop=False,
        ),
    ]


def _encoder_graphs(model: Flow, tables: list[Table]) -> list[GraphSource]:
    def graph(name: str, module: nn.Module, inputs: dict[str, Port], outputs: dict[str, Port]) -> GraphSource:
        return GraphSource(name, module, inputs, outputs, encoder=True)

    x = Port("float32", ["n", 3, "16h", "16w"])
    controls = {"step": _STEP, "skip": _SKIP}
    upper = {"v1": _H1, "v2": _H0}
    if model.side is None:
        first = [graph("analyse", Analyse(model), {"x": x, "d0": _D0}, {"q0": _Q0, **upper})]
    else:
        side = SideAnalyse(model, model.side)
        first = [
            graph("analyse", side, {"x": x, "d0": _D0, "dz": _DZ}, {"q0": _Q0, **upper, "z": _Z}),
            graph("less_offset", LessOffset(), {"q": _Q0, "offset": _OFFSET0}, {"y": _Y0}),
        ]
    return [
        *first,
        graph("pick1", Pick(LAYOUT1, tables), {"v": _H1, "mean": _H1, **controls}, {"y": _Y1, "t": _T1}),
        graph("pick2", Pick(LAYOUT2, tables), {"v": _H0, "mean": _H0, **controls}, {"ya": _Y2, "yb": _Y2, "t": _T2}),
    ]


def _exact_graphs(model: Flow) -> list[GraphSource]:
    return [
        *([] if model.side is None else _side_graphs(model.side)),
        _activity("activity0", _Q0, Port("uint8", ["n", len(LAYOUT1.groups), "h", "w"]), len(LAYOUT1.groups)),
        _activity("activity1", _Y1, Port("uint8", ["n", len(LAYOUT2.groups), "2h", "2w"]), len(LAYOUT2.groups)),
        _spread("spread1", LAYOUT1, _T1, {"x": _X1}),
        _spread("spread2", LAYOUT2, _T2, {"xa": _X2, "xb": _X2}),
    ]


def _side_graphs(side: SideInformation) -> list[GraphSource]:
    """From side information to table indices and offsets of z0, and back onto its lattice."""
    lattice = Lattice.of(side, _steps0())

    def add(values: Arrays) -> Arrays:
        return {"q": values["y"] + values["offset"]}

    return [
        GraphSource(
            "hyper0",
            LatticeHyper(lattice),
            {"z": _Z, "d": _D0, "skip": _SKIP, "dz": _DZ},
            {"index": _INDEX0, "offset": _OFFSET0},
            reference=lattice.reference,
            summary=lattice.network.summary(),
        ),
        GraphSource(
            "plus_offset",
            PlusOffset(),
            {"y": _Y0, "offset": _OFFSET0},
            {"q": _Q0},
            reference=add,
        ),
    ]


def _activity(name: str, symbols: Port, context: Port, groups: int) -> GraphSource:
    """Sums over 2 x 2 places; 48 channels of 17 bits stay below 2^24."""

    def reference(values: Arrays) -> Arrays:
        return {"context": activity_reference(values["y"].astype(np.int32), 2, groups)}

    return GraphSource(name, Activity(2, groups), {"y": symbols}, {"context": context}, reference=reference)


def _spread(name: str, layout: Layout, classes: Port, outputs: dict[str, Port]) -> GraphSource:
    def reference(values: Arrays) -> Arrays:
        indices = spread_reference(layout, values["t"].astype(np.int32), int(values["skip"][0]))
        return dict(zip(outputs, indices, strict=True))

    return GraphSource(name, Spread(layout), {"t": classes, "skip": _SKIP}, outputs, reference=reference)


def _channel(prior: FactorizedPrior, number: int) -> FactorizedPrior:
    """The prior of one channel alone."""
    single = FactorizedPrior(1)
    single.load_state_dict({name: values[number : number + 1] for name, values in prior.state_dict().items()})
    return single.requires_grad_(False)


def _steps0() -> npt.NDArray[np.float64]:
    """z0's steps by set."""
    return np.exp2((np.arange(Z0_STEPS) - UNIT_STEP) / STEPS_PER_OCTAVE)


def _first_tables(model: Flow) -> dict[str, TableSet]:
    """Those of z0, or of its side information: with it, z0 has the tables of the others."""
    if model.side is not None:
        return {"z": z_tables(model.side.prior, model.side.channels)}
    assert model.prior is not None
    return {"z0": _z0_tables(model.prior)}


def _z0_tables(prior: FactorizedPrior) -> TableSet:
    """The prior of each channel on bins of each step."""

    def table(channel: FactorizedPrior, step: float) -> Table:
        def share(x: Floats, sign: float) -> Floats:
            logits = channel.logits(torch.from_numpy(np.array(x * step))[None])[0]
            return torch.sigmoid(sign * logits).numpy()

        return build(Distribution(lambda x: share(x, 1.0), lambda x: share(x, -1.0)))

    channels = [_channel(prior, number) for number in range(Z0)]
    tables = [table(channel, float(step)) for step in _steps0() for channel in channels]
    return TableSet(tables, np.arange(len(tables), dtype=np.int32).reshape(Z0_STEPS, Z0))


def _quality(number: float, d0: int, level_step: int, skip: int, stagger: int = 0, colour: int = 0) -> QualityPoint:
    """z0's steps around set `d0`: finer where errors weigh more, and by `colour` more sets for the mean colour.
    `stagger` moves some channels by one set, so that between two points they do not all change at once."""
    offsets = [Z0_OFFSETS.get(channel, 0) + colour * (channel in MEAN_COLOUR) for channel in range(Z0)]
    sets = [d0 + offset + (channel & stagger > 0) for channel, offset in enumerate(offsets)]
    return QualityPoint(number, "flow", {"d0": sets, "step1": level_step, "step2": level_step, "skip": skip})


def _program(side: bool) -> Program:
    """Stage 1: z0, after its side information if there is any. 2: z1. 3 and 4: the two halves of z2, in a
    checkerboard. Each shows the picture that there is so far, the rest being conditional means."""
    return Program(
        parameters=[
            Parameter("d0", 0, Z0_STEPS - 1, default=UNIT_STEP, length=Z0),
            Parameter("step1", *STEP_RANGE, default=0),
            Parameter("step2", *STEP_RANGE, default=0),
            Parameter("skip", *SKIP_RANGE, default=8),
            *([Parameter("dz", *DZ_RANGE, default=DZ_DEFAULT)] if side else []),
        ],
        stages=[_stage0(_side_steps() if side else _static_steps()), _stage1(), *_stages2()],
    )


def _static_steps() -> list[Entropy | Run]:
    """z0 by its factorised prior."""
    return [
        Run("analyse", {"x": "@x", "d0": "$d0"}, {"q0": "q0", "v1": "v1", "v2": "v2"}, enc=True),
        Entropy("q0", Z0, Z0_STRIDE, "z0", by="channel", set="d0"),
    ]


def _side_steps() -> list[Entropy | Run]:
    """z0 by side information, less what it expects."""
    analysed = {"q0": "q0", "v1": "v1", "v2": "v2", "z": "z"}
    return [
        Run("analyse", {"x": "@x", "d0": "$d0", "dz": "$dz"}, analysed, enc=True),
        Entropy("z", SIDE_CHANNELS, SIDE_STRIDE * Z0_STRIDE, "z", by="channel", set="dz"),
        Run("hyper0", {"z": "z", "d": "$d0", "skip": "$skip", "dz": "$dz"}, {"index": "index0", "offset": "offset0"}),
        Run("less_offset", {"q": "q0", "offset": "offset0"}, {"y": "y0"}, enc=True),
        Entropy("y0", Z0, Z0_STRIDE, "y", by="index0"),
        Run("plus_offset", {"y": "y0", "offset": "offset0"}, {"q": "q0"}),
    ]


def _stage0(coded: list[Entropy | Run]) -> Stage:
    return Stage(
        align=ALIGN,
        tile=TILE,
        steps=[*coded, Run("level2", {"q0": "q0", "d0": "$d0"}, {"h1": "h1", "mean1": "mean1", "none": "none1"})],
        show=[_level1("none1"), _show("none", "none")],
    )


def _pick(number: int, outputs: dict[str, str]) -> Run:
    inputs = {"v": f"v{number}", "mean": f"mean{number}", "step": f"$step{number}", "skip": "$skip"}
    return Run(f"pick{number}", inputs, outputs, enc=True)


def _level1(symbols: str) -> Run:
    inputs = {"y1": symbols, "h1": "h1", "mean1": "mean1", "step1": "$step1"}
    return Run("level1", inputs, {"h0": "h0", "mean2": "mean2", "none": "none"})


def _show(first: str, second: str) -> Run:
    inputs = {"ya": first, "yb": second, "h0": "h0", "mean2": "mean2", "step2": "$step2"}
    return Run("level0", inputs, {"picture": "picture"})


def _stage1() -> Stage:
    return Stage(
        align=ALIGN,
        tile=TILE,
        steps=[
            _pick(1, {"y": "y1", "t": "t1"}),
            Run("activity0", {"y": "q0"}, {"context": "context1"}),
            Entropy("t1", len(LAYOUT1.groups), LAYOUT1.block * Z1_STRIDE, "t1", by="context1"),
            Run("spread1", {"t": "t1", "skip": "$skip"}, {"x": "x1"}),
            Entropy("y1", Z1, Z1_STRIDE, "y", by="x1"),
            _level1("y1"),
        ],
        show=_show("none", "none"),
    )


def _stages2() -> list[Stage]:
    half: list[Entropy | Run] = [
        _pick(2, {"ya": "ya", "yb": "yb", "t": "t2"}),
        Run("activity1", {"y": "y1"}, {"context": "context2"}),
        Entropy("t2", len(LAYOUT2.groups), LAYOUT2.block * Z2_STRIDE, "t2", by="context2"),
        Run("spread2", {"t": "t2", "skip": "$skip"}, {"xa": "xa", "xb": "xb"}),
        Entropy("ya", Z2, Z2_STRIDE, "y", by="xa"),
    ]
    rest: list[Entropy | Run] = [Entropy("yb", Z2, Z2_STRIDE, "y", by="xb")]
    return [
        Stage(align=ALIGN, tile=TILE, steps=half, show=_show("ya", "none")),
        Stage(align=ALIGN, tile=TILE, steps=rest, show=_show("ya", "yb")),
    ]

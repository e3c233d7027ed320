"""Checks of a bundle's manifest that its schema cannot say: names resolve, sizes fit, and no table index hangs on a
float.

The exactness check is a data-flow proof. A tensor is *exact* when it is an entropy output, or an integer output of an
exact graph all of whose inputs are exact tensors, parameters or sizes. A table index must be exact; so the parse of a
file cannot depend on floating-point arithmetic, on any device, whatever the float graphs do.

A second one is of ids. A decoded tensor is *loose* when a graph that the symbol id does not cover (neither exact nor
`in_loop`) has a part in it. No encoder graph may see a loose tensor: another bundle of the same symbol id would have
other values there, and a file's symbols would not be made for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .claims import check_claims
from .errors import UnsupportedError
from .manifest import BATCH, DIMENSION, INTEGERS, Entropy, Graph, Manifest, Parameter, Port, Program, Run, Stage
from .native_check import check_native
from .tables import TableGroup
from .windows import spatial_axes

PICTURE, SIZE, ROWS, COLUMNS = "@x", "@size", "@rows", "@cols"
PICTURE_CHANNELS = 3
BY_CHANNEL = "channel"
MAX_UNROLLED = 16  # rounds of a loop after which its tensors must be what they were
MAX_INDEX_TABLES = 64  # so that 64 and more mean "not coded" in every table group that is used by index


def _refuse(message: str) -> UnsupportedError:
    return UnsupportedError(f"the bundle is not valid: {message}")


def parameter_source(source: str) -> tuple[str, bool]:
    """`$p` or `$p[i]` → the parameter's name, and whether only its element for the round is meant."""
    name = source.removeprefix("$")
    return name.removesuffix("[i]"), name.endswith("[i]")


class _Kind(NamedTuple):
    """What is known of a tensor before anything runs. extents: its dimensions, None for one that follows from the
    picture's size or the batch."""

    dtype: str
    extents: tuple[int | None, ...]

    @classmethod
    def of(cls, port: Port) -> _Kind:
        return cls(port.dtype, tuple(extent if isinstance(extent, int) else None for extent in port.dims))

    def fits(self, other: _Kind) -> bool:
        pairs = list(zip(self.extents, other.extents, strict=False))
        same = all(a == b or a is None or b is None for a, b in pairs)
        return self.dtype == other.dtype and len(self.extents) == len(other.extents) and same

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('*' if extent is None else str(extent) for extent in self.extents)}]"


def _places(dtype: str, channels: int) -> _Kind:
    return _Kind(dtype, (None, channels, None, None))


BUILTINS = {
    SIZE: _Kind("int32", (2,)),
    ROWS: _Kind("int32", (None,)),
    COLUMNS: _Kind("int32", (None,)),
}


@dataclass
class _Scope:
    """Tensors known at one point of the program."""

    defined: set[str] = field(default_factory=set)  # when decoding
    encoder: set[str] = field(default_factory=set)  # only when encoding
    exact: set[str] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)
    kinds: dict[str, _Kind] = field(default_factory=dict)

    def copy(self) -> _Scope:
        return _Scope(set(self.defined), set(self.encoder), set(self.exact), set(self.loose), dict(self.kinds))

    def meet(self, other: _Scope) -> _Scope:
        """What holds in both."""
        same = {name for name, kind in self.kinds.items() if other.kinds.get(name) == kind}
        defined = self.defined & other.defined & same
        known = (self.defined | self.encoder) & (other.defined | other.encoder) & same
        kinds = {name: self.kinds[name] for name in same}
        return _Scope(defined, known - defined, self.exact & other.exact & same, self.loose | other.loose, kinds)


class _ProgramCheck:
    def __init__(self, program: Program, graphs: dict[str, Graph], groups: dict[str, TableGroup]) -> None:
        self.program = program
        self.graphs = graphs
        self.groups = groups
        self.parameters = {p.name: p for p in program.parameters}
        self.scope = _Scope()

    def run(self) -> None:
        if len(self.parameters) != len(self.program.parameters):
            raise _refuse("two parameters have one name")
        for parameter in self.program.parameters:
            _check_parameter(parameter)
        for stage in self.program.stages:
            self._stage(stage)

    def _stage(self, stage: Stage) -> None:
        if stage.each is None:
            self._round(stage)
            return
        parameter = self.parameters.get(stage.each)
        if parameter is None or not parameter.is_sizes:
            raise _refuse(f"a stage runs for each {stage.each!r}, which is not a list of sizes")
        after = None if parameter.length else self.scope.copy()  # there may be no round at all
        for _ in range(MAX_UNROLLED):  # a round finds what the one before it left
            before = self.scope.copy()
            self._round(stage)
            after = self.scope.copy() if after is None else after.meet(self.scope)
            if self.scope == before:
                self.scope = after
                return
        raise _refuse(f"what the rounds of stage {stage.each!r} leave to each other does not settle")

    def _round(self, stage: Stage) -> None:
        for step in stage.steps:
            if isinstance(step, Entropy):
                self._entropy(step, stage)
            else:
                self._run(step, stage, encoding=step.enc)
        before = self.scope.copy()
        for run in stage.show_runs:
            if run.enc:
                raise _refuse(f"graph {run.graph!r} is to show a stage, and to run when encoding alone")
            self._run(run, stage, encoding=False)
        if stage.show_runs and len(stage.show_runs[-1].outputs) != 1:
            raise _refuse("the last `show` graph must have one output")
        if stage.shown not in self.scope.defined:
            raise _refuse(f"a stage shows {stage.shown!r}, which is not there")
        shown = self.scope.kinds[stage.shown]
        if shown.dtype != "uint8" or len(shown.extents) != 4 or shown.extents[3] != PICTURE_CHANNELS:
            raise _refuse(f"a stage shows {shown}; this nicrt shows uint8 [*, *, *, {PICTURE_CHANNELS}]")
        self.scope = before

    def _entropy(self, step: Entropy, stage: Stage) -> None:
        if self.program.encodes and step.out not in self.scope.encoder | self.scope.defined:
            raise _refuse(f"no encoder step writes {step.out!r} before it is coded")
        if stage.tile % step.stride or stage.align % step.stride:
            raise _refuse(f"stride {step.stride} of {step.out!r} does not divide the stage's align and tile")
        group = self.groups.get(step.tables)
        if group is None:
            raise _refuse(f"there are no tables {step.tables!r}")
        if step.by == BY_CHANNEL:
            self._by_channel(step, group)
        else:
            self._by_index(step, group)
        symbols = _places("int32", step.channels)
        if self.program.encodes and not self.scope.kinds[step.out].fits(symbols):
            raise _refuse(f"the symbols {step.out!r} are {self.scope.kinds[step.out]}, not {symbols}")
        self.scope.kinds[step.out] = symbols
        self.scope.defined.add(step.out)
        self.scope.encoder.discard(step.out)
        self.scope.loose.discard(step.out)
        self.scope.exact.add(step.out)

    def _by_index(self, step: Entropy, group: TableGroup) -> None:
        if step.by not in self.scope.exact or step.by not in self.scope.defined:
            raise _refuse(f"the table index {step.by!r} of {step.out!r} hangs on something that is not exact")
        index = _places("uint8", step.channels)
        if not self.scope.kinds[step.by].fits(index):
            raise _refuse(f"the table index {step.by!r} is {self.scope.kinds[step.by]}, not {index}")
        # of a group with a channel map, tables that no channel names are in no hash
        if group.count > MAX_INDEX_TABLES or group.channel_sets is not None or step.set is not None:
            raise _refuse(f"tables {step.tables!r} cannot be chosen by an index tensor")

    def _by_channel(self, step: Entropy, group: TableGroup) -> None:
        sets_channels = group.channel_sets
        if sets_channels is None or sets_channels[1] != step.channels:
            raise _refuse(f"tables {step.tables!r} have no channel map for {step.channels} channels")
        last_set = 0
        if step.set is not None:
            parameter = self.parameters.get(step.set)
            one_or_each = parameter is not None and parameter.length in (None, step.channels)
            if parameter is None or not one_or_each or parameter.is_sizes or parameter.min < 0:
                raise _refuse(
                    f"the table set {step.set!r} of {step.out!r} is not a number from 0 up, or one per channel"
                )
            last_set = parameter.max
        if last_set >= sets_channels[0]:
            raise _refuse(f"tables {step.tables!r} have {sets_channels[0]} sets, and a file may ask for {last_set}")

    def _run(self, run: Run, stage: Stage, *, encoding: bool) -> None:
        graph = self._graph(run.graph)
        for other in run.effort.values():
            alternative = self._graph(other)
            if (alternative.inputs, alternative.outputs) != (graph.inputs, graph.outputs) or not encoding:
                raise _refuse(f"graph {other!r} cannot stand in for {run.graph!r}")
        if graph.encoder and not encoding:
            raise _refuse(f"encoder graph {run.graph!r} would run when decoding")
        if set(run.inputs) != set(graph.inputs) or not set(run.outputs) <= set(graph.outputs):
            raise _refuse(f"the ports of graph {run.graph!r} are not those of its step")
        if len(set(run.outputs.values())) != len(run.outputs):
            raise _refuse(f"two outputs of graph {run.graph!r} have one name")
        if len(graph.sized_symbols) not in (0, 2) or (graph.sized_symbols and SIZE not in run.inputs.values()):
            raise _refuse(f"the extents {graph.sized_symbols} of graph {run.graph!r} follow from nothing")
        exact = graph.exact
        for port, source in run.inputs.items():
            exact &= self._source(source, graph.inputs[port], run.graph, stage, encoding=encoding)
        loose = self.scope.loose & set(run.inputs.values())
        if loose and encoding:
            raise _refuse(
                f"encoder graph {run.graph!r} takes {min(loose)!r}, which the symbol id does not cover: what makes it "
                "must be exact or in_loop"
            )
        for port, name in run.outputs.items():
            self._define(name, _Kind.of(graph.outputs[port]), exact=exact, encoding=encoding)
            if not encoding and (loose or not graph.decides_symbols):
                self.scope.loose.add(name)
            else:
                self.scope.loose.discard(name)

    def _define(self, name: str, kind: _Kind, *, exact: bool, encoding: bool) -> None:
        if encoding:
            self.scope.encoder.add(name)
            self.scope.defined.discard(name)
        else:
            self.scope.defined.add(name)
            self.scope.encoder.discard(name)
        if exact and kind.dtype in INTEGERS and not encoding:
            self.scope.exact.add(name)
        else:
            self.scope.exact.discard(name)
        self.scope.kinds[name] = kind

    def _graph(self, name: str) -> Graph:
        graph = self.graphs.get(name)
        if graph is None:
            raise _refuse(f"there is no graph {name!r}")
        return graph

    def _source(self, source: str, port: Port, graph: str, stage: Stage, *, encoding: bool) -> bool:
        """Check one input of a graph; whether it is exact."""
        if source == PICTURE and encoding:
            kind, exact = _places("float32", PICTURE_CHANNELS), False
        elif source in BUILTINS:
            kind, exact = BUILTINS[source], True
        elif source.startswith("$"):
            kind, exact = self._parameter(source, port, graph, stage), True
        else:
            known = source in self.scope.defined or (encoding and source in self.scope.encoder)
            if not known:
                raise _refuse(f"graph {graph!r} takes {source!r}, which is not there")
            kind, exact = self.scope.kinds[source], source in self.scope.exact
        if not kind.fits(_Kind.of(port)):
            raise _refuse(f"graph {graph!r} takes {source!r} as {_Kind.of(port)}, but it is {kind}")
        return exact

    def _parameter(self, source: str, port: Port, graph: str, stage: Stage) -> _Kind:
        name, of_round = parameter_source(source)
        parameter = self.parameters.get(name)
        listed = parameter is not None and parameter.length is not None and not parameter.is_sizes
        if parameter is None or (of_round and (not listed or stage.each is None)):
            raise _refuse(f"graph {graph!r} takes parameter {source!r}, which is not there")
        if port.range is not None and not (port.range[0] <= parameter.min <= parameter.max <= port.range[1]):
            raise _refuse(f"parameter {name!r} may be what graph {graph!r} is not made for")
        length = 1 if of_round or parameter.length is None else parameter.length
        return _Kind("int32", (None if parameter.is_sizes else length,))


def _check_parameter(parameter: Parameter) -> None:
    if not parameter.min <= parameter.default <= parameter.max:
        raise _refuse(f"the default of parameter {parameter.name!r} is outside its range")
    if parameter.scales is not None and parameter.length not in (None, len(parameter.scales)):
        raise _refuse(f"parameter {parameter.name!r} has default sizes for {len(parameter.scales)} places")


def check_graph(name: str, graph: Graph) -> None:
    """Raise UnsupportedError for the first thing in a graph's entry that does not hold."""
    if not graph.inputs or not graph.outputs:
        raise _refuse(f"graph {name!r} has no inputs or no outputs")
    if graph.onnx is None and graph.native is None:
        raise _refuse(f"graph {name!r} has neither an ONNX nor a native form")
    if graph.native is not None:
        check_native(name, graph)
    for port_name, port in (*graph.inputs.items(), *graph.outputs.items()):
        batches = [d for d in port.dims if (m := DIMENSION.match(str(d))) and m[2] == BATCH]
        if batches and (batches != [BATCH] or port.dims[0] != BATCH):
            raise _refuse(f"port {port_name!r} of graph {name!r} has its batch {BATCH!r} elsewhere than in front")
        if port.range is not None and (port.dtype not in INTEGERS or port.range[0] > port.range[1]):
            raise _refuse(f"port {port_name!r} of graph {name!r} has a range of nothing, or of floats")
    if graph.halo is not None and not all(spatial_axes(port) for port in graph.outputs.values()):
        raise _refuse(f"graph {name!r} gives a halo, but not all its outputs have rows and columns h and w")
    symbols = {m[2] for port in graph.inputs.values() for d in port.dims if (m := DIMENSION.match(str(d)))}
    if any(set(proof.sizes) != symbols for proof in graph.proofs):
        raise _refuse(f"a proof vector of graph {name!r} does not name its sizes")
    if not graph.exact:
        return
    if graph.encoder or not graph.proofs:
        raise _refuse(f"exact graph {name!r} is for the encoder only or has no proof vectors")
    for port_name, port in graph.inputs.items():
        if port.dtype not in INTEGERS or port.range is None:
            raise _refuse(f"input {port_name!r} of exact graph {name!r} needs an integer type and a range")


def check_manifest(manifest: Manifest, groups: dict[str, TableGroup]) -> None:
    """Raise UnsupportedError for the first thing in the manifest that does not hold."""
    for name, graph in manifest.graphs.items():
        check_graph(name, graph)
    check_claims(manifest)
    if not manifest.quality:
        raise _refuse("it has no quality points")
    if manifest.weights is None and any(graph.native and graph.native.tensors for graph in manifest.graphs.values()):
        raise _refuse("its native forms have tensors, but no file of weights")
    for variant in manifest.variants.values():
        _ProgramCheck(variant.program, manifest.graphs, groups).run()
    qualities = [point.quality for point in manifest.quality]
    if qualities != sorted(set(qualities)):
        raise _refuse("its quality points do not rise")
    for point in manifest.quality:
        variant_of_point = manifest.variants.get(point.variant)
        if variant_of_point is None:
            raise _refuse(f"quality {point.quality} names variant {point.variant!r}, which is not there")
        parameters = {p.name: p for p in variant_of_point.program.parameters}
        for key, value in point.parameters.items():
            values = value if isinstance(value, list) else [value]
            known = parameters.get(key)
            if known is None or len(values) != (known.length or 1) or not _within(values, known):
                raise _refuse(f"quality {point.quality} sets {key!r} to {value}, which its program does not allow")


def _within(values: list[int], parameter: Parameter) -> bool:
    return not parameter.is_sizes and parameter.min <= min(values) and max(values) <= parameter.max

"""The manifest of a codec bundle: types that are its schema, and the checks that types cannot say.

What the fields mean is in docs/BUNDLE.md. The JSON Schema beside this file (`manifest.schema.json`) is generated from
these types; a test keeps the two equal.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from .errors import UnsupportedError, one_line
from .native_form import END, Hash, Int32, Name, NativeForm, Strict, plain, unique_fields

BUNDLE_FORMAT = 2
FEATURES: frozenset[str] = frozenset()
"""Names that `requires` may have: what a reader of BUNDLE_FORMAT need not know. None so far."""
MAX_MANIFEST_BYTES = 1 << 20
MAX_GRAPHS = 256
MIN_BAND_ROWS = 4  # a graph call for every row would be as many calls as the picture has rows
MAX_DEPTH = 32  # of provenance, the only part without a schema

_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*"  # `__metadata__` would be no file of a packed bundle
FilePath = Annotated[str, Meta(pattern=rf"^{_PART}(/{_PART})?{END}")]
Positive = Annotated[int, Meta(ge=1, le=1 << 24)]
PerPixel = Annotated[float, Meta(ge=0, le=1e9)]  # more would overflow what is reckoned from it
DType = Literal["float32", "float16", "int32", "int64", "uint8", "uint16"]
INTEGERS = frozenset({"int32", "int64", "uint8", "uint16"})

# A dimension is a number, or a symbol with a factor: "64h" is 64 * h. Ports that share a symbol are related by it.
DIMENSION = re.compile(r"^([1-9][0-9]{0,6})?([a-z]+)" + END)
BATCH = "n"
"""The symbol that stands for the pictures of a batch: always a tensor's first dimension. What has no `n` is shared by
the whole batch."""
Dimension = Positive | Annotated[str, Meta(pattern=DIMENSION.pattern)]


class Port(Strict):
    """One input or output of a graph. `range` (inclusive) is required for the integer inputs of exact graphs: the bound
    under which the graph is exact."""

    dtype: DType
    dims: list[Dimension]
    range: tuple[Int32, Int32] | None = None


class Proof(Strict):
    """A test vector of an exact graph: inputs from `nicrt.runtime.proofs`, SHA-256 of the integer outputs in port
    order.
    """

    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    sizes: dict[str, Positive]
    sha256: Hash


class File(Strict):
    """A file of the bundle and the SHA-256 of its bytes."""

    file: FilePath
    sha256: Hash


class Graph(Strict):
    """A graph in one or two forms that compute the same: an ONNX file, and the native one. `halo`: pixels around a
    window of the picture on which its outputs there depend, None where that is not known.
    `workspace_bytes_per_pixel`: what the ONNX form needs besides its ports, an upper bound from the sizes of its
    tensors."""

    inputs: dict[Name, Port]
    outputs: dict[Name, Port]
    exact: bool = False
    encoder: bool = False
    in_loop: bool = False
    halo: Annotated[int, Meta(ge=0, le=1 << 16)] | None = None
    proofs: Annotated[list[Proof], Meta(max_length=32)] = []
    macs_per_pixel: PerPixel | None = None
    workspace_bytes_per_pixel: PerPixel | None = None
    onnx: File | None = None
    native: NativeForm | None = None

    @property
    def decides_symbols(self) -> bool:
        """Whether the symbol id covers it."""
        return self.exact or self.in_loop

    @property
    def sized_symbols(self) -> list[str]:
        """The dimension symbols that only outputs have: height and width of the round's picture, in this order."""
        inputs = [d for port in self.inputs.values() for d in port.dims]
        outputs = [d for port in self.outputs.values() for d in port.dims]
        known, made = ([m[2] for d in dims if (m := DIMENSION.match(str(d)))] for dims in (inputs, outputs))
        return [symbol for symbol in dict.fromkeys(made) if symbol not in known]


class Tables(Strict):
    """The entropy tables (safetensors): per group G the arrays `G.low` int16 [T], `G.shift` uint8 [T], `G.size` int32
    [T], `G.frequency` uint16 [sum of sizes], and for `by: channel` also `G.channel` int32 [sets, channels]. `groups`:
    group → its leaf hash (`TableGroup.leaf`)."""

    file: FilePath
    groups: dict[Name, Hash]


class Weights(Strict):
    """The tensors of native forms (safetensors). What of them is used, and its hash, is with each graph."""

    file: FilePath


class Parameter(Strict):
    """A number, or a list of them, that a file sets. `length` makes it a list of that many. `scales` makes it a list of
    picture sizes (height, width, height, ...), any number of them or `length`; by default the picture's own, times each
    of these.
    """

    name: Name
    min: Int32
    max: Int32
    default: Int32
    length: Annotated[int, Meta(ge=1, le=4096)] | None = None
    scales: list[Annotated[float, Meta(gt=0, le=1)]] | None = None

    @property
    def is_sizes(self) -> bool:
        return self.scales is not None


class Entropy(Strict, tag="entropy", tag_field="op"):
    """Code the integer tensor `out` of `channels` x ceil(height / stride) x ceil(width / stride) with the tables of a
    group: the channel's own (`by` "channel"), or the one that the index tensor `by` names at each place. `set`: the
    parameter that picks the table set for all channels, or a list of `channels` numbers that picks it for each.
    """

    out: Name
    channels: Annotated[int, Meta(ge=1, le=4096)]
    stride: Annotated[int, Meta(ge=1, le=1024)]
    tables: Name
    by: str
    set: Name | None = None


class Run(Strict, tag="graph", tag_field="op", rename={"inputs": "in", "outputs": "out"}):
    """Run a graph. `inputs`: port -> source (docs/BUNDLE.md, section 8); `outputs`: port -> tensor.

    `enc`: only when encoding. `effort`: level -> graph with the same ports, the highest level not above the asked one.
    `bands`: run once per block of that many rows of the padded picture and join the outputs on their third axis, so
    that a graph whose workspace is large never holds more than a band of it.
    """

    graph: Name
    inputs: dict[Name, str]
    outputs: dict[Name, Name]
    enc: bool = False
    effort: dict[Annotated[str, Meta(pattern="^[1-9]" + END)], Name] = {}
    bands: Annotated[int, Meta(ge=MIN_BAND_ROWS, le=1 << 16)] | None = None


class Stage(Strict):
    """Steps that end in something to show: a tensor, or what graphs make of the scope, in order, without leaving
    anything in it. `align`: the stage's picture is padded to multiples of it. `tile`: default tile edge in pixels, 0
    for none. `each`: one round per item of that list of sizes, the picture size of the round being the item's.
    """

    align: Annotated[int, Meta(ge=1, le=1024)]
    steps: list[Entropy | Run]
    show: Run | Annotated[list[Run], Meta(min_length=1)] | Name
    each: Name | None = None
    tile: Annotated[int, Meta(ge=0, le=1 << 20)] = 0

    @property
    def show_runs(self) -> list[Run]:
        """The graphs that run only to show the stage."""
        if isinstance(self.show, str):
            return []
        return [self.show] if isinstance(self.show, Run) else self.show

    @property
    def shown(self) -> str:
        """The tensor that is shown: the only output of the last graph, or the one that `show` names."""
        return self.show if isinstance(self.show, str) else next(iter(self.show_runs[-1].outputs.values()))


class Program(Strict):
    """One without any `enc` step only decodes."""

    parameters: list[Parameter]
    stages: Annotated[list[Stage], Meta(min_length=1, max_length=64)]

    @property
    def encodes(self) -> bool:
        return any(isinstance(step, Run) and step.enc for stage in self.stages for step in stage.steps)


class Variant(Strict):
    symbol_id: Annotated[str, Meta(pattern="^[0-9a-f]{16}" + END)]
    picture_id: Annotated[str, Meta(pattern="^[0-9a-f]{8}" + END)]
    program: Program


class QualityPoint(Strict):
    """Where `quality` (0..100) leads. Between two points of one variant the parameters are interpolated linearly and
    rounded; between points of two variants the nearer one counts. A variant that is asked for has its own points alone;
    one without points has those of the last point's variant. Beyond the first and last point parameters go on as
    between the nearest two, within their limits.
    """

    quality: Annotated[float, Meta(ge=0, le=100)]
    variant: Name
    parameters: dict[Name, Int32 | list[Int32]] = {}


class Manifest(Strict):
    bundle_format: int
    name: Name
    summary: str
    license: str
    color: Literal["sRGB"]
    graphs: Annotated[dict[Name, Graph], Meta(max_length=MAX_GRAPHS)]
    tables: Tables
    variants: Annotated[dict[Name, Variant], Meta(min_length=1, max_length=64)]
    quality: list[QualityPoint]
    weights: Weights | None = None
    card: File | None = None
    requires: list[Name] = []
    provenance: dict[str, Any] = {}

    @property
    def files(self) -> list[str]:
        """Every file of the bundle besides the manifest, sorted."""
        forms = [graph.onnx for graph in self.graphs.values()]
        named = [self.tables, self.weights, self.card, *forms]
        return sorted({entry.file for entry in named if entry is not None})

    @property
    def onnx_hashes(self) -> set[str]:
        """SHA-256 of every ONNX file."""
        return {graph.onnx.sha256 for graph in self.graphs.values() if graph.onnx is not None}

    def variant_of(self, symbol: str) -> tuple[str, Variant] | None:
        """The variant with this symbol id (hex)."""
        return next(((n, v) for n, v in self.variants.items() if v.symbol_id == symbol), None)


class _Version(Struct):
    """What a manifest of any format says about who can read it."""

    bundle_format: int
    requires: list[Name] = []


def decode(data: bytes) -> Manifest:
    """Parse and check manifest bytes. Raises UnsupportedError, naming the place, for anything the schema does not
    allow.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise UnsupportedError(f"the manifest has {len(data)} bytes, more than {MAX_MANIFEST_BYTES}")
    try:
        document = json.loads(data, object_pairs_hook=unique_fields)
        _check_version(msgspec.json.decode(data, type=_Version))
        manifest = msgspec.json.decode(data, type=Manifest)
        _check_shown(document)
    except (ValueError, msgspec.ValidationError) as error:  # msgspec's DecodeError is a ValueError
        raise UnsupportedError(f"the bundle's manifest is not valid: {one_line(error)}") from None
    except RecursionError:
        raise UnsupportedError("the bundle's manifest is not valid: it is nested too deeply") from None
    if _is_deep(manifest.provenance):
        raise UnsupportedError(f"the bundle's provenance is nested deeper than {MAX_DEPTH} levels")
    return manifest


def _check_shown(document: dict[str, Any]) -> None:
    """What a stage shows are graph steps, each with its `op`, which msgspec asks for only to tell types apart."""
    for name, variant in document["variants"].items():
        for stage in variant["program"]["stages"]:
            show = stage["show"] if isinstance(stage["show"], list) else [stage["show"]]
            if any(isinstance(run, dict) and "op" not in run for run in show):
                raise ValueError(f"a graph that shows a stage of variant {name!r} lacks the field `op`")


def _check_version(version: _Version) -> None:
    if version.bundle_format != BUNDLE_FORMAT:
        raise UnsupportedError(
            f"the bundle has format {version.bundle_format}; this nicrt reads format {BUNDLE_FORMAT}: export it again"
        )
    unknown = set(version.requires) - FEATURES
    if unknown:
        raise UnsupportedError(f"the bundle requires {min(unknown)!r}: install a nicrt that has it")


def _is_deep(value: object) -> bool:
    """Whether a JSON value has more than MAX_DEPTH levels: printing it would exhaust the stack."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        level = [item for items in inner for item in items]
        if not level:
            return False
    return True


def encode(manifest: Manifest) -> bytes:
    """Manifest → JSON bytes, indented, the same for the same manifest."""
    return msgspec.json.format(msgspec.json.encode(plain(manifest)), indent=2) + b"\n"


def schema() -> bytes:
    """The JSON Schema of manifest.json."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Manifest)), indent=2) + b"\n"


if __name__ == "__main__":
    print(schema().decode(), end="")

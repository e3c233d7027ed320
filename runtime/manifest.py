"""The manifest of a codec bundle in Python: its types, which are its schema.

What the fields mean is in docs/BUNDLE.md. The core reads and checks a manifest (cpp_ext/src/bundle); the text that it
gives has these types. The JSON Schema beside this file (`manifest.schema.json`) is generated from them; a test keeps
the two equal.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .native_form import END, Hash, Int32, Name, NativeForm, Strict

BUNDLE_FORMAT = 2
MAX_GRAPHS = 256
MIN_BAND_ROWS = 4  # a graph call for every row would be as many calls as the picture has rows

_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*"  # `__metadata__` would be no file of a packed bundle
FilePath = Annotated[str, Meta(pattern=rf"^{_PART}(/{_PART})?{END}")]
MAX_SIDE = 1 << 24
Positive = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
PerPixel = Annotated[float, Meta(ge=0, le=1e9)]  # more would overflow what is reckoned from it
DType = Literal["float32", "float16", "int32", "int64", "uint8", "uint16"]
PICTURE, SIZE, ROWS, COLUMNS = "@x", "@size", "@rows", "@cols"
"""Sources of graph steps that are neither tensors nor parameters."""
BY_CHANNEL = "channel"
MAX_INDEX_TABLES = 64  # so that 64 and more mean "not coded" in every table group that is used by index
INTEGERS = frozenset({"int32", "int64", "uint8", "uint16"})

BATCH = "n"
"""The symbol that stands for the pictures of a batch: always a tensor's first dimension. What has no `n` is shared by
the whole batch."""
Dimension = Positive | Annotated[str, Meta(pattern=r"^([1-9][0-9]{0,6})?([a-z]+)" + END)]
"""A number, or a symbol with a factor: "64h" is 64 * h. Ports that share a symbol are related by it."""


class Port(Strict):
    """One input or output of a graph. `range` (inclusive) is required for the integer inputs of exact graphs: the bound
    under which the graph is exact."""

    dtype: DType
    dims: Annotated[list[Dimension], Meta(max_length=8)]
    range: tuple[Int32, Int32] | None = None


def spatial_axes(port: Port) -> tuple[tuple[int, int], int] | None:
    """Row and column axis of a port, and the factor of its dimensions ("4h", "4w": 4); None if it is not spatial."""
    found = [(axis, *factored(dimension)) for axis, dimension in enumerate(port.dims) if dimension != BATCH]
    found = [(axis, factor, symbol) for axis, factor, symbol in found if symbol]
    if [symbol for _, _, symbol in found] != ["h", "w"] or found[0][1] != found[1][1]:
        return None
    return (found[0][0], found[1][0]), found[0][1]


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
        known, made = ([symbol for _, symbol in map(factored, dims) if symbol] for dims in (inputs, outputs))
        return [symbol for symbol in dict.fromkeys(made) if symbol not in known]


class Tables(Strict):
    """The entropy tables (safetensors): per group G the arrays `G.low` int16 [T], `G.shift` uint8 [T], `G.size` int32
    [T], `G.frequency` uint16 [sum of sizes], and for `by: channel` also `G.channel` int32 [sets, channels]. `groups`:
    group → its leaf hash."""

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
    def onnx_hashes(self) -> set[str]:
        """SHA-256 of every ONNX file."""
        return {graph.onnx.sha256 for graph in self.graphs.values() if graph.onnx is not None}

    def variant_of(self, symbol: str) -> tuple[str, Variant] | None:
        """The variant with this symbol id (hex)."""
        return next(((n, v) for n, v in self.variants.items() if v.symbol_id == symbol), None)


def factored(dimension: int | str) -> tuple[int, str]:
    """Factor and symbol of a dimension: "64h" → 64, "h"; of a number the number and ""."""
    if isinstance(dimension, int):
        return dimension, ""
    symbol = dimension.lstrip("0123456789")
    return int(dimension.removesuffix(symbol) or 1), symbol


def parameter_source(source: str) -> tuple[str, bool]:
    """`$p` or `$p[i]` → the parameter's name, and whether only its element for the round is meant."""
    name = source.removeprefix("$")
    return name.removesuffix("[i]"), name.endswith("[i]")


def schema() -> bytes:
    """The JSON Schema of manifest.json."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Manifest)), indent=2) + b"\n"


if __name__ == "__main__":
    print(schema().decode(), end="")

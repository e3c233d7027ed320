"""The manifest of a codec bundle: types that are its schema, and the checks that types cannot say.

A bundle is a directory: `manifest.json` (this), the ONNX graphs and the entropy tables it names. The JSON Schema
beside this file (`manifest.schema.json`) is generated from these types; a test keeps the two equal.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from .errors import UnsupportedError, one_line

BUNDLE_FORMAT = 1
MAX_MANIFEST_BYTES = 1 << 20
MAX_DEPTH = 32  # of provenance, the only part without a schema

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
FilePath = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)?$")]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Positive = Annotated[int, Meta(ge=1, le=1 << 24)]
PerPixel = Annotated[float, Meta(ge=0, le=1e9)]  # more would overflow what is reckoned from it
DType = Literal["float32", "float16", "int32", "int64", "uint8"]

# A dimension is a number, or a symbol with a factor: "64h" is 64 * h. Ports that share a symbol are related by it.
DIMENSION = re.compile(r"^([1-9][0-9]{0,6})?([a-z]+)$")
BATCH = "n"
"""The symbol that stands for the pictures of a batch: always a tensor's first dimension. What has no `n` is shared by
the whole batch."""
Dimension = Positive | Annotated[str, Meta(pattern=DIMENSION.pattern)]


class _Strict(Struct, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Port(_Strict):
    """One input or output of a graph. `range` (inclusive) is required for the integer inputs of exact graphs: the bound
    under which the graph is exact."""

    dtype: DType
    dims: list[Dimension]
    range: tuple[Int32, Int32] | None = None


class Proof(_Strict):
    """A test vector of an exact graph: inputs from `nicrt.runtime.proofs`, SHA-256 of the integer outputs in port
    order.
    """

    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    sizes: dict[str, Positive]
    sha256: Digest


class Graph(_Strict):
    """An ONNX file. `digest` is over its parameters in a fixed order, never over the file's bytes: two exports of one
    model differ in metadata, and a lowering of an exact graph to other operators must keep the id.
    `halo`: pixels around a window of the picture on which
    its outputs there depend, None where that is not known. `workspace_bytes_per_pixel`: what the graph needs besides
    its ports, an upper bound from the sizes of its tensors."""

    file: FilePath
    sha256: Digest
    digest: Digest
    inputs: dict[Name, Port]
    outputs: dict[Name, Port]
    exact: bool = False
    encoder: bool = False
    in_loop: bool = False
    halo: Annotated[int, Meta(ge=0, le=1 << 16)] | None = None
    proofs: list[Proof] = []
    macs_per_pixel: PerPixel | None = None
    workspace_bytes_per_pixel: PerPixel | None = None

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


class Tables(_Strict):
    """The entropy tables (safetensors): per group G the arrays `G.low` int16 [T], `G.shift` uint8 [T], `G.size` int32
    [T], `G.frequency` uint16 [sum of sizes], and for `by: channel` also `G.channel` int32 [sets, channels]."""

    file: FilePath
    sha256: Digest


class Parameter(_Strict):
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


class Entropy(_Strict, tag="entropy", tag_field="op"):
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


class Run(_Strict, tag="graph", tag_field="op", rename={"inputs": "in", "outputs": "out"}):
    """Run a graph. `inputs`: port -> source; `outputs`: port -> tensor. A source is

    - a tensor's name;
    - `$p`: a parameter, int32 [1], or [length] of a list; `$p[i]`: of a list its element for this round, int32 [1];
    - `@x`: the picture at the round's size, float32 [1, 3, padded height, padded width] (encoder only);
    - `@size`: height and width of the round's picture, int32 [2];
    - `@rows`, `@cols`: numbers of the rows (of the band) and columns of the padded picture, int32 [n].

    `enc`: only when encoding. `effort`: level -> graph with the same ports, the highest level not above the asked one.
    `bands`: run once per block of that many rows of the padded picture and join the outputs on their third axis, so
    that a graph whose workspace is large never holds more than a band of it.
    """

    graph: Name
    inputs: dict[Name, str]
    outputs: dict[Name, Name]
    enc: bool = False
    effort: dict[Annotated[str, Meta(pattern="^[1-9]$")], Name] = {}
    bands: Annotated[int, Meta(ge=1, le=1 << 16)] | None = None


class Stage(_Strict):
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


class Program(_Strict):
    """One without any `enc` step only decodes."""

    parameters: list[Parameter]
    stages: Annotated[list[Stage], Meta(min_length=1, max_length=64)]

    @property
    def encodes(self) -> bool:
        return any(isinstance(step, Run) and step.enc for stage in self.stages for step in stage.steps)


class Variant(_Strict):
    symbol_id: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    picture_id: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
    program: Program


class QualityPoint(_Strict):
    """Where `quality` (0..100) leads. Between two points of one variant the parameters are interpolated linearly and
    rounded; between points of two variants the nearer one counts. A variant that is asked for has its own points alone;
    one without points has those of the last point's variant. Beyond the first and last point parameters go on as
    between the nearest two, within their limits.
    """

    quality: Annotated[float, Meta(ge=0, le=100)]
    variant: Name
    parameters: dict[Name, Int32 | list[Int32]] = {}


class Manifest(_Strict):
    bundle_format: int
    name: Name
    summary: str
    license: str
    color: Literal["sRGB"]
    graphs: dict[Name, Graph]
    tables: Tables
    variants: dict[Name, Variant]
    quality: list[QualityPoint]
    provenance: dict[str, Any] = {}

    def variant_of(self, symbol: str) -> tuple[str, Variant] | None:
        """The variant with this symbol id (hex)."""
        return next(((n, v) for n, v in self.variants.items() if v.symbol_id == symbol), None)


def decode(data: bytes) -> Manifest:
    """Parse and check manifest bytes. Raises UnsupportedError, naming the place, for anything the schema does not
    allow.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise UnsupportedError(f"the manifest has {len(data)} bytes, more than {MAX_MANIFEST_BYTES}")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise UnsupportedError(f"the bundle's manifest is not valid: {one_line(error)}") from None
    except RecursionError:
        raise UnsupportedError("the bundle's manifest is not valid: it is nested too deeply") from None
    if _is_deep(manifest.provenance):
        raise UnsupportedError(f"the bundle's provenance is nested deeper than {MAX_DEPTH} levels")
    if manifest.bundle_format != BUNDLE_FORMAT:
        raise UnsupportedError(
            f"the bundle has format {manifest.bundle_format}; this nicrt reads format {BUNDLE_FORMAT}"
        )
    return manifest


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
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def schema() -> bytes:
    """The JSON Schema of manifest.json."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Manifest)), indent=2) + b"\n"


if __name__ == "__main__":
    print(schema().decode(), end="")

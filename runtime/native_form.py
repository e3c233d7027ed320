"""The native form of a graph: a straight list of operations over named tensors (docs/BUNDLE.md, section 5).

The exporter writes it, the native backend runs it, and no ONNX is needed to read it. These types are its schema, as
part of the manifest. Values are float32 or int32 [n, channels, h, w] (uint8 for table indices) until a chain makes a
picture of them. Weights are named here and stored in the bundle's file of weights.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

END = r"$(?!\n)"
"""Of a pattern: in Python, `$` alone is also before a line feed that ends the text."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}" + END)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}" + END)]
Extent = Annotated[int, Meta(ge=1, le=1 << 24)]
Channels = Annotated[int, Meta(ge=1, le=1 << 14)]
Stride = Annotated[int, Meta(ge=1, le=256)]
Pad = Annotated[int, Meta(ge=0, le=256)]
Pair = tuple[Stride, Stride]
Pads = tuple[Pad, Pad]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
WeightType = Literal["float32", "float16", "int32", "int16", "int8", "uint8"]

NO_HASH = "0" * 64
"""Until what it is of has been written."""
MAX_OPERATIONS = 1024
MAX_LAYERS = 64
MAX_TERMS = 64


class Strict(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An object of the manifest."""


class View(Strict):
    """What a graph uses of a stored tensor: of each dimension the first `shape` places. sha256: of this part."""

    dtype: WeightType
    shape: Annotated[list[Extent], Meta(min_length=1, max_length=4)]
    sha256: Hash


class Constant(Strict, tag="constant", tag_field="kind"):
    """A vector [channels], or [1] for all channels."""

    tensor: Name


class Row(Strict, tag="row", tag_field="kind"):
    """Row number `parameter` of a matrix [rows, channels]."""

    tensor: Name
    parameter: Name


class Exponential(Strict, tag="exp", tag_field="kind"):
    """exp(factor * parameter + offset), the same for all channels."""

    parameter: Name
    factor: Number
    offset: Number = 0.0


class InterpolatedExponential(Strict, tag="interpolated_exp", tag_field="kind"):
    """exp of a matrix [rows, channels] at row parameter / unit, linear between rows and 0 beyond them."""

    tensor: Name
    parameter: Name
    unit: Extent


Factor = Constant | Row | Exponential | InterpolatedExponential
Factors = Annotated[list[Factor], Meta(max_length=8)]
"""Vectors that are multiplied with each other, channel by channel."""


class Term(Strict):
    """A value, float32 or int32, times a vector; without factors times 1."""

    value: Name
    scale: Factors = []


Terms = Annotated[list[Term], Meta(min_length=1, max_length=MAX_TERMS)]


class Normalisation(Strict):
    """Of a GDN (Ballé, Laparra, Simoncelli 2016): beta [channels] and gamma [channels, channels]."""

    beta: Name
    gamma: Name


class Layer(Strict):
    """A convolution. weight: [in, out, rows, columns] in a `transposed_chain`, [out, in, rows, columns] in a
    `strided_chain`. bias: [out], none for 0. slope: factor of values below 0 behind it. norm: in a `transposed_chain`
    the inverse GDN of what goes into the layer, in a `strided_chain` the GDN of what comes out of it."""

    weight: Name
    bias: Name | None = None
    stride: Pair = (1, 1)
    pad: Pads = (0, 0)
    slope: Number = 1.0
    norm: Normalisation | None = None


Layers = Annotated[list[Layer], Meta(min_length=1, max_length=MAX_LAYERS)]


class Picture(Strict):
    """The end of a chain that makes a picture: values are clipped to low .. high, for integers truncated, and stored
    with their channels last."""

    low: Number
    high: Number
    dtype: Literal["uint8", "uint16", "float32"] = "uint8"


class Affine(Strict, tag="affine", tag_field="op"):
    """out = offset + sum of the terms, float32; where that is below 0, times slope."""

    out: Name
    terms: Terms
    offset: Factors = []
    slope: Number = 1.0


class TransposedChain(Strict, tag="transposed_chain", tag_field="op"):
    """Transposed convolutions of offset + sum of the terms. Without `picture` it gives float32 [n, channels, h, w]."""

    out: Name
    terms: Terms
    layers: Layers
    offset: Factors = []
    picture: Picture | None = None


class StridedChain(Strict, tag="strided_chain", tag_field="op"):
    """Convolutions of offset + sum of the terms, float32 [n, channels, h, w]."""

    out: Name
    terms: Terms
    layers: Layers
    offset: Factors = []


class IntegerLayer(Strict):
    """A transposed convolution of integers: int8 weights [in, out, rows, columns], bias int32 [out], multiplier
    float32 [out]; with `negative` the larger of two products counts, a leaky ReLU; with `row`, a parameter, these are
    matrices of which it picks a row. Results are rounded, ties to even, and clipped to low .. high."""

    weight: Name
    bias: Name
    multiplier: Name
    low: Int32
    high: Int32
    negative: Name | None = None
    stride: Pair = (1, 1)
    pad: Pads = (0, 0)
    row: Name | None = None


class ScaleTable(Strict):
    """From an integer v to tensor[place] of a vector: v clipped to low .. high is the place below `limit`, from there
    on floor(v * unit) + add is."""

    tensor: Name
    low: Int32
    high: Int32
    limit: Int32
    unit: Number
    add: Int32


class IndexRule(Strict):
    """From rounded values v (or what `scales` has for them) to a table index: floor((v + add - parameter `minus`) *
    unit), clipped to low .. high; where that is below parameter `skip`, `skipped`."""

    add: Int32
    unit: Number
    low: Int32
    high: Int32
    skip: Name
    skipped: Annotated[int, Meta(ge=0, le=255)]
    minus: Name
    scales: ScaleTable | None = None


class Head(Strict):
    """A last layer of a network of integers, as `IntegerLayer`: (sums + bias) * multiplier, float32, not rounded; with
    `index`, table indices uint8."""

    out: Name
    weight: Name
    bias: Name
    multiplier: Name
    stride: Pair = (1, 1)
    pad: Pads = (0, 0)
    row: Name | None = None
    index: IndexRule | None = None


class IntegerNetwork(Strict, tag="integer_network", tag_field="op"):
    """Layers of integers from an int32 input port, then heads that all read what the last of them gives (or the input
    itself)."""

    value: Name
    heads: Annotated[list[Head], Meta(min_length=1, max_length=8)]
    hidden: Annotated[list[IntegerLayer], Meta(max_length=MAX_LAYERS)] = []


class Concatenate(Strict, tag="concatenate", tag_field="op"):
    """Values of one type, one behind the other along the channels."""

    out: Name
    values: Annotated[list[Name], Meta(min_length=2, max_length=MAX_TERMS)]


class SelectChannels(Strict, tag="select_channels", tag_field="op"):
    """Channels first .. first + count - 1 of a value of any type."""

    out: Name
    value: Name
    first: Annotated[int, Meta(ge=0, le=1 << 14)]
    count: Channels


class PadChannels(Strict, tag="pad_channels", tag_field="op"):
    """A value of any type with channels of zeros behind it, `count` channels in all."""

    out: Name
    value: Name
    count: Channels


class Quantise(Strict, tag="quantise", tag_field="op"):
    """float32 → int32: rounded, ties to even, and clipped to low .. high."""

    out: Name
    value: Name
    low: Int32
    high: Int32


class Tanh(Strict, tag="tanh", tag_field="op"):
    """Hyperbolic tangent of a float32 value."""

    out: Name
    value: Name


class Absolute(Strict, tag="absolute", tag_field="op"):
    """Magnitude of a float32 value."""

    out: Name
    value: Name


class LogMagnitude(Strict, tag="log_magnitude", tag_field="op"):
    """log(|value| + floor) of a float32 value."""

    out: Name
    value: Name
    floor: Annotated[float, Meta(gt=0, le=1e6)]


SingleOperation = (
    Affine
    | TransposedChain
    | StridedChain
    | Concatenate
    | SelectChannels
    | PadChannels
    | Quantise
    | Tanh
    | Absolute
    | LogMagnitude
)
"""Those that give one value."""

Operation = SingleOperation | IntegerNetwork


class NativeForm(Strict):
    """tensors: what the operations use of the bundle's weights, by their stored name."""

    tensors: Annotated[dict[Name, View], Meta(max_length=1024)]
    operations: Annotated[list[Operation], Meta(min_length=1, max_length=MAX_OPERATIONS)]

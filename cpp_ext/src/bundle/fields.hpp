// The fields of every type of the manifest, with their rules and defaults (docs/BUNDLE.md). `f` is a reader
// or a writer: f(name, member, rule) for a field that must be there, f(name, member, rule, default) for one
// that may not.
#pragma once

#include "bundle/rules.hpp"
#include "nicrt/manifest.hpp"

namespace nicrt::bundle {

constexpr Text kName{Pattern::name}, kHash{Pattern::hash}, kPath{Pattern::path}, kText{};
constexpr Whole kInt32{INT32_MIN, INT32_MAX}, kExtent{1, 1 << 24}, kChannels{1, 1 << 14};
constexpr Real kNumber{-1e30, 1e30}, kPerPixel{0, 1e9};  // more would overflow what is reckoned from it
constexpr TwoNumbers kStride{{1, 256}}, kPad{{0, 256}};
constexpr std::size_t kMaxOperations = 1024, kMaxTensors = 1024, kMaxLayers = 64, kMaxTerms = 64,
                      kMaxFactors = 8;
constexpr std::int64_t kMinBandRows = 4;  // a call for each row would be as many as a picture has rows
constexpr std::size_t kMaxHeads = 8, kMaxGraphs = 256, kMaxProofs = 32, kMaxStages = 64, kMaxVariants = 64;

constexpr unsigned bits(std::initializer_list<Element> elements) {
    unsigned result = 0;
    for (const Element element : elements) result |= 1U << static_cast<unsigned>(element);
    return result;
}
constexpr OneType kPortType{bits(
    {Element::float32, Element::float16, Element::int32, Element::int64, Element::uint8, Element::uint16})};
constexpr OneType kWeightType{bits(
    {Element::float32, Element::float16, Element::int32, Element::int16, Element::int8, Element::uint8})};
constexpr OneType kPictureType{bits({Element::uint8, Element::uint16, Element::float32})};

constexpr List<Tagged> kFactors{{"kind"}, 0, kMaxFactors};
constexpr List<Fields> kTerms{{}, 1, kMaxTerms}, kLayers{{}, 1, kMaxLayers};

// The native form

template <class F>
void fields(F& f, View& v) {
    f("dtype", v.dtype, kWeightType);
    f("shape", v.shape, List<Whole>{kExtent, 1, 4});
    f("sha256", v.sha256, kHash);
}
template <class F>
void fields(F& f, Constant& v) {
    f("tensor", v.tensor, kName);
}
template <class F>
void fields(F& f, Row& v) {
    f("tensor", v.tensor, kName);
    f("parameter", v.parameter, kName);
}
template <class F>
void fields(F& f, Exponential& v) {
    f("parameter", v.parameter, kName);
    f("factor", v.factor, kNumber);
    f("offset", v.offset, kNumber, 0.0);
}
template <class F>
void fields(F& f, InterpolatedExponential& v) {
    f("tensor", v.tensor, kName);
    f("parameter", v.parameter, kName);
    f("unit", v.unit, kExtent);
}
template <class F>
void fields(F& f, Term& v) {
    f("value", v.value, kName);
    f("scale", v.scale, kFactors, {});
}
template <class F>
void fields(F& f, Normalisation& v) {
    f("beta", v.beta, kName);
    f("gamma", v.gamma, kName);
}
template <class F>
void fields(F& f, Layer& v) {
    f("weight", v.weight, kName);
    f("bias", v.bias, kName, std::nullopt);
    f("stride", v.stride, kStride, {1, 1});
    f("pad", v.pad, kPad, {0, 0});
    f("slope", v.slope, kNumber, 1.0);
    f("norm", v.norm, Fields{}, std::nullopt);
}
template <class F>
void fields(F& f, Picture& v) {
    f("low", v.low, kNumber);
    f("high", v.high, kNumber);
    f("dtype", v.dtype, kPictureType, Element::uint8);
}
template <class F>
void fields(F& f, Affine& v) {
    f("out", v.out, kName);
    f("terms", v.terms, kTerms);
    f("offset", v.offset, kFactors, {});
    f("slope", v.slope, kNumber, 1.0);
}
template <class F>
void fields(F& f, TransposedChain& v) {
    f("out", v.out, kName);
    f("terms", v.terms, kTerms);
    f("layers", v.layers, kLayers);
    f("offset", v.offset, kFactors, {});
    f("picture", v.picture, Fields{}, std::nullopt);
}
template <class F>
void fields(F& f, StridedChain& v) {
    f("out", v.out, kName);
    f("terms", v.terms, kTerms);
    f("layers", v.layers, kLayers);
    f("offset", v.offset, kFactors, {});
}
template <class F>
void fields(F& f, Concatenate& v) {
    f("out", v.out, kName);
    f("values", v.values, List<Text>{kName, 2, kMaxTerms});
}
template <class F>
void fields(F& f, SelectChannels& v) {
    f("out", v.out, kName);
    f("value", v.value, kName);
    f("first", v.first, Whole{0, 1 << 14});
    f("count", v.count, kChannels);
}
template <class F>
void fields(F& f, PadChannels& v) {
    f("out", v.out, kName);
    f("value", v.value, kName);
    f("count", v.count, kChannels);
}
template <class F>
void fields(F& f, Quantise& v) {
    f("out", v.out, kName);
    f("value", v.value, kName);
    f("low", v.low, kInt32);
    f("high", v.high, kInt32);
}
template <class F>
void fields(F& f, Tanh& v) {
    f("out", v.out, kName);
    f("value", v.value, kName);
}
template <class F>
void fields(F& f, Absolute& v) {
    f("out", v.out, kName);
    f("value", v.value, kName);
}
template <class F>
void fields(F& f, LogMagnitude& v) {
    f("out", v.out, kName);
    f("value", v.value, kName);
    f("floor", v.floor, Real{0, 1e6, true});
}
template <class F>
void fields(F& f, IntegerLayer& v) {
    f("weight", v.weight, kName);
    f("bias", v.bias, kName);
    f("multiplier", v.multiplier, kName);
    f("low", v.low, kInt32);
    f("high", v.high, kInt32);
    f("negative", v.negative, kName, std::nullopt);
    f("stride", v.stride, kStride, {1, 1});
    f("pad", v.pad, kPad, {0, 0});
    f("row", v.row, kName, std::nullopt);
}
template <class F>
void fields(F& f, ScaleTable& v) {
    f("tensor", v.tensor, kName);
    f("low", v.low, kInt32);
    f("high", v.high, kInt32);
    f("limit", v.limit, kInt32);
    f("unit", v.unit, kNumber);
    f("add", v.add, kInt32);
}
template <class F>
void fields(F& f, IndexRule& v) {
    f("add", v.add, kInt32);
    f("unit", v.unit, kNumber);
    f("low", v.low, kInt32);
    f("high", v.high, kInt32);
    f("skip", v.skip, kName);
    f("skipped", v.skipped, Whole{0, 255});
    f("minus", v.minus, kName);
    f("scales", v.scales, Fields{}, std::nullopt);
}
template <class F>
void fields(F& f, Head& v) {
    f("out", v.out, kName);
    f("weight", v.weight, kName);
    f("bias", v.bias, kName);
    f("multiplier", v.multiplier, kName);
    f("stride", v.stride, kStride, {1, 1});
    f("pad", v.pad, kPad, {0, 0});
    f("row", v.row, kName, std::nullopt);
    f("index", v.index, Fields{}, std::nullopt);
}
template <class F>
void fields(F& f, IntegerNetwork& v) {
    f("value", v.value, kName);
    f("heads", v.heads, List<Fields>{{}, 1, kMaxHeads});
    f("hidden", v.hidden, List<Fields>{{}, 0, kMaxLayers}, {});
}
template <class F>
void fields(F& f, NativeForm& v) {
    f("tensors", v.tensors, Map<Fields>{{}, 0, kMaxTensors});
    f("operations", v.operations, List<Tagged>{{"op"}, 1, kMaxOperations});
}

// Graphs

template <class F>
void fields(F& f, Port& v) {
    f("dtype", v.dtype, kPortType);
    f("dims", v.dims, List<Anything>{{}, 0, kMaxPortDimensions});
    f("range", v.range, TwoNumbers{kInt32}, std::nullopt);
}
template <class F>
void fields(F& f, Proof& v) {
    f("seed", v.seed, Whole{0, UINT32_MAX});
    f("sizes", v.sizes, Map<Whole>{kExtent, 0, kAny, Pattern::any});
    f("sha256", v.sha256, kHash);
}
template <class F>
void fields(F& f, File& v) {
    f("file", v.file, kPath);
    f("sha256", v.sha256, kHash);
}
template <class F>
void fields(F& f, Graph& v) {
    f("inputs", v.inputs, Map<Fields>{});
    f("outputs", v.outputs, Map<Fields>{});
    f("exact", v.exact, Flag{}, false);
    f("encoder", v.encoder, Flag{}, false);
    f("in_loop", v.in_loop, Flag{}, false);
    f("halo", v.halo, Whole{0, 1 << 16}, std::nullopt);
    f("proofs", v.proofs, List<Fields>{{}, 0, kMaxProofs}, {});
    f("macs_per_pixel", v.macs_per_pixel, kPerPixel, std::nullopt);
    f("workspace_bytes_per_pixel", v.workspace_bytes_per_pixel, kPerPixel, std::nullopt);
    f("onnx", v.onnx, Fields{}, std::nullopt);
    f("native", v.native, Fields{}, std::nullopt);
}
template <class F>
void fields(F& f, Tables& v) {
    f("file", v.file, kPath);
    f("groups", v.groups, Map<Text>{kHash});
}
template <class F>
void fields(F& f, Weights& v) {
    f("file", v.file, kPath);
}

// Programs

template <class F>
void fields(F& f, Parameter& v) {
    f("name", v.name, kName);
    f("min", v.min, kInt32);
    f("max", v.max, kInt32);
    f("default", v.initial, kInt32);
    f("length", v.length, Whole{1, 4096}, std::nullopt);
    f("scales", v.scales, List<Real>{{0, 1, true}}, std::nullopt);
}
template <class F>
void fields(F& f, Entropy& v) {
    f("out", v.out, kName);
    f("channels", v.channels, Whole{1, 4096});
    f("stride", v.stride, Whole{1, 1024});
    f("tables", v.tables, kName);
    f("by", v.by, kText);
    f("set", v.set, kName, std::nullopt);
}
template <class F>
void fields(F& f, Run& v) {
    f("graph", v.graph, kName);
    f("in", v.inputs, Map<Text>{kText});
    f("out", v.outputs, Map<Text>{kName});
    f("enc", v.enc, Flag{}, false);
    f("effort", v.effort, Map<Text>{kName, 0, kAny, Pattern::level}, {});
    f("bands", v.bands, Whole{kMinBandRows, 1 << 16}, std::nullopt);
}
template <class F>
void fields(F& f, Stage& v) {
    f("align", v.align, Whole{1, 1024});
    f("steps", v.steps, List<Tagged>{{"op"}});
    f("show", v.show, Anything{});
    f("each", v.each, kName, std::nullopt);
    f("tile", v.tile, Whole{0, 1 << 20}, 0);
}
template <class F>
void fields(F& f, Program& v) {
    f("parameters", v.parameters, List<Fields>{});
    f("stages", v.stages, List<Fields>{{}, 1, kMaxStages});
}
template <class F>
void fields(F& f, Variant& v) {
    f("symbol_id", v.symbol_id, Text{Pattern::symbol_id});
    f("picture_id", v.picture_id, Text{Pattern::picture_id});
    f("program", v.program, Fields{});
}
template <class F>
void fields(F& f, QualityPoint& v) {
    f("quality", v.quality, Real{0, 100});
    f("variant", v.variant, kName);
    f("parameters", v.parameters, Map<Anything>{}, {});
}
template <class F>
void fields(F& f, Manifest& v) {
    f("bundle_format", v.bundle_format, Whole{kBundleFormat, kBundleFormat});
    f("name", v.name, kName);
    f("summary", v.summary, kText);
    f("license", v.license, kText);
    f("color", v.color, OneText{"sRGB"});
    f("graphs", v.graphs, Map<Fields>{{}, 0, kMaxGraphs});
    f("tables", v.tables, Fields{});
    f("variants", v.variants, Map<Fields>{{}, 1, kMaxVariants});
    f("quality", v.quality, List<Fields>{});
    f("weights", v.weights, Fields{}, std::nullopt);
    f("card", v.card, Fields{}, std::nullopt);
    f("requires", v.required, List<Text>{kName}, {});
    f("provenance", v.provenance, Anything{}, nullptr);
}

}  // namespace nicrt::bundle

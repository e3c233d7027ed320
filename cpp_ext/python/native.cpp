// Chains of transposed convolutions (nicrt/native.hpp) on numpy arrays.
#include "nicrt/native.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "bindings.hpp"
#include "convert.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;
using native::Arithmetic;

using Vector = Array<const float, nb::ndim<1>>;
using Matrix = Array<const float, nb::ndim<2>>;
using Floats = Array<const float, nb::ndim<4>>;
using Integers = Array<const std::int32_t, nb::ndim<4>>;
using Pair = std::tuple<std::uint32_t, std::uint32_t>;  // rows, columns

/// nicrt._core.ChainLayer
struct ChainLayer {
    Floats weights;
    Vector bias;
    Pair stride, pad;
    float slope;
    std::optional<Vector> beta;
    std::optional<Matrix> gamma;
};

/// nicrt._core.ChainTerm
struct ChainTerm {
    std::variant<Floats, Integers> tensor;
    Vector scale;
};

constexpr std::array<std::pair<Arithmetic, const char*>, 4> names{{{Arithmetic::scalar, "scalar"},
                                                                   {Arithmetic::avx2, "avx2"},
                                                                   {Arithmetic::avx512, "avx512"},
                                                                   {Arithmetic::avx512_bf16, "avx512_bf16"}}};

Arithmetic arithmetic_of(const std::string& name) {
    for (const auto& [arithmetic, known] : names)
        if (name == known) return arithmetic;
    require(name == "best", "arithmetic is best, scalar, avx2, avx512 or avx512_bf16");
    return Arithmetic::best;
}

std::uint32_t extent(std::size_t value) {
    require(value <= std::numeric_limits<std::uint32_t>::max(), "an extent out of range");
    return static_cast<std::uint32_t>(value);
}

std::span<const float> span_of(const Vector& vector) { return {vector.data(), vector.size()}; }

native::Layer layer_of(const ChainLayer& layer) {
    native::Layer result;
    result.in = extent(layer.weights.shape(0));
    result.out = extent(layer.weights.shape(1));
    result.y = {extent(layer.weights.shape(2)), std::get<0>(layer.stride), std::get<0>(layer.pad)};
    result.x = {extent(layer.weights.shape(3)), std::get<1>(layer.stride), std::get<1>(layer.pad)};
    result.slope = layer.slope;
    result.weights = {layer.weights.data(), layer.weights.size()};
    result.bias = span_of(layer.bias);
    require(layer.beta.has_value() == layer.gamma.has_value(), "beta without gamma, or gamma without beta");
    if (layer.beta) result.norm = {span_of(*layer.beta), {layer.gamma->data(), layer.gamma->size()}};
    return result;
}

native::Chain make(const std::vector<ChainLayer>& py_layers, const std::string& name) {
    std::vector<native::Layer> layers;
    for (const ChainLayer& layer : py_layers) layers.push_back(layer_of(layer));
    const Arithmetic arithmetic = arithmetic_of(name);
    native::Chain chain;
    without_gil([&] { return native::Chain::make(layers, arithmetic, chain); });
    return chain;
}

auto run(const native::Chain& chain, const std::vector<ChainTerm>& terms, const Vector& offset, float low,
         float high, unsigned threads) {
    require(!terms.empty(), "no terms");
    native::Input input;
    input.offset = span_of(offset);
    for (const auto& [tensor, scale] : terms) {
        native::Term& term = input.terms.emplace_back();
        term.scale = span_of(scale);
        std::array<std::size_t, 4> shape;
        std::visit([&](const auto& array) { std::copy_n(array.shape_ptr(), 4, shape.begin()); }, tensor);
        if (const auto* const floats = std::get_if<Floats>(&tensor)) term.floats = floats->data();
        else term.integers = std::get<Integers>(tensor).data();
        if (input.terms.size() == 1) input.height = shape[2], input.width = shape[3];
        const bool fits = shape[0] == 1 && shape[1] == chain.input_channels() && shape[2] == input.height &&
                          shape[3] == input.width && shape[2] >= 1 && shape[3] >= 1;
        require(fits, "a tensor that is not [1, channels, height, width] of the chain");
    }
    // Extents are those of arrays that exist, and the scales at most 256: the product stays far below 2^64.
    const auto picture = new_array<std::uint8_t>(
        {1, input.height * chain.scale_y(), input.width * chain.scale_x(), chain.output_channels()});
    const Work work = on_threads(threads);
    without_gil([&] { return chain.run(input, low, high, work, picture.data()); });
    return picture;
}

const char* name_of(const native::Chain& chain) {
    for (const auto& [arithmetic, name] : names)
        if (arithmetic == chain.arithmetic()) return name;
    return "";
}

std::vector<std::string> available() {
    std::vector<std::string> result;
    for (const auto& [arithmetic, name] : names)
        if (native::arithmetic_available(arithmetic)) result.emplace_back(name);
    return result;
}

}  // namespace

void register_native(nb::module_& module) {
    nb::class_<ChainLayer>(module, "ChainLayer", "A transposed convolution of a Chain.")
        .def(nb::init<Floats, Vector, Pair, Pair, float, std::optional<Vector>, std::optional<Matrix>>(),
             nb::kw_only(), "weights"_a.noconvert(), "bias"_a.noconvert(), "stride"_a = Pair(1, 1),
             "pad"_a = Pair(0, 0), "slope"_a = 1.0F, "beta"_a.noconvert() = nb::none(),
             "gamma"_a.noconvert() = nb::none(),
             "weights float32[in, out, kernel rows, kernel columns], bias float32[out], stride and leading "
             "pad (rows, columns), slope of the leaky ReLU behind it (1: none), and of the inverse GDN of "
             "its input beta float32[in] and gamma float32[in, in].");
    nb::class_<ChainTerm>(module, "ChainTerm", "A tensor of the sum that a Chain reads.")
        .def(nb::init<std::variant<Floats, Integers>, Vector>(), nb::kw_only(), "tensor"_a.noconvert(),
             "scale"_a.noconvert(),
             "tensor float32 or int32[1, in, h, w], and scale float32[in] of its channels.");
    nb::class_<native::Chain>(module, "Chain",
                              "A chain of transposed convolutions from latents to a picture.")
        .def(nb::new_(&make), "layers"_a, "arithmetic"_a = "best",
             "Raises UnsupportedError for layers beyond what the kernels do, ValueError for ones that do not "
             "fit each other.")
        .def_prop_ro("arithmetic", &name_of, "What it computes with; one of `arithmetics()`.")
        .def("run", &run, "terms"_a, "offset"_a.noconvert(), "low"_a, "high"_a, "threads"_a,
             "The picture uint8[1, H, W, out], clipped to low..high and truncated, of offset[c] + sum of "
             "scale[c] * tensor[c] over the terms; offset float32[in].");
    module.def("arithmetics", &available, "The arithmetics of Chain on this processor, the best one last.");
}

}  // namespace nicrt::python

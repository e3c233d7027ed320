// Integer networks (nicrt/integer_network.hpp) on numpy arrays.
#include "nicrt/integer_network.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "convert.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;
using native::IntegerIsa;
using native::IntegerLayer;
using native::IntegerNetwork;

using Weights = Array<const std::int8_t, nb::ndim<4>>;
using Pair = std::tuple<std::uint32_t, std::uint32_t>;  // rows, columns
using Range = std::tuple<std::int32_t, std::int32_t>;
using Integers = Array<const std::int32_t, nb::ndim<1>>;
using Floats = Array<const float, nb::ndim<1>>;
using Tensor = Array<const std::int32_t, nb::ndim<4>>;

/// nicrt._core.NetworkLayer
struct NetworkLayer {
    Weights weights;
    Pair stride, pad;
    std::int32_t low, high;
};

/// nicrt._core.NetworkHead
struct NetworkHead {
    Weights weights;
    Pair pad;
};

/// nicrt._core.Rescale
struct Rescale {
    Integers bias;
    Floats multiplier;
    std::optional<Floats> negative;
};

/// nicrt._core.ScaleTable
struct ScaleTable {
    Floats values;
    float low, high, limit, unit, add;
};

/// nicrt._core.IndexRule
struct IndexRule {
    float add, unit, low, high, skip;
    std::uint8_t skipped;
    std::optional<ScaleTable> scales;

    /// Views `scales`.
    [[nodiscard]] native::IndexRule view() const {
        native::IndexRule rule{add, unit, low, high, skip, skipped, {}};
        if (scales)
            rule.table = {{scales->values.data(), scales->values.size()},
                          scales->low,
                          scales->high,
                          scales->limit,
                          scales->unit,
                          scales->add};
        return rule;
    }
};

constexpr std::array<std::pair<IntegerIsa, const char*>, 3> names{
    {{IntegerIsa::scalar, "scalar"}, {IntegerIsa::avx2, "avx2"}, {IntegerIsa::avx512_vnni, "avx512_vnni"}}};

IntegerIsa isa_of(const std::string& name) {
    for (const auto& [isa, known] : names)
        if (name == known) return isa;
    require(name == "best", "isa is best, scalar, avx2 or avx512_vnni");
    return IntegerIsa::best;
}

std::uint32_t extent(std::size_t value) {
    require(value <= std::numeric_limits<std::uint32_t>::max(), "an extent out of range");
    return static_cast<std::uint32_t>(value);
}

IntegerLayer layer_of(const Weights& weights, const Pair& strides, const Pair& pads, const Range& range) {
    return {extent(weights.shape(0)),
            extent(weights.shape(1)),
            {extent(weights.shape(2)), std::get<0>(strides), std::get<0>(pads)},
            {extent(weights.shape(3)), std::get<1>(strides), std::get<1>(pads)},
            {weights.data(), weights.size()},
            {std::get<0>(range), std::get<1>(range)}};
}

IntegerNetwork make(const std::vector<NetworkLayer>& py_hidden, const std::vector<NetworkHead>& py_heads,
                    const Range& input, const std::string& name) {
    std::vector<IntegerLayer> hidden, heads;
    for (const NetworkLayer& layer : py_hidden)
        hidden.push_back(layer_of(layer.weights, layer.stride, layer.pad, {layer.low, layer.high}));
    for (const NetworkHead& head : py_heads)
        heads.push_back(layer_of(head.weights, {1, 1}, head.pad, {0, 0}));
    const IntegerIsa isa = isa_of(name);
    IntegerNetwork network;
    without_gil([&] {
        return IntegerNetwork::make(hidden, heads, {std::get<0>(input), std::get<1>(input)}, isa, network);
    });
    return network;
}

ScaleTable make_table(Floats values, float low, float high, float limit, float unit, float add) {
    require(values.size() > 0, "a table without values");
    return {std::move(values), low, high, limit, unit, add};
}

IndexRule make_rule(float add, float unit, float low, float high, float skip, std::uint8_t skipped,
                    std::optional<ScaleTable> scales) {
    IndexRule rule{add, unit, low, high, skip, skipped, std::move(scales)};
    raise_if_error(native::check(rule.view()));
    return rule;
}

/// New arrays [n, channels, height, width] and, per picture of the batch, where its values go.
class Outputs {
public:
    Outputs(const IntegerNetwork& network, const Tensor& in,
            const std::vector<std::optional<IndexRule>>& rules)
        : pictures_(in.shape(0)) {
        require(rules.size() == network.heads(), "not one rule per head");
        const std::size_t height = in.shape(2) * network.scale_y(), width = in.shape(3) * network.scale_x();
        for (std::size_t head = 0; head < rules.size(); ++head) {
            const std::size_t channels = network.head_channels(head), places = channels * height * width;
            const std::size_t shape[] = {in.shape(0), channels, height, width};
            if (const auto& rule = rules[head]) {
                const auto array = new_array<std::uint8_t>(shape);
                arrays.append(array);
                const native::IndexRule index = rule->view();
                for (std::size_t n = 0; n < pictures_.size(); ++n)
                    pictures_[n].push_back({nullptr, array.data() + n * places, index});
            } else {
                const auto array = new_array<float>(shape);
                arrays.append(array);
                for (std::size_t n = 0; n < pictures_.size(); ++n)
                    pictures_[n].push_back({array.data() + n * places, nullptr, {}});
            }
        }
    }

    [[nodiscard]] std::span<const native::HeadOutput> of(std::size_t picture) const {
        return pictures_[picture];
    }

    nb::list arrays;

private:
    std::vector<std::vector<native::HeadOutput>> pictures_;
};

nb::list run(const IntegerNetwork& network, const Tensor& in, const std::vector<Rescale>& py_rescales,
             const std::vector<std::optional<IndexRule>>& rules, unsigned threads) {
    require(in.shape(1) == network.input_channels() && in.shape(2) >= 1 && in.shape(3) >= 1,
            "a tensor that is not [n, channels, height, width] of the network");
    std::vector<native::Rescale> rescales;
    for (const Rescale& rescale : py_rescales) {
        native::Rescale& view = rescales.emplace_back();
        view.bias = {rescale.bias.data(), rescale.bias.size()};
        view.multiplier = {rescale.multiplier.data(), rescale.multiplier.size()};
        if (rescale.negative) view.negative = {rescale.negative->data(), rescale.negative->size()};
    }
    Outputs outputs(network, in, rules);
    const Work work = on_threads(threads);
    const std::size_t places = in.shape(1) * in.shape(2) * in.shape(3);
    without_gil([&]() -> Status {
        for (std::size_t n = 0; n < in.shape(0); ++n)
            NICRT_RETURN_IF_ERROR(
                network.run(in.data() + n * places, in.shape(2), in.shape(3), rescales, outputs.of(n), work));
        return {};
    });
    return outputs.arrays;
}

const char* name_of(const IntegerNetwork& network) {
    for (const auto& [isa, name] : names)
        if (isa == network.isa()) return name;
    return "";
}

std::vector<std::string> available() {
    std::vector<std::string> result;
    for (const auto& [isa, name] : names)
        if (native::integer_isa_available(isa)) result.emplace_back(name);
    return result;
}

}  // namespace

void register_parts(nb::module_& module) {
    nb::class_<NetworkLayer>(module, "NetworkLayer", "A hidden layer of an IntegerNetwork.")
        .def(nb::init<Weights, Pair, Pair, std::int32_t, std::int32_t>(), nb::kw_only(),
             "weights"_a.noconvert(), "stride"_a, "pad"_a, "low"_a, "high"_a,
             "weights int8[in, out, kernel rows, kernel columns] of a transposed convolution, its stride and "
             "leading pad (rows, columns); its outputs are clipped to low..high.");
    nb::class_<NetworkHead>(module, "NetworkHead", "A last layer of an IntegerNetwork.")
        .def(nb::init<Weights, Pair>(), nb::kw_only(), "weights"_a.noconvert(), "pad"_a,
             "As NetworkLayer, with a stride of 1, and not clipped.");
    nb::class_<Rescale>(module, "Rescale", "From the sums of a layer to its values.")
        .def(nb::init<Integers, Floats, std::optional<Floats>>(), nb::kw_only(), "bias"_a.noconvert(),
             "multiplier"_a.noconvert(), "negative"_a.noconvert() = nb::none(),
             "bias int32[out], multiplier float32[out] and, of hidden layers, negative float32[out]: (sum + "
             "bias) * multiplier, or (sum + bias) * negative where that is larger.");
    nb::class_<ScaleTable>(module, "ScaleTable", "From rounded values to integers of a table.")
        .def(nb::new_(&make_table), nb::kw_only(), "values"_a.noconvert(), "low"_a, "high"_a, "limit"_a,
             "unit"_a, "add"_a,
             "values float32[k], looked up at v clipped to low..high, from `limit` on at floor(v * unit) + "
             "add.");
    nb::class_<IndexRule>(module, "IndexRule",
                          "From rounded values v, or what `scales` has for them, to uint8.")
        .def(nb::new_(&make_rule), nb::kw_only(), "add"_a, "unit"_a, "low"_a, "high"_a, "skip"_a, "skipped"_a,
             "scales"_a = nb::none(),
             "floor((v + add) * unit), clipped to low..high (within 0..255); below skip it becomes skipped. "
             "Raises ValueError for numbers beyond what the kernels take.");
}

void register_integer_network(nb::module_& module) {
    register_parts(module);
    nb::class_<IntegerNetwork>(
        module, "IntegerNetwork",
        "Transposed convolutions of integers, and convolutions (heads) of what they give.")
        .def(nb::new_(&make), "hidden"_a, "heads"_a, "input_range"_a, "isa"_a = "best",
             "input_range: (low, high) of the inputs. Raises UnsupportedError for layers and sums beyond "
             "what the kernels hold, ValueError for layers that do not fit each other.")
        .def_prop_ro("isa", &name_of, "What it computes with; one of `integer_isas()`.")
        .def("run", &run, "tensor"_a.noconvert(), "rescales"_a.noconvert(), "rules"_a, "threads"_a,
             "tensor: int32[n, in, h, w]. rescales: per layer, then per head. rules: per head, None for one "
             "that gives float32 values. One array [n, out, h', w'] per head, float32 or uint8.");
    module.def("integer_isas", &available,
               "Instruction sets of IntegerNetwork on this processor, the best one last.");
}

}  // namespace nicrt::python

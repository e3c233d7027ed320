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
using PyHead = std::tuple<Weights, Pair>;
using PyHidden = std::tuple<Weights, Pair, Pair, Range>;
using Biases = Array<const std::int32_t, nb::ndim<1>>;
using Multipliers = Array<const float, nb::ndim<1>>;
using PyRescale = std::tuple<Biases, Multipliers, std::optional<Multipliers>>;
using PyTable = std::tuple<Multipliers, float, float, float, float, float>;
using PyRule = std::tuple<float, float, float, float, float, std::uint8_t, std::optional<PyTable>>;
using Tensor = Array<const std::int32_t, nb::ndim<4>>;

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

IntegerNetwork make(const std::vector<PyHidden>& py_hidden, const std::vector<PyHead>& py_heads,
                    const Range& input, const std::string& name) {
    std::vector<IntegerLayer> hidden, heads;
    for (const auto& [weights, strides, pads, range] : py_hidden)
        hidden.push_back(layer_of(weights, strides, pads, range));
    for (const auto& [weights, pads] : py_heads) heads.push_back(layer_of(weights, {1, 1}, pads, {0, 0}));
    const IntegerIsa isa = isa_of(name);
    IntegerNetwork network;
    without_gil([&] {
        return IntegerNetwork::make(hidden, heads, {std::get<0>(input), std::get<1>(input)}, isa, network);
    });
    return network;
}

native::IndexRule rule_of(const PyRule& rule) {
    const auto& [add, unit, low, high, skip, skipped, table] = rule;
    native::IndexRule result{add, unit, low, high, skip, skipped, {}};
    if (table) {
        const auto& [values, lowest, highest, limit, step, shift] = *table;
        require(values.size() > 0, "a table without values");
        result.table = {{values.data(), values.size()}, lowest, highest, limit, step, shift};
    }
    return result;
}

/// New arrays [n, channels, height, width] and, per picture of the batch, where its values go.
class Outputs {
public:
    Outputs(const IntegerNetwork& network, const Tensor& in, const std::vector<std::optional<PyRule>>& rules)
        : pictures_(in.shape(0)) {
        require(rules.size() == network.heads(), "not one rule per head");
        const std::size_t height = in.shape(2) * network.scale_y(), width = in.shape(3) * network.scale_x();
        for (std::size_t head = 0; head < rules.size(); ++head) {
            const std::size_t channels = network.head_channels(head), places = channels * height * width;
            const std::size_t shape[] = {in.shape(0), channels, height, width};
            if (const auto& rule = rules[head]) {
                const auto array = new_array<std::uint8_t>(shape);
                arrays.append(array);
                const native::IndexRule index = rule_of(*rule);
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

nb::list run(const IntegerNetwork& network, const Tensor& in, const std::vector<PyRescale>& py_rescales,
             const std::vector<std::optional<PyRule>>& rules, unsigned threads) {
    require(in.shape(1) == network.input_channels() && in.shape(2) >= 1 && in.shape(3) >= 1,
            "a tensor that is not [n, channels, height, width] of the network");
    std::vector<native::Rescale> rescales;
    for (const auto& [bias, multiplier, negative] : py_rescales) {
        rescales.push_back({{bias.data(), bias.size()}, {multiplier.data(), multiplier.size()}, {}});
        if (negative) rescales.back().negative = {negative->data(), negative->size()};
    }
    Outputs outputs(network, in, rules);
    const std::size_t places = in.shape(1) * in.shape(2) * in.shape(3);
    without_gil([&]() -> Status {
        for (std::size_t n = 0; n < in.shape(0); ++n)
            NICRT_RETURN_IF_ERROR(network.run(in.data() + n * places, in.shape(2), in.shape(3), rescales,
                                              outputs.of(n), threads));
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

void register_integer_network(nb::module_& module) {
    nb::class_<IntegerNetwork>(
        module, "IntegerNetwork",
        "Transposed convolutions of integers, and convolutions (heads) of what they give.")
        .def(nb::new_(&make), "hidden"_a, "heads"_a, "input_range"_a, "isa"_a = "best",
             "hidden: per layer weights int8[in, out, kernel rows, kernel columns], strides and leading pads "
             "(rows, "
             "columns), (low, high) that its outputs are clipped to. heads: the same without strides and "
             "limits.")
        .def_prop_ro("isa", &name_of, "What it computes with; one of `integer_isas()`.")
        .def("run", &run, "tensor"_a.noconvert(), "rescales"_a.noconvert(), "rules"_a, "threads"_a,
             "tensor: int32[n, in, h, w]. rescales: per layer, then per head, bias int32[out], multiplier "
             "float32[out] and that of negative sums or None. rules: per head None (float32 values) or (add, "
             "unit, "
             "low, high, skip, skipped, table) of an index (uint8); table: None or (values float32[k], low, "
             "high, "
             "limit, unit, add). Gives one array [n, out, h', w'] per head.");
    module.def("integer_isas", &available,
               "Instruction sets of IntegerNetwork on this processor, the best one last.");
}

}  // namespace nicrt::python

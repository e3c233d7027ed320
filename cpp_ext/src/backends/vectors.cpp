// Compiled without contraction: a value has one rounding per operation, on every processor.
#include "vectors.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "compiler.hpp"
#include "exponential.hpp"

namespace nicrt::engine {
namespace {

using bundle::Element;
using bundle::Tensor;

/// float16 → float32, which has all of its values.
float widened(std::uint16_t half) {
    const std::uint32_t sign = (half & 0x8000U) << 16, exponent = half >> 10 & 0x1FU,
                        fraction = half & 0x3FFU;
    if (exponent == 0x1F) return bit_cast<float>(sign | 0x7F800000U | fraction << 13);
    if (exponent != 0) return bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
}

void widen(Tensor& tensor) {
    std::vector<std::uint8_t> floats(tensor.data.size() * 2);
    const auto* const from = reinterpret_cast<const std::uint16_t*>(tensor.data.data());
    auto* const to = reinterpret_cast<float*>(floats.data());
    for (std::size_t i = 0; i < tensor.data.size() / 2; ++i) to[i] = widened(from[i]);
    tensor.data = std::move(floats);
    tensor.dtype = Element::float32;
}

/// Row `number` of a matrix, or of a list of them.
template <class Value>
Status row_of(const Weights& weights, std::string_view name, std::int32_t number,
              std::span<const Value>& out) {
    const Tensor& tensor = weights.tensor(name);
    const std::int32_t rows = tensor.shape.front();
    if (number < 0 || number >= rows)
        return invalid_argument("row " + std::to_string(number) + " of " + std::to_string(rows));
    const std::span<const Value> all = weights.values<Value>(name);
    const std::size_t length = all.size() / static_cast<std::size_t>(rows);
    out = all.subspan(static_cast<std::size_t>(number) * length, length);
    return {};
}

/// `parameters` has every parameter of the graph.
class FactorOf {
public:
    FactorOf(const Weights& weights, const Parameters& parameters)
        : weights_(weights), parameters_(parameters) {}

    /// 1 value for all channels, or one for each.
    Status operator()(const bundle::Constant& factor) {
        const auto values = weights_.floats(factor.tensor);
        made.assign(values.begin(), values.end());
        return {};
    }
    Status operator()(const bundle::Row& factor) {
        std::span<const float> row;
        NICRT_RETURN_IF_ERROR(row_of(weights_, factor.tensor, parameters_.at(factor.parameter), row));
        made.assign(row.begin(), row.end());
        return {};
    }
    Status operator()(const bundle::Exponential& factor) {
        const double parameter = parameters_.at(factor.parameter);
        made.assign(1, static_cast<float>(exponential(factor.factor * parameter + factor.offset)));
        return {};
    }
    Status operator()(const bundle::InterpolatedExponential& factor) {
        const Tensor& tensor = weights_.tensor(factor.tensor);
        const auto values = weights_.floats(factor.tensor);
        const auto rows = static_cast<std::size_t>(tensor.shape.front());
        const std::size_t channels = values.size() / rows;
        const double place = double(parameters_.at(factor.parameter)) / factor.unit;
        std::vector<double> exponents(channels);
        for (std::size_t row = 0; row < rows; ++row) {
            const double weight = std::max(0.0, 1.0 - std::abs(place - static_cast<double>(row)));
            for (std::size_t c = 0; c < channels; ++c)
                exponents[c] += weight * double{values[row * channels + c]};
        }
        made.clear();
        for (const double exponent : exponents) made.push_back(static_cast<float>(exponential(exponent)));
        return {};
    }

    std::vector<float> made;

private:
    const Weights& weights_;
    const Parameters& parameters_;
};

}  // namespace

Weights::Weights(std::vector<Tensor> tensors) {
    for (Tensor& tensor : tensors) {
        if (tensor.dtype == Element::float16) widen(tensor);
        const std::string_view name = tensor.name;
        tensors_.emplace(name, std::move(tensor));
    }
}

Status vector(const bundle::Factors& factors, std::size_t channels, const Weights& weights,
              const Parameters& parameters, float without, std::vector<float>& out) {
    out.assign(channels, factors.empty() ? without : 1.0F);
    FactorOf factor_of(weights, parameters);
    for (const bundle::Factor& factor : factors) {
        NICRT_RETURN_IF_ERROR(std::visit(factor_of, factor));
        const std::vector<float>& made = factor_of.made;
        if (made.size() != 1 && made.size() != channels)
            return invalid_argument("a vector of " + std::to_string(made.size()) + " values for " +
                                    std::to_string(channels) + " channels");
        for (std::size_t c = 0; c < channels; ++c) out[c] *= made[made.size() == 1 ? 0 : c];
    }
    return {};
}

Status rescale(const bundle::IntegerConvolution& layer, const Weights& weights, const Parameters& parameters,
               native::Rescale& out) {
    const auto pick = [&]<class Value>(std::string_view name, std::span<const Value>& values) -> Status {
        if (layer.row) return row_of(weights, name, parameters.at(*layer.row), values);
        values = weights.values<Value>(name);
        return {};
    };
    NICRT_RETURN_IF_ERROR(pick(layer.bias, out.bias));
    NICRT_RETURN_IF_ERROR(pick(layer.multiplier, out.multiplier));
    return layer.negative ? pick(*layer.negative, out.negative) : Status();
}

Status index_rule(const bundle::IndexRule& rule, const Weights& weights, const Parameters& parameters,
                  std::vector<float>& table, native::IndexRule& out) {
    out.add = static_cast<float>(rule.add - parameters.at(rule.minus));
    out.unit = static_cast<float>(rule.unit);
    out.low = static_cast<float>(rule.low);
    out.high = static_cast<float>(rule.high);
    out.skip = static_cast<float>(parameters.at(rule.skip));
    out.skipped = static_cast<std::uint8_t>(rule.skipped);
    if (rule.scales) {
        const auto values = weights.values<std::int16_t>(rule.scales->tensor);
        table.assign(values.begin(), values.end());
        out.table = {table,
                     static_cast<float>(rule.scales->low),
                     static_cast<float>(rule.scales->high),
                     static_cast<float>(rule.scales->limit),
                     static_cast<float>(rule.scales->unit),
                     static_cast<float>(rule.scales->add)};
    }
    return native::check(out);
}

}  // namespace nicrt::engine

// What the parameters of a run decide in a native form: vectors, rows of layers, rules of table indices
// (docs/BUNDLE.md, section 5).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "nicrt/bundle.hpp"
#include "nicrt/integer_network.hpp"
#include "nicrt/native_form.hpp"

namespace nicrt::engine {

/// Values of parameters by the names of their ports.
using Parameters = std::map<std::string_view, std::int32_t>;

/// Stored tensors of a native form by their names.
class Weights {
public:
    explicit Weights(std::vector<bundle::Tensor> tensors);

    [[nodiscard]] const bundle::Tensor& tensor(std::string_view name) const { return tensors_.at(name); }

    /// Of a tensor of this type.
    template <class Value>
    [[nodiscard]] std::span<const Value> values(std::string_view name) const {
        const bundle::Tensor& found = tensor(name);
        return {reinterpret_cast<const Value*>(found.data.data()), found.data.size() / sizeof(Value)};
    }

    /// Of a tensor of float32; float16 was widened.
    [[nodiscard]] std::span<const float> floats(std::string_view name) const { return values<float>(name); }

    /// Frees a tensor that is not asked for any more.
    void forget(std::string_view name) { tensors_.erase(name); }

private:
    std::map<std::string_view, bundle::Tensor> tensors_;
};

/// [channels], the product of the factors; `without`: where there are none. invalid_argument: a row that is
/// not there.
Status vector(const bundle::Factors& factors, std::size_t channels, const Weights& weights,
              const Parameters& parameters, float without, std::vector<float>& out);

/// Bias and multipliers of a layer: views of the weights. invalid_argument: a row that is not there.
Status rescale(const bundle::IntegerConvolution& layer, const Weights& weights, const Parameters& parameters,
               native::Rescale& out);

/// How a head's values become table indices. table: what the rule's table is a view of. invalid_argument:
/// numbers beyond what the kernels take.
Status index_rule(const bundle::IndexRule& rule, const Weights& weights, const Parameters& parameters,
                  std::vector<float>& table, native::IndexRule& out);

}  // namespace nicrt::engine

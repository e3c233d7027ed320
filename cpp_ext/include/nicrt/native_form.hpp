// The native form of a graph: a straight list of operations over named tensors (docs/BUNDLE.md, section 5).
// Names are views of the manifest's text, which the manifest keeps.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace nicrt::bundle {

/// Values by name in the manifest's order.
template <class T>
struct Named {
    std::vector<std::pair<std::string_view, T>> items;

    [[nodiscard]] const T* find(std::string_view name) const {
        for (const auto& [key, value] : items)
            if (key == name) return &value;
        return nullptr;
    }
    [[nodiscard]] std::size_t size() const { return items.size(); }
    [[nodiscard]] auto begin() const { return items.begin(); }
    [[nodiscard]] auto end() const { return items.end(); }
    bool operator==(const Named&) const = default;
};

/// Types of tensors that a bundle stores and of graphs' ports; not every one may be in every place.
enum class Element : std::uint8_t { float32, float16, int64, int32, int16, int8, uint16, uint8 };

/// NumPy's name.
[[nodiscard]] std::string_view name_of(Element element);
[[nodiscard]] std::size_t bytes_of(Element element);

using Pair = std::array<std::int32_t, 2>;  ///< of rows and of columns, or lowest and highest

/// Of a stored tensor the first `shape` places in each dimension.
struct View {
    Element dtype = Element::float32;
    std::vector<std::int32_t> shape;
    std::string_view sha256;
    bool operator==(const View&) const = default;
};

/// Factors, which are multiplied channel by channel.
struct Constant {
    static constexpr std::string_view kTag = "constant";
    std::string_view tensor;
    bool operator==(const Constant&) const = default;
};
struct Row {
    static constexpr std::string_view kTag = "row";
    std::string_view tensor, parameter;
    bool operator==(const Row&) const = default;
};
struct Exponential {
    static constexpr std::string_view kTag = "exp";
    std::string_view parameter;
    double factor = 0, offset = 0;
    bool operator==(const Exponential&) const = default;
};
struct InterpolatedExponential {
    static constexpr std::string_view kTag = "interpolated_exp";
    std::string_view tensor, parameter;
    std::int32_t unit = 1;
    bool operator==(const InterpolatedExponential&) const = default;
};
using Factor = std::variant<Constant, Row, Exponential, InterpolatedExponential>;
using Factors = std::vector<Factor>;

struct Term {
    std::string_view value;
    Factors scale;
    bool operator==(const Term&) const = default;
};

struct Normalisation {
    std::string_view beta, gamma;
    bool operator==(const Normalisation&) const = default;
};

struct Layer {
    std::string_view weight;
    std::optional<std::string_view> bias;
    Pair stride{1, 1}, pad{0, 0};
    double slope = 1;
    std::optional<Normalisation> norm;
    bool operator==(const Layer&) const = default;
};

struct Picture {
    double low = 0, high = 0;
    Element dtype = Element::uint8;
    bool operator==(const Picture&) const = default;
};

struct Affine {
    static constexpr std::string_view kTag = "affine";
    std::string_view out;
    std::vector<Term> terms;
    Factors offset;
    double slope = 1;
    bool operator==(const Affine&) const = default;
};
struct TransposedChain {
    static constexpr std::string_view kTag = "transposed_chain";
    std::string_view out;
    std::vector<Term> terms;
    std::vector<Layer> layers;
    Factors offset;
    std::optional<Picture> picture;
    bool operator==(const TransposedChain&) const = default;
};
struct StridedChain {
    static constexpr std::string_view kTag = "strided_chain";
    std::string_view out;
    std::vector<Term> terms;
    std::vector<Layer> layers;
    Factors offset;
    bool operator==(const StridedChain&) const = default;
};
struct Concatenate {
    static constexpr std::string_view kTag = "concatenate";
    std::string_view out;
    std::vector<std::string_view> values;
    bool operator==(const Concatenate&) const = default;
};
struct SelectChannels {
    static constexpr std::string_view kTag = "select_channels";
    std::string_view out, value;
    std::int32_t first = 0, count = 0;
    bool operator==(const SelectChannels&) const = default;
};
struct PadChannels {
    static constexpr std::string_view kTag = "pad_channels";
    std::string_view out, value;
    std::int32_t count = 0;
    bool operator==(const PadChannels&) const = default;
};
struct Quantise {
    static constexpr std::string_view kTag = "quantise";
    std::string_view out, value;
    std::int32_t low = 0, high = 0;
    bool operator==(const Quantise&) const = default;
};
struct Tanh {
    static constexpr std::string_view kTag = "tanh";
    std::string_view out, value;
    bool operator==(const Tanh&) const = default;
};
struct Absolute {
    static constexpr std::string_view kTag = "absolute";
    std::string_view out, value;
    bool operator==(const Absolute&) const = default;
};
struct LogMagnitude {
    static constexpr std::string_view kTag = "log_magnitude";
    std::string_view out, value;
    double floor = 0;
    bool operator==(const LogMagnitude&) const = default;
};

/// What hidden layers and heads of a network of integers share.
struct IntegerConvolution {
    std::string_view weight, bias, multiplier;
    std::optional<std::string_view> negative;  ///< of hidden layers alone
    Pair stride{1, 1}, pad{0, 0};
    std::optional<std::string_view> row;
    bool operator==(const IntegerConvolution&) const = default;
};
struct IntegerLayer : IntegerConvolution {
    std::int32_t low = 0, high = 0;
    bool operator==(const IntegerLayer&) const = default;
};
struct ScaleTable {
    std::string_view tensor;
    std::int32_t low = 0, high = 0, limit = 0;
    double unit = 0;
    std::int32_t add = 0;
    bool operator==(const ScaleTable&) const = default;
};
struct IndexRule {
    std::int32_t add = 0;
    double unit = 0;
    std::int32_t low = 0, high = 0;
    std::string_view skip;
    std::int32_t skipped = 0;
    std::string_view minus;
    std::optional<ScaleTable> scales;
    bool operator==(const IndexRule&) const = default;
};
struct Head : IntegerConvolution {
    std::string_view out;
    std::optional<IndexRule> index;
    bool operator==(const Head&) const = default;
};
struct IntegerNetwork {
    static constexpr std::string_view kTag = "integer_network";
    std::string_view value;
    std::vector<Head> heads;
    std::vector<IntegerLayer> hidden;
    bool operator==(const IntegerNetwork&) const = default;
};

using Operation = std::variant<Affine, TransposedChain, StridedChain, Concatenate, SelectChannels,
                               PadChannels, Quantise, Tanh, Absolute, LogMagnitude, IntegerNetwork>;

struct NativeForm {
    Named<View> tensors;
    std::vector<Operation> operations;
    bool operator==(const NativeForm&) const = default;
};

}  // namespace nicrt::bundle

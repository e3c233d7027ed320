// The operators and attributes that models of bundles may use.
#include <algorithm>
#include <array>
#include <iterator>
#include <string>

#include "onnx/check.hpp"
#include "onnx/wire.hpp"

namespace nicrt::onnx {
namespace {

constexpr std::uint16_t kAny = 1024;

// By name. No control flow, no operator that reads files, takes a seed, or has a size that its inputs do not
// give.
constexpr Operator kOperators[]{
    {"Abs", 1, 1, 1},
    {"Add", 2, 2, 1, Growth::broadcast},
    {"And", 2, 2, 1, Growth::broadcast, Result::boolean},
    {"AveragePool", 1, 1, 1, Growth::unknown},
    {"Cast", 1, 1, 1, Growth::same, Result::cast},
    {"Ceil", 1, 1, 1},
    {"Clip", 1, 3, 1},
    {"Concat", 1, kAny, 1, Growth::sum},
    {"Constant", 0, 0, 1, Growth::constant, Result::constant},
    {"ConstantOfShape", 1, 1, 1, Growth::extents, Result::fill},
    {"Conv", 2, 3, 1, Growth::unknown},
    {"ConvTranspose", 2, 3, 1, Growth::unknown},
    {"DepthToSpace", 1, 1, 1, Growth::fewer},
    {"DequantizeLinear", 2, 3, 1, Growth::same, Result::input, 1},
    {"Div", 2, 2, 1, Growth::broadcast},
    {"Equal", 2, 2, 1, Growth::broadcast, Result::boolean},
    {"Erf", 1, 1, 1},
    {"Exp", 1, 1, 1},
    {"Expand", 2, 2, 1, Growth::extents},
    {"Flatten", 1, 1, 1, Growth::fewer},
    {"Floor", 1, 1, 1},
    {"Gather", 2, 2, 1, Growth::product},
    {"Gemm", 2, 3, 1, Growth::product},
    {"Greater", 2, 2, 1, Growth::broadcast, Result::boolean},
    {"GreaterOrEqual", 2, 2, 1, Growth::broadcast, Result::boolean},
    {"Identity", 1, 1, 1},
    {"LeakyRelu", 1, 1, 1},
    {"Less", 2, 2, 1, Growth::broadcast, Result::boolean},
    {"LessOrEqual", 2, 2, 1, Growth::broadcast, Result::boolean},
    {"Log", 1, 1, 1},
    {"MatMul", 2, 2, 1, Growth::product},
    {"Max", 1, kAny, 1, Growth::broadcast},
    {"Min", 1, kAny, 1, Growth::broadcast},
    {"Mod", 2, 2, 1, Growth::broadcast},
    {"Mul", 2, 2, 1, Growth::broadcast},
    {"Neg", 1, 1, 1},
    {"Not", 1, 1, 1, Growth::same, Result::boolean},
    {"Or", 2, 2, 1, Growth::broadcast, Result::boolean},
    {"Pad", 2, 4, 1, Growth::extents},
    {"Pow", 2, 2, 1, Growth::broadcast},
    {"QLinearConv", 8, 9, 1, Growth::unknown, Result::input, 7},
    {"QuantizeLinear", 2, 3, 1, Growth::same, Result::quantize},
    {"Range", 3, 3, 1, Growth::unknown},
    {"Reciprocal", 1, 1, 1},
    {"ReduceMax", 1, 2, 1, Growth::fewer},
    {"ReduceMean", 1, 2, 1, Growth::fewer},
    {"ReduceSum", 1, 2, 1, Growth::fewer},
    {"Relu", 1, 1, 1},
    {"Reshape", 2, 2, 1, Growth::fewer},
    {"Round", 1, 1, 1},
    {"Shape", 1, 1, 1, Growth::rank, Result::int64},
    {"Sigmoid", 1, 1, 1},
    {"Sign", 1, 1, 1},
    {"Size", 1, 1, 1, Growth::rank, Result::int64},
    {"Slice", 3, 5, 1, Growth::fewer},
    {"Softmax", 1, 1, 1},
    {"Softplus", 1, 1, 1},
    {"SpaceToDepth", 1, 1, 1, Growth::fewer},
    {"Split", 1, 2, kAny, Growth::fewer},
    {"Sqrt", 1, 1, 1},
    {"Squeeze", 1, 2, 1, Growth::fewer},
    {"Sub", 2, 2, 1, Growth::broadcast},
    {"Tanh", 1, 1, 1},
    {"Tile", 2, 2, 1, Growth::extents},
    {"Transpose", 1, 1, 1, Growth::fewer},
    {"Unsqueeze", 2, 2, 1, Growth::fewer},
    {"Where", 3, 3, 1, Growth::broadcast, Result::input, 1},
    {"Xor", 2, 2, 1, Growth::broadcast, Result::boolean},
};

// Places in AttributeValue.
enum Kind : std::uint8_t { kFloat, kInt, kString, kTensor, kFloats, kInts };

/// Bounds are those of each number of an INT or INTS.
struct AttributeRule {
    std::string_view name;
    Kind kind;
    std::int64_t low = 0, high = 0;
};

constexpr std::int64_t kMaxStep = 1 << 16;  // of a kernel, stride, dilation or pad
constexpr std::int64_t kMaxAxis = 8;
constexpr std::int64_t kMaxOutputs = kAny;

constexpr AttributeRule kAttributes[]{
    {"allowzero", kInt, 0, 1},
    {"alpha", kFloat},
    {"auto_pad", kString},
    {"axes", kInts, -kMaxAxis, kMaxAxis},
    {"axis", kInt, -kMaxAxis, kMaxAxis},
    {"beta", kFloat},
    {"blocksize", kInt, 1, kMaxStep},
    {"ceil_mode", kInt, 0, 1},
    {"count_include_pad", kInt, 0, 1},
    {"dilations", kInts, 1, kMaxStep},
    {"end", kInt, -kMaxAxis, kMaxAxis},
    {"fmod", kInt, 0, 1},
    {"group", kInt, 1, kMaxStep},
    {"keepdims", kInt, 0, 1},
    {"kernel_shape", kInts, 1, kMaxStep},
    {"mode", kString},
    {"noop_with_empty_axes", kInt, 0, 1},
    {"num_outputs", kInt, 1, kMaxOutputs},
    {"output_padding", kInts, 0, kMaxStep},
    {"output_shape", kInts, 1, static_cast<std::int64_t>(kMaxElements)},
    {"pads", kInts, 0, kMaxStep},
    {"perm", kInts, 0, kMaxAxis - 1},
    {"saturate", kInt, 0, 1},
    {"start", kInt, -kMaxAxis, kMaxAxis},
    {"strides", kInts, 1, kMaxStep},
    {"to", kInt, 1, 13},
    {"transA", kInt, 0, 1},
    {"transB", kInt, 0, 1},
    {"value", kTensor},
    {"value_float", kFloat},
    {"value_floats", kFloats},
    {"value_int", kInt, INT64_MIN, INT64_MAX},
    {"value_ints", kInts, INT64_MIN, INT64_MAX},
};

/// The entry of a sorted table with this name, nullptr where there is none.
template <class Entry, std::size_t N>
const Entry* find(const Entry (&table)[N], std::string_view name) {
    const Entry* const found =
        std::lower_bound(table, table + N, name,
                         [](const Entry& entry, std::string_view wanted) { return entry.name < wanted; });
    return found != table + N && found->name == name ? found : nullptr;
}

template <class Entry, std::size_t N>
constexpr bool sorted(const Entry (&table)[N]) {
    for (std::size_t i = 1; i < N; ++i)
        if (!(table[i - 1].name < table[i].name)) return false;
    return true;
}
static_assert(sorted(kOperators) && sorted(kAttributes));

constexpr auto kNames = [] {
    std::array<std::string_view, std::size(kOperators)> names{};
    for (std::size_t i = 0; i < names.size(); ++i) names[i] = kOperators[i].name;
    return names;
}();

bool within(const AttributeRule& rule, const AttributeValue& value) {
    const auto fits = [&](std::int64_t number) { return number >= rule.low && number <= rule.high; };
    if (rule.kind == kInt) return fits(std::get<std::int64_t>(value));
    if (rule.kind != kInts) return true;
    const auto& numbers = std::get<std::vector<std::int64_t>>(value);
    return std::all_of(numbers.begin(), numbers.end(), fits);
}

}  // namespace

std::span<const std::string_view> operators() { return kNames; }

const Operator* find_operator(std::string_view name) { return find(kOperators, name); }

Status check_attributes(const Node& node) {
    for (auto attribute = node.attributes.begin(); attribute != node.attributes.end(); ++attribute) {
        const std::string what =
            "the attribute " + std::string(attribute->name) + " of a " + std::string(node.op);
        const AttributeRule* const rule = find(kAttributes, attribute->name);
        if (rule == nullptr) return unsupported("has " + what + ", which bundles may not");
        if (attribute->value.index() != rule->kind || !within(*rule, attribute->value))
            return unsupported("has a value out of range for " + what);
        if (std::any_of(node.attributes.begin(), attribute,
                        [&](const Attribute& a) { return a.name == rule->name; }))
            return unsupported("has twice " + what);
    }
    return {};
}

}  // namespace nicrt::onnx

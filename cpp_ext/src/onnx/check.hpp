// What a model has to keep to besides its form.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string_view>

#include "nicrt/onnx.hpp"

namespace nicrt::onnx {

/// AttributeProto.type by the place in AttributeValue.
constexpr std::array<std::int64_t, 7> kAttributeTypes{1, 2, 3, 4, 6, 7, 8};

/// The element type of this number, if bundles may use it: 8 are texts, and from 14 on are types of later
/// versions.
constexpr std::optional<Element> element_of(std::uint64_t number) {
    if (number < 1 || number > 13 || number == 8) return std::nullopt;
    return static_cast<Element>(number);
}

/// Most elements of a tensor whose size constants say.
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 31;

/// What is known of a value of the graph before it runs.
struct Value {
    Element element = Element::float32;
    const Tensor* constant = nullptr;  ///< an initializer's or a Constant's
    bool positive = false;             ///< every element is at least 1
};

/// Ordered: names that collide in a hash table can be chosen, and the model may be anybody's.
using Values = std::map<std::string_view, Value>;

/// Which element type an operator's results have.
enum class Result : std::uint8_t {
    input,  ///< that of the operator's `input`th input
    boolean,
    int64,
    cast,      ///< that of the attribute `to`
    quantize,  ///< that of the zero point, uint8 without one
    constant,  ///< that of the attribute with the value
    fill,      ///< that of the attribute `value`, float32 without one
};

struct Operator {
    std::string_view name;
    std::uint16_t min_inputs, max_inputs, max_outputs;
    Result result = Result::input;
    std::uint8_t input = 0;
};

/// nullptr for an operator that bundles may not use.
const Operator* find_operator(std::string_view name);

/// Known names only, each of its type and within its range.
Status check_attributes(const Node& node);

/// The value of each of the node's outputs, given those of its inputs, and whether the node may run on them.
Status infer(const Node& node, const Operator& op, const Values& values, Value& result);

/// Operators, names, order and divisions of a model that has been read.
Status check(const Model& model);

}  // namespace nicrt::onnx

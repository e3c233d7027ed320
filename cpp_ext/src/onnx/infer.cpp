// Element types of values, and what constants say about a node: integer divisions that could end the process
// (by 0, and of the least integer by -1, a processor stops), and sizes that no machine has.
#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>

#include "bytes.hpp"
#include "onnx/check.hpp"
#include "onnx/wire.hpp"

namespace nicrt::onnx {
namespace {

bool is_float(Element element) {
    return element == Element::float32 || element == Element::float16 || element == Element::float64;
}

template <class T, class Holds>
bool all_as(const Tensor& tensor, const Holds& holds) {
    for (std::size_t at = 0; at < tensor.data.size(); at += sizeof(T))
        if (!holds(load_le<T>(tensor.data.data() + at))) return false;
    return true;
}

/// Whether all values of a tensor of integers have a property; false for other types.
template <class Holds>
bool all_integers(const Tensor& tensor, const Holds& holds) {
    switch (tensor.element) {
        case Element::uint8: return all_as<std::uint8_t>(tensor, holds);
        case Element::int8: return all_as<std::int8_t>(tensor, holds);
        case Element::uint16: return all_as<std::uint16_t>(tensor, holds);
        case Element::int16: return all_as<std::int16_t>(tensor, holds);
        case Element::uint32: return all_as<std::uint32_t>(tensor, holds);
        case Element::int32: return all_as<std::int32_t>(tensor, holds);
        case Element::uint64: return all_as<std::uint64_t>(tensor, holds);
        case Element::int64: return all_as<std::int64_t>(tensor, holds);
        default: return false;
    }
}

bool divides_safely(const Value& divisor) {
    if (divisor.positive) return true;
    return divisor.constant != nullptr && all_integers(*divisor.constant, [](auto value) {
               return value != 0 &&
                      (std::is_unsigned_v<decltype(value)> || value != static_cast<decltype(value)>(-1));
           });
}

bool all_positive(const Value& value) {
    return value.constant != nullptr && all_integers(*value.constant, [](auto v) { return v >= 1; });
}

const AttributeValue* find_attribute(const Node& node, std::string_view name) {
    for (const Attribute& attribute : node.attributes)
        if (attribute.name == name) return &attribute.value;
    return nullptr;
}

/// The value of an input; nullptr where it is left out.
const Value* input_of(const Node& node, const Values& values, std::size_t place) {
    if (place >= node.inputs.size() || node.inputs[place].empty()) return nullptr;
    return &values.at(node.inputs[place]);
}

Status infer_constant(const Node& node, Value& result) {
    if (node.attributes.size() != 1) return unsupported("has a Constant without one value");
    const auto& [name, value] = node.attributes.front();
    if (name == "value") {
        result.constant = &std::get<Tensor>(value);
        result.element = result.constant->element;
    } else if (name == "value_int" || name == "value_ints") {
        result.element = Element::int64;
    } else if (name != "value_float" && name != "value_floats") {
        return unsupported("has a Constant without one value");
    }
    return {};
}

Status infer_cast(const Node& node, Value& result) {
    const AttributeValue* const to = find_attribute(node, "to");
    const auto number = to == nullptr ? 0 : static_cast<std::uint64_t>(std::get<std::int64_t>(*to));
    const std::optional<Element> known = element_of(number);
    if (!known) return unsupported("has a Cast to a type that bundles may not use");
    result.element = *known;
    return {};
}

Status infer_fill(const Node& node, Value& result) {
    const AttributeValue* const value = find_attribute(node, "value");
    if (value == nullptr) return {};  // zeros of float32
    const auto& tensor = std::get<Tensor>(*value);
    if (tensor.data.size() != bytes_of(tensor.element))
        return unsupported("has a ConstantOfShape whose value is not one number");
    result.element = tensor.element;
    return {};
}

Status check_division(const Node& node, const Values& values) {
    if (is_float(input_of(node, values, 0)->element) && is_float(input_of(node, values, 1)->element))
        return {};
    if (divides_safely(*input_of(node, values, 1))) return {};
    return unsupported(
        "has a " + std::string(node.op) +
        " of integers by something that could be 0 or -1: divide by a constant that is neither, or by "
        "the Max of a value and a constant of at least 1");
}

/// Extents that a constant gives are none that are negative, and do not multiply to more than a tensor may
/// have.
Status check_extents(const Node& node, const Value* extents) {
    if (extents == nullptr || extents->constant == nullptr) return {};
    std::uint64_t elements = 1;
    const bool fine =
        extents->element == Element::int64 && all_integers(*extents->constant, [&](auto extent) {
            if (extent < 0 || static_cast<std::uint64_t>(extent) > kMaxElements) return false;
            elements *= std::max<std::uint64_t>(static_cast<std::uint64_t>(extent), 1);
            return elements <= kMaxElements;
        });
    return fine ? Status{} : unsupported("has a " + std::string(node.op) + " to a size out of range");
}

Status check_range(const Node& node, const Values& values) {
    double numbers[3];
    for (std::size_t i = 0; i < 3; ++i) {
        const Value& value = *input_of(node, values, i);
        const bool is_scalar = value.constant != nullptr && value.constant->shape.empty();
        const bool known =
            is_scalar && (all_integers(*value.constant,
                                       [&](auto v) {
                                           numbers[i] = static_cast<double>(v);
                                           return true;
                                       }) ||
                          (value.element == Element::float32 && all_as<float>(*value.constant, [&](float v) {
                               numbers[i] = v;
                               return true;
                           })));
        if (!known) return unsupported("has a Range that is not of constants");
    }
    const double count = (numbers[1] - numbers[0]) / numbers[2];  // not a number where 0 is divided by 0
    if (std::isfinite(count) && count <= static_cast<double>(kMaxElements)) return {};
    return unsupported("has a Range of a size out of range");
}

Status check_sizes(const Node& node, const Values& values) {
    if (node.op == "Range") return check_range(node, values);
    if (node.op == "Expand" || node.op == "Tile") return check_extents(node, input_of(node, values, 1));
    if (node.op == "ConstantOfShape") return check_extents(node, input_of(node, values, 0));
    return {};
}

}  // namespace

Status infer(const Node& node, const Operator& op, const Values& values, Value& result) {
    if (node.op == "Div" || node.op == "Mod") NICRT_RETURN_IF_ERROR(check_division(node, values));
    NICRT_RETURN_IF_ERROR(check_sizes(node, values));
    for (std::size_t i = 0; node.op == "Max" && i < node.inputs.size(); ++i)
        result.positive = result.positive || all_positive(*input_of(node, values, i));
    switch (op.result) {
        case Result::boolean: result.element = Element::boolean; return {};
        case Result::int64: result.element = Element::int64; return {};
        case Result::cast: return infer_cast(node, result);
        case Result::constant: return infer_constant(node, result);
        case Result::fill: return infer_fill(node, result);
        case Result::quantize: {
            const Value* const zero = input_of(node, values, 2);
            result.element = zero == nullptr ? Element::uint8 : zero->element;
            return {};
        }
        case Result::input: break;
    }
    result.element = input_of(node, values, op.input)->element;
    return {};
}

}  // namespace nicrt::onnx

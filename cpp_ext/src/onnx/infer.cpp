// Element types of values, and integer divisions that could end the process: by 0, and of the least integer
// by -1, a processor stops.
#include <string>
#include <type_traits>

#include "onnx/check.hpp"
#include "onnx/integers.hpp"
#include "onnx/wire.hpp"

namespace nicrt::onnx {
namespace {

bool is_float(Element element) {
    return element == Element::float32 || element == Element::float16 || element == Element::float64;
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

}  // namespace

const AttributeValue* find_attribute(const Node& node, std::string_view name) {
    for (const Attribute& attribute : node.attributes)
        if (attribute.name == name) return &attribute.value;
    return nullptr;
}

const Value* input_of(const Node& node, const Values& values, std::size_t place) {
    if (place >= node.inputs.size() || node.inputs[place].empty()) return nullptr;
    return &values.at(node.inputs[place]);
}

Status infer(const Node& node, const Operator& op, const Values& values, Value& result) {
    if (node.op == "Div" || node.op == "Mod") NICRT_RETURN_IF_ERROR(check_division(node, values));
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

// Sizes that follow from constants alone: none that no machine has, and not too much together of what
// libraries compute when they load a model.
#include <algorithm>
#include <cmath>
#include <string>

#include "onnx/check.hpp"
#include "onnx/integers.hpp"
#include "onnx/wire.hpp"

namespace nicrt::onnx {
namespace {

using Shape = std::vector<std::int64_t>;
using Count = std::optional<std::uint64_t>;

/// Nothing reaches it that is not refused.
constexpr std::uint64_t kTooMany = std::uint64_t{1} << 62;

std::uint64_t times(std::uint64_t a, std::uint64_t b) {
    return b != 0 && a > kTooMany / b ? kTooMany : a * b;
}

/// An extent of 0 counts as 1: it can go away (a sum over it, a product of matrices), and the others stay.
std::uint64_t count(const Shape& shape) {
    std::uint64_t elements = 1;
    for (const std::int64_t extent : shape)
        elements = times(elements, static_cast<std::uint64_t>(std::max<std::int64_t>(extent, 1)));
    return elements;
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

std::optional<Shape> integers_of(const Value* value) {
    Shape result;
    if (value == nullptr || value->constant == nullptr || value->element != Element::int64) return {};
    (void)all_integers(*value->constant, [&](auto number) {
        result.push_back(static_cast<std::int64_t>(number));
        return true;
    });
    return result;
}

/// The common shape of two, counted from the last dimension; the larger extent where they do not fit, which
/// libraries refuse.
Shape broadcast(const Shape& a, const Shape& b) {
    Shape result = a.size() > b.size() ? a : b;
    const Shape& other = a.size() > b.size() ? b : a;
    for (std::size_t i = 1; i <= other.size(); ++i) {
        std::int64_t& extent = result[result.size() - i];
        extent = std::max(extent, other[other.size() - i]);
    }
    return result;
}

void set_shape(Value& result, Shape shape) {
    result.elements = count(shape);
    result.shape = std::move(shape);
}

void infer_broadcast(const Node& node, const Values& values, Value& result) {
    Shape shape;
    std::uint64_t elements = 1;
    bool has_shapes = true;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        const Value& value = *input_of(node, values, i);
        if (!value.elements) return;
        elements = times(elements, *value.elements);
        has_shapes = has_shapes && value.shape;
        if (has_shapes) shape = broadcast(shape, *value.shape);
    }
    if (has_shapes) return set_shape(result, std::move(shape));
    result.elements = elements;
}

/// Of Concat the sum of the inputs' elements, else their product.
Count combined(const Node& node, const Values& values, bool is_sum) {
    std::uint64_t elements = is_sum ? 0 : 1;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        const Value* const value = input_of(node, values, i);
        if (value == nullptr) continue;
        if (!value->elements) return {};
        elements =
            is_sum ? std::min(elements + *value->elements, kTooMany) : times(elements, *value->elements);
    }
    return elements;
}

void infer_extents(const Node& node, const Values& values, Value& result) {
    if (node.op == "ConstantOfShape") {
        if (const auto extents = integers_of(input_of(node, values, 0))) set_shape(result, *extents);
        return;
    }
    const Value& data = *input_of(node, values, 0);
    const auto extents = integers_of(input_of(node, values, 1));
    if (!extents || !data.elements) return;
    if (node.op == "Tile" || (node.op == "Expand" && !data.shape)) {
        result.elements = times(*data.elements, count(*extents));
    } else if (node.op == "Expand") {
        set_shape(result, broadcast(*data.shape, *extents));
    } else {  // Pad: 1 + what is added is at least the factor by which a dimension grows
        result.elements = *data.elements;
        for (const std::int64_t added : *extents)
            result.elements =
                times(*result.elements, 1 + static_cast<std::uint64_t>(std::max<std::int64_t>(added, 0)));
    }
}

/// Shapes of what often makes constants fit each other; others are not followed.
void infer_fewer(const Node& node, const Values& values, Value& result) {
    const Value& data = *input_of(node, values, 0);
    result.elements = data.elements;
    if (node.op != "Reshape" || !data.elements) return;
    auto extents = integers_of(input_of(node, values, 1));
    if (!extents ||
        std::count_if(extents->begin(), extents->end(), [](auto extent) { return extent < 1; }) > 1)
        return;
    const std::uint64_t others = count(*extents);
    for (std::int64_t& extent : *extents) {
        if (extent == 0) return;  // the input's extent, or none
        if (extent < 0) extent = static_cast<std::int64_t>(*data.elements / others);
    }
    if (count(*extents) <= *data.elements) result.shape = std::move(extents);
}

void infer_constant(const Node& node, Value& result) {
    if (result.constant != nullptr) return set_shape(result, result.constant->shape);
    const AttributeValue& value = node.attributes.front().value;
    if (const auto* const floats = std::get_if<std::vector<float>>(&value)) result.elements = floats->size();
    else if (const auto* const ints = std::get_if<std::vector<std::int64_t>>(&value))
        result.elements = ints->size();
    else result.elements = 1;
}

bool all_fold(const Node& node, const Values& values) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        const Value* const value = input_of(node, values, i);
        if (value != nullptr && !value->folds) return false;
    }
    return true;
}

}  // namespace

Status infer_size(const Node& node, const Operator& op, const Values& values, Value& result) {
    NICRT_RETURN_IF_ERROR(check_sizes(node, values));
    result.folds = op.growth == Growth::rank || all_fold(node, values);
    if (!result.folds) return {};
    switch (op.growth) {
        case Growth::same:
            result.shape = input_of(node, values, 0)->shape;
            result.elements = input_of(node, values, 0)->elements;
            break;
        case Growth::fewer: infer_fewer(node, values, result); break;
        case Growth::broadcast: infer_broadcast(node, values, result); break;
        case Growth::sum: result.elements = combined(node, values, true); break;
        case Growth::product: result.elements = combined(node, values, false); break;
        case Growth::rank: result.elements = kMaxRank; break;
        case Growth::extents: infer_extents(node, values, result); break;
        case Growth::constant: infer_constant(node, result); break;
        case Growth::unknown: break;
    }
    return {};
}

Value initial(const Tensor& tensor) {
    Value value;
    value.element = tensor.element;
    value.constant = &tensor;
    value.folds = true;
    set_shape(value, tensor.shape);
    return value;
}

std::uint64_t folded_bytes(const Value& value) {
    if (!value.folds) return 0;
    return value.elements ? times(*value.elements, bytes_of(value.element)) : kUnknownFoldedBytes;
}

}  // namespace nicrt::onnx

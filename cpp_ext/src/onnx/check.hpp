// What a model has to keep to besides its form.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

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

constexpr std::size_t kMaxRank = 8;

/// Most elements of a tensor whose size constants say.
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 31;

/// Libraries compute what hangs on constants alone when they load a model. Bytes of all such values of a
/// model together, and what one counts whose size is not known. `MAX_FOLDED_BYTES` in
/// runtime/backends/onnxruntime_cpu.py has ONNX Runtime leave larger ones for when the model runs.
constexpr std::uint64_t kMaxFoldedBytes = std::uint64_t{512} << 20;
constexpr std::uint64_t kUnknownFoldedBytes = std::uint64_t{16} << 20;

/// What is known of a value of the graph before it runs.
struct Value {
    Element element = Element::float32;
    const Tensor* constant = nullptr;  ///< an initializer's or a Constant's
    bool positive = false;             ///< every element is at least 1
    bool folds = false;  ///< a library may compute it when it loads the model: of constants and shapes
    std::optional<std::vector<std::int64_t>> shape;  ///< of a value that folds, where it is known
    std::optional<std::uint64_t> elements;           ///< the same: at most so many
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

/// How many elements an operator's results have at most.
enum class Growth : std::uint8_t {
    same,       ///< the shape of the first input
    fewer,      ///< no more elements than the first input, or than the second (`Split` too: of each output)
    broadcast,  ///< the common shape of all inputs
    sum,        ///< as many as all inputs together
    product,    ///< of the inputs' elements
    rank,       ///< as many as an input may have dimensions
    extents,    ///< what an input of extents says, times the elements of the first
    constant,   ///< those of the attribute
    unknown,
};

struct Operator {
    std::string_view name;
    std::uint16_t min_inputs, max_inputs, max_outputs;
    Growth growth = Growth::same;
    Result result = Result::input;
    std::uint8_t input = 0;
};

/// nullptr for an operator that bundles may not use.
const Operator* find_operator(std::string_view name);

/// Known names only, each of its type and within its range.
Status check_attributes(const Node& node);

/// The value of each of the node's outputs, given those of its inputs, and whether the node may run on them.
Status infer(const Node& node, const Operator& op, const Values& values, Value& result);

/// The value of an input of a node; nullptr where it is left out.
const Value* input_of(const Node& node, const Values& values, std::size_t place);

/// An attribute's value; nullptr where it is not given.
const AttributeValue* find_attribute(const Node& node, std::string_view name);

/// Whether the node makes sizes that no machine has, of constants; what is known of the size of its results,
/// whose element type is known, if libraries may compute them when they load the model.
Status infer_size(const Node& node, const Operator& op, const Values& values, Value& result);

/// What is known of an initializer.
[[nodiscard]] Value initial(const Tensor& tensor);

/// What a value takes of a library's memory when it loads the model, 0 for one that depends on inputs.
[[nodiscard]] std::uint64_t folded_bytes(const Value& value);

/// Operators, names, order and divisions of a model that has been read.
Status check(const Model& model);

}  // namespace nicrt::onnx

// ONNX models of bundles: a strict reader into plain structs, and a writer that gives one form of bytes. What
// a library gets was written here from what was read here, so that no two readers can see different models in
// the same bytes. Names of fields and their numbers are those of onnx.proto.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "nicrt/status.hpp"

namespace nicrt::onnx {

/// TensorProto.DataType, as far as bundles may use it.
enum class Element : std::uint8_t {
    float32 = 1,
    uint8 = 2,
    int8 = 3,
    uint16 = 4,
    int16 = 5,
    int32 = 6,
    int64 = 7,
    boolean = 9,
    float16 = 10,
    float64 = 11,
    uint32 = 12,
    uint64 = 13,
};

/// Bytes of one element.
[[nodiscard]] std::size_t bytes_of(Element element);

/// Texts and data are views of the bytes that were read, which must outlive the model.
struct Tensor {
    std::string_view name;
    Element element = Element::float32;
    std::vector<std::int64_t> shape;
    std::span<const std::uint8_t> data;  ///< little-endian, at any address
};

/// In the order of `AttributeProto.type`: FLOAT, INT, STRING, TENSOR, FLOATS, INTS, STRINGS.
using AttributeValue = std::variant<float, std::int64_t, std::string_view, Tensor, std::vector<float>,
                                    std::vector<std::int64_t>, std::vector<std::string_view>>;

struct Attribute {
    std::string_view name;
    AttributeValue value;
};

struct Node {
    std::string_view name;
    std::string_view op;
    std::vector<std::string_view> inputs;  ///< "" is an input that is left out
    std::vector<std::string_view> outputs;
    std::vector<Attribute> attributes;
};

/// An extent, or the symbol of one; neither where nothing is known.
struct Dimension {
    std::optional<std::int64_t> extent;
    std::string_view symbol;
};

struct Port {
    std::string_view name;
    Element element = Element::float32;
    std::optional<std::vector<Dimension>> shape;
};

struct Model {
    std::int64_t ir_version = 0;
    std::int64_t opset = 0;
    std::string_view graph_name;
    std::vector<Node> nodes;
    std::vector<Tensor> initializers;
    std::vector<Port> inputs;
    std::vector<Port> outputs;
};

/// unsupported: not an ONNX model in protobuf's shortest form, or one that holds what bundles may not. `out`
/// is written only on success. What is accepted has operators that are listed here, names that are unique,
/// values that are made before they are used, and no division of integers that could end the process.
Status read(std::span<const std::uint8_t> bytes, Model& out);

/// Names of the operators that a model may use, sorted.
[[nodiscard]] std::span<const std::string_view> operators();

/// Bytes of the written model.
[[nodiscard]] std::size_t written_bytes(const Model& model);

/// Fields in the order of their numbers, each in its shortest form. `out` has `written_bytes(model)` bytes.
void write(const Model& model, std::span<std::uint8_t> out);

}  // namespace nicrt::onnx

// Structs to ONNX bytes.
#include "nicrt/onnx.hpp"
#include "onnx/check.hpp"
#include "onnx/wire.hpp"

namespace nicrt::onnx {
namespace {

template <class Out>
void put_tensor(Out& out, const Tensor& tensor) {
    for (const std::int64_t extent : tensor.shape) put_number(out, 1, extent);
    put_number(out, 2, static_cast<std::int64_t>(tensor.element));
    if (!tensor.name.empty()) put_text(out, 8, tensor.name);
    put_bytes(out, 9, tensor.data);
}

template <class Out>
struct PutValue {
    Out& out;

    void operator()(float value) const { put_float(out, 2, value); }
    void operator()(std::int64_t value) const { put_number(out, 3, value); }
    void operator()(std::string_view value) const { put_text(out, 4, value); }
    void operator()(const Tensor& value) const {
        put_message(out, 5, [&](auto& nested) { put_tensor(nested, value); });
    }
    void operator()(const std::vector<float>& values) const {
        for (const float value : values) put_float(out, 7, value);
    }
    void operator()(const std::vector<std::int64_t>& values) const {
        for (const std::int64_t value : values) put_number(out, 8, value);
    }
    void operator()(const std::vector<std::string_view>& values) const {
        for (const std::string_view value : values) put_text(out, 9, value);
    }
};

template <class Out>
void put_node(Out& out, const Node& node) {
    for (const std::string_view name : node.inputs) put_text(out, 1, name);
    for (const std::string_view name : node.outputs) put_text(out, 2, name);
    if (!node.name.empty()) put_text(out, 3, node.name);
    put_text(out, 4, node.op);
    for (const Attribute& attribute : node.attributes)
        put_message(out, 5, [&](auto& nested) {
            put_text(nested, 1, attribute.name);
            std::visit(PutValue<std::remove_reference_t<decltype(nested)>>{nested}, attribute.value);
            put_number(nested, 20, kAttributeTypes[attribute.value.index()]);
        });
}

template <class Out>
void put_dimension(Out& out, const Dimension& dimension) {
    if (dimension.extent) put_number(out, 1, *dimension.extent);
    if (!dimension.symbol.empty()) put_text(out, 2, dimension.symbol);
}

template <class Out>
void put_port(Out& out, const Port& port) {
    const auto shape = [&](auto& nested) {
        for (const Dimension& dimension : *port.shape)
            put_message(nested, 1, [&](auto& inner) { put_dimension(inner, dimension); });
    };
    const auto tensor_type = [&](auto& nested) {
        put_number(nested, 1, static_cast<std::int64_t>(port.element));
        if (port.shape) put_message(nested, 2, shape);
    };
    put_text(out, 1, port.name);
    put_message(out, 2, [&](auto& type) { put_message(type, 1, tensor_type); });
}

template <class Out>
void put_graph(Out& out, const Model& model) {
    for (const Node& node : model.nodes) put_message(out, 1, [&](auto& nested) { put_node(nested, node); });
    put_text(out, 2, model.graph_name);
    for (const Tensor& tensor : model.initializers)
        put_message(out, 5, [&](auto& nested) { put_tensor(nested, tensor); });
    for (const Port& port : model.inputs) put_message(out, 11, [&](auto& nested) { put_port(nested, port); });
    for (const Port& port : model.outputs)
        put_message(out, 12, [&](auto& nested) { put_port(nested, port); });
}

template <class Out>
void put_model(Out& out, const Model& model) {
    put_number(out, 1, model.ir_version);
    put_message(out, 7, [&](auto& nested) { put_graph(nested, model); });
    put_message(out, 8, [&](auto& nested) {
        put_text(nested, 1, "");  // the domain of ONNX's own operators
        put_number(nested, 2, model.opset);
    });
}

}  // namespace

std::size_t written_bytes(const Model& model) {
    Counter counter;
    put_model(counter, model);
    return counter.bytes();
}

void write(const Model& model, std::span<std::uint8_t> out) {
    Writer writer(out.data());
    put_model(writer, model);
}

}  // namespace nicrt::onnx

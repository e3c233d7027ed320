// The rules of a whole graph: names, order, operators.
#include "onnx/check.hpp"

#include <algorithm>
#include <set>
#include <string>

#include "onnx/wire.hpp"

namespace nicrt::onnx {
namespace {

Status define(std::string_view name, const Value& value, Values& values) {
    if (name.empty()) return unsupported("has a value without a name");
    if (values.emplace(name, value).second) return {};
    return unsupported("has two values with the name " + std::string(name));
}

Status check_inputs(const Node& node, const Operator& op, const Values& values) {
    if (node.inputs.size() < op.min_inputs || node.inputs.size() > op.max_inputs || node.outputs.empty() ||
        node.outputs.size() > op.max_outputs)
        return unsupported("has a " + std::string(node.op) + " of " + std::to_string(node.inputs.size()) +
                           " inputs and " + std::to_string(node.outputs.size()) + " outputs");
    const bool many = op.max_inputs > 9;  // operands of one kind, of which none can be left out
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        const std::string_view name = node.inputs[i];
        if (name.empty() && i >= op.min_inputs && !many) continue;
        if (values.find(name) == values.end())
            return unsupported("has a " + std::string(node.op) + " whose input '" + std::string(name) +
                               "' is not made before it");
    }
    return {};
}

Status check_node(const Node& node, Values& values, std::uint64_t& folded) {
    const Operator* const op = find_operator(node.op);
    if (op == nullptr)
        return unsupported("uses operator " + std::string(node.op) + ", which bundles may not");
    NICRT_RETURN_IF_ERROR(check_inputs(node, *op, values));
    NICRT_RETURN_IF_ERROR(check_attributes(node));
    Value result;
    NICRT_RETURN_IF_ERROR(infer(node, *op, values, result));
    NICRT_RETURN_IF_ERROR(infer_size(node, *op, values, result));
    folded += folded_bytes(result);
    if (folded > kMaxFoldedBytes)
        return unsupported("makes more than " + std::to_string(kMaxFoldedBytes >> 20) +
                           " MiB of its constants alone, at the latest in a " + std::string(node.op));
    for (const std::string_view name : node.outputs) NICRT_RETURN_IF_ERROR(define(name, result, values));
    return {};
}

Status check_outputs(const Model& model, const Values& values) {
    std::set<std::string_view> seen;
    for (const Port& port : model.outputs) {
        const auto found = values.find(port.name);
        if (found == values.end())
            return unsupported("has an output '" + std::string(port.name) + "' that no node makes");
        if (found->second.element != port.element)
            return unsupported("has an output '" + std::string(port.name) +
                               "' of another type than it is made with");
        if (!seen.insert(port.name).second)
            return unsupported("has the output '" + std::string(port.name) + "' twice");
    }
    return seen.empty() ? unsupported("has no output") : Status{};
}

}  // namespace

Status check(const Model& model) {
    if (model.nodes.empty()) return unsupported("has no nodes");
    Values values;
    for (const Port& port : model.inputs) {
        Value value;
        value.element = port.element;
        NICRT_RETURN_IF_ERROR(define(port.name, value, values));
    }
    for (const Tensor& tensor : model.initializers) {
        NICRT_RETURN_IF_ERROR(define(tensor.name, initial(tensor), values));
    }
    std::uint64_t folded = 0;
    for (const Node& node : model.nodes) NICRT_RETURN_IF_ERROR(check_node(node, values, folded));
    return check_outputs(model, values);
}

}  // namespace nicrt::onnx

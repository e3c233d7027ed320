// ONNX bytes to structs. Nothing nests in itself, so the depth is that of the functions here; what is
// reserved is a few times the bytes that are there.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "nicrt/onnx.hpp"
#include "onnx/check.hpp"
#include "onnx/text.hpp"
#include "onnx/wire.hpp"
#include "parallel.hpp"

namespace nicrt::onnx {
namespace {

constexpr std::uint64_t kMaxBytes = std::uint64_t{512} << 20;
constexpr std::size_t kMaxNodes = 5'000;
constexpr std::size_t kMaxInitializers = 20'000;
constexpr std::size_t kMaxPorts = 256;
constexpr std::size_t kMaxNodePorts = 1024;   // inputs or outputs of one node
constexpr std::size_t kMaxAllPorts = 50'000;  // of all nodes together: libraries take their square in time
constexpr std::size_t kMaxAttributes = 32;
constexpr std::size_t kMaxListLength = 4096;
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 31;
constexpr std::int64_t kMinIrVersion = 7, kMaxIrVersion = 10;
constexpr std::int64_t kMinOpset = 13, kMaxOpset = 20;  // whose operators mean what `check` takes them for

constexpr Wire kVarint = Wire::varint, kLength = Wire::length, kFixed32 = Wire::fixed32;
constexpr Use kMany = Use::many, kDropped = Use::dropped;

std::int64_t as_int(const Field& field) { return static_cast<std::int64_t>(field.value); }

Status check_count(std::size_t count, std::size_t most, const char* what) {
    if (count <= most) return {};
    return unsupported("has more than " + std::to_string(most) + " " + what);
}

Status read_element(const Field& field, Element& element) {
    const std::optional<Element> known = element_of(field.value);
    if (!known)
        return unsupported("has an element type (" + std::to_string(field.value) +
                           ") that bundles may not use");
    element = *known;
    return {};
}

Status add_text(const Field& field, std::size_t most, const char* what,
                std::vector<std::string_view>& texts) {
    NICRT_RETURN_IF_ERROR(check_count(texts.size() + 1, most, what));
    return read_text(field.bytes, texts.emplace_back());
}

Status read_extent(const Field& field, std::int64_t& extent) {
    extent = as_int(field);
    if (extent >= 0 && extent <= kMaxExtent) return {};
    return unsupported("has an extent of " + std::to_string(extent));
}

Status check_data(const Tensor& tensor) {
    const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
    std::uint64_t bytes = empty ? 0 : bytes_of(tensor.element);
    for (const std::int64_t extent : tensor.shape)
        if (bytes <= kMaxBytes) bytes *= static_cast<std::uint64_t>(extent);  // below 2^29 * 2^31
    const bool wrong_bool =
        tensor.element == Element::boolean &&
        std::any_of(tensor.data.begin(), tensor.data.end(), [](auto byte) { return byte > 1; });
    if (bytes == tensor.data.size() && !wrong_bool) return {};
    return unsupported("has a tensor whose bytes do not fit its shape and type");
}

Status read_tensor(Bytes data, Tensor& tensor) {
    // 4..7, 10 and 11 hold the values in other ways, 13 and 14 refer to other files
    static constexpr Rule rules[]{{1, kVarint, kMany},     {2, kVarint},           {8, kLength}, {9, kLength},
                                  {12, kLength, kDropped}, {16, kLength, kDropped}};
    bool has_type = false, has_data = false;
    NICRT_RETURN_IF_ERROR(for_each_field(data, "TensorProto", rules, [&](const Field& field) -> Status {
        switch (field.number) {
            case 1:
                NICRT_RETURN_IF_ERROR(
                    check_count(tensor.shape.size() + 1, kMaxRank, "dimensions in a tensor"));
                return read_extent(field, tensor.shape.emplace_back());
            case 2: has_type = true; return read_element(field, tensor.element);
            case 8: return read_text(field.bytes, tensor.name);
            default:
                has_data = true;
                tensor.data = field.bytes;
                return {};
        }
    }));
    if (!has_type || !has_data) return unsupported("has a tensor without an element type or raw data");
    return check_data(tensor);
}

/// The value of an attribute as its fields come. The place in AttributeValue says which of them it is.
class ValueReader {
public:
    Status add(const Field& field) {
        const std::size_t place = place_of(field.number);
        if (place_ != kNone && place_ != place) return unsupported("has an attribute with two values");
        place_ = place;
        switch (place) {
            case 0: value_ = as_float(field); return {};
            case 1: value_ = as_int(field); return {};
            case 2: return read_text(field.bytes, value_.emplace<std::string_view>());
            case 3: return read_tensor(field.bytes, value_.emplace<Tensor>());
            case 4: return append(as_float(field));
            case 5: return append(as_int(field));
            default:
                return add_text(field, kMaxListLength, "texts in an attribute", list<std::string_view>());
        }
    }

    /// type: AttributeProto.type, which has to be that of the value; a list that is empty has no fields.
    Status finish(std::int64_t type, AttributeValue& out) {
        const auto& types = kAttributeTypes;
        const auto found = std::find(types.begin(), types.end(), type);
        const auto place = static_cast<std::size_t>(found - types.begin());
        if (place_ == kNone && found != types.end()) {
            if (place == 4) (void)list<float>();
            if (place == 5) (void)list<std::int64_t>();
            if (place == 6) (void)list<std::string_view>();
            if (place >= 4) place_ = place;
        }
        if (found == types.end() || place != place_)
            return unsupported(
                "has an attribute whose type is not that of its value, or one bundles may not have");
        out = std::move(value_);
        return {};
    }

private:
    static constexpr std::size_t kNone = SIZE_MAX;

    static std::size_t place_of(std::uint32_t number) { return number <= 5 ? number - 2 : number - 3; }

    static float as_float(const Field& field) {
        const auto bits = static_cast<std::uint32_t>(field.value);
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }

    template <class T>
    std::vector<T>& list() {
        if (!std::holds_alternative<std::vector<T>>(value_)) value_.emplace<std::vector<T>>();
        return std::get<std::vector<T>>(value_);
    }

    template <class T>
    Status append(T value) {
        NICRT_RETURN_IF_ERROR(check_count(list<T>().size() + 1, kMaxListLength, "numbers in an attribute"));
        list<T>().push_back(value);
        return {};
    }

    std::size_t place_ = kNone;
    AttributeValue value_;
};

Status read_attribute(Bytes data, Attribute& attribute) {
    // 6 and 11 are graphs, 10 tensors, 14 and 15 types, 21 the name of a function's attribute, 22 and 23
    // sparse tensors
    static constexpr Rule rules[]{{1, kLength},        {2, kFixed32},       {3, kVarint},
                                  {4, kLength},        {5, kLength},        {7, kFixed32, kMany},
                                  {8, kVarint, kMany}, {9, kLength, kMany}, {13, kLength, kDropped},
                                  {20, kVarint}};
    ValueReader value;
    std::int64_t type = 0;
    NICRT_RETURN_IF_ERROR(for_each_field(data, "AttributeProto", rules, [&](const Field& field) -> Status {
        if (field.number == 1) return read_text(field.bytes, attribute.name);
        if (field.number != 20) return value.add(field);
        type = as_int(field);
        return {};
    }));
    return value.finish(type, attribute.value);
}

Status read_domain(Bytes bytes) {
    std::string_view domain;
    NICRT_RETURN_IF_ERROR(read_text(bytes, domain));
    if (domain.empty() || domain == "ai.onnx") return {};
    return unsupported("uses operators of the domain " + std::string(domain) + ", which bundles may not");
}

Status read_node(Bytes data, Node& node) {
    // 8 is the overload of a function, 10 devices
    static constexpr Rule rules[]{{1, kLength, kMany}, {2, kLength, kMany},   {3, kLength},
                                  {4, kLength},        {5, kLength, kMany},   {6, kLength, kDropped},
                                  {7, kLength},        {9, kLength, kDropped}};
    return for_each_field(data, "NodeProto", rules, [&](const Field& field) -> Status {
        switch (field.number) {
            case 1: return add_text(field, kMaxNodePorts, "inputs of a node", node.inputs);
            case 2: return add_text(field, kMaxNodePorts, "outputs of a node", node.outputs);
            case 3: return read_text(field.bytes, node.name);
            case 4: return read_text(field.bytes, node.op);
            case 7: return read_domain(field.bytes);
            default:
                NICRT_RETURN_IF_ERROR(
                    check_count(node.attributes.size() + 1, kMaxAttributes, "attributes of a node"));
                return read_attribute(field.bytes, node.attributes.emplace_back());
        }
    });
}

Status read_dimension(Bytes data, Dimension& dimension) {
    static constexpr Rule rules[]{{1, kVarint}, {2, kLength}, {3, kLength, kDropped}};
    bool has_symbol = false;
    NICRT_RETURN_IF_ERROR(for_each_field(data, "Dimension", rules, [&](const Field& field) -> Status {
        if (field.number == 1) return read_extent(field, dimension.extent.emplace());
        has_symbol = true;
        return read_text(field.bytes, dimension.symbol);
    }));
    if (dimension.extent && has_symbol)
        return unsupported("has a dimension that is both a number and a symbol");
    return {};
}

Status read_tensor_type(Bytes data, Port& port) {
    static constexpr Rule shape_rules[]{{1, kLength, kMany}};
    static constexpr Rule rules[]{{1, kVarint}, {2, kLength}};
    bool has_type = false;
    NICRT_RETURN_IF_ERROR(for_each_field(data, "TypeProto.Tensor", rules, [&](const Field& field) -> Status {
        if (field.number == 1) {
            has_type = true;
            return read_element(field, port.element);
        }
        auto& shape = port.shape.emplace();
        return for_each_field(
            field.bytes, "TensorShapeProto", shape_rules, [&](const Field& dimension) -> Status {
                NICRT_RETURN_IF_ERROR(check_count(shape.size() + 1, kMaxRank, "dimensions in a port"));
                return read_dimension(dimension.bytes, shape.emplace_back());
            });
    }));
    return has_type ? Status{} : unsupported("has a port without an element type");
}

Status read_port(Bytes data, Port& port) {
    static constexpr Rule rules[]{{1, kLength}, {2, kLength}, {3, kLength, kDropped}, {4, kLength, kDropped}};
    static constexpr Rule type_rules[]{{1, kLength}, {6, kLength, kDropped}};
    bool has_type = false;
    NICRT_RETURN_IF_ERROR(for_each_field(data, "ValueInfoProto", rules, [&](const Field& field) -> Status {
        if (field.number == 1) return read_text(field.bytes, port.name);
        return for_each_field(field.bytes, "TypeProto", type_rules, [&](const Field& type) -> Status {
            has_type = true;
            return read_tensor_type(type.bytes, port);
        });
    }));
    return has_type ? Status{} : unsupported("has a port without a type");
}

Status read_graph(Bytes data, Model& model) {
    // 13, shapes of values between the nodes, can only repeat what the nodes say, or mislead; 14 is of other
    // quantisers, 15 sparse
    static constexpr Rule rules[]{{1, kLength, kMany},     {2, kLength},           {5, kLength, kMany},
                                  {10, kLength, kDropped}, {11, kLength, kMany},   {12, kLength, kMany},
                                  {13, kLength, kDropped}, {16, kLength, kDropped}};
    return for_each_field(data, "GraphProto", rules, [&](const Field& field) -> Status {
        switch (field.number) {
            case 1:
                NICRT_RETURN_IF_ERROR(check_count(model.nodes.size() + 1, kMaxNodes, "nodes"));
                return read_node(field.bytes, model.nodes.emplace_back());
            case 2: return read_text(field.bytes, model.graph_name);
            case 5:
                NICRT_RETURN_IF_ERROR(
                    check_count(model.initializers.size() + 1, kMaxInitializers, "initializers"));
                return read_tensor(field.bytes, model.initializers.emplace_back());
            default: {
                auto& ports = field.number == 11 ? model.inputs : model.outputs;
                NICRT_RETURN_IF_ERROR(check_count(ports.size() + 1, kMaxPorts, "inputs or outputs"));
                return read_port(field.bytes, ports.emplace_back());
            }
        }
    });
}

Status read_opset(Bytes data, Model& model) {
    static constexpr Rule rules[]{{1, kLength}, {2, kVarint}};
    if (model.opset != 0) return unsupported("is of more than one operator set");
    NICRT_RETURN_IF_ERROR(
        for_each_field(data, "OperatorSetIdProto", rules, [&](const Field& field) -> Status {
            if (field.number == 1) return read_domain(field.bytes);
            model.opset = as_int(field);
            return {};
        }));
    if (model.opset >= kMinOpset && model.opset <= kMaxOpset) return {};
    return unsupported("is of operator set " + std::to_string(model.opset) + "; this nicrt reads " +
                       std::to_string(kMinOpset) + " to " + std::to_string(kMaxOpset));
}

Status read_model(Bytes data, Model& model) {
    // 2..6 and 14 say who made it; 20 is training, 25 functions, 26 devices
    static constexpr Rule rules[]{{1, kVarint},           {2, kLength, kDropped}, {3, kLength, kDropped},
                                  {4, kLength, kDropped}, {5, kVarint, kDropped}, {6, kLength, kDropped},
                                  {7, kLength},           {8, kLength, kMany},    {14, kLength, kDropped}};
    NICRT_RETURN_IF_ERROR(for_each_field(data, "ModelProto", rules, [&](const Field& field) -> Status {
        switch (field.number) {
            case 1: model.ir_version = as_int(field); return {};
            case 7: return read_graph(field.bytes, model);
            default: return read_opset(field.bytes, model);
        }
    }));
    if (model.ir_version < kMinIrVersion || model.ir_version > kMaxIrVersion)
        return unsupported("is of IR version " + std::to_string(model.ir_version) + "; this nicrt reads " +
                           std::to_string(kMinIrVersion) + " to " + std::to_string(kMaxIrVersion));
    if (model.opset == 0) return unsupported("does not say its operator set");
    return {};
}

Status check_ports(const Model& model) {
    std::size_t count = 0;
    for (const Node& node : model.nodes) count += node.inputs.size() + node.outputs.size();
    return check_count(count, kMaxAllPorts, "inputs and outputs of nodes");
}

/// The mark at byte 4 of ONNX Runtime's own format, for which it would take these bytes.
bool is_ort_format(Bytes data) {
    constexpr std::array<std::uint8_t, 4> mark{'O', 'R', 'T', 'M'};
    return data.size() >= 8 && std::equal(mark.begin(), mark.end(), data.begin() + 4);
}

}  // namespace

std::size_t bytes_of(Element element) {
    switch (element) {
        case Element::uint8:
        case Element::int8:
        case Element::boolean: return 1;
        case Element::uint16:
        case Element::int16:
        case Element::float16: return 2;
        case Element::float32:
        case Element::int32:
        case Element::uint32: return 4;
        case Element::int64:
        case Element::float64:
        case Element::uint64: break;
    }
    return 8;
}

Status read(std::span<const std::uint8_t> bytes, Model& out) {
    return status_of([&]() -> Status {
        if (bytes.size() > kMaxBytes) return unsupported("is larger than 512 MiB");
        if (is_ort_format(bytes))
            return unsupported("is one of ONNX Runtime's own format, which bundles may not have");
        Model model;
        NICRT_RETURN_IF_ERROR(read_model(bytes, model));
        NICRT_RETURN_IF_ERROR(check_ports(model));
        NICRT_RETURN_IF_ERROR(check(model));
        out = std::move(model);
        return {};
    });
}

}  // namespace nicrt::onnx

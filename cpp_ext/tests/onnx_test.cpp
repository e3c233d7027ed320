// ONNX models: what is read is written as it was; every prefix and every changed byte is refused or read as a
// model; each form and each content that bundles may not have is refused with the reason.
#include "nicrt/onnx.hpp"

#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "onnx_build.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::onnx_build;

/// One of everything that a model may have.
Bytes sample() {
    const Bytes attributes = join({
        attribute("alpha", 1, {2 << 3 | 5, 0, 0, 0x80, 0x3F}),
        attribute("axis", 2, number(3, -1)),
        attribute("mode", 3, text(4, "reflect")),
        attribute("value", 4, message(5, tensor("", Element::boolean, {}, {1}))),
        attribute("value_floats", 6, {7 << 3 | 5, 0, 0, 0, 0, 7 << 3 | 5, 1, 2, 3, 4}),
        attribute("pads", 7, join({number(8, 0), number(8, 7)})),
        attribute("perm", 7, {}),
    });
    const Bytes clip = node("Clip", {"x", "", "most"}, "a", attributes, "first");
    return model_of_nodes(
        join({clip, node("Cast", {"a"}, "y", attribute("to", 2, number(3, 6)))}),
        join({constant("most", Element::float16, std::initializer_list<std::uint16_t>{15360}),
              message(5, tensor("none", Element::int64, {3, 0}, {}))}),
        Element::int32);
}

void check_round_trip() {
    const Bytes bytes = sample();
    accepted(bytes);
    Model model;
    CHECK(onnx::read(bytes, model).ok());
    CHECK(model.ir_version == 9 && model.opset == 20 && model.graph_name == "g" && model.nodes.size() == 2);
    const onnx::Node& clip = model.nodes[0];
    CHECK(clip.op == "Clip" && clip.name == "first" && clip.inputs[1].empty() && clip.inputs[2] == "most");
    CHECK(std::get<float>(clip.attributes[0].value) == 1.0F);
    CHECK(std::get<std::int64_t>(clip.attributes[1].value) == -1);
    CHECK(std::get<std::string_view>(clip.attributes[2].value) == "reflect");
    CHECK(std::get<onnx::Tensor>(clip.attributes[3].value).element == Element::boolean);
    CHECK(std::get<std::vector<float>>(clip.attributes[4].value).size() == 2);
    CHECK((std::get<std::vector<std::int64_t>>(clip.attributes[5].value) == std::vector<std::int64_t>{0, 7}));
    CHECK(std::get<std::vector<std::int64_t>>(clip.attributes[6].value).empty());
    CHECK(model.initializers[1].shape.size() == 2 && model.initializers[1].data.empty());
    const auto& shape = *model.inputs[0].shape;
    CHECK(shape.size() == 3 && shape[0].symbol == "n" && shape[1].extent == 4 && !shape[2].extent);
}

/// What is dropped changes nothing, and other orders of fields are written in the one order.
void check_normal_form() {
    const Bytes plain = model_of_nodes(kAbs);
    const Bytes busy_node = node("Abs", {"x"}, "y", join({text(6, "doc"), text(7, "ai.onnx")}));
    const Bytes busy_graph = join({text(10, "doc"), message(13, {1, 2, 3}), graph_of(busy_node)});
    const Bytes busy = join(
        {kOpset, text(2, "maker"), number(5, 7), message(7, busy_graph), message(14, {0}), number(1, 9)});
    Model model;
    CHECK(onnx::read(busy, model).ok());
    CHECK(written(model) == plain);
}

void check_damage() {
    const Bytes bytes = sample();
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        Model model;
        CHECK(
            !onnx::read(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)), model).ok());
    }
    for (std::size_t i = 0; i < bytes.size(); ++i)
        for (unsigned change = 1; change < 256; ++change) {
            Bytes changed = bytes;
            changed[i] ^= static_cast<std::uint8_t>(change);
            Model model;
            const Status status = onnx::read(changed, model);
            CHECK(status.ok() || status.code() == Code::unsupported);
            if (status.ok()) accepted(written(model));
        }
}

/// Each number at each level of a model, longer than it has to be: the sample's keys and lengths are found by
/// reading it as protobuf.
void check_overlong() {
    const Bytes good =
        model_of_nodes(kAbs, constant("c", Element::int8, std::initializer_list<std::int8_t>{5}));
    const auto key = [](unsigned field, unsigned wire) { return field << 3 | wire; };
    const Bytes name = {'y'};
    const Bytes hidden = join({overlong(key(5, 2)), varint(0)});
    refused(join({good, hidden}), "malformed field in its ModelProto");
    refused(join({good, overlong(key(2, 2)), varint(0)}), "malformed field in its ModelProto");
    refused(model_of(join({graph_of(kAbs), overlong(key(1, 2)), varint(0)})),
            "malformed field in its GraphProto");
    refused(model_of_nodes(node("Abs", {"x"}, "y", join({overlong(key(1, 2)), varint(0)}))),
            "in its NodeProto");
    refused(model_of_nodes(node("Abs", {"x"}, "y", message(5, join({overlong(key(6, 2)), varint(0)})))),
            "AttributeProto");
    refused(model_of(join({graph_of(kAbs), message(5, join({overlong(key(13, 2)), varint(0)}))})),
            "TensorProto");
    refused(model_of(join({graph_of(kAbs), message(11, join({overlong(key(1, 2)), varint(0)}))})),
            "ValueInfoProto");
    refused(
        join({number(1, 9), message(7, graph_of(kAbs)), message(8, join({overlong(key(2, 0)), varint(20)}))}),
        "OperatorSetIdProto");
    // lengths and values
    refused(join({varint(key(1, 0)), overlong(9), message(7, graph_of(kAbs)), kOpset}),
            "malformed in field 1");
    refused(join({number(1, 9), varint(key(7, 2)), overlong(graph_of(kAbs).size()), graph_of(kAbs), kOpset}),
            "malformed in field 7");
    refused(model_of(join({graph_of(kAbs), varint(key(2, 2)), overlong(1), name})),
            "field 2 of its GraphProto");
    // a key of five bytes whose upper bits another reader drops: 2^32 and more
    refused(join({good, varint(std::uint64_t{1} << 32 | key(7, 2)), varint(0)}), "malformed field");
    refused(join({good, Bytes(10, 0xFF)}), "malformed field");
    refused(join({good, varint(0), varint(0)}), "malformed field");  // field 0, varint
    refused(join({good, varint(2), varint(0)}), "malformed field");  // field 0, bytes
    refused(join({good, varint(UINT32_MAX & ~7U), varint(0)}), "which bundles may not");
    refused(join({number(1, 9), message(7, graph_of(kAbs)),
                  message(8, join({varint(2 << 3), Bytes(9, 0xFF), Bytes{2}}))}),
            "malformed in field 2");
}

void check_forms() {
    const Bytes graph = graph_of(kAbs);
    refused({}, "IR version");
    refused(join({model_of(graph), message(7, {})}), "has twice field 7 of its ModelProto");
    refused(join({model_of(graph), number(1, 9)}), "has twice field 1");
    refused(join({model_of(graph), kOpset}), "more than one operator set");
    refused(join({number(1, 9), message(7, graph)}), "operator set");
    refused(join({number(1, 11), message(7, graph), kOpset}), "IR version 11");
    refused(join({number(1, 9), message(7, graph), message(8, number(2, 21))}), "operator set 21");
    refused(join({number(1, 9), message(7, graph), message(8, join({text(1, "evil"), number(2, 20)}))}),
            "domain evil");
    refused(model_of(join({graph, text(2, "again")})), "has twice field 2 of its GraphProto");
    refused(model_of_nodes(node("Abs", {"x"}, "y", text(4, "Loop"))), "has twice field 4 of its NodeProto");
    refused(join({model_of(graph), message(20, {})}), "field 20 of its ModelProto");  // training
    refused(join({model_of(graph), message(25, {})}), "field 25 of its ModelProto");  // functions
    refused(model_of(join({graph, message(15, {})})), "field 15 of its GraphProto");  // sparse initializers
    refused(model_of(join({graph, message(14, {})})), "field 14 of its GraphProto");
    refused(model_of_nodes(node("Abs", {"x"}, "y", text(7, "evil"))), "domain evil");
    refused(model_of_nodes(node("Abs", {"x"}, "y", text(8, "overload"))), "field 8 of its NodeProto");
    refused(join({number(1, 9), Bytes{7 << 3 | 3}, graph, kOpset}), "wrong wire type in field 7");
    refused(model_of_nodes(node("Abs", {"x"}, "y", message(1, {0xC0, 0x80}))), "UTF-8");
    refused(model_of_nodes(node("Abs", {"x"}, "y", message(3, {0xED, 0xA0, 0x80}))), "UTF-8");
    refused(model_of_nodes(node("Abs", {"x"}, "y", text(3, "a\nb"))), "control characters");
    refused(model_of_nodes(node("Abs", {"x"}, "y", text(3, std::string(513, 'a')))), "a text of 513 bytes");
    accepted(model_of_nodes(
        message(1, join({text(1, "x"), text(2, "y"), text(3, "größe \xF0\x9F\x98\x80"), text(4, "Abs")}))));
    Bytes twin = join({text(2, "abORTM"), model_of(graph)});
    CHECK(std::memcmp(twin.data() + 4, "ORTM", 4) == 0);
    refused(twin, "own format");
}

void check_attributes() {
    const auto with = [](const Bytes& rest) { return model_of_nodes(node("Conv", {"x", "x"}, "y", rest)); };
    const Bytes one = number(3, 1);
    accepted(with(attribute("group", 2, one)));
    refused(with(join({attribute("group", 2, one), attribute("group", 2, one)})),
            "has twice the attribute group");
    refused(with(attribute("group", 2, number(3, 0))), "out of range for the attribute group");
    refused(with(attribute("strides", 7, join({number(8, 1), number(8, 0)}))), "out of range");
    refused(with(attribute("pads", 7, number(8, INT64_MIN))), "out of range");
    refused(with(attribute("pads", 7, message(8, {1, 1}))),
            "wrong wire type");  // packed: another form of the same
    refused(with(attribute("group", 7, number(8, 1))), "out of range");
    refused(with(attribute("secret", 2, one)), "attribute secret");
    refused(with(attribute("group", 1, one)), "type is not that of its value");
    refused(with(attribute("group", 2, {})), "type is not that of its value");
    refused(with(attribute("group", 2, join({one, text(4, "")}))), "two values");
    refused(with(attribute("group", 2, join({one, one}))), "has twice field 3");
    refused(with(attribute("body", 5, message(6, {}))), "field 6 of its AttributeProto");
    refused(with(attribute("bodies", 10, message(11, {}))), "field 11 of its AttributeProto");
    refused(with(attribute("group", 2, join({one, text(21, "outer")}))), "field 21 of its AttributeProto");
    refused(with(attribute("value", 11, message(22, {}))), "field 22 of its AttributeProto");
    const Bytes value = tensor("", Element::uint8, {1}, {0});
    const auto filled = [&](const Bytes& more) {
        return model_of_nodes(
            node("ConstantOfShape", {"x"}, "y", attribute("value", 4, message(5, join({value, more})))));
    };
    refused(filled(message(13, text(1, "location"))), "field 13 of its TensorProto");
    refused(filled(number(14, 1)), "field 14 of its TensorProto");
    refused(filled(number(14, 0)), "field 14 of its TensorProto");
}

void check_tensors() {
    const auto with = [](const Bytes& content) {
        return model_of(join({graph_of(kAbs), message(5, content)}));
    };
    const Bytes good = tensor("c", Element::int32, {1}, Bytes(4));
    accepted(model_of_nodes(kAbs, message(5, good)));
    refused(with(join({good, message(13, {})})), "field 13 of its TensorProto");
    refused(with(join({good, number(14, 0)})), "field 14 of its TensorProto");
    refused(with(join({good, number(2, 6)})), "has twice field 2 of its TensorProto");
    refused(with(join({good, message(9, Bytes(4))})), "has twice field 9 of its TensorProto");
    refused(with(join({number(1, 1), number(2, 6), text(8, "c"), message(5, {1})})),
            "field 5 of its TensorProto");
    refused(with(join({number(1, 1), number(2, 6), text(8, "c")})), "without an element type or raw data");
    refused(with(tensor("c", static_cast<Element>(8), {1}, Bytes(4))), "element type (8)");
    refused(with(tensor("c", static_cast<Element>(16), {1}, Bytes(2))), "element type (16)");
    refused(with(tensor("c", Element::int32, {2}, Bytes(4))), "do not fit its shape");
    refused(with(tensor("c", Element::int32, {-1}, Bytes(4))), "extent of -1");
    refused(with(tensor("c", Element::int32, {INT64_C(1) << 31, INT64_C(1) << 31, INT64_C(1) << 31}, {})),
            "do not fit");
    refused(with(tensor("c", Element::int32, {1, 1, 1, 1, 1, 1, 1, 1, 1}, Bytes(4))),
            "more than 8 dimensions");
    refused(with(tensor("c", Element::boolean, {1}, {2})), "do not fit its shape and type");
}

void check_limits() {
    Bytes many;
    for (int i = 0; i < 5001; ++i) many.insert(many.end(), kAbs.begin(), kAbs.end());
    refused(model_of_nodes(many), "more than 5000 nodes");
    Bytes inputs;
    for (int i = 0; i < 1025; ++i) {
        const Bytes name = text(1, "x");
        inputs.insert(inputs.end(), name.begin(), name.end());
    }
    refused(model_of_nodes(message(1, join({inputs, text(2, "y"), text(4, "Concat")}))),
            "more than 1024 inputs");
    // not many at one node, but at all of them
    Bytes concat = text(4, "Concat");
    for (int i = 0; i < 1000; ++i) concat = join({concat, text(1, "x")});
    Bytes nodes = kAbs;
    for (int i = 0; i < 50; ++i) nodes = join({nodes, message(1, join({concat, text(2, numbered("v", i))}))});
    refused(model_of_nodes(nodes), "more than 50000 inputs and outputs of nodes");
}

}  // namespace

int main() {
    check_round_trip();
    check_normal_form();
    check_damage();
    check_overlong();
    check_forms();
    check_attributes();
    check_tensors();
    check_limits();
}

// ONNX models in protobuf, built by hand: the writer under test is not what makes its own inputs.
#pragma once

#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "check.hpp"
#include "nicrt/onnx.hpp"

namespace nicrt::onnx_build {

using onnx::Element;
using onnx::Model;
using Bytes = std::vector<std::uint8_t>;

inline Bytes varint(std::uint64_t value) {
    Bytes out;
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::uint8_t>(value | 0x80));
    out.push_back(static_cast<std::uint8_t>(value));
    return out;
}

/// `value` with one byte more than it needs.
inline Bytes overlong(std::uint64_t value) {
    Bytes out = varint(value);
    out.back() |= 0x80;
    out.push_back(0);
    return out;
}

/// A name with a number. (gcc 12 takes a literal plus a string for a copy onto itself: -Wrestrict.)
inline std::string numbered(const char* prefix, int number) {
    std::string name = prefix;
    name += std::to_string(number);
    return name;
}

inline Bytes join(std::initializer_list<Bytes> parts) {
    Bytes out;
    for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
    return out;
}

inline Bytes number(unsigned field, std::int64_t value) {
    return join({varint(field << 3), varint(static_cast<std::uint64_t>(value))});
}

inline Bytes message(unsigned field, const Bytes& content) {
    return join({varint(field << 3 | 2), varint(content.size()), content});
}

inline Bytes text(unsigned field, const std::string& content) {
    return message(field, Bytes(content.begin(), content.end()));
}

template <class T>
inline Bytes raw(std::initializer_list<T> values) {
    Bytes out(values.size() * sizeof(T));
    if (!out.empty()) std::memcpy(out.data(), values.begin(), out.size());
    return out;
}

inline Bytes tensor(const std::string& name, Element element, std::initializer_list<std::int64_t> shape,
                    const Bytes& data) {
    Bytes out;
    for (const std::int64_t extent : shape) out = join({out, number(1, extent)});
    out = join({out, number(2, static_cast<int>(element))});
    return join({out, name.empty() ? Bytes{} : text(8, name), message(9, data)});
}

template <class T>
inline Bytes constant(const std::string& name, Element element, std::initializer_list<T> values) {
    return message(5, tensor(name, element, {static_cast<std::int64_t>(values.size())}, raw(values)));
}

inline Bytes attribute(const std::string& name, int type, const Bytes& value) {
    return message(5, join({text(1, name), value, number(20, type)}));
}

inline Bytes node(const std::string& op, std::initializer_list<std::string> inputs, const std::string& output,
                  const Bytes& rest = {}, const std::string& name = "") {
    Bytes out;
    for (const std::string& input : inputs) out = join({out, text(1, input)});
    out = join({out, text(2, output)});
    if (!name.empty()) out = join({out, text(3, name)});
    return message(1, join({out, text(4, op), rest}));
}

inline Bytes port(unsigned field, const std::string& name, Element element) {
    const Bytes shape = join({message(1, text(2, "n")), message(1, number(1, 4)), message(1, {})});
    const Bytes type = message(1, join({number(1, static_cast<int>(element)), message(2, shape)}));
    return message(field, join({text(1, name), message(2, type)}));
}

inline const Bytes kOpset = message(8, join({text(1, ""), number(2, 20)}));

inline Bytes model_of(const Bytes& graph) { return join({number(1, 9), message(7, graph), kOpset}); }

/// x float32 → y of the type, by these nodes.
inline Bytes graph_of(const Bytes& nodes, const Bytes& constants = {}, Element type = Element::float32) {
    return join({nodes, text(2, "g"), constants, port(11, "x", Element::float32), port(12, "y", type)});
}

inline Bytes model_of_nodes(const Bytes& nodes, const Bytes& constants = {},
                            Element type = Element::float32) {
    return model_of(graph_of(nodes, constants, type));
}

inline Bytes written(const Model& model) {
    Bytes out(onnx::written_bytes(model));
    onnx::write(model, out);
    return out;
}

inline void accepted(const Bytes& bytes) {
    Model model;
    const Status status = onnx::read(bytes, model);
    if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
    CHECK(status.ok());
    CHECK(written(model) == bytes);
}

inline void refused(const Bytes& bytes, const std::string& reason) {
    Model model;
    model.opset = 99;
    const Status status = onnx::read(bytes, model);
    if (status.message().find(reason) == std::string::npos)
        std::fprintf(stderr, "said: %s; not: %s\n", status.message().c_str(), reason.c_str());
    CHECK(status.code() == Code::unsupported);
    CHECK(status.message().find(reason) != std::string::npos);
    CHECK(model.opset == 99);
}

inline const Bytes kAbs = node("Abs", {"x"}, "y");

}  // namespace nicrt::onnx_build

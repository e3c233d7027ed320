// What ONNX models have to keep to besides their form: names and order, divisions of integers, sizes.
#include "check.hpp"
#include "onnx_build.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::onnx_build;

void check_names() {
    refused(model_of_nodes({}), "no nodes");
    refused(model_of_nodes(node("Loop", {"x"}, "y")), "uses operator Loop");
    refused(model_of_nodes(node("Abs", {"z"}, "y")), "input 'z' is not made before it");
    refused(model_of_nodes(join({node("Abs", {"z"}, "y"), node("Abs", {"x"}, "z")})), "not made before it");
    refused(model_of_nodes(node("Abs", {"y"}, "y")), "not made before it");
    refused(model_of_nodes(join({kAbs, kAbs})), "two values with the name y");
    refused(model_of_nodes(node("Abs", {"x"}, "x")), "two values with the name x");
    refused(model_of_nodes(kAbs, constant("x", Element::uint8, std::initializer_list<std::uint8_t>{1})),
            "name x");
    refused(model_of_nodes(node("Abs", {"x"}, "z")), "output 'y' that no node makes");
    refused(model_of_nodes(kAbs, {}, Element::int64), "of another type");
    refused(model_of(join({graph_of(kAbs), port(12, "y", Element::float32)})), "output 'y' twice");
    refused(model_of(join({kAbs, port(11, "x", Element::float32)})), "no output");
    refused(model_of_nodes(node("Abs", {"x", "x"}, "y")), "a Abs of 2 inputs");
    refused(model_of_nodes(node("Abs", {""}, "y")), "not made before it");
    refused(model_of_nodes(node("Abs", {"x"}, "y", text(2, "z"))), "2 outputs");
    const Bytes untyped = message(11, join({text(1, "z"), message(2, message(1, {}))}));
    refused(model_of(join({graph_of(kAbs), untyped})), "without an element type");
    refused(model_of(join({graph_of(kAbs), message(11, text(1, "z"))})), "without a type");
    const Bytes both = message(1, join({number(1, 1), text(2, "n")}));
    const Bytes type = message(1, join({number(1, 1), message(2, both)}));
    refused(model_of(join({graph_of(kAbs), message(11, join({text(1, "z"), message(2, type)}))})),
            "both a number");
}

template <class T>
Bytes division(const std::string& op, Element element, std::initializer_list<T> divisors) {
    const Bytes cast = node("Cast", {"x"}, "a", attribute("to", 2, number(3, static_cast<int>(element))));
    return model_of_nodes(join({cast, node(op, {"a", "c"}, "y")}), constant("c", element, divisors), element);
}

void check_divisions() {
    const char* const reason = "of integers by something that could be 0 or -1";
    for (const std::string op : {"Div", "Mod"}) {
        accepted(division<std::int64_t>(op, Element::int64, {2, -2, INT64_MIN}));
        accepted(division<std::int32_t>(op, Element::int32, {-3}));
        accepted(division<std::uint8_t>(op, Element::uint8, {255}));
        accepted(division<float>(op, Element::float32, {0.0F, -1.0F}));
        refused(division<std::int64_t>(op, Element::int64, {2, 0}), reason);
        refused(division<std::int64_t>(op, Element::int64, {-1}), reason);
        refused(division<std::int32_t>(op, Element::int32, {-1}), reason);
        refused(division<std::int16_t>(op, Element::int16, {-1}), reason);
        refused(division<std::int8_t>(op, Element::int8, {0}), reason);
        refused(division<std::uint32_t>(op, Element::uint32, {0}), reason);
        // by something that is computed
        const Bytes cast = node("Cast", {"x"}, "a", attribute("to", 2, number(3, 7)));
        const Bytes half = join({cast, node("Add", {"a", "c"}, "b")});
        const Bytes two = constant("c", Element::int64, std::initializer_list<std::int64_t>{2});
        refused(model_of_nodes(join({half, node(op, {"a", "b"}, "y")}), two, Element::int64), reason);
        refused(model_of_nodes(join({half, node("Shape", {"x"}, "s"), node(op, {"s", "b"}, "y")}), two,
                               Element::int64),
                reason);
        // by what is at least 1
        const auto by_max = [&](std::int64_t least) {
            return model_of_nodes(
                join({half, node("Max", {"b", "c"}, "m"), node(op, {"a", "m"}, "y")}),
                constant("c", Element::int64, std::initializer_list<std::int64_t>{least, 2}), Element::int64);
        };
        accepted(by_max(1));
        refused(by_max(0), reason);
    }
    const Bytes constant_node =
        join({node("Cast", {"x"}, "a", attribute("to", 2, number(3, 7))),
              node("Constant", {}, "c",
                   attribute("value", 4, message(5, tensor("", Element::int64, {}, raw<std::int64_t>({0}))))),
              node("Div", {"a", "c"}, "y")});
    refused(model_of_nodes(constant_node, {}, Element::int64), reason);
}

void check_sizes() {
    const auto sized = [](const std::string& op, std::initializer_list<std::int64_t> extents) {
        const Bytes made = op == "ConstantOfShape" ? node(op, {"s"}, "y") : node(op, {"x", "s"}, "y");
        return model_of_nodes(made, constant("s", Element::int64, extents));
    };
    for (const std::string op : {"ConstantOfShape", "Expand", "Tile"}) {
        accepted(sized(op, {3, 0, 1 << 20}));
        refused(sized(op, {-1}), "size out of range");
        refused(sized(op, {1 << 20, 1 << 20}), "size out of range");
        refused(sized(op, {INT64_MAX, INT64_MAX}), "size out of range");
    }
    const auto range = [](std::int64_t first, std::int64_t end, std::int64_t step) {
        const auto scalar = [](const char* name, std::int64_t value) {
            return message(5, tensor(name, Element::int64, {}, raw<std::int64_t>({value})));
        };
        return model_of_nodes(node("Range", {"a", "b", "c"}, "y"),
                              join({scalar("a", first), scalar("b", end), scalar("c", step)}),
                              Element::int64);
    };
    accepted(range(5, -5, -1));
    refused(range(0, 5, 0), "size out of range");
    refused(range(0, 0, 0), "size out of range");
    refused(range(INT64_MIN, INT64_MAX, 1), "size out of range");
    refused(model_of_nodes(node("Range", {"x", "x", "x"}, "y")), "not of constants");
}

using Values = std::initializer_list<std::int64_t>;

Bytes extents(const std::string& name, Values values) { return constant(name, Element::int64, values); }

/// A float32 constant of this shape that costs the file little: ConstantOfShape makes it.
Bytes filled(const std::string& name, const std::string& shape) {
    return node("ConstantOfShape", {shape}, name);
}

/// x + a value that is made of constants alone.
Bytes with_constant(const Bytes& nodes, const Bytes& constants) {
    return model_of_nodes(join({nodes, node("Add", {"x", "c"}, "y")}), constants);
}

/// Values that double at each node, from `first` on.
Bytes doubling(int nodes, const std::string& op, const std::string& first, const std::string& second = "") {
    Bytes out;
    std::string value = first;
    for (int i = 0; i < nodes; ++i) {
        const std::string next = i + 1 < nodes ? numbered("v", i) : "c";
        out = join({out, node(op, {value, second.empty() ? value : second}, next,
                              op == "Concat" ? attribute("axis", 2, number(3, 0)) : Bytes{})});
        value = next;
    }
    return out;
}

/// What libraries compute of constants when they load a model is bounded, whichever operators make it grow.
void check_growth() {
    const char* const reason = "makes more than 512 MiB of its constants alone";
    const Bytes one = message(5, tensor("one", Element::float32, {1}, Bytes(4)));
    refused(with_constant(doubling(45, "Concat", "one"), one), reason);
    refused(with_constant(doubling(27, "Concat", "one"), one), reason);  // 2^28 numbers in all
    accepted(with_constant(doubling(20, "Concat", "one"), one));
    refused(with_constant(doubling(40, "Tile", "one", "s"), join({one, extents("s", {2})})), reason);
    accepted(with_constant(doubling(40, "Tile", "one", "s"), join({one, extents("s", {1})})));
    refused(with_constant(doubling(8, "Pad", "one", "s"), join({one, extents("s", {8, 8})})), reason);
    accepted(with_constant(doubling(8, "Pad", "one", "s"), join({one, extents("s", {0, -1})})));
    refused(with_constant(filled("c", "s"), extents("s", {1 << 14, 1 << 14})), reason);
    accepted(with_constant(filled("c", "s"), extents("s", {1 << 12, 1 << 12})));
    refused(with_constant(node("Expand", {"one", "s"}, "c"), join({one, extents("s", {1 << 28})})), reason);
    // each is small, all are not
    Bytes many;
    for (int i = 0; i < 200; ++i) many = join({many, filled(numbered("c", i), "s")});
    refused(with_constant(join({many, filled("c", "s")}), extents("s", {1 << 20})), reason);
}

/// Operators that make much of two constants.
void check_outer_products() {
    const char* const reason = "makes more than 512 MiB of its constants alone";
    const Bytes shapes =
        join({extents("s", {1 << 15, 1}), extents("t", {1, 1 << 15}), extents("u", {1 << 15})});
    const Bytes made = join({filled("a", "s"), filled("b", "t"), filled("d", "u")});
    for (const std::string op : {"Add", "Mul", "Max", "Less", "MatMul", "Gemm"}) {
        const Bytes last =
            op == "Less" ? node("Cast", {"l"}, "c", attribute("to", 2, number(3, 1))) : Bytes{};
        const Bytes large = node(op, {"a", "b"}, op == "Less" ? "l" : "c");
        refused(with_constant(join({made, large, last}), shapes), reason);
    }
    accepted(with_constant(join({made, node("Add", {"a", "a"}, "c")}), shapes));
    accepted(with_constant(join({made, node("Add", {"b", "d"}, "c")}), shapes));
    // the same of other shapes: constants that are reshaped to fit each other
    const Bytes scale =
        join({extents("s", {512, 512, 5, 5}), extents("t", {512}), extents("v", {-1, 1, 1, 1})});
    accepted(with_constant(join({filled("a", "s"), filled("b", "t"), node("Reshape", {"b", "v"}, "e"),
                                 node("Mul", {"a", "e"}, "c")}),
                           scale));
    // an extent of 0 goes away in a product, and in a sum
    const Bytes empty = join({extents("s", {1 << 20, 0}), extents("t", {0, 1 << 20})});
    refused(with_constant(join({filled("a", "s"), filled("b", "t"), node("MatMul", {"a", "b"}, "c")}), empty),
            reason);
    const Bytes indices =
        join({extents("s", {1, 1 << 13}),
              message(5, tensor("i", Element::int64, {1 << 16}, Bytes(std::size_t{8} << 16)))});
    refused(with_constant(join({filled("a", "s"), node("Gather", {"a", "i"}, "c")}), indices), reason);
}

/// Sizes that a library may know and this reader does not: each counts, so that there cannot be many.
void check_unknown_sizes() {
    const Bytes shape = node("Shape", {"x"}, "s");
    const auto fills = [&](int count) {
        Bytes out = shape;
        for (int i = 0; i < count; ++i) out = join({out, filled(numbered("c", i), "s")});
        return join({out, filled("c", "s")});
    };
    accepted(with_constant(fills(20), {}));
    refused(with_constant(fills(40), {}), "makes more than 512 MiB");
    const Bytes weights = join({extents("s", {1, 1, 64, 64}), extents("t", {1, 1, 3, 3})});
    accepted(with_constant(join({filled("a", "s"), filled("b", "t"),
                                 node("Conv", {"a", "b"}, "c",
                                      attribute("pads", 7, join({number(8, 1 << 16), number(8, 1 << 16)})))}),
                           weights));
}

/// What depends on an input has its size when the model runs: a limit of whoever runs it.
void check_run_sizes() {
    accepted(with_constant(doubling(45, "Concat", "x"), {}));
    accepted(with_constant(node("Tile", {"x", "s"}, "c"), extents("s", {1 << 10, 1 << 10})));
}

}  // namespace

int main() {
    check_names();
    check_divisions();
    check_sizes();
    check_growth();
    check_outer_products();
    check_unknown_sizes();
    check_run_sizes();
}

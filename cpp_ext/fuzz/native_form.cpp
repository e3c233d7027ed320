// Native forms of any description: refused by the rules of bundles or by the kernels, or run alike by the
// portable kernels and by the best ones.
#include "input.hpp"

#include <array>
#include <string>

#include "bundle/check.hpp"
#include "nicrt/engine.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;
using bundle::Element;
using engine::Named;
using engine::NativeOptions;

constexpr std::size_t kMostWeights = 1 << 14;
constexpr std::int64_t kMostPlaces = 1 << 14;

/// Names for all the tensors and values that a form may have.
constexpr std::array<std::string_view, 32> kNames{
    "a", "b", "c", "d", "e", "f", "g", "i",  "j",  "k",  "l",  "m",  "n0", "o",  "q",  "r",
    "s", "t", "u", "v", "x", "y", "z", "a1", "b1", "c1", "d1", "e1", "f1", "g1", "i1", "j1"};

bundle::Dimension symbol(std::string_view spelled, std::string_view name, std::int32_t factor) {
    return {0, factor, spelled, name};
}

bundle::Dimension times(std::string_view name, std::int32_t factor) {
    static constexpr std::array<std::string_view, 10> kRows{"", "h",  "2h", "3h", "4h",
                                                            "", "6h", "",   "8h", "9h"};
    static constexpr std::array<std::string_view, 10> kColumns{"", "w",  "2w", "3w", "4w",
                                                               "", "6w", "",   "8w", "9w"};
    const auto i = static_cast<std::size_t>(std::min(factor, 9));
    return symbol((name == "h" ? kRows : kColumns)[i], name, factor);
}

bundle::Dimension fixed(std::int32_t extent) { return {extent, 1, "", ""}; }

/// A graph of one operation and what it uses of stored tensors.
class Form {
public:
    explicit Form(fuzz::Input& in) : in_(in) {
        graph.inputs.items.push_back(
            {"p", {Element::int32, {fixed(1)}, bundle::Pair{-int(in.below(3)), int(in.below(4))}}});
        graph.native = bundle::NativeForm{};
        channels_ = 1 + static_cast<std::int32_t>(in.below(5));
        if (in.flag()) chain();
        else network();
        for (const auto& tensor : tensors)
            graph.native->tensors.items.push_back({tensor.name, {tensor.dtype, tensor.shape, ""}});
    }

    bundle::Graph graph;
    std::vector<bundle::Tensor> tensors;
    bool is_chain = false, too_large = false;

private:
    template <class Value, class Make>
    std::string_view add(Element dtype, std::vector<std::int32_t> shape, Make make) {
        std::size_t count = 1;
        for (const std::int32_t extent : shape) count *= static_cast<std::size_t>(extent);
        too_large = too_large || count > kMostWeights || tensors.size() >= kNames.size();
        if (too_large) return "a";
        bundle::Tensor& made = tensors.emplace_back();
        made.name = kNames[tensors.size() - 1];
        made.dtype = dtype;
        made.shape = std::move(shape);
        made.data.resize(count * sizeof(Value));
        for (std::size_t i = 0; i < count; ++i) {
            const Value value = make();
            std::memcpy(made.data.data() + i * sizeof value, &value, sizeof value);
        }
        return made.name;
    }

    std::string_view floats(std::vector<std::int32_t> shape, bool positive = false) {
        return add<float>(Element::float32, std::move(shape), [&] {
            const auto value = static_cast<float>(static_cast<std::int8_t>(in_.byte())) / 32;
            return positive ? std::abs(value) : value;
        });
    }

    bundle::Factors factors() {
        bundle::Factors made;
        for (unsigned i = in_.below(3); i > 0; --i) switch (in_.below(4)) {
                case 0: made.push_back(bundle::Constant{floats({in_.flag() ? 1 : channels_})}); break;
                case 1: made.push_back(bundle::Row{floats({3, channels_}), "p"}); break;
                case 2: made.push_back(bundle::Exponential{"p", 0.25, -double(in_.byte()) / 64}); break;
                default:
                    made.push_back(
                        bundle::InterpolatedExponential{floats({2, in_.flag() ? 1 : channels_}), "p", 2});
            }
        return made;
    }

    std::array<std::int32_t, 2> pair(std::int32_t least) {
        return {least + std::int32_t(in_.below(3)), least + std::int32_t(in_.below(3))};
    }

    void outputs(std::string_view name, Element dtype, std::int32_t channels, bool picture) {
        const auto n = symbol("n", "n", 1), h = times("h", rows_), w = times("w", columns_);
        graph.outputs.items.push_back(
            {name,
             {dtype,
              picture ? std::vector{n, h, w, fixed(channels)} : std::vector{n, fixed(channels), h, w},
              {}}});
    }

    void input(std::string_view name, Element dtype, std::optional<bundle::Pair> range) {
        graph.inputs.items.push_back(
            {name, {dtype, {symbol("n", "n", 1), fixed(channels_), times("h", 1), times("w", 1)}, range}});
    }

    void chain() {
        is_chain = true;
        bundle::TransposedChain chain;
        chain.out = "out";
        const unsigned terms = 1 + in_.below(2);
        for (unsigned term = 0; term < terms; ++term) {
            const std::string_view name = term == 0 ? "first" : "second";
            input(name, in_.flag() ? Element::float32 : Element::int32, {});
            chain.terms.push_back({name, factors()});
        }
        chain.offset = factors();
        std::int32_t channels = channels_;
        const unsigned count = 1 + in_.below(2);
        for (unsigned i = 0; i < count; ++i) {
            const std::int32_t out = i + 1 == count ? (in_.flag() ? 1 : 3) : 1 + std::int32_t(in_.below(6));
            bundle::Layer& layer = chain.layers.emplace_back();
            const auto kernel = pair(1);
            layer.weight = floats({channels, out, kernel[0], kernel[1]});
            if (in_.flag()) layer.bias = floats({out});
            layer.stride = pair(1);
            layer.pad = pair(0);
            layer.slope = in_.byte() / 255.0;
            if (in_.byte() % 4 == 0)
                layer.norm = {floats({channels}, true), floats({channels, channels}, true)};
            rows_ *= layer.stride[0];
            columns_ *= layer.stride[1];
            channels = out;
        }
        chain.picture = bundle::Picture{double(in_.byte() % 9), 255.0 - in_.byte() % 9, Element::uint8};
        outputs("out", Element::uint8, channels, true);
        graph.native->operations.push_back(std::move(chain));
    }

    void convolution(bundle::IntegerConvolution& layer, std::int32_t in, std::int32_t out) {
        const auto kernel = pair(1);
        const bool by_row = in_.flag();
        const auto shape = [&] {
            return by_row ? std::vector<std::int32_t>{3, out} : std::vector<std::int32_t>{out};
        };
        layer.weight = add<std::int8_t>(Element::int8, {in, out, kernel[0], kernel[1]},
                                        [&] { return static_cast<std::int8_t>(in_.byte()); });
        layer.bias = add<std::int32_t>(Element::int32, shape(), [&] {
            return in_.byte() == 255 ? static_cast<std::int32_t>(in_.number()) : in_.byte() - 128;
        });
        layer.multiplier = add<float>(Element::float32, shape(), [&] {
            return in_.byte() == 255 ? in_.real() : static_cast<float>(in_.byte()) / 4096;
        });
        layer.pad = pair(0);
        if (by_row) layer.row = "p";
    }

    void network() {
        const std::int32_t reach = in_.byte();
        input("z", Element::int32, bundle::Pair{in_.flag() ? -reach : 0, reach});
        bundle::IntegerNetwork network;
        network.value = "z";
        std::int32_t channels = channels_;
        for (unsigned i = 1 + in_.below(2); i > 0; --i) {
            bundle::IntegerLayer& layer = network.hidden.emplace_back();
            const std::int32_t out = 1 + std::int32_t(in_.below(8));
            convolution(layer, channels, out);
            layer.stride = pair(1);
            layer.low = in_.flag() ? -127 : 0;
            layer.high = in_.byte() / 2;
            rows_ *= layer.stride[0];
            columns_ *= layer.stride[1];
            channels = out;
        }
        bundle::Head& head = network.heads.emplace_back();
        const std::int32_t out = 1 + std::int32_t(in_.below(4));
        convolution(head, channels, out);
        head.out = "out";
        if (in_.flag()) head.index = index_rule();
        outputs("out", head.index ? Element::uint8 : Element::float32, out, false);
        graph.native->operations.push_back(std::move(network));
    }

    bundle::IndexRule index_rule() {
        bundle::IndexRule rule{
            in_.byte() - 128, 1.0 / (1 << in_.below(4)), 0, in_.byte(), "p", in_.byte(), "p", {}};
        if (in_.flag())
            rule.scales = bundle::ScaleTable{
                add<std::int16_t>(Element::int16, {40},
                                  [&] { return static_cast<std::int16_t>(in_.byte() - 99); }),
                std::int32_t(in_.below(3)),
                20 + in_.byte(),
                std::int32_t(in_.below(40)),
                0.25,
                in_.byte() % 16};
        return rule;
    }

    fuzz::Input& in_;
    std::int32_t channels_ = 1, rows_ = 1, columns_ = 1;
};

/// A run of a form; every array is made from the same bytes.
class Run {
public:
    Run(const Form& form, fuzz::Input in) : in_(in) {
        const std::int64_t pictures = 1 + in_.below(2), rows = 1 + in_.below(5), columns = 1 + in_.below(20);
        const auto shape_of = [&](const bundle::Port& port) {
            std::vector<std::int64_t> shape;
            for (const bundle::Dimension& dimension : port.dims)
                shape.push_back(dimension.extent > 0      ? dimension.extent
                                : dimension.symbol == "n" ? pictures
                                : dimension.symbol == "h" ? rows * dimension.factor
                                                          : columns * dimension.factor);
            return shape;
        };
        for (const auto& [name, port] : form.graph.inputs) add_input(name, port, shape_of(port));
        for (const auto& [name, port] : form.graph.outputs) {
            Named& output = outputs.emplace_back();
            output.port = name;
            output.array.dtype = port.dtype;
            output.array.shape = shape_of(port);
            fits = fits && static_cast<std::int64_t>(output.array.bytes()) <= kMostPlaces;
        }
    }

    Status run(const engine::Executable& executable, unsigned threads) {
        return executable.run(inputs, outputs, {&process_pool(), threads});
    }

    std::vector<Named> inputs, outputs;
    bool fits = true;

private:
    void add_input(std::string_view name, const bundle::Port& port, const std::vector<std::int64_t>& shape) {
        Named& input = inputs.emplace_back();
        input.port = name;
        MUST(engine::Array::make(port.dtype, shape, nullptr, input.array).ok());
        const bundle::Pair range = port.range.value_or(bundle::Pair{-20, 20});
        const auto count = static_cast<std::size_t>(input.array.bytes() / 4);
        for (std::size_t i = 0; i < count; ++i) {
            const auto drawn =
                static_cast<std::int32_t>(range[0] + std::int64_t(in_.number() % (range[1] - range[0] + 1)));
            if (port.dtype == Element::int32) input.array.as<std::int32_t>()[i] = drawn;
            else input.array.as<float>()[i] = static_cast<float>(drawn) / 4;
        }
    }

    fuzz::Input in_;
};

bool equal(const Run& a, const Run& b, int apart) {
    for (std::size_t i = 0; i < a.outputs.size(); ++i) {
        const auto &one = a.outputs[i].array, &two = b.outputs[i].array;
        for (std::uint64_t k = 0; k < one.bytes(); ++k)
            if (std::abs(int{one.data[k]} - int{two.data[k]}) > apart) return false;
    }
    return true;
}

Status load(const Form& form, const NativeOptions& options, std::shared_ptr<const engine::Executable>& out) {
    bool other_kind = false;
    const Status status =
        engine::make_native_executable(form.graph, form.tensors, nullptr, options, out, other_kind);
    MUST(status.ok() != other_kind);
    return status;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input in(data, size);
    const Form form(in);
    if (form.too_large || !bundle::check_graph("g", form.graph).ok()) return 0;
    const native::Arithmetic fp32 =
        native::arithmetic_available(native::Arithmetic::avx512) ? native::Arithmetic::avx512
        : native::arithmetic_available(native::Arithmetic::avx2) ? native::Arithmetic::avx2
                                                                 : native::Arithmetic::scalar;
    std::shared_ptr<const engine::Executable> portable, exact, best;
    const bool runs = load(form, {native::Arithmetic::scalar, native::IntegerIsa::scalar}, portable).ok();
    MUST(load(form, {fp32, native::IntegerIsa::best}, exact).ok() == runs &&
         load(form, {}, best).ok() == runs);
    if (!runs) return 0;
    Run one(form, in), two(form, in), three(form, in), four(form, in);
    if (!one.fits) return 0;
    MUST(one.run(*portable, 1).ok() && two.run(*exact, 1).ok() && three.run(*best, 1).ok() &&
         four.run(*best, 2).ok());
    MUST(equal(one, two, form.is_chain ? 1 : 0) && equal(three, four, 0));
    return 0;
}

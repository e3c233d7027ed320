// Integer networks: every instruction set against a direct computation, any thread count, refusals.
#include "nicrt/integer_network.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "check.hpp"
#include "transposed.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::native;

std::mt19937 random_bits(1);

template <class Integer>
Integer random_int(Integer low, Integer high) {
    return static_cast<Integer>(std::uniform_int_distribution<std::int64_t>(low, high)(random_bits));
}

/// A network and its input, with what the spans of both point to.
struct Case {
    IntegerRange input;
    std::vector<IntegerLayer> hidden, heads;
    std::vector<std::vector<std::int8_t>> weights;
    std::vector<std::vector<std::int32_t>> biases;
    std::vector<std::vector<float>> multipliers, negatives;
    std::vector<float> table;
    std::vector<std::int32_t> in;
    std::vector<Rescale> rescales;
    std::size_t height = 1, width = 1;
    IndexRule rule{2, 0.125F, 0, 63, 5, 255, {}};
};

Axis random_axis(std::uint32_t most_stride) {
    const auto kernel = random_int<std::uint32_t>(1, 6);
    return {kernel, random_int<std::uint32_t>(1, most_stride), random_int<std::uint32_t>(0, kernel - 1)};
}

/// Adds a layer's numbers: sums of a few hundred, times what makes that 0 .. 50 or so.
void add_numbers(Case& made, const IntegerLayer& layer) {
    auto& weights =
        made.weights.emplace_back(std::size_t{layer.in} * layer.out * layer.y.kernel * layer.x.kernel);
    for (auto& weight : weights) weight = random_int<std::int8_t>(-128, 127);
    auto& bias = made.biases.emplace_back(layer.out);
    for (auto& value : bias) value = random_int<std::int32_t>(-4000, 4000);
    auto& multiplier = made.multipliers.emplace_back(layer.out);
    for (auto& value : multiplier) value = std::uniform_real_distribution<float>(0.001F, 0.01F)(random_bits);
    auto& negative = made.negatives.emplace_back(multiplier);
    for (auto& value : negative) value *= 0.25F;
}

Case random_case(bool negative) {
    Case made;
    made.input = {-random_int<std::int32_t>(0, 127), random_int<std::int32_t>(0, 127)};
    made.height = random_int<std::size_t>(1, 7);
    made.width = random_int<std::size_t>(1, 9);
    auto channels = random_int<std::uint32_t>(1, 40);
    for (std::size_t i = 0; i < made.height * made.width * channels; ++i)
        made.in.push_back(random_int(made.input.low, made.input.high));
    const auto count = random_int<std::uint32_t>(1, 3);
    for (std::uint32_t l = 0; l < count; ++l) {
        const IntegerRange range{negative ? -random_int<std::int32_t>(0, 900) : 0,
                                 random_int<std::int32_t>(1, 255)};
        made.hidden.push_back(
            {channels, random_int<std::uint32_t>(1, 90), random_axis(3), random_axis(3), {}, range});
        channels = made.hidden.back().out;
        add_numbers(made, made.hidden.back());
    }
    for (const std::uint32_t out : {random_int<std::uint32_t>(1, 30), random_int<std::uint32_t>(1, 30)}) {
        made.heads.push_back({channels, out, random_axis(1), random_axis(1), {}, {}});
        add_numbers(made, made.heads.back());
    }
    if (random_int(0, 1) == 1)
        for (int i = 0; i < 50; ++i) made.table.push_back(static_cast<float>(random_int(-20, 600)));
    return made;
}

/// Spans into a case that has come to rest.
void connect(Case& made) {
    for (std::size_t l = 0; l < made.weights.size(); ++l) {
        auto& layer = l < made.hidden.size() ? made.hidden[l] : made.heads[l - made.hidden.size()];
        layer.weights = made.weights[l];
        made.rescales.push_back({made.biases[l], made.multipliers[l], {}});
        if (l < made.hidden.size() && l % 2 == 0) made.rescales.back().negative = made.negatives[l];
    }
    if (!made.table.empty()) made.rule.table = {made.table, 0, 60, 40, 0.5F, 19};  // 40 → 39, 60 → 49
}

/// Sums of one layer.
std::vector<std::int64_t> sums(const IntegerLayer& layer, const std::vector<std::int64_t>& in,
                               std::size_t height, std::size_t width) {
    std::vector<std::int64_t> out(layer.out * height * layer.y.stride * width * layer.x.stride);
    add_by_definition(layer, in, height, width, out);
    return out;
}

/// One float32 product, rounded once, whatever the compiler makes of it.
float scaled(std::int64_t sum, const Rescale& rescale, std::size_t channel) {
    const volatile float product =
        static_cast<float>(sum + rescale.bias[channel]) * rescale.multiplier[channel];
    return product;
}

struct Expected {
    std::vector<float> floats;
    std::vector<std::uint8_t> indices;
};

Expected direct(const Case& made) {
    std::vector<std::int64_t> values(made.in.begin(), made.in.end());
    std::size_t height = made.height, width = made.width;
    for (std::size_t l = 0; l < made.hidden.size(); ++l) {
        const IntegerLayer& layer = made.hidden[l];
        values = sums(layer, values, height, width);
        height *= layer.y.stride, width *= layer.x.stride;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const std::size_t channel = i / (height * width);
            float value = scaled(values[i], made.rescales[l], channel);
            if (!made.rescales[l].negative.empty())
                value = std::max(value, scaled(values[i], {made.biases[l], made.negatives[l], {}}, channel));
            const float rounded = std::nearbyint(value);
            values[i] = std::clamp(static_cast<std::int64_t>(rounded), std::int64_t{layer.range.low},
                                   std::int64_t{layer.range.high});
        }
    }
    Expected expected;
    const std::size_t first = made.hidden.size(), area = height * width;
    const auto floats = sums(made.heads[0], values, height, width);
    for (std::size_t i = 0; i < floats.size(); ++i)
        expected.floats.push_back(scaled(floats[i], made.rescales[first], i / area));
    const auto indices = sums(made.heads[1], values, height, width);
    for (std::size_t i = 0; i < indices.size(); ++i) {
        auto eighths = std::llrint(scaled(indices[i], made.rescales[first + 1], i / area));
        if (!made.table.empty()) {
            const auto v = std::clamp<long long>(eighths, 0, 60);
            eighths = std::llrint(made.table[static_cast<std::size_t>(v < 40 ? v : v / 2 + 19)]);
        }
        const auto index = std::clamp<std::int64_t>((eighths + 2) >> 3, 0, 63);
        expected.indices.push_back(static_cast<std::uint8_t>(index < 5 ? 255 : index));
    }
    return expected;
}

void every_instruction_set_is_right() {
    for (int round = 0; round < 40; ++round) {
        Case made = random_case(round % 3 == 0);
        connect(made);
        const Expected expected = direct(made);
        for (const IntegerIsa isa : {IntegerIsa::scalar, IntegerIsa::avx2, IntegerIsa::avx512_vnni}) {
            if (!integer_isa_available(isa)) continue;
            IntegerNetwork network;
            CHECK(IntegerNetwork::make(made.hidden, made.heads, made.input, isa, network).ok());
            CHECK(network.isa() == isa && network.heads() == 2);
            for (const unsigned threads : {1U, 3U}) {
                std::vector<float> floats(expected.floats.size());
                std::vector<std::uint8_t> indices(expected.indices.size());
                const HeadOutput outputs[] = {{floats.data(), nullptr, {}},
                                              {nullptr, indices.data(), made.rule}};
                CHECK(network
                          .run(made.in.data(), made.height, made.width, made.rescales, outputs,
                               {&process_pool(), threads})
                          .ok());
                CHECK(floats == expected.floats);
                CHECK(indices == expected.indices);
            }
        }
    }
}

void refuses() {
    Case made = random_case(false);
    connect(made);
    IntegerNetwork network;
    const auto make = [&](const Case& c) {
        return IntegerNetwork::make(c.hidden, c.heads, c.input, IntegerIsa::best, network).code();
    };
    CHECK(IntegerNetwork::make({}, made.heads, made.input, IntegerIsa::best, network).code() ==
          Code::unsupported);
    Case changed = made;
    changed.hidden[0].y.stride = 0;
    CHECK(make(changed) == Code::unsupported);
    changed = made;
    changed.hidden[0].x.kernel += 1;
    CHECK(make(changed) == Code::invalid_argument);
    changed = made;
    changed.input.high = 1 << 20;
    CHECK(make(changed) == Code::unsupported);
    changed = made;
    changed.hidden[0].range = {0, 1 << 16};
    CHECK(make(changed) == Code::unsupported);

    CHECK(make(made) == Code::ok);
    std::size_t scale = 1;
    for (const IntegerLayer& layer : made.hidden) scale *= layer.y.stride * layer.x.stride;
    const std::size_t area = made.height * made.width * scale;
    std::vector<float> floats(made.heads[0].out * area);
    std::vector<std::uint8_t> indices(made.heads[1].out * area);
    std::vector<HeadOutput> outputs{{floats.data(), nullptr, {}}, {nullptr, indices.data(), made.rule}};
    const auto run = [&] {
        return network.run(made.in.data(), made.height, made.width, made.rescales, outputs, {}).code();
    };
    CHECK(run() == Code::ok);
    outputs[1].rule.high = 256;
    CHECK(run() == Code::invalid_argument);
    made.table.assign(50, 0.0F);
    outputs[1].rule = made.rule;
    for (const ScaleTable& table :
         {ScaleTable{made.table, -1, 60, 40, 0.5F, 19}, ScaleTable{made.table, 0, 62, 40, 0.5F, 19},
          ScaleTable{made.table, 0, 60, 30, 0.5F, -16}, ScaleTable{made.table, 0, 60, 51, 0.5F, 19},
          ScaleTable{made.table, 0, 60.5F, 40, 0.5F, 19}}) {
        outputs[1].rule.table = table;
        CHECK(run() == Code::invalid_argument);
    }
    outputs[1].rule = made.rule;
    made.in[0] = made.input.high + 1;
    CHECK(run() == Code::invalid_argument);
    made.in[0] = made.input.low;
    made.rescales[0].bias = {};
    CHECK(run() == Code::invalid_argument);
}

}  // namespace

int main() {
    every_instruction_set_is_right();
    refuses();
}

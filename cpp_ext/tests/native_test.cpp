// Chains of transposed convolutions: every arithmetic against a direct computation, any thread count,
// refusals.
#include "nicrt/native.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "check.hpp"
#include "transposed.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::native;

std::mt19937 random_bits(1);

std::uint32_t random_int(std::uint32_t low, std::uint32_t high) {
    return std::uniform_int_distribution<std::uint32_t>(low, high)(random_bits);
}

std::vector<float> random_floats(std::size_t count, float mean, float spread) {
    std::normal_distribution<float> normal(mean, spread);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_bits);
    return values;
}

/// A chain and its input, with what the spans of both point to.
struct Case {
    std::vector<Layer> layers;
    std::vector<std::vector<float>> weights, biases, betas, gammas;  ///< by layer
    std::vector<float> floats, scale, offset;
    std::vector<std::int32_t> integers;
    Input input;
    std::size_t rows = 1, columns = 1;  ///< of the picture
};

Axis random_axis(std::uint32_t most_stride) {
    const std::uint32_t kernel = random_int(1, 9);
    return {kernel, random_int(1, most_stride), random_int(0, kernel - 1)};
}

Case random_case() {
    Case made;
    const std::uint32_t count = random_int(1, 3);
    std::uint32_t in = random_int(1, 70);
    const std::uint32_t channels = in;
    const bool smooth = random_int(0, 1) == 1;  // few channels hold most of the energy, as in trained ones
    made.input.height = random_int(1, 12);
    made.input.width = random_int(1, 70);
    made.rows = made.input.height;
    made.columns = made.input.width;
    for (std::uint32_t l = 0; l < count; ++l) {
        Layer layer;
        layer.in = in;
        in = layer.out = l + 1 == count ? random_int(1, 4) : random_int(1, 40);
        layer.y = random_axis(count == 3 ? 3 : 5);
        layer.x = random_axis(count == 3 ? 3 : 5);
        layer.slope = 0.25F;
        const std::size_t taps = std::size_t{layer.y.kernel} * layer.x.kernel;
        const float terms =
            static_cast<float>(layer.in * taps) / static_cast<float>(layer.y.stride * layer.x.stride);
        const float spread = (l + 1 == count ? 12.0F : 1.0F) / std::sqrt(std::max(1.0F, terms));
        made.weights.push_back(random_floats(layer.in * layer.out * taps, 0, spread));
        if (smooth)
            std::fill_n(made.weights.back().begin(), std::min(layer.in, 3U) * layer.out * taps, spread / 2);
        made.biases.push_back(random_floats(layer.out, l + 1 == count ? 120.0F : 0.0F, 0.5F));
        const bool normed = random_int(0, 1) == 1;
        made.betas.push_back(random_floats(normed ? layer.in : 0, 1, 0.1F));
        made.gammas.push_back(random_floats(normed ? layer.in * layer.in : 0, 0, 0.1F));
        for (float& weight : made.gammas.back()) weight = std::abs(weight) / static_cast<float>(layer.in);
        made.layers.push_back(layer);
        made.rows *= layer.y.stride;
        made.columns *= layer.x.stride;
    }
    for (std::uint32_t l = 0; l < count; ++l) {
        made.layers[l].weights = made.weights[l];
        made.layers[l].bias = made.biases[l];
        made.layers[l].norm = {made.betas[l], made.gammas[l]};
    }
    const std::size_t places = channels * made.input.height * made.input.width;
    made.floats = random_floats(places, 0, 0.5F);
    made.scale = random_floats(channels, 1, 0.2F);
    made.offset = random_floats(channels, 0, 0.2F);
    for (std::size_t i = 0; i < places; ++i)
        made.integers.push_back(static_cast<std::int32_t>(random_int(0, 4)) - 2);
    return made;
}

/// Spans into a case that has come to rest.
void connect(Case& made) {
    made.input.terms = {{nullptr, made.integers.data(), made.scale},
                        {made.floats.data(), nullptr, made.scale}};
    made.input.offset = made.offset;
}

/// The normalisation of a layer's input.
std::vector<double> normalised(const Norm& norm, const std::vector<double>& in, std::size_t places) {
    if (norm.beta.empty()) return in;
    std::vector<double> out(in.size());
    for (std::size_t i = 0; i < in.size(); ++i) {
        const std::size_t c = i / places, place = i % places;
        double sum = norm.beta[c];
        for (std::size_t k = 0; k < norm.beta.size(); ++k)
            sum += norm.gamma[c * norm.beta.size() + k] * in[k * places + place] * in[k * places + place];
        out[i] = in[i] * std::sqrt(sum);
    }
    return out;
}

/// One layer.
std::vector<double> direct(const Layer& layer, const std::vector<double>& in, std::size_t height,
                           std::size_t width) {
    const std::size_t rows = height * layer.y.stride, columns = width * layer.x.stride;
    std::vector<double> out(layer.out * rows * columns);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = layer.bias[i / (rows * columns)];
    add_by_definition(layer, in, height, width, out);
    for (double& value : out) value = value < 0 ? value * layer.slope : value;
    return out;
}

std::vector<double> direct(const Case& made) {
    const std::size_t places = made.input.height * made.input.width;
    std::vector<double> values(made.floats.size());
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] =
            (made.integers[i] + double{made.floats[i]}) * made.scale[i / places] + made.offset[i / places];
    std::size_t height = made.input.height, width = made.input.width;
    for (const Layer& layer : made.layers) {
        values = direct(layer, normalised(layer.norm, values, height * width), height, width);
        height *= layer.y.stride;
        width *= layer.x.stride;
    }
    return values;
}

void every_arithmetic_is_right() {
    for (int round = 0; round < 40; ++round) {
        Case made = random_case();
        connect(made);
        const std::vector<double> expected = direct(made);
        const std::size_t channels = made.layers.back().out, area = made.rows * made.columns;
        for (const Arithmetic arithmetic :
             {Arithmetic::scalar, Arithmetic::avx2, Arithmetic::avx512, Arithmetic::avx512_bf16}) {
            if (!arithmetic_available(arithmetic)) continue;
            Chain chain;
            CHECK(Chain::make(made.layers, arithmetic, chain).ok());
            CHECK(chain.arithmetic() == arithmetic && chain.output_channels() == channels);
            CHECK(made.input.height * chain.scale_y() == made.rows &&
                  made.input.width * chain.scale_x() == made.columns);
            std::vector<std::uint8_t> picture(area * channels), again(area * channels);
            CHECK(chain.run(made.input, 5, 240, {}, picture.data()).ok());
            CHECK(chain.run(made.input, 5, 240, {&process_pool(), 3}, again.data()).ok());
            CHECK(picture == again);
            const double allowed = arithmetic == Arithmetic::avx512_bf16 ? 1.0 : 0.01;
            for (std::size_t i = 0; i < picture.size(); ++i) {
                const double wanted = std::clamp(expected[i % channels * area + i / channels], 5.0, 240.0);
                CHECK(picture[i] <= wanted + allowed && picture[i] + 1 > wanted - allowed);
            }
        }
    }
}

void refuses() {
    Case made = random_case();
    connect(made);
    Chain chain;
    CHECK(Chain::make({}, Arithmetic::best, chain).code() == Code::unsupported);
    auto layers = made.layers;
    layers.front().y.stride = 0;
    CHECK(Chain::make(layers, Arithmetic::best, chain).code() == Code::unsupported);
    layers = made.layers;
    layers.front().x.kernel += 1;
    CHECK(Chain::make(layers, Arithmetic::best, chain).code() == Code::invalid_argument);
    layers = made.layers;
    layers.front().norm.beta = {};
    layers.front().norm.gamma = made.weights.front();
    CHECK(Chain::make(layers, Arithmetic::best, chain).code() == Code::invalid_argument);
    layers = made.layers;
    layers.front().in = std::numeric_limits<std::uint32_t>::max();
    CHECK(Chain::make(layers, Arithmetic::best, chain).code() == Code::unsupported);

    CHECK(Chain::make(made.layers, Arithmetic::best, chain).ok());
    std::vector<std::uint8_t> picture(made.rows * made.columns * made.layers.back().out);
    CHECK(chain.run(made.input, 5, 256, {}, picture.data()).code() == Code::invalid_argument);
    CHECK(chain.run(made.input, 9, 5, {}, picture.data()).code() == Code::invalid_argument);
    Input input = made.input;
    input.terms.front().scale = {};
    CHECK(chain.run(input, 5, 240, {}, picture.data()).code() == Code::invalid_argument);
    input = made.input;
    input.width = std::size_t{1} << 25;
    CHECK(chain.run(input, 5, 240, {}, picture.data()).code() == Code::invalid_argument);
}

}  // namespace

int main() {
    every_arithmetic_is_right();
    refuses();
}

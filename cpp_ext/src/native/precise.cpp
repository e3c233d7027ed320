// Chooses the channels that need more than a bfloat16's bits. From the weights alone: a choice that looked at
// the latents would be another one in every window of a picture, and a region would not be a crop.
//
// What latents are like follows from what pictures are like, which are smooth: of a smooth wave of so many
// grey levels, the latents that give it back hold e = |answer|^2 / energy^2 in each channel, where `answer`
// is what the channel's basis function has of that wave (its Fourier transform), and `energy` that function's
// sum of squares. The transforms are trained for few bits, so basis functions are nearly orthogonal where it
// matters.
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <numbers>
#include <numeric>
#include <utility>

#include "packed.hpp"

namespace nicrt::native {
namespace {

/// One channel in so many is precise: of the shallow codec's first layer, that is 6% more products.
constexpr std::size_t channels_per_precise = 16;
/// The same behind a normalisation, where few channels hold most of the energy, and for the last layer, which
/// makes grey levels: with these one value in about 100 million is off by more than one (slimmable and
/// mean-scale codecs on Kodak, three qualities).
constexpr std::size_t normed_per_precise = 6, last_per_precise = 4, least_precise = 8, most_precise = 24;

/// Of the energy of a layer's products, for the rest of them to be of pairs. Trained transforms have 0.94 and
/// more, random ones 0.2 to 0.4, and pixels that were off by up to 3 levels.
constexpr double least_precise_share = 0.8;

/// Smooth pictures, by their cycles per pixel: a flat one, and waves down and across.
struct Wave {
    double y, x;
};
constexpr std::array<Wave, 3> waves{{{0, 0}, {1.0 / 32, 0}, {0, 1.0 / 32}}};
/// Of a wave's energy, what its colours have in common: photographs are nearly grey.
constexpr double grey_share = 0.9;
constexpr double typical_energy = 60.0 * 60.0;  ///< of a picture, in squared grey levels
constexpr std::size_t max_colours = 4;          ///< that are looked at

using Number = std::complex<double>;
using Answers = std::array<std::vector<Number>, waves.size()>;  ///< to each wave: [channels][colours]

/// Waves at a layer's output, per tap: e^(-2 pi i f t).
std::vector<Number> phases(double frequency, std::uint32_t taps) {
    std::vector<Number> phases(taps);
    for (std::uint32_t t = 0; t < taps; ++t)
        phases[t] = std::polar(1.0, -2 * std::numbers::pi * frequency * t);
    return phases;
}

/// What the kernels of one pair of channels answer to each wave, from their sums over rows and over columns:
/// each wave is constant along one of the two.
class KernelAnswers {
public:
    KernelAnswers(const Layer& layer, std::size_t scale_y, std::size_t scale_x)
        : rows_(layer.y.kernel), columns_(layer.x.kernel), row_sums_(rows_), column_sums_(columns_) {
        for (const Wave& wave : waves)
            phases_.emplace_back(phases(wave.y * double(scale_y), layer.y.kernel),
                                 phases(wave.x * double(scale_x), layer.x.kernel));
    }

    std::array<Number, waves.size()> of(const float* kernel) {
        std::fill(row_sums_.begin(), row_sums_.end(), 0.0);
        std::fill(column_sums_.begin(), column_sums_.end(), 0.0);
        for (std::size_t y = 0; y < rows_; ++y)
            for (std::size_t x = 0; x < columns_; ++x) {
                row_sums_[y] += kernel[y * columns_ + x];
                column_sums_[x] += kernel[y * columns_ + x];
            }
        std::array<Number, waves.size()> answers;
        for (std::size_t w = 0; w < waves.size(); ++w) {
            const bool down = waves[w].y != 0;
            const std::vector<double>& sums = down ? row_sums_ : column_sums_;
            const std::vector<Number>& along = down ? phases_[w].first : phases_[w].second;
            answers[w] = std::inner_product(sums.begin(), sums.end(), along.begin(), Number());
        }
        return answers;
    }

private:
    std::size_t rows_, columns_;
    std::vector<double> row_sums_, column_sums_;
    std::vector<std::pair<std::vector<Number>, std::vector<Number>>> phases_;
};

/// A layer as the reckoning sees it.
struct Gains {
    std::vector<double> energy;  ///< sum of squares of the weights of an input
    std::vector<double> pair;    ///< [in, out], the same by output
    /// [in, out], mean square of an output per mean square of an input: half as for inputs whose neighbours
    /// are equal, half as for independent ones.
    std::vector<double> mean;
};

Gains gains_of(const Layer& layer) {
    const std::size_t pairs = std::size_t{layer.in} * layer.out, columns = layer.x.kernel;
    Gains gains{std::vector<double>(layer.in), std::vector<double>(pairs), std::vector<double>(pairs)};
    const double phases = double(layer.y.stride) * layer.x.stride;
    std::vector<double> sums(layer.y.stride * layer.x.stride);
    for (std::size_t i = 0; i < pairs; ++i) {
        const float* weight = layer.weights.data() + i * layer.y.kernel * columns;
        std::fill(sums.begin(), sums.end(), 0.0);
        for (std::uint32_t y = 0; y < layer.y.kernel; ++y)
            for (std::uint32_t x = 0; x < columns; ++x, ++weight) {
                sums[y % layer.y.stride * layer.x.stride + x % layer.x.stride] += *weight;
                gains.pair[i] += double{*weight} * *weight;
            }
        double coherent = 0;
        for (const double sum : sums) coherent += sum * sum;
        gains.energy[i / layer.out] += gains.pair[i];
        gains.mean[i] = 0.5 * (gains.pair[i] + coherent) / phases;
    }
    return gains;
}

/// The answers of a layer's inputs, given those of its outputs.
Answers answers_of(const Layer& layer, std::size_t scale_y, std::size_t scale_x, const Answers& behind,
                   std::size_t colours) {
    Answers answers;
    for (std::vector<Number>& answer : answers) answer.resize(layer.in * colours);
    KernelAnswers kernels(layer, scale_y, scale_x);
    const std::size_t taps = std::size_t{layer.y.kernel} * layer.x.kernel;
    for (std::size_t in = 0; in < layer.in; ++in)
        for (std::size_t out = 0; out < layer.out; ++out) {
            const auto kernel = kernels.of(layer.weights.data() + (in * layer.out + out) * taps);
            for (std::size_t w = 0; w < waves.size(); ++w)
                for (std::size_t a = 0; a < colours; ++a)
                    answers[w][in * colours + a] += kernel[w] * behind[w][out * colours + a];
        }
    return answers;
}

/// Mean squares of the latents of smooth pictures, by channel, but for a factor.
std::vector<double> latents_energy(std::span<const Layer> layers, std::span<const Gains> gains) {
    const std::size_t colours = std::min<std::size_t>(layers.back().out, max_colours);
    Answers answers;
    for (std::vector<Number>& answer : answers) {
        answer.resize(layers.back().out * colours);
        for (std::size_t a = 0; a < colours; ++a) answer[a * colours + a] = 1;
    }
    std::vector<double> functions(layers.back().out, 1.0);  // sums of squares of the basis functions
    std::size_t scale_y = 1, scale_x = 1;
    for (std::size_t l = layers.size(); l-- > 0;) {
        const Layer& layer = layers[l];
        answers = answers_of(layer, scale_y, scale_x, answers, colours);
        std::vector<double> before(layer.in);
        for (std::size_t i = 0; i < gains[l].pair.size(); ++i)
            before[i / layer.out] += gains[l].pair[i] * functions[i % layer.out];
        functions = std::move(before);
        scale_y *= layer.y.stride;
        scale_x *= layer.x.stride;
    }
    std::vector<double> energy(layers.front().in);
    for (std::size_t c = 0; c < energy.size(); ++c) {
        for (const std::vector<Number>& answer : answers) {
            Number grey;
            for (std::size_t a = 0; a < colours; ++a) {
                grey += answer[c * colours + a];
                energy[c] += (1 - grey_share) * std::norm(answer[c * colours + a]);
            }
            energy[c] += grey_share * std::norm(grey);
        }
        energy[c] /= functions[c] * functions[c];
        if (!std::isfinite(energy[c])) energy[c] = 0;
    }
    return energy;
}

/// By layer and channel, the energy of the products of inputs that such latents lead to, as if channels were
/// independent; and that of the picture.
struct Reckoned {
    std::vector<std::vector<double>> products;
    double picture = 0;
};

Reckoned reckon(std::span<const Layer> layers, std::span<const Gains> gains, std::vector<double> energy) {
    Reckoned reckoned;
    for (std::size_t l = 0; l < layers.size(); ++l) {
        const Layer& layer = layers[l];
        const std::vector<double> before = energy;
        for (std::size_t c = 0; c < layer.norm.beta.size(); ++c)
            energy[c] *= std::inner_product(before.begin(), before.end(), &layer.norm.gamma[c * layer.in],
                                            double{layer.norm.beta[c]});
        std::vector<double>& products = reckoned.products.emplace_back(layer.in);
        std::vector<double> made(layer.out);
        for (std::size_t c = 0; c < layer.in; ++c) {
            products[c] = energy[c] * gains[l].energy[c];
            if (!(products[c] >= 0)) products[c] = 0;  // not a number: sorting needs an order
            for (std::size_t m = 0; m < layer.out; ++m)
                made[m] += energy[c] * gains[l].mean[c * layer.out + m];
        }
        energy = std::move(made);
    }
    reckoned.picture = std::accumulate(energy.begin(), energy.end(), 0.0) / double(energy.size());
    return reckoned;
}

/// For latents that make a typical picture: what normalisations do depends on how large their inputs are.
Reckoned reckon_typical(std::span<const Layer> layers, std::span<const Gains> gains) {
    constexpr double step = 4;
    constexpr int most_steps = 64;
    std::vector<double> energy = latents_energy(layers, gains);
    Reckoned reckoned = reckon(layers, gains, energy);
    const double factor = reckoned.picture > typical_energy ? 1 / step : step;
    for (int i = 0; i < most_steps && (reckoned.picture > typical_energy) == (factor < 1); ++i) {
        for (double& value : energy) value *= factor;
        reckoned = reckon(layers, gains, energy);
    }
    return reckoned;
}

/// How many channels of a layer's pairs are precise.
std::size_t precise_count(const Layer& layer, bool last) {
    if (layer.norm.beta.empty()) return (layer.in + channels_per_precise - 1) / channels_per_precise;
    const std::size_t share = last ? layer.in / last_per_precise
                                   : std::min<std::size_t>(layer.in / normed_per_precise, most_precise);
    return std::min<std::size_t>(layer.in, std::max(share, least_precise));
}

}  // namespace

std::vector<std::vector<std::uint32_t>> precise_channels(std::span<const Layer> layers) {
    std::vector<Gains> gains;
    for (const Layer& layer : layers) gains.push_back(gains_of(layer));
    const Reckoned reckoned = reckon_typical(layers, gains);
    std::vector<std::vector<std::uint32_t>> channels;
    for (std::size_t l = 0; l < layers.size(); ++l) {
        const std::vector<double>& products = reckoned.products[l];
        std::vector<std::uint32_t>& order = channels.emplace_back(layers[l].in);
        std::iota(order.begin(), order.end(), 0U);
        std::stable_sort(order.begin(), order.end(),
                         [&](auto a, auto b) { return products[a] > products[b]; });
        const std::size_t count = precise_count(layers[l], l + 1 == layers.size());
        const auto sum = [&](double sum, std::uint32_t c) { return sum + products[c]; };
        const double all = std::accumulate(order.begin(), order.end(), 0.0, sum);
        const double precise =
            std::accumulate(order.begin(), order.begin() + std::ptrdiff_t(count), 0.0, sum);
        if (precise >= least_precise_share * all) order.resize(count);
    }
    return channels;
}

}  // namespace nicrt::native

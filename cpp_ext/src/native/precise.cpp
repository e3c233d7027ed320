// Chooses the channels that need more than a bfloat16's bits.
#include <algorithm>
#include <numeric>

#include "input.hpp"
#include "packed.hpp"

namespace nicrt::native {
namespace {

/// One channel in so many is precise: the picture's error halves for 6% more products (measured on the
/// shallow codec).
constexpr std::size_t channels_per_precise = 32;
/// The same behind a normalisation, where few channels hold most of the energy, and for the last layer, which
/// makes grey levels: with these one value in 200 million is off by more than one (slimmable and mean-scale
/// codecs on Kodak, three and five qualities).
constexpr std::size_t normed_per_precise = 16, last_per_precise = 4, least_precise = 6;
constexpr std::size_t sampled_rows = 4;  ///< in which the precise channels are sought

/// Mean squares of the latents' channels, in rows spread over the picture.
std::vector<double> latents_energy(const PackedChain& chain, const Input& input) {
    const std::size_t channels = chain.layers.front().in;
    const std::size_t step = (input.height + sampled_rows - 1) / sampled_rows;
    std::vector<double> energy(channels);
    std::vector<float> latents(input.width);
    for (std::size_t c = 0; c < channels; ++c) {
        std::size_t rows = 0;
        for (std::size_t row = step / 2; row < input.height; row += step, ++rows) {
            combine(*chain.kernels, input, c, row, 1, latents.data());
            energy[c] += chain.kernels->energy(latents.data(), input.width);
        }
        energy[c] /= static_cast<double>(rows * input.width);
    }
    return energy;
}

/// How many channels of a layer's pairs are precise.
std::size_t precise_count(const PackedLayer& layer, bool last) {
    if (layer.norm.panels.empty()) return (layer.in + channels_per_precise - 1) / channels_per_precise;
    const std::size_t share = layer.in / (last ? last_per_precise : normed_per_precise);
    return std::min<std::size_t>(layer.in, std::max(share, least_precise));
}

/// The channels with the largest products of inputs with these mean squares.
std::vector<std::uint32_t> largest_channels(const PackedLayer& layer, std::vector<double> energy,
                                            std::size_t count) {
    for (std::uint32_t c = 0; c < layer.in; ++c) {
        energy[c] *= layer.energy[c];
        if (!(energy[c] >= 0)) energy[c] = 0;  // not a number: sorting needs an order
    }
    std::vector<std::uint32_t> order(layer.in);
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return energy[a] > energy[b]; });
    order.resize(count);
    return order;
}

}  // namespace

std::vector<Precise> find_precise(const PackedChain& chain, const Input& input) {
    std::vector<Precise> precise(chain.layers.size());
    if (chain.arithmetic != Arithmetic::avx512_bf16) return precise;
    std::vector<double> energy = latents_energy(chain, input);
    for (std::size_t l = 0; l < chain.layers.size(); ++l) {
        const PackedLayer& layer = chain.layers[l];
        const std::vector<double> before = energy;
        for (std::size_t c = 0; c < layer.norm.beta.size(); ++c) {
            double norm = layer.norm.beta[c];
            for (std::size_t k = 0; k < layer.in; ++k) norm += layer.norm.gamma[c * layer.in + k] * before[k];
            energy[c] *= norm;
        }
        if (layer.pairs) {
            const std::size_t count = precise_count(layer, l + 1 == chain.layers.size());
            precise[l] = precise_weights(layer, largest_channels(layer, energy, count));
        }
        std::vector<double> made(layer.out);
        for (std::size_t m = 0; m < layer.out; ++m) {
            made[m] = double{layer.bias[m]} * layer.bias[m];
            for (std::size_t c = 0; c < layer.in; ++c) made[m] += energy[c] * layer.gain[c * layer.out + m];
        }
        energy = std::move(made);
    }
    return precise;
}

}  // namespace nicrt::native

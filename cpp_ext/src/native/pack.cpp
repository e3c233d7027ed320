// Checks a chain and brings its weights into the order in which the kernels read them.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "../compiler.hpp"
#include "packed.hpp"

namespace nicrt::native {
namespace {

constexpr std::uint32_t max_channels = 1 << 13;
constexpr std::uint32_t max_kernel = 64;
constexpr std::size_t max_scale = 256;
constexpr std::size_t max_layers = 8;
/// Of a chain's products, for a layer to be of pairs: those of others gain little, and cost accuracy all the
/// same. Without normalisations only the first one is: its sums are long, the last ones make grey levels.
constexpr double least_paired_share = 0.1;

Status unsupported(const std::string& message) { return {Code::unsupported, message}; }

Status check_axis(const Axis& axis) {
    const bool sane = axis.kernel >= 1 && axis.kernel <= max_kernel && axis.stride >= 1 &&
                      axis.stride <= max_kernel && axis.pad <= max_kernel;
    return sane ? Status() : unsupported("a transposed convolution beyond the native kernels' sizes");
}

Status check(std::span<const Layer> layers) {
    if (layers.empty() || layers.size() > max_layers) return unsupported("too many layers");
    std::size_t scale_y = 1, scale_x = 1;
    for (std::size_t l = 0; l < layers.size(); ++l) {
        const Layer& layer = layers[l];
        NICRT_RETURN_IF_ERROR(check_axis(layer.y));
        NICRT_RETURN_IF_ERROR(check_axis(layer.x));
        if (layer.in < 1 || layer.in > max_channels || layer.out < 1 || layer.out > max_channels)
            return unsupported("channels beyond the native kernels' sizes");
        if (l > 0 && layer.in != layers[l - 1].out)
            return invalid_argument("layers that do not fit each other");
        const std::uint64_t places = std::uint64_t{layer.in} * layer.out * layer.y.kernel * layer.x.kernel;
        if (layer.weights.size() != places || layer.bias.size() != layer.out)
            return invalid_argument("weights or bias of another size");
        const std::uint64_t normed = layer.norm.beta.size();
        if ((normed != 0 && normed != layer.in) || layer.norm.gamma.size() != normed * normed)
            return invalid_argument("a normalisation of another size");
        scale_y *= layer.y.stride;
        scale_x *= layer.x.stride;
        if (scale_y > max_scale || scale_x > max_scale)
            return unsupported("a stride beyond the native kernels' sizes");
    }
    return {};
}

std::int32_t floor_div(std::int32_t a, std::int32_t b) { return a / b - (a % b < 0 ? 1 : 0); }

/// The taps of output place stride * j + phase, as offsets of the input place to j, in order of taps.
std::vector<RowTap> taps_of(const Axis& axis, std::uint32_t phase) {
    std::vector<RowTap> taps;
    const auto at = static_cast<std::int32_t>(phase + axis.pad);
    for (std::uint32_t tap = (phase + axis.pad) % axis.stride; tap < axis.kernel; tap += axis.stride)
        taps.push_back({tap, (at - static_cast<std::int32_t>(tap)) / static_cast<std::int32_t>(axis.stride)});
    return taps;
}

Status place_taps(PackedLayer& layer) {
    for (std::uint32_t phase = 0; phase < layer.y.stride; ++phase)
        layer.rows.push_back(taps_of(layer.y, phase));
    const auto in_phases = static_cast<std::int32_t>(layer.in_phases);
    for (std::uint32_t phase = 0; phase < layer.out_phases(); ++phase) {
        auto& column = layer.columns.emplace_back();
        for (const RowTap& tap : taps_of(layer.x, phase)) {
            const std::int32_t lane = floor_div(tap.offset, in_phases);
            if (std::abs(lane) > static_cast<std::int32_t>(lane_pad))
                return unsupported("a kernel that reaches too far");
            column.push_back({tap.tap, static_cast<std::uint32_t>(tap.offset - lane * in_phases), lane});
        }
    }
    return {};
}

std::uint32_t bfloat16(float value) {
    const auto bits = bit_cast<std::uint32_t>(value);
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
}

float pair(float low, float high) { return bit_cast<float>(bfloat16(low) | bfloat16(high) << 16); }

/// Calls visit(panel, tap) for every block of outputs of every phase, in the order of the packed weights.
template <class Visit>
void for_each_block(const PackedLayer& layer, const Visit& visit) {
    for (std::uint32_t phase = 0; phase < layer.panels.size(); ++phase)
        for (const Panel& panel : layer.panels[phase])
            for (const RowTap& y : layer.rows[phase / layer.x.stride])
                for (const ColumnTap& x : layer.columns[phase % layer.x.stride])
                    visit(panel, std::size_t{y.tap} * layer.x.kernel + x.tap);
}

/// Blocks of at most `most` outputs with so many weights each, which are counted on from `weights`.
std::vector<Panel> panels_of(std::uint32_t outputs, std::size_t most, std::size_t weights_each,
                             std::size_t& weights) {
    const std::size_t blocks = (outputs + most - 1) / most;
    std::vector<Panel> panels;
    for (std::size_t b = 0; b < blocks; ++b) {
        const auto first = static_cast<std::uint32_t>(outputs * b / blocks);
        const auto end = static_cast<std::uint32_t>(outputs * (b + 1) / blocks);
        panels.push_back({first, end - first, weights});
        weights += weights_each * (end - first);
    }
    return panels;
}

void place_panels(PackedLayer& layer, std::size_t most_outputs) {
    std::size_t weights = 0;
    for (std::uint32_t phase = 0; phase < layer.y.stride * layer.x.stride; ++phase) {
        const std::size_t taps =
            layer.rows[phase / layer.x.stride].size() * layer.columns[phase % layer.x.stride].size();
        layer.panels.push_back(panels_of(layer.out, most_outputs, taps * layer.units, weights));
    }
    layer.weights.reserve(weights);
}

void pack_weights(const Layer& layer, PackedLayer& packed) {
    const std::size_t taps = std::size_t{layer.y.kernel} * layer.x.kernel;
    for_each_block(packed, [&](const Panel& panel, std::size_t tap) {
        const auto weight = [&](std::size_t in, std::size_t m) {
            return layer.weights[(in * layer.out + panel.first + m) * taps + tap];
        };
        const auto paired = [&](std::size_t i, std::size_t m) {
            return i < packed.paired.size() ? weight(packed.paired[i], m) : 0.0F;
        };
        for (std::size_t unit = 0; unit < packed.units; ++unit)
            for (std::size_t m = 0; m < panel.count; ++m)
                packed.weights.push_back(packed.pairs ? pair(paired(2 * unit, m), paired(2 * unit + 1, m))
                                                      : weight(unit, m));
        for (const std::size_t in : packed.precise.channels)
            for (std::size_t m = 0; m < panel.count; ++m) packed.precise.weights.push_back(weight(in, m));
    });
}

/// Per latent, of a layer that has so many input places for each of them.
double products(const Layer& layer, double places) {
    return places * layer.in *
           (double(layer.out) * layer.y.kernel * layer.x.kernel +
            static_cast<double>(layer.norm.beta.size()));
}

void pack_norm(const Layer& layer, std::size_t most_outputs, PackedLayer& packed) {
    PackedNorm& norm = packed.norm;
    if (layer.norm.beta.empty()) return;
    std::size_t weights = 0;
    norm.units = packed.pairs ? (layer.in + 1) / 2 : layer.in;
    norm.panels = panels_of(layer.in, most_outputs, norm.units, weights);
    norm.weights.reserve(weights);
    norm.beta.assign(layer.norm.beta.begin(), layer.norm.beta.end());
    for (const Panel& panel : norm.panels) {
        const auto weight = [&](std::size_t of, std::size_t m) {
            return of < layer.in ? layer.norm.gamma[(panel.first + m) * layer.in + of] : 0.0F;
        };
        for (std::size_t of = 0; of < layer.in; of += packed.pairs ? 2 : 1)
            for (std::size_t m = 0; m < panel.count; ++m)
                norm.weights.push_back(packed.pairs ? pair(weight(of, m), weight(of + 1, m)) : weight(of, m));
    }
}

/// Which channels of a layer of pairs are what.
void place_channels(std::vector<std::uint32_t> precise, PackedLayer& packed) {
    packed.precise.channels = std::move(precise);
    for (std::uint32_t c = 0; c < packed.in; ++c)
        if (std::find(packed.precise.channels.begin(), packed.precise.channels.end(), c) ==
            packed.precise.channels.end())
            packed.paired.push_back(c);
    packed.units = (packed.paired.size() + 1) / 2;
}

}  // namespace

Status pack(std::span<const Layer> layers, const Kernels& kernels, Arithmetic arithmetic,
            PackedChain& chain) {
    NICRT_RETURN_IF_ERROR(check(layers));
    const bool pairs = arithmetic == Arithmetic::avx512_bf16;
    chain.arithmetic = arithmetic;
    chain.kernels = &kernels;
    double all = 0, scale = 1;
    for (const Layer& layer : layers) {
        all += products(layer, scale);
        scale *= double(layer.y.stride) * layer.x.stride;
    }
    scale = 1;
    std::vector<std::vector<std::uint32_t>> precise;
    if (pairs) precise = precise_channels(layers);
    for (std::size_t l = 0; l < layers.size(); ++l) {
        const Layer& layer = layers[l];
        PackedLayer& packed = chain.layers.emplace_back();
        packed.in = layer.in;
        packed.out = layer.out;
        packed.y = layer.y;
        packed.x = layer.x;
        packed.slope = layer.slope;
        packed.pairs = pairs && (l == 0 || !layer.norm.beta.empty()) &&
                       products(layer, scale) >= least_paired_share * all && precise[l].size() < layer.in;
        packed.units = layer.in;
        if (packed.pairs) place_channels(std::move(precise[l]), packed);
        packed.in_phases = chain.scale_x;
        packed.bias.assign(layer.bias.begin(), layer.bias.end());
        NICRT_RETURN_IF_ERROR(place_taps(packed));
        place_panels(packed, kernels.outputs);
        pack_weights(layer, packed);
        pack_norm(layer, kernels.outputs, packed);
        scale *= double(layer.y.stride) * layer.x.stride;
        chain.scale_y *= layer.y.stride;
        chain.scale_x *= layer.x.stride;
    }
    return {};
}

}  // namespace nicrt::native

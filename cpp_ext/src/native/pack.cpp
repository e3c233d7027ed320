// Checks a chain and brings its weights into the order in which the kernels read them.
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <string>
#include <utility>

#include "packed.hpp"

namespace nicrt::native {
namespace {

constexpr std::uint32_t max_channels = 1 << 13;
constexpr std::uint32_t max_kernel = 64;
constexpr std::size_t max_scale = 256;
constexpr std::size_t max_layers = 8;

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
        const std::size_t places = std::size_t{layer.in} * layer.out * layer.y.kernel * layer.x.kernel;
        if (layer.weights.size() != places || layer.bias.size() != layer.out)
            return invalid_argument("weights or bias of another size");
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
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
}

float widened(std::uint32_t half) { return std::bit_cast<float>(half << 16); }

float pair(float low, float high) { return std::bit_cast<float>(bfloat16(low) | bfloat16(high) << 16); }

/// Calls visit(panel, tap) for every block of outputs of every phase, in the order of the packed weights.
template <class Visit>
void for_each_block(const PackedLayer& layer, const Visit& visit) {
    for (std::uint32_t phase = 0; phase < layer.panels.size(); ++phase)
        for (const Panel& panel : layer.panels[phase])
            for (const RowTap& y : layer.rows[phase / layer.x.stride])
                for (const ColumnTap& x : layer.columns[phase % layer.x.stride])
                    visit(panel, std::size_t{y.tap} * layer.x.kernel + x.tap);
}

void place_panels(PackedLayer& layer, std::size_t most_outputs) {
    const std::size_t blocks = (layer.out + most_outputs - 1) / most_outputs;
    std::size_t weights = 0;
    for (std::uint32_t phase = 0; phase < layer.y.stride * layer.x.stride; ++phase) {
        const std::size_t taps =
            layer.rows[phase / layer.x.stride].size() * layer.columns[phase % layer.x.stride].size();
        auto& panels = layer.panels.emplace_back();
        for (std::size_t b = 0; b < blocks; ++b) {
            const auto first = static_cast<std::uint32_t>(layer.out * b / blocks);
            const auto end = static_cast<std::uint32_t>(layer.out * (b + 1) / blocks);
            panels.push_back({first, end - first, weights});
            weights += taps * layer.units * (end - first);
        }
    }
    layer.weights.reserve(weights);
}

void pack_weights(const Layer& layer, PackedLayer& packed) {
    const std::size_t taps = std::size_t{layer.y.kernel} * layer.x.kernel;
    for_each_block(packed, [&](const Panel& panel, std::size_t tap) {
        const auto weight = [&](std::size_t in, std::size_t m) {
            return in < layer.in ? layer.weights[(in * layer.out + panel.first + m) * taps + tap] : 0.0F;
        };
        for (std::size_t in = 0; in < layer.in; in += packed.pairs ? 2 : 1)
            for (std::size_t m = 0; m < panel.count; ++m)
                packed.weights.push_back(packed.pairs ? pair(weight(in, m), weight(in + 1, m))
                                                      : weight(in, m));
    });
}

std::vector<double> energies(const Layer& layer) {
    std::vector<double> energy(layer.in);
    const std::size_t each = layer.weights.size() / layer.in;
    for (std::size_t i = 0; i < layer.weights.size(); ++i)
        energy[i / each] += double{layer.weights[i]} * layer.weights[i];
    return energy;
}

}  // namespace

Status pack(std::span<const Layer> layers, const Kernels& kernels, Arithmetic arithmetic,
            PackedChain& chain) {
    NICRT_RETURN_IF_ERROR(check(layers));
    const bool pairs = arithmetic == Arithmetic::avx512_bf16;
    chain.arithmetic = arithmetic;
    chain.kernels = &kernels;
    if (pairs) {
        chain.exact.assign(layers.front().weights.begin(), layers.front().weights.end());
        chain.energy = energies(layers.front());
    }
    for (const Layer& layer : layers) {
        PackedLayer& packed = chain.layers.emplace_back();
        packed.in = layer.in;
        packed.out = layer.out;
        packed.y = layer.y;
        packed.x = layer.x;
        packed.slope = layer.slope;
        // Only the first layer: its sums are long and its products most of the work. The last ones make grey
        // levels.
        packed.pairs = pairs && chain.layers.size() == 1;
        packed.units = packed.pairs ? (layer.in + 1) / 2 : layer.in;
        packed.in_phases = chain.scale_x;
        packed.bias.assign(layer.bias.begin(), layer.bias.end());
        NICRT_RETURN_IF_ERROR(place_taps(packed));
        place_panels(packed, kernels.outputs);
        pack_weights(layer, packed);
        chain.scale_y *= layer.y.stride;
        chain.scale_x *= layer.x.stride;
    }
    return {};
}

Precise precise_weights(const PackedChain& chain, std::vector<std::uint32_t> channels) {
    Precise precise{std::move(channels), {}};
    const PackedLayer& layer = chain.layers.front();
    const std::size_t taps = std::size_t{layer.y.kernel} * layer.x.kernel;
    precise.weights.reserve(layer.weights.size() / layer.units * precise.channels.size());
    for_each_block(layer, [&](const Panel& panel, std::size_t tap) {
        for (const std::size_t in : precise.channels)
            for (std::size_t m = 0; m < panel.count; ++m) {
                const float whole = chain.exact[(in * layer.out + panel.first + m) * taps + tap];
                precise.weights.push_back(pair(whole, whole - widened(bfloat16(whole))));
            }
    });
    return precise;
}

}  // namespace nicrt::native

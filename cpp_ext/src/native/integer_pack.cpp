// From weights as they come to `PackedNetwork`, and what the kernels cannot hold.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../cpu.hpp"
#include "../parallel.hpp"
#include "integer_network.hpp"

namespace nicrt::native {
namespace {

constexpr std::uint32_t max_kernel = 64, max_channels = 1U << 14, max_scale = 256;
constexpr std::int64_t max_sum = std::int64_t{1} << 30;  // leaves room for a bias as large

Status unsupported(const char* message) { return {Code::unsupported, message}; }

std::size_t per_unit(const IntegerKernels& kernels) { return kernels.bytes ? 4 : 2; }

std::size_t units_of(const IntegerKernels& kernels, std::uint32_t channels) {
    return (channels + per_unit(kernels) - 1) / per_unit(kernels);
}

bool valid(const Axis& axis) {
    return axis.kernel >= 1 && axis.kernel <= max_kernel && axis.stride >= 1 && axis.stride <= max_kernel &&
           axis.pad < axis.kernel;
}

Status check_layer(const IntegerLayer& layer, std::uint32_t in) {
    if (layer.out < 1 || layer.out > max_channels || !valid(layer.y) || !valid(layer.x))
        return unsupported("a transposed convolution of integers beyond the native kernels' sizes");
    const bool fits = layer.in == in && layer.weights.size() == std::uint64_t{layer.in} * layer.out *
                                                                    layer.y.kernel * layer.x.kernel;
    return fits ? Status() : invalid_argument("a layer that does not fit");
}

/// One weight as its unit holds it.
void put(const IntegerKernels& kernels, std::uint8_t* unit, std::size_t part, std::int8_t weight) {
    if (kernels.bytes) {
        std::memcpy(unit + part, &weight, 1);
    } else {
        const std::int16_t wide = weight;
        std::memcpy(unit + 2 * part, &wide, 2);
    }
}

/// Offsets of the taps of a phase, and which kernel place each is.
struct AxisTap {
    std::uint32_t kernel;
    std::int32_t offset;
};

std::vector<AxisTap> taps_of(const Axis& axis, std::uint32_t phase) {
    // Input place i adds kernel place t to output place i * stride + t - pad.
    std::vector<AxisTap> taps;
    for (std::uint32_t t = 0; t < axis.kernel; ++t)
        if ((phase + axis.pad) % axis.stride == t % axis.stride)
            taps.push_back({t, (static_cast<std::int32_t>(phase + axis.pad) - static_cast<std::int32_t>(t)) /
                                   static_cast<std::int32_t>(axis.stride)});
    return taps;
}

std::size_t reach_of(const std::vector<IntegerTap>& taps) {
    std::size_t reach = 0;
    for (const IntegerTap& tap : taps)
        reach = std::max({reach, static_cast<std::size_t>(std::abs(tap.row)),
                          static_cast<std::size_t>(std::abs(tap.column))});
    return reach;
}

class LayerPacker {
public:
    LayerPacker(const IntegerKernels& kernels, const IntegerLayer& layer, std::int32_t zero,
                std::int64_t largest_input)
        : kernels_(kernels), layer_(layer), zero_(zero), largest_input_(largest_input) {}

    Status pack(PackedIntegerLayer& packed) {
        packed = {layer_.in,
                  layer_.out,
                  layer_.y.stride,
                  layer_.x.stride,
                  layer_.range,
                  units_of(kernels_, layer_.in),
                  0,
                  {},
                  {}};
        for (std::uint32_t row = 0; row < layer_.y.stride; ++row)
            for (std::uint32_t column = 0; column < layer_.x.stride; ++column)
                NICRT_RETURN_IF_ERROR(pack_phase(row, column, packed));
        return {};
    }

private:
    [[nodiscard]] std::int8_t weight(std::uint32_t in, std::uint32_t out, std::uint32_t ty,
                                     std::uint32_t tx) const {
        return layer_
            .weights[((std::size_t{in} * layer_.out + out) * layer_.y.kernel + ty) * layer_.x.kernel + tx];
    }

    Status pack_phase(std::uint32_t row, std::uint32_t column, PackedIntegerLayer& packed) {
        IntegerPhase phase{row, column, {}, {}, {}};
        const auto rows = taps_of(layer_.y, row), columns = taps_of(layer_.x, column);
        for (const AxisTap& y : rows)
            for (const AxisTap& x : columns) phase.taps.push_back({y.offset, x.offset});
        packed.border = std::max(packed.border, reach_of(phase.taps));
        NICRT_RETURN_IF_ERROR(add_sums(rows, columns, phase));
        for (std::uint32_t first = 0; first < layer_.out;) {
            const std::size_t left = (layer_.out - first + kernels_.lanes - 1) / kernels_.lanes;
            const auto vectors = static_cast<std::uint32_t>(std::min(left, kernels_.vectors));
            phase.panels.push_back({first, vectors, packed.weights.size()});
            add_panel(rows, columns, phase.panels.back(), packed);
            first += vectors * static_cast<std::uint32_t>(kernels_.lanes);
        }
        packed.phases.push_back(std::move(phase));
        return {};
    }

    Status add_sums(const std::vector<AxisTap>& rows, const std::vector<AxisTap>& columns,
                    IntegerPhase& phase) const {
        for (std::uint32_t out = 0; out < layer_.out; ++out) {
            std::int64_t sum = 0, magnitude = 0;
            for (std::uint32_t in = 0; in < layer_.in; ++in)
                for (const AxisTap& y : rows)
                    for (const AxisTap& x : columns) {
                        const std::int64_t w = weight(in, out, y.kernel, x.kernel);
                        sum += w;
                        magnitude += std::abs(w);
                    }
            if (magnitude * largest_input_ >= max_sum) return unsupported("sums beyond 32 bits");
            phase.zero.push_back(static_cast<std::int32_t>(zero_ * sum));
        }
        return {};
    }

    void add_panel(const std::vector<AxisTap>& rows, const std::vector<AxisTap>& columns,
                   const IntegerPanel& panel, PackedIntegerLayer& packed) const {
        const std::size_t lanes = panel.vectors * kernels_.lanes, parts = per_unit(kernels_);
        const std::size_t tap_bytes = packed.units * lanes * unit_bytes;
        std::size_t at = packed.weights.size();
        packed.weights.resize(at + rows.size() * columns.size() * tap_bytes);
        for (const AxisTap& y : rows)
            for (const AxisTap& x : columns) {
                std::uint8_t* const tap = packed.weights.data() + at;
                for (std::uint32_t in = 0; in < layer_.in; ++in)
                    for (std::size_t lane = 0; lane < lanes && panel.first + lane < layer_.out; ++lane)
                        put(kernels_, tap + (in / parts * lanes + lane) * unit_bytes, in % parts,
                            weight(in, static_cast<std::uint32_t>(panel.first + lane), y.kernel, x.kernel));
                at += tap_bytes;
            }
    }

    const IntegerKernels& kernels_;
    const IntegerLayer& layer_;
    std::int32_t zero_;
    std::int64_t largest_input_;
};

Status pack_head(const IntegerKernels& kernels, const IntegerLayer& layer, std::int64_t largest_input,
                 PackedHead& packed) {
    if (layer.y.stride != 1 || layer.x.stride != 1) return unsupported("a head with a stride");
    packed.out = layer.out;
    for (const AxisTap& y : taps_of(layer.y, 0))
        for (const AxisTap& x : taps_of(layer.x, 0)) packed.taps.push_back({y.offset, x.offset});
    const std::size_t units = units_of(kernels, layer.in), parts = per_unit(kernels),
                      taps = packed.taps.size();
    packed.weights.resize(layer.out * taps * units * unit_bytes);
    for (std::uint32_t out = 0; out < layer.out; ++out) {
        std::int64_t magnitude = 0;
        for (std::uint32_t in = 0; in < layer.in; ++in)
            for (std::size_t t = 0; t < taps; ++t) {  // every place of the kernel is a tap, in order
                const std::int8_t w = layer.weights[(std::size_t{in} * layer.out + out) * taps + t];
                magnitude += std::abs(std::int64_t{w});
                put(kernels, packed.weights.data() + ((out * taps + t) * units + in / parts) * unit_bytes,
                    in % parts, w);
            }
        if (magnitude * largest_input >= max_sum) return unsupported("sums beyond 32 bits");
    }
    return {};
}

/// What activations may lie in: bytes from 0 on (once a zero is added), or 16-bit integers.
bool holds(const IntegerKernels& kernels, IntegerRange range) {
    if (range.low > range.high) return false;
    return kernels.bytes ? range.low >= 0 && range.high <= 255 : range.low >= -32767 && range.high <= 32767;
}

bool fits_bytes(std::span<const IntegerLayer> hidden, IntegerRange input) {
    return std::int64_t{input.high} - input.low <= 255 &&
           std::all_of(hidden.begin(), hidden.end(),
                       [](const auto& layer) { return layer.range.low >= 0 && layer.range.high <= 255; });
}

std::int64_t magnitude_of(IntegerRange range) {
    return std::max(std::abs(std::int64_t{range.low}), std::abs(std::int64_t{range.high}));
}

}  // namespace

Status pack(std::span<const IntegerLayer> hidden, std::span<const IntegerLayer> heads, IntegerRange input,
            PackedNetwork& network) {
    const IntegerKernels& kernels = *network.kernels;
    if (hidden.empty() || heads.empty()) return unsupported("a network without hidden layers or heads");
    if (hidden[0].in < 1 || hidden[0].in > max_channels) return unsupported("channels out of range");
    network.input = input;
    network.zero = kernels.bytes && input.low < 0 && input.low >= -255 ? -input.low : 0;
    IntegerRange stored{input.low + network.zero, 0};
    if (input.high > 32767 || !holds(kernels, {stored.low, stored.high = input.high + network.zero}))
        return unsupported("inputs beyond what the kernels hold");
    std::uint32_t channels = hidden[0].in;
    std::int32_t zero = network.zero;
    for (const IntegerLayer& layer : hidden) {
        NICRT_RETURN_IF_ERROR(check_layer(layer, channels));
        if (!holds(kernels, layer.range)) return unsupported("activations beyond what the kernels hold");
        NICRT_RETURN_IF_ERROR(
            LayerPacker(kernels, layer, zero, magnitude_of(stored)).pack(network.hidden.emplace_back()));
        channels = layer.out, zero = 0, stored = layer.range;
        network.scale_y *= layer.y.stride, network.scale_x *= layer.x.stride;
        if (network.scale_y > max_scale || network.scale_x > max_scale)
            return unsupported("too large a stride");
    }
    network.head_units = units_of(kernels, channels);
    for (const IntegerLayer& head : heads) {
        NICRT_RETURN_IF_ERROR(check_layer(head, channels));
        NICRT_RETURN_IF_ERROR(pack_head(kernels, head, magnitude_of(stored), network.heads.emplace_back()));
        network.head_border = std::max(network.head_border, reach_of(network.heads.back().taps));
    }
    return {};
}

bool integer_isa_available(IntegerIsa isa) {
    switch (isa) {
        case IntegerIsa::best:
        case IntegerIsa::scalar: return true;
        case IntegerIsa::avx2: return cpu().avx2;
        case IntegerIsa::avx512_vnni: return cpu().avx512_vnni;
    }
    return false;
}

Status IntegerNetwork::make(std::span<const IntegerLayer> hidden, std::span<const IntegerLayer> heads,
                            IntegerRange input, IntegerIsa isa, IntegerNetwork& network) {
    if (!integer_isa_available(isa)) return invalid_argument("this processor has no such instructions");
    if (isa == IntegerIsa::best)
        isa = cpu().avx512_vnni ? IntegerIsa::avx512_vnni
              : cpu().avx2      ? IntegerIsa::avx2
                                : IntegerIsa::scalar;
    return status_of([&] {
        auto packed = std::make_shared<PackedNetwork>();
        packed->isa = isa;
        packed->kernels = isa == IntegerIsa::avx512_vnni ? &integer_kernels_avx512(fits_bytes(hidden, input))
                          : isa == IntegerIsa::avx2      ? &integer_kernels_avx2()
                                                         : &integer_kernels_scalar();
        NICRT_RETURN_IF_ERROR(pack(hidden, heads, input, *packed));
        network.packed_ = std::move(packed);
        return Status();
    });
}

IntegerIsa IntegerNetwork::isa() const { return packed_->isa; }
std::size_t IntegerNetwork::input_channels() const { return packed_->hidden.front().in; }
std::size_t IntegerNetwork::heads() const { return packed_->heads.size(); }
std::size_t IntegerNetwork::head_channels(std::size_t head) const { return packed_->heads[head].out; }
std::size_t IntegerNetwork::scale_y() const { return packed_->scale_y; }
std::size_t IntegerNetwork::scale_x() const { return packed_->scale_x; }

Status IntegerNetwork::run(const std::int32_t* in, std::size_t height, std::size_t width,
                           std::span<const Rescale> rescales, std::span<const HeadOutput> outputs,
                           const Work& work) const {
    return status_of([&] { return native::run(*packed_, in, height, width, rescales, outputs, work); });
}

}  // namespace nicrt::native

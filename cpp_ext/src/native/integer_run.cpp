// Runs a packed integer network, layer by layer. Threads take rows of a layer's input, or blocks of places of
// the heads; integers have no order of summation, so nothing depends on how they share.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "../parallel.hpp"
#include "integer_network.hpp"

namespace nicrt::native {
namespace {

constexpr std::size_t max_side = std::size_t{1} << 24;
/// Half of what can be addressed, at most 8 GiB.
constexpr std::uint64_t max_plane_bytes = std::min<std::uint64_t>(std::uint64_t{1} << 33, PTRDIFF_MAX);
constexpr std::int32_t max_bias = 1 << 30;
constexpr float max_add = 0x1p20F;
constexpr std::size_t blocks_per_look = 256;  ///< a few milliseconds at most

/// Activations of one tensor, [height + 2 border][width + 2 border][units].
class Plane {
public:
    Plane(const Memory& memory, std::size_t height, std::size_t width, std::size_t border, std::size_t units)
        : height(height),
          width(width),
          border(border),
          place_bytes(units * unit_bytes),
          data_(memory.take((height + 2 * border) * (width + 2 * border) * units)) {}

    Status fill(std::uint8_t zero, const Work& work) {
        constexpr std::size_t part_bytes = std::size_t{1} << 22;
        auto* const bytes = reinterpret_cast<std::uint8_t*>(data_.get());
        const std::size_t count = (height + 2 * border) * (width + 2 * border) * place_bytes;
        for (std::size_t at = 0; at < count; at += part_bytes) {
            NICRT_RETURN_IF_ERROR(work.check());
            std::memset(bytes + at, zero, std::min(part_bytes, count - at));
        }
        return {};
    }

    /// The place at these coordinates, from -border on.
    [[nodiscard]] std::uint8_t* place(std::size_t row, std::size_t column) const {
        const std::size_t at = (row + border) * (width + 2 * border) + column + border;
        return reinterpret_cast<std::uint8_t*>(data_.get()) + at * place_bytes;
    }

    /// Bytes from a place to the one `tap` away.
    [[nodiscard]] std::ptrdiff_t offset(const IntegerTap& tap) const {
        const auto columns = static_cast<std::ptrdiff_t>(width + 2 * border);
        return (tap.row * columns + tap.column) * static_cast<std::ptrdiff_t>(place_bytes);
    }

    const std::size_t height, width, border, place_bytes;

private:
    Floats data_;
};

Status read(const PackedNetwork& network, const std::int32_t* in, const Plane& plane, const Work& work) {
    const std::size_t places = plane.height * plane.width;
    const auto range = static_cast<std::uint32_t>(network.input.high - network.input.low);
    for (std::size_t c = 0; c < network.hidden.front().in; ++c) {
        NICRT_RETURN_IF_ERROR(work.check());
        const std::int32_t* from = in + c * places;
        for (std::size_t row = 0; row < plane.height; ++row) {
            std::uint8_t* to = plane.place(row, 0) + c * (network.kernels->bytes ? 1 : 2);
            for (std::size_t column = 0; column < plane.width; ++column, to += plane.place_bytes) {
                const std::int32_t value = *from++;
                if (static_cast<std::uint32_t>(value) - static_cast<std::uint32_t>(network.input.low) > range)
                    return invalid_argument("an input outside its range");
                const auto wide = static_cast<std::int16_t>(value + network.zero);
                if (network.kernels->bytes) *to = static_cast<std::uint8_t>(wide);
                else std::memcpy(to, &wide, sizeof wide);
            }
        }
    }
    return {};
}

/// One hidden layer: rows [first, end) of its input, as rows of its output.
class HiddenRows {
public:
    HiddenRows(const IntegerKernels& kernels, const PackedIntegerLayer& layer, const Rescale& rescale,
               const Plane& in, const Plane& out)
        : kernels_(kernels), layer_(layer), rescale_(rescale), in_(in), out_(out) {}

    Status run(std::size_t first, std::size_t end, const Work& work) {
        const Held held(work.budget, (end - first) * in_.width * sizeof(places_.front()));
        places_.clear();
        places_.reserve((end - first) * in_.width);
        for (std::size_t row = first; row < end; ++row)
            for (std::size_t column = 0; column < in_.width; ++column)
                places_.push_back(in_.place(row, column));
        for (const IntegerPhase& phase : layer_.phases) {
            offsets_.clear();
            for (const IntegerTap& tap : phase.taps) offsets_.push_back(in_.offset(tap));
            bias_.resize(layer_.out);
            for (std::size_t i = 0; i < layer_.out; ++i) bias_[i] = rescale_.bias[i] - phase.zero[i];
            for (const IntegerPanel& panel : phase.panels)  // its weights stay in L2 while places pass
                for (std::size_t at = 0, i = 0; at < places_.size(); at += kernels_.scalars, ++i) {
                    if (i % blocks_per_look == 0) NICRT_RETURN_IF_ERROR(work.check());
                    block(phase, panel, first, at, std::min(kernels_.scalars, places_.size() - at));
                }
        }
        return {};
    }

private:
    void block(const IntegerPhase& phase, const IntegerPanel& panel, std::size_t first, std::size_t at,
               std::size_t count) {
        alignas(64) std::int32_t sums[max_tile_scalars * max_tile_lanes];
        const IntegerTile tile{places_.data() + at,
                               offsets_.data(),
                               offsets_.size(),
                               layer_.units,
                               layer_.weights.data() + panel.weights,
                               sums};
        kernels_.weights_in_vectors[count - 1][panel.vectors - 1](tile);
        const std::size_t outputs =
            std::min<std::size_t>(panel.vectors * kernels_.lanes, layer_.out - panel.first);
        for (std::size_t p = 0; p < count; ++p) {
            const std::size_t row = first + (at + p) / in_.width, column = (at + p) % in_.width;
            std::uint8_t* const place =
                out_.place(row * layer_.stride_y + phase.row, column * layer_.stride_x + phase.column);
            const std::int32_t* const sum = sums + p * max_tile_lanes;
            const std::int32_t* const bias = bias_.data() + panel.first;
            const float* const multiplier = rescale_.multiplier.data() + panel.first;
            const float* const negative =
                rescale_.negative.empty() ? multiplier : rescale_.negative.data() + panel.first;
            if (kernels_.bytes)
                kernels_.hidden_bytes(sum, bias, multiplier, negative, outputs, layer_.range,
                                      place + panel.first);
            else
                kernels_.hidden_shorts(sum, bias, multiplier, negative, outputs, layer_.range,
                                       reinterpret_cast<std::int16_t*>(place) + panel.first);
        }
    }

    const IntegerKernels& kernels_;
    const PackedIntegerLayer& layer_;
    const Rescale& rescale_;
    const Plane &in_, &out_;
    std::vector<const std::uint8_t*> places_;
    std::vector<std::ptrdiff_t> offsets_;
    std::vector<std::int32_t> bias_;
};

/// All heads at `count` places from `first` on.
class HeadPlaces {
public:
    HeadPlaces(const PackedNetwork& network, const Plane& in, std::span<const Rescale> rescales,
               std::span<const HeadOutput> outputs, const Memory& memory)
        : network_(network), in_(in), rescales_(rescales), outputs_(outputs) {
        for (const PackedHead& head : network.heads) taps_ = std::max(taps_, head.taps.size());
        panel_ = memory.take(taps_ * network.head_units * max_tile_lanes);
        for (std::size_t tap = 0; tap < taps_; ++tap)
            offsets_.push_back(static_cast<std::ptrdiff_t>(tap * network.head_units * unit_bytes));
    }

    [[nodiscard]] std::size_t most() const { return network_.kernels->vectors * network_.kernels->lanes; }

    void run(std::size_t first, std::size_t count) {
        const std::size_t lanes = network_.kernels->lanes, vectors = (count + lanes - 1) / lanes;
        const std::vector<IntegerTap>* gathered = nullptr;
        for (std::size_t head = 0; head < network_.heads.size(); ++head) {
            const auto& taps = network_.heads[head].taps;
            if (gathered == nullptr || !same(*gathered, taps)) gather(taps, first, count, vectors * lanes);
            gathered = &taps;
            for (std::size_t out = 0; out < network_.heads[head].out; out += network_.kernels->scalars)
                block(head, out, first, count, vectors);
        }
    }

private:
    static bool same(const std::vector<IntegerTap>& a, const std::vector<IntegerTap>& b) {
        return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& s, const auto& t) {
            return s.row == t.row && s.column == t.column;
        });
    }

    /// [taps][units][lanes] of the places; what lies beyond the last one is never stored.
    void gather(const std::vector<IntegerTap>& taps, std::size_t first, std::size_t count,
                std::size_t lanes) {
        auto* panel = reinterpret_cast<std::uint8_t*>(panel_.get());
        for (const IntegerTap& tap : taps) {
            const std::ptrdiff_t offset = in_.offset(tap);
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                const std::size_t place = first + std::min(lane, count - 1);
                const std::uint8_t* const from = in_.place(place / in_.width, place % in_.width) + offset;
                for (std::size_t unit = 0; unit < network_.head_units; ++unit)
                    std::memcpy(panel + (unit * lanes + lane) * unit_bytes, from + unit * unit_bytes,
                                unit_bytes);
            }
            panel += network_.head_units * lanes * unit_bytes;
        }
    }

    void block(std::size_t head, std::size_t first_out, std::size_t first, std::size_t count,
               std::size_t vectors) {
        const PackedHead& packed = network_.heads[head];
        const IntegerKernels& kernels = *network_.kernels;
        const std::size_t outputs = std::min<std::size_t>(kernels.scalars, packed.out - first_out);
        const std::size_t taps = packed.taps.size(), row_bytes = taps * network_.head_units * unit_bytes;
        const std::uint8_t* weights[max_tile_scalars];
        for (std::size_t p = 0; p < outputs; ++p)
            weights[p] = packed.weights.data() + (first_out + p) * row_bytes;
        alignas(64) std::int32_t sums[max_tile_scalars * max_tile_lanes];
        const auto* const panel = reinterpret_cast<const std::uint8_t*>(panel_.get());
        kernels.places_in_vectors[outputs - 1][vectors - 1](
            {weights, offsets_.data(), taps, network_.head_units, panel, sums});
        const Rescale& rescale = rescales_[network_.hidden.size() + head];
        const HeadOutput& output = outputs_[head];
        for (std::size_t p = 0; p < outputs; ++p) {
            const std::size_t out = first_out + p, at = out * in_.height * in_.width + first;
            const std::int32_t* const sum = sums + p * max_tile_lanes;
            const std::int32_t bias = rescale.bias[out];
            const float multiplier = rescale.multiplier[out];
            if (output.floats != nullptr)
                kernels.head_floats(sum, bias, multiplier, count, output.floats + at);
            else
                (output.rule.table.values.empty() ? kernels.head_indices : kernels.head_table)(
                    sum, bias, multiplier, count, output.rule, output.indices + at);
        }
    }

    const PackedNetwork& network_;
    const Plane& in_;
    std::span<const Rescale> rescales_;
    std::span<const HeadOutput> outputs_;
    std::size_t taps_ = 0;
    std::vector<std::ptrdiff_t> offsets_;  ///< of the taps in a row of weights
    Floats panel_;
};

/// Whether every place that it can lead to is one of its values.
bool leads_inside(const ScaleTable& t) {
    if (t.values.empty()) return true;
    const auto size = static_cast<float>(t.values.size());
    const bool numbers = t.low >= 0 && t.low <= t.high && t.high <= max_add && t.unit > 0 && t.unit <= 1 &&
                         std::abs(t.add) <= max_add && std::abs(t.limit) <= max_add;
    const bool integers = std::floor(t.low) == t.low && std::floor(t.high) == t.high;
    if (!numbers || !integers || size > max_add || !(t.limit <= size || t.high < size)) return false;
    const float first = std::max(t.low, t.limit);  // of what is not looked up as it is
    return first > t.high ||
           (std::floor(first * t.unit) + t.add >= 0 && std::floor(t.high * t.unit) + t.add < size);
}

bool valid_rule(const IndexRule& r) {
    return std::abs(r.add) <= max_add && std::abs(r.unit) <= 1 && r.low >= 0 && r.low <= r.high &&
           r.high <= 255 && leads_inside(r.table);
}

bool valid(const HeadOutput& output) {
    return (output.floats == nullptr) != (output.indices == nullptr) &&
           (output.floats != nullptr || valid_rule(output.rule));
}

Status check(const PackedNetwork& network, std::size_t height, std::size_t width,
             std::span<const Rescale> rescales, std::span<const HeadOutput> outputs) {
    if (height < 1 || height > max_side || width < 1 || width > max_side)
        return invalid_argument("a tensor extent out of range");
    const std::size_t layers = network.hidden.size();
    if (rescales.size() != layers + network.heads.size() || outputs.size() != network.heads.size())
        return invalid_argument("rescales or outputs that do not fit the network");
    for (std::size_t i = 0; i < rescales.size(); ++i) {
        const std::size_t out = i < layers ? network.hidden[i].out : network.heads[i - layers].out;
        const std::size_t negative = rescales[i].negative.size();
        if (rescales[i].bias.size() != out || rescales[i].multiplier.size() != out ||
            (negative != 0 && (negative != out || i >= layers)))
            return invalid_argument("a rescale that does not fit its layer");
        for (const std::int32_t bias : rescales[i].bias)
            if (bias < -max_bias || bias > max_bias) return invalid_argument("a bias out of range");
    }
    if (!std::all_of(outputs.begin(), outputs.end(), valid))
        return invalid_argument("an index rule out of range");
    const std::uint64_t rows = std::uint64_t{height} * network.scale_y + 64;
    const std::uint64_t columns = std::uint64_t{width} * network.scale_x + 64;
    std::size_t units = network.head_units;
    for (const PackedIntegerLayer& layer : network.hidden) units = std::max(units, layer.units);
    if (rows > max_plane_bytes / columns / (units * unit_bytes))
        return {Code::limit, "the picture is too large for the native kernels; decode it in tiles"};
    return {};
}

}  // namespace

Status check(const IndexRule& rule) {
    return valid_rule(rule) ? Status() : invalid_argument("an index rule out of range");
}

Status run(const PackedNetwork& network, const std::int32_t* in, std::size_t height, std::size_t width,
           std::span<const Rescale> rescales, std::span<const HeadOutput> outputs, const Work& work) {
    NICRT_RETURN_IF_ERROR(check(network, height, width, rescales, outputs));
    const auto& hidden = network.hidden;
    const Memory memory{network.pool, work.budget};
    auto plane = std::make_unique<Plane>(memory, height, width, hidden.front().border, hidden.front().units);
    NICRT_RETURN_IF_ERROR(plane->fill(static_cast<std::uint8_t>(network.zero), work));
    NICRT_RETURN_IF_ERROR(read(network, in, *plane, work));
    for (std::size_t l = 0; l < hidden.size(); ++l) {
        const bool last = l + 1 == hidden.size();
        auto next = std::make_unique<Plane>(memory, plane->height * hidden[l].stride_y,
                                            plane->width * hidden[l].stride_x,
                                            last ? network.head_border : hidden[l + 1].border,
                                            last ? network.head_units : hidden[l + 1].units);
        NICRT_RETURN_IF_ERROR(next->fill(0, work));
        const std::size_t stripes = std::clamp<std::size_t>(work.threads, 1, plane->height);
        NICRT_RETURN_IF_ERROR(parallel_for(stripes, work, [&](std::size_t i) {
            HiddenRows rows(*network.kernels, hidden[l], rescales[l], *plane, *next);
            return rows.run(plane->height * i / stripes, plane->height * (i + 1) / stripes, work);
        }));
        plane = std::move(next);
    }
    const std::size_t places = plane->height * plane->width;
    const std::size_t stripes = std::clamp<std::size_t>(work.threads, 1, places);
    return parallel_for(stripes, work, [&](std::size_t s) -> Status {
        HeadPlaces heads(network, *plane, rescales, outputs, memory);
        const std::size_t end = places * (s + 1) / stripes;
        for (std::size_t first = places * s / stripes, i = 0; first < end; first += heads.most(), ++i) {
            if (i % blocks_per_look == 0) NICRT_RETURN_IF_ERROR(work.check());
            heads.run(first, std::min(heads.most(), end - first));
        }
        return {};
    });
}

}  // namespace nicrt::native

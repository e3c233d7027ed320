// Runs a packed chain: bands of latent rows, and behind them whatever rows of the later layers they complete.
//
// Threads take stripes of rows. A row that two stripes need is computed by both, from the same numbers in the
// same order, so the picture does not depend on where stripes and bands begin.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../parallel.hpp"
#include "input.hpp"
#include "packed.hpp"
#include "window.hpp"

namespace nicrt::native {
namespace {

constexpr std::size_t max_side = std::size_t{1} << 24;
/// Latents per band: the first layer reads all of its weights (megabytes, from L3) once per band, and what it
/// makes of a band should stay in L2.
constexpr std::size_t band_places = 128;
constexpr std::size_t max_row_floats = std::size_t{1} << 24;

class Stripe {
public:
    Stripe(const PackedChain& chain, const Input& input, std::uint8_t* out, float low, float high,
           const Work& work)
        : chain_(chain),
          memory_{chain.pool, work.budget},
          control_(work.control),
          input_(input),
          out_(out),
          low_(low),
          high_(high) {
        groups_ = (input.width + lane_group - 1) / lane_group;
        lanes_ = groups_ * lane_group + 2 * lane_pad;
        std::size_t height = input.height, scratch = 0;
        for (const PackedLayer& layer : chain.layers) {
            const std::size_t l = heights_.size();
            windows_.emplace_back(memory_, (layer.units + extra(l)) * layer.in_phases * lanes_);
            heights_.push_back(height);
            height *= layer.y.stride;
            if (!layer.norm.panels.empty()) scratch = std::max<std::size_t>(scratch, layer.in);
        }
        scratch_ = zeros(memory_, 2 * scratch * lanes_);
        const PackedLayer& last = chain.layers.back();
        planes_ = last.out * last.out_phases();
        picture_rows_ = zeros(memory_, rows_at_once() * planes_ * lanes_);
        zeros_ = zeros(memory_, lanes_);
    }

    /// Rows [first, end) of the latents' grid, as picture rows.
    Status run(std::size_t first, std::size_t end) {
        for (std::size_t row = first; row < end; row += band()) {
            if (control_ != nullptr) NICRT_RETURN_IF_ERROR(control_->check());
            show(row * chain_.scale_y, std::min(row + band(), end) * chain_.scale_y);
        }
        return control_ == nullptr ? Status() : control_->check();
    }

private:
    /// Whether what is being made is not wanted any more: its values are then any, and `run` fails.
    [[nodiscard]] bool ended() const { return control_ != nullptr && control_->ended(); }

    /// Rows of latents.
    [[nodiscard]] std::size_t band() const {
        return std::max<std::size_t>(1, band_places / (groups_ * lane_group));
    }

    /// Picture rows: one stride of the last layer's, or the band's where that is the first layer (see
    /// `compute`).
    [[nodiscard]] std::size_t rows_at_once() const {
        return chain_.layers.back().y.stride * (chain_.layers.size() == 1 ? band() : 1);
    }

    /// Picture rows [first, end), whole strides of the last layer.
    void show(std::size_t first, std::size_t end) {
        const std::size_t last = chain_.layers.size() - 1;
        make_first(last, first, end);
        for (std::size_t start = first; start < end; start += rows_at_once()) {
            const std::size_t stop = std::min(start + rows_at_once(), end);
            need_inputs(last, start, stop);
            const auto place = [&](std::size_t row) {
                return picture_rows_.get() + (row - start) * planes_ * lanes_;
            };
            compute(last, start, stop, place);
            for (std::size_t row = start; row < stop; ++row)
                chain_.kernels->to_bytes(place(row) + lane_pad, planes_, lanes_, input_.width, low_, high_,
                                         out_ + row * planes_ * input_.width);
        }
    }

    struct Rows {
        std::size_t first, end;
    };

    /// The input rows that output rows [first, end) of a layer read.
    [[nodiscard]] Rows inputs(std::size_t l, std::size_t first, std::size_t end) const {
        const Axis& y = chain_.layers[l].y;
        // Input row i adds to output row i * stride + tap - pad, with tap < kernel.
        const std::size_t low =
            first + y.pad + 1 > y.kernel ? (first + y.pad + y.stride - y.kernel) / y.stride : 0;
        const std::size_t high = std::min(heights_[l], (end - 1 + y.pad) / y.stride + 1);
        return {std::min(low, high), high};
    }

    void need_inputs(std::size_t l, std::size_t first, std::size_t end) {
        const Rows rows = inputs(l, first, end);
        need(l, rows.first, rows.end);
    }

    /// Makes what output rows [first, end) of layer l need of the first layer's outputs, or of the latents:
    /// its weights are to meet many rows at once. All that follows is made as it is needed, a few rows at a
    /// time, and meets its readers in the caches.
    void make_first(std::size_t l, std::size_t first, std::size_t end) {
        Rows rows = inputs(l, first, end);
        while (l > 1) {
            --l;
            rows = inputs(l, rows.first, rows.end);
        }
        need(l, rows.first, rows.end);
    }

    /// Makes rows [first, end) of a layer's input; from one call to the next, `first` never decreases.
    void need(std::size_t l, std::size_t first, std::size_t end) {
        Window& window = windows_[l];
        window.slide(first, end);
        const std::size_t start = window.end;
        if (start >= end) return;
        window.end = end;
        const PackedLayer& layer = chain_.layers[l];
        if (l > 0) need_inputs(l - 1, start, end);
        if (l == 0 || layer.finished()) {
            const std::size_t row_floats = layer.in * layer.in_phases * lanes_;
            const Floats raw = memory_.take((end - start) * row_floats);
            const auto place = [&](std::size_t row) { return raw.get() + (row - start) * row_floats; };
            if (l == 0) latents(start, end, place);
            else compute(l - 1, start, end, place);
            for (std::size_t row = start; row < end; ++row) finish(l, place(row), window.row(row));
            return;
        }
        compute(l - 1, start, end, [&](std::size_t row) { return window.row(row); });
        const std::size_t spare = groups_ * lane_group - input_.width;
        if (spare == 0) return;
        for (std::size_t row = start; row < end; ++row)  // beyond the right edge a tensor is 0
            for (std::size_t p = 0; p < chain_.layers[l].units * chain_.layers[l].in_phases; ++p)
                std::fill_n(window.row(row) + p * lanes_ + lane_pad + input_.width, spare, 0.0F);
    }

    /// Output rows [first, end) of a layer, whose input rows are there; place(r) is where row r goes.
    template <class Place>
    void compute(std::size_t l, std::size_t first, std::size_t end, const Place& place) {
        const PackedLayer& layer = chain_.layers[l];
        const std::size_t step_y = layer.y.stride, step_x = layer.x.stride;
        if (l == 0) {  // its weights are many: each block of them meets all the rows of the band
            for (std::size_t start = first; start < std::min(end, first + step_y); ++start)
                for (std::size_t column = 0; column < step_x; ++column)
                    for (const Panel& panel : layer.panels[start % step_y * step_x + column]) {
                        if (ended()) return;
                        for (std::size_t row = start; row < end; row += step_y)
                            block(l, panel, row, column, {0, groups_}, place(row));
                    }
            return;
        }
        // Its input is what does not fit into the fastest cache: each part of it meets all the outputs around
        // it.
        const std::size_t most = chain_.kernels->groups;
        for (std::size_t start = first; start < end; start = (start / step_y + 1) * step_y)
            for (std::size_t group = 0; group < groups_; group += most) {
                if (ended()) return;
                for (std::size_t phase = 0; phase < layer.out_phases(); ++phase)
                    for (std::size_t row = start; row < std::min(end, (start / step_y + 1) * step_y); ++row)
                        for (const Panel& panel : layer.panels[row % step_y * step_x + phase % step_x])
                            block(l, panel, row, phase, {group, std::min(group + most, groups_)}, place(row));
            }
    }

    struct Groups {
        std::size_t first, end;
    };

    /// One block of outputs, in one phase of one row, some of its lanes.
    void block(std::size_t l, const Panel& panel, std::size_t row, std::size_t phase, Groups groups,
               float* out_row) {
        const PackedLayer& layer = chain_.layers[l];
        place_taps(l, row, phase, panel);
        Tile tile{taps_.data(),
                  taps_.size(),
                  0,
                  {layer.units, extra(l)},
                  lanes_,
                  layer.bias.data() + panel.first,
                  layer.slope,
                  out_row + lane_pad + (phase * layer.out + panel.first) * lanes_,
                  lanes_};
        run_tiles(layer.pairs, panel, groups, tile);
    }

    /// A tile of a panel's outputs over these lanes.
    void run_tiles(bool pairs, const Panel& panel, Groups groups, Tile& tile) const {
        const auto& kernels = (pairs ? chain_.kernels->pairs : chain_.kernels->fp32)[panel.count - 1];
        for (std::size_t group = groups.first; group < groups.end;) {
            const std::size_t count = std::min(chain_.kernels->groups, groups.end - group);
            tile.lane = group * lane_group;
            kernels[count - 1](tile);
            group += count;
        }
    }

    /// The taps of one output row and column phase, those of rows outside the tensor left out.
    void place_taps(std::size_t l, std::size_t row, std::size_t phase, const Panel& panel) {
        const PackedLayer& layer = chain_.layers[l];
        const Window& window = windows_[l];
        const std::size_t units = layer.units * panel.count, extra_units = extra(l) * panel.count;
        const float* weights = layer.weights.data() + panel.weights;
        // as many blocks lie before it, each of `extra` units in place of layer.units
        const float* more = extra_units == 0
                                ? nullptr
                                : layer.precise.weights.data() + panel.weights / layer.units * extra(l);
        const auto& columns = layer.columns[phase];
        taps_.clear();
        for (const RowTap& y : layer.rows[row % layer.y.stride]) {
            const auto from = static_cast<std::ptrdiff_t>(row / layer.y.stride) + y.offset;
            const bool inside = from >= 0 && from < static_cast<std::ptrdiff_t>(heights_[l]);
            for (const ColumnTap& x : columns) {
                if (inside)
                    taps_.push_back({window.row(static_cast<std::size_t>(from)) +
                                         x.phase * (layer.units + extra(l)) * lanes_ + lane_pad + x.offset,
                                     {weights, more}});
                weights += units;
                more += extra_units;
            }
        }
    }

    /// Rows [first, end) of the first layer's input, before its normalisation: the affine combination.
    /// Channel by channel, so that the tensors are read in long runs.
    template <class Place>
    void latents(std::size_t first, std::size_t end, const Place& place) {
        const std::size_t width = input_.width, rows = end - first;
        const Floats scratch = memory_.take(rows * width);
        for (std::size_t c = 0; c < chain_.layers.front().in; ++c) {
            combine(*chain_.kernels, input_, c, first, rows, scratch.get());
            for (std::size_t row = 0; row < rows; ++row) {
                float* const to = place(first + row) + c * lanes_ + lane_pad;
                std::copy_n(scratch.get() + row * width, width, to);
                std::fill_n(to + width, groups_ * lane_group - width, 0.0F);
            }
        }
    }

    /// A row of a layer's input [phases][channels][lanes] → normalised, as the kernels read it.
    void finish(std::size_t l, float* raw, float* to) {
        const PackedLayer& layer = chain_.layers[l];
        const Kernels& kernels = *chain_.kernels;
        const std::size_t width = input_.width;
        for (std::size_t phase = 0; phase < layer.in_phases; ++phase, raw += layer.in * lanes_) {
            if (ended()) return;
            if (!layer.norm.panels.empty()) normalise(layer, raw);
            const auto channel = [&](std::size_t c) { return raw + c * lanes_ + lane_pad; };
            for (std::size_t unit = 0; unit < layer.units; ++unit, to += lanes_) {
                if (!layer.pairs) {
                    std::copy_n(channel(unit), width, to + lane_pad);
                    continue;
                }
                const std::size_t i = 2 * unit;
                const float* const high =
                    i + 1 < layer.paired.size() ? channel(layer.paired[i + 1]) : zeros_.get();
                kernels.to_pairs(channel(layer.paired[i]), high, width, to + lane_pad);
            }
            for (const std::uint32_t c : layer.precise.channels) {
                std::copy_n(channel(c), width, to + lane_pad);
                to += lanes_;
            }
        }
    }

    /// One phase of a row, in place.
    void normalise(const PackedLayer& layer, float* raw) {
        const Kernels& kernels = *chain_.kernels;
        const std::size_t count = groups_ * lane_group;
        float* const squares = scratch_.get();
        float* const norms = squares + layer.in * lanes_;
        float* const plain = layer.pairs ? norms : squares;
        for (std::size_t c = 0; c < layer.in; ++c)
            kernels.square(raw + c * lanes_ + lane_pad, count, plain + c * lanes_);
        if (layer.pairs)
            for (std::size_t c = 0; c < layer.in; c += 2) {
                const float* const high = c + 1 < layer.in ? plain + (c + 1) * lanes_ : zeros_.get();
                kernels.to_pairs(plain + c * lanes_, high, count, squares + c / 2 * lanes_);
            }
        for (const Panel& panel : layer.norm.panels) {
            const Tap tap{squares, {layer.norm.weights.data() + panel.weights, nullptr}};
            Tile tile{&tap,   1,
                      0,      {layer.norm.units, 0},
                      lanes_, layer.norm.beta.data() + panel.first,
                      1,      norms + panel.first * lanes_,
                      lanes_};
            run_tiles(layer.pairs, panel, {0, groups_}, tile);
        }
        for (std::size_t c = 0; c < layer.in; ++c)
            kernels.scale_by_root(norms + c * lanes_, groups_, raw + c * lanes_ + lane_pad);
    }

    /// Units of a row besides layer.units.
    [[nodiscard]] std::size_t extra(std::size_t l) const { return chain_.layers[l].precise.channels.size(); }

    const PackedChain& chain_;
    const Memory memory_;
    const Control* control_;
    const Input& input_;
    std::uint8_t* out_;
    float low_, high_;
    std::size_t groups_, lanes_, planes_;
    std::vector<Window> windows_;       ///< the input rows of each layer that are held
    std::vector<std::size_t> heights_;  ///< of each layer's input
    Floats picture_rows_;
    Floats zeros_;    ///< a channel
    Floats scratch_;  ///< squares and norms of the most channels that are normalised
    std::vector<Tap> taps_;
};

Status check(const PackedChain& chain, const Input& input, float low, float high) {
    if (input.height < 1 || input.height > max_side || input.width < 1 || input.width > max_side)
        return invalid_argument("a tensor extent out of range");
    if (!(low >= 0 && low <= high && high <= 255)) return invalid_argument("limits outside 0..255");
    const std::size_t channels = chain.layers.front().in;
    bool fits = !input.terms.empty() && input.offset.size() == channels;
    for (const Term& term : input.terms)
        fits =
            fits && term.scale.size() == channels && (term.floats == nullptr) != (term.integers == nullptr);
    if (!fits) return invalid_argument("terms that do not fit the chain");
    for (const PackedLayer& layer : chain.layers)
        if (std::uint64_t{2} * layer.units * layer.out_phases() * (input.width + 3 * lane_pad) >
            max_row_floats)
            return {Code::limit, "the picture is too wide for the native kernels; decode it in tiles"};
    return {};
}

}  // namespace

Status run(const PackedChain& chain, const Input& input, float low, float high, const Work& work,
           std::uint8_t* out) {
    NICRT_RETURN_IF_ERROR(check(chain, input, low, high));
    const std::size_t stripes = std::clamp<std::size_t>(work.threads, 1, input.height);
    return parallel_for(stripes, work, [&](std::size_t i) {
        Stripe stripe(chain, input, out, low, high, work);
        return stripe.run(input.height * i / stripes, input.height * (i + 1) / stripes);
    });
}

}  // namespace nicrt::native

// The rows of a layer's input that are held while a stripe is computed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "memory.hpp"

namespace nicrt::native {

inline Floats zeros(const Memory& memory, std::size_t count) {
    Floats floats = memory.take(count);
    std::fill_n(floats.get(), count, 0.0F);
    return floats;
}

/// Consecutive rows [first, end) of one tensor, each [phases][units][lanes with their padding], in a ring.
class Window {
public:
    Window(const Memory& memory, std::size_t row_floats) : memory_(memory), row_floats_(row_floats) {}

    std::size_t first = 0, end = 0;

    [[nodiscard]] float* row(std::size_t r) const { return data_.get() + r % capacity_ * row_floats_; }

    /// Forgets the rows before `from` and makes room up to row `until`; padding stays 0.
    void slide(std::size_t from, std::size_t until) {
        first = std::max(first, from);
        end = std::max(end, first);
        const std::size_t rows = std::max(until, end) - first;
        if (rows <= capacity_) return;
        Floats larger = zeros(memory_, rows * row_floats_);
        for (std::size_t r = first; r < end; ++r)
            std::copy_n(row(r), row_floats_, larger.get() + r % rows * row_floats_);
        data_ = std::move(larger);
        capacity_ = rows;
    }

private:
    Memory memory_;
    std::size_t row_floats_;
    std::size_t capacity_ = 0;
    Floats data_;
};

}  // namespace nicrt::native

// The tile grid of a stream, and the coded places of one tile in their order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "nicrt/stream.hpp"

namespace nicrt {

struct TileRect {
    std::uint32_t top = 0, bottom = 0, left = 0, right = 0;  ///< bottom and right exclusive

    [[nodiscard]] std::size_t cells() const { return std::size_t{bottom - top} * (right - left); }
};

/// Tiles in raster order; the last row and column are cut at the border.
class TileGrid {
public:
    TileGrid(TensorShape shape, std::uint32_t tile) : shape_(shape), edge_(tile) {
        if (edge_ == 0) edge_ = std::max(shape.height, shape.width);
        rows_ = (std::uint64_t{shape.height} + edge_ - 1) / edge_;
        columns_ = (std::uint64_t{shape.width} + edge_ - 1) / edge_;
    }

    [[nodiscard]] std::uint64_t count() const { return rows_ * columns_; }

    [[nodiscard]] TileRect rect(std::size_t tile) const {
        const auto top = static_cast<std::uint32_t>(tile / columns_ * edge_);
        const auto left = static_cast<std::uint32_t>(tile % columns_ * edge_);
        return {top, top + std::min(edge_, shape_.height - top), left,
                left + std::min(edge_, shape_.width - left)};
    }

private:
    TensorShape shape_;
    std::uint32_t edge_;
    std::uint64_t rows_ = 0;
    std::uint64_t columns_ = 0;
};

/// The places of one tile of one tensor, with the choice of their tables.
class TilePlaces {
public:
    TilePlaces(TensorShape shape, TileRect rect, TableChoice choice, std::size_t tables)
        : shape_(shape), rect_(rect), choice_(choice), tables_(static_cast<unsigned>(tables)) {}

    /// Upper bound of what is coded; compacted arrays need room for this and kCompactSlack more.
    [[nodiscard]] std::size_t count() const { return rect_.cells() * shape_.channels; }

    /// See CompactKernels; n: the number of coded places. Fail where `control` ends them, and else do not.
    Status ids(const Control* control, std::uint8_t* ids, std::size_t& n) const;
    Status gather(const Control* control, std::int32_t* symbols, std::uint8_t* ids, std::int16_t* coded,
                  std::size_t& n, bool& fits) const;
    Status scatter(const Control* control, const std::int16_t* coded, std::int32_t* symbols) const;

private:
    template <class Visit>
    Status for_each_part(const Control* control, Visit visit) const;
    [[nodiscard]] bool channel_coded(std::uint32_t channel) const { return choice_.ids[channel] < tables_; }

    TensorShape shape_;
    TileRect rect_;
    TableChoice choice_;
    unsigned tables_;
};

}  // namespace nicrt

// Compaction (FORMAT.md section 3): which places are coded, in which order, with how many raw bits before
// them.
//
// count → scan → fill, and scatter once the symbols are there. Each looks at the index again: reading a byte
// a place costs less than keeping four.
#pragma once

#include "entropy_layout.hpp"
#include "lanes.hpp"
#include "launch.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

NICRT_DEVICE u32 divide(u32 dividend, const Divisor& by) {
    const auto high = static_cast<u32>(u64{dividend} * by.factor >> 32);
    return (high + dividend) >> by.shift;
}

NICRT_DEVICE void report(u64* fault, u32 tile, u32 segment, Fault what) {
    atomic_min(fault, u64{tile} << (FaultReport::kFaultBits + FaultReport::kSegmentBits) |
                          u64{segment} << FaultReport::kFaultBits | static_cast<u64>(what));
}

/// Segment i of a tile's begins with coded symbol floor(coded i / segments).
NICRT_DEVICE u32 segment_begin(u32 coded, u32 segments, u32 i) {
    return static_cast<u32>(u64{coded} * i / segments);
}

/// The segment of a coded symbol; 1 <= segments <= coded.
NICRT_DEVICE u32 segment_of(u32 symbol, u32 coded, u32 segments) {
    if (segments == 1) return 0;
    return static_cast<u32>(((u64{symbol} + 1) * segments - 1) / coded);
}

NICRT_DEVICE bool segments_fit(u32 coded, u32 segments) {
    return (segments == 0) == (coded == 0) && segments <= coded;
}

/// A tile of the batch.
struct TileArea {
    u32 picture, top, left, height, width;
    u32 places;
    u64 first;  ///< of its places, with tiles one after the other
    Divisor by_height, by_width;

    NICRT_DEVICE TileArea(const BatchGrid& grid, u32 tile) {
        picture = divide(tile, grid.by_tiles);
        const u32 number = tile - picture * (grid.rows * grid.columns);
        const u32 row = divide(number, grid.by_columns);
        const u32 column = number - row * grid.columns;
        by_height = grid.by_height[row + 1 == grid.rows];
        by_width = grid.by_width[column + 1 == grid.columns];
        top = row * grid.edge;
        left = column * grid.edge;
        height = by_height.value;
        width = by_width.value;
        places = grid.channels * height * width;
        first = (u64{picture} * grid.height * grid.width + u64{top} * grid.width + u64{height} * left) *
                grid.channels;
    }
};

/// One chunk of a tile: group g holds places 32 g .. 32 g + 31.
class Chunk {
public:
    NICRT_DEVICE Chunk(const EntropyBatch& batch, u32 number)
        : batch_(batch),
          number_(number),
          tile_(divide(number, batch.grid.by_chunks)),
          area_(batch.grid, tile_),
          first_((number - tile_ * batch.grid.chunks_per_tile) * kChunkPlaces) {}

    [[nodiscard]] NICRT_DEVICE u32 tile() const { return tile_; }
    [[nodiscard]] NICRT_DEVICE const TileArea& area() const { return area_; }
    [[nodiscard]] NICRT_DEVICE bool empty() const { return first_ >= area_.places; }
    [[nodiscard]] NICRT_DEVICE Amount& amount() const { return batch_.chunks[number_]; }
    [[nodiscard]] NICRT_DEVICE bool inside(u32 group, u32 lane) const {
        return place(group, lane) < area_.places;
    }

    /// Table of a place; a number that stands for no table where the chunk has no such place.
    [[nodiscard]] NICRT_DEVICE u32 id(u32 group, u32 lane) const {
        if (!inside(group, lane)) return ~0u;
        const At at = locate(group, lane);
        const IndexView& index = batch_.index;
        if (index.ids == nullptr) return index.channel_ids[at.channel];
        return index.ids[((u64{area_.picture} * batch_.grid.channels + at.channel) * index.height + at.row) *
                             index.width +
                         at.column];
    }

    /// The symbol of a place that the chunk has.
    [[nodiscard]] NICRT_DEVICE i32& symbol(u32 group, u32 lane) const {
        const At at = locate(group, lane);
        const BatchGrid& grid = batch_.grid;
        return batch_
            .symbols[((u64{area_.picture} * grid.channels + at.channel) * grid.height + at.row) * grid.width +
                     at.column];
    }

private:
    struct At {
        u32 channel, row, column;
    };

    [[nodiscard]] NICRT_DEVICE u32 place(u32 group, u32 lane) const {
        return first_ + group * kWarpLanes + lane;
    }

    [[nodiscard]] NICRT_DEVICE At locate(u32 group, u32 lane) const {
        const u32 line = divide(place(group, lane), area_.by_width);
        const u32 channel = divide(line, area_.by_height);
        return {channel, area_.top + line - channel * area_.height,
                area_.left + place(group, lane) - line * area_.width};
    }

    const EntropyBatch& batch_;
    u32 number_, tile_;
    TileArea area_;
    u32 first_;
};

/// The ids of a chunk, loaded before any is looked at: the loads wait together.
struct ChunkIds {
    PerLane<u32> group[kChunkGroups];

    NICRT_DEVICE ChunkIds(const Warp& warp, const Chunk& chunk) {
        NICRT_UNROLL
        for (u32 g = 0; g < kChunkGroups; ++g)
            warp.each([&](u32 lane) { group[g][lane] = chunk.id(g, lane); });
    }
};

/// Every lane's value, below 16, becomes the sum of those before it; returns the sum of all.
NICRT_DEVICE u32 exclusive_sum_below_16(const Warp& warp, PerLane<u32>& values) {
    u32 planes[4], total = 0;
    NICRT_UNROLL
    for (u32 bit = 0; bit < 4; ++bit) {
        planes[bit] = warp.ballot([&](u32 lane) { return is_set(values[lane], bit); });
        total += count_bits(planes[bit]) << bit;
    }
    warp.each([&](u32 lane) {
        u32 before = 0;
        NICRT_UNROLL
        for (u32 bit = 0; bit < 4; ++bit) before += rank(planes[bit], lane) << bit;
        values[lane] = before;
    });
    return total;
}

/// Warps take chunks.
template <class Derived>
struct ChunkKernel : NothingShared {
    static constexpr u32 kWarps = 8;
    EntropyBatch batch;

    explicit ChunkKernel(const EntropyBatch& batch_) : batch(batch_) {}

    NICRT_DEVICE void run(const Warp& warp, u8*) const {
        const u32 number = warp.place().block * kWarps + warp.place().warp;
        if (number >= batch.grid.pictures * batch.grid.rows * batch.grid.columns * batch.grid.chunks_per_tile)
            return;
        static_cast<const Derived*>(this)->chunk(warp, Chunk(batch, number));
    }

    [[nodiscard]] NICRT_DEVICE u32 shift_of(u32 id) const {
        return id < batch.tables.count ? batch.tables.ranges[id].shift : 0u;
    }
};

/// Coded symbols and raw bits of every chunk. Nothing is reported before, so the report is cleared here.
struct CountKernel : ChunkKernel<CountKernel> {
    using ChunkKernel::ChunkKernel;

    NICRT_DEVICE void chunk(const Warp& warp, const Chunk& chunk) const {
        if (warp.place().block == 0 && warp.place().warp == 0) warp.once([&] { *batch.fault = kNoFault; });
        const ChunkIds ids(warp, chunk);
        u32 coded = 0;
        PerLane<u32> bits;
        warp.each([&](u32 lane) { bits[lane] = 0; });
        NICRT_UNROLL
        for (u32 g = 0; g < kChunkGroups; ++g) {
            coded +=
                count_bits(warp.ballot([&](u32 lane) { return ids.group[g][lane] < batch.tables.count; }));
            if (batch.tables.raw) warp.each([&](u32 lane) { bits[lane] += shift_of(ids.group[g][lane]); });
        }
        const u32 raw_bits = batch.tables.raw ? warp.sum([&](u32 lane) { return bits[lane]; }) : 0;
        warp.once([&] { chunk.amount() = Amount{coded, raw_bits}; });
    }
};

/// What comes before every chunk of a tile; a warp takes a tile. Also the first check of the directory.
struct ScanKernel : NothingShared {
    static constexpr u32 kWarps = 1;
    static constexpr u32 kRun = 8;  ///< neighbouring chunks of a lane
    EntropyBatch batch;

    explicit ScanKernel(const EntropyBatch& batch_) : batch(batch_) {}

    struct Run {
        Amount amount[kRun];
    };

    NICRT_DEVICE void run(const Warp& warp, u8*) const {
        const u32 tile = warp.place().block;
        const u32 count = batch.grid.chunks_per_tile;
        Amount* const chunks = batch.chunks + u64{tile} * count;
        Amount total{0, 0};
        for (u32 begin = 0; begin < count; begin += kWarpLanes * kRun)
            scan(warp, chunks, begin, count, total);
        warp.once([&] {
            batch.totals[tile] = total;
            if (!segments_fit(total.coded, batch.tiles[tile].segments))
                report(batch.fault, tile, 0, Fault::segment_count);
        });
    }

private:
    NICRT_DEVICE void scan(const Warp& warp, Amount* chunks, u32 begin, u32 count, Amount& total) const {
        PerLane<Run> run;
        PerLane<u32> coded, bits;
        warp.each([&](u32 lane) {
            coded[lane] = bits[lane] = 0;
            NICRT_UNROLL
            for (u32 i = 0; i < kRun; ++i) {
                const u32 chunk = begin + lane * kRun + i;
                run[lane].amount[i] = chunk < count ? chunks[chunk] : Amount{0, 0};
            }
            NICRT_UNROLL
            for (u32 i = 0; i < kRun; ++i) {
                coded[lane] += run[lane].amount[i].coded;
                bits[lane] += run[lane].amount[i].raw_bits;
            }
        });
        const u32 all_coded = warp.exclusive_sum(coded);
        const u32 all_bits = warp.exclusive_sum(bits);
        warp.each([&](u32 lane) {
            Amount before{total.coded + coded[lane], total.raw_bits + bits[lane]};
            NICRT_UNROLL
            for (u32 i = 0; i < kRun; ++i) {
                const u32 chunk = begin + lane * kRun + i;
                if (chunk < count) chunks[chunk] = before;
                before.coded += run[lane].amount[i].coded;
                before.raw_bits += run[lane].amount[i].raw_bits;
            }
        });
        total.coded += all_coded;
        total.raw_bits += all_bits;
    }
};

/// The table ids of the coded symbols in their order, and the raw bits before each segment.
struct FillKernel : ChunkKernel<FillKernel> {
    using ChunkKernel::ChunkKernel;

    NICRT_DEVICE void chunk(const Warp& warp, const Chunk& chunk) const {
        if (chunk.empty()) return;
        const ChunkIds ids(warp, chunk);
        Amount before = chunk.amount();
        u8* const out = batch.ids + chunk.area().first;
        NICRT_UNROLL
        for (u32 g = 0; g < kChunkGroups; ++g) {
            const PerLane<u32>& id = ids.group[g];
            const u32 coded = warp.ballot([&](u32 lane) { return id[lane] < batch.tables.count; });
            warp.each([&](u32 lane) {
                if (is_set(coded, lane)) out[before.coded + rank(coded, lane)] = static_cast<u8>(id[lane]);
            });
            if (batch.tables.raw) before.raw_bits += mark_segments(warp, chunk, id, coded, before);
            before.coded += count_bits(coded);
        }
    }

private:
    /// Writes the raw bits before every segment that begins in this group; returns the group's raw bits.
    NICRT_DEVICE u32 mark_segments(const Warp& warp, const Chunk& chunk, const PerLane<u32>& id, u32 coded,
                                   Amount before) const {
        PerLane<u32> bits;
        warp.each([&](u32 lane) { bits[lane] = shift_of(id[lane]); });
        const u32 all_bits = exclusive_sum_below_16(warp, bits);
        const TileEntry tile = batch.tiles[chunk.tile()];
        const u32 total = batch.totals[chunk.tile()].coded;
        if (coded == 0 || tile.segments == 0 || tile.segments > total) return all_bits;
        const u32 last = segment_of(before.coded + count_bits(coded) - 1, total, tile.segments);
        if (segment_begin(total, tile.segments, last) < before.coded) return all_bits;
        warp.each([&](u32 lane) {
            if (!is_set(coded, lane)) return;
            const u32 symbol = before.coded + rank(coded, lane);
            const u32 segment = segment_of(symbol, total, tile.segments);
            if (segment_begin(total, tile.segments, segment) == symbol)
                batch.segment_bits[tile.first + segment] = before.raw_bits + bits[lane];
        });
        return all_bits;
    }
};

/// Symbols from quotients and raw bits, 0 where not coded.
struct ScatterKernel : ChunkKernel<ScatterKernel> {
    using ChunkKernel::ChunkKernel;

    NICRT_DEVICE void chunk(const Warp& warp, const Chunk& chunk) const {
        if (chunk.empty()) return;
        const ChunkIds ids(warp, chunk);
        Amount before = chunk.amount();
        const u32 total = batch.totals[chunk.tile()].coded;
        const TileEntry tile = batch.tiles[chunk.tile()];
        const u32 tables = segments_fit(total, tile.segments) ? batch.tables.count : 0;  // 0: nothing coded
        const i16* const quotients = batch.quotients + chunk.area().first;
        PerLane<i32> values[kChunkGroups];
        u32 coded[kChunkGroups], first[kChunkGroups];
        NICRT_UNROLL
        for (u32 g = 0; g < kChunkGroups; ++g) {
            coded[g] = warp.ballot([&](u32 lane) { return ids.group[g][lane] < tables; });
            first[g] = before.coded;
            before.coded += count_bits(coded[g]);
            warp.each([&](u32 lane) {
                values[g][lane] = is_set(coded[g], lane) ? quotients[first[g] + rank(coded[g], lane)] : 0;
            });
        }
        NICRT_UNROLL
        for (u32 g = 0; g < kChunkGroups; ++g) {
            if (batch.tables.raw && coded[g] != 0)
                before.raw_bits += add_raw(warp, chunk.tile(), ids.group[g], coded[g],
                                           {first[g], before.raw_bits}, values[g]);
            warp.each([&](u32 lane) {
                if (!chunk.inside(g, lane)) return;
                const i32 value = values[g][lane];
                chunk.symbol(g, lane) = value;
                if (value >= batch.low && value <= batch.high) return;
                const u32 segment = is_set(coded[g], lane)
                                        ? segment_of(first[g] + rank(coded[g], lane), total, tile.segments)
                                        : 0;
                report(batch.fault, chunk.tile(), segment, Fault::limits);
            });
        }
    }

private:
    /// Puts raw bits below the quotients of a group; returns how many the group has.
    NICRT_DEVICE u32 add_raw(const Warp& warp, u32 tile_number, const PerLane<u32>& id, u32 coded,
                             Amount before, PerLane<i32>& values) const {
        PerLane<u32> shift;
        warp.each([&](u32 lane) { shift[lane] = is_set(coded, lane) ? shift_of(id[lane]) : 0u; });
        if (warp.ballot([&](u32 lane) { return shift[lane] != 0; }) == 0) return 0;
        PerLane<u32> bits = shift;
        const u32 all_bits = exclusive_sum_below_16(warp, bits);
        const TileEntry tile = batch.tiles[tile_number];
        const u32 total = batch.totals[tile_number].coded;
        warp.each([&](u32 lane) {
            if (shift[lane] == 0) return;
            const u32 segment = segment_of(before.coded + rank(coded, lane), total, tile.segments);
            const u32 bit = before.raw_bits + bits[lane] - batch.segment_bits[tile.first + segment];
            const u32 raw = raw_at(batch.raw_places[tile.first + segment], bit);
            const i32 value =
                values[lane] * (1 << shift[lane]) + static_cast<i32>(raw & ((1u << shift[lane]) - 1));
            if (value != static_cast<i16>(value)) report(batch.fault, tile_number, segment, Fault::range);
            values[lane] = value;
        });
        return all_bits;
    }

    /// At least 17 bits from a bit on; some bits of the payload where that is outside.
    [[nodiscard]] NICRT_DEVICE u32 raw_at(u32 place, u32 bit) const {
        const u64 wanted = u64{place} + (bit >> 3);
        const u64 limit = batch.payload_bytes - 3;
        const u8* const bytes = batch.payload + (wanted < limit ? wanted : limit);
        return (u32{bytes[0]} | u32{bytes[1]} << 8 | u32{bytes[2]} << 16) >> (bit & 7);
    }
};

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device

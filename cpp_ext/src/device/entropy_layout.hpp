// What the host lays out for the entropy kernels, and the kernels for each other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "nicrt/device.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

/// Division by a number that is known before the kernel starts: a high multiplication, an addition and a
/// shift (Granlund and Montgomery, 1994), for dividends below 2^31.
struct Divisor {
    std::uint32_t value = 1, factor = 1, shift = 0;

    Divisor() = default;
    explicit Divisor(std::uint32_t divisor) : value(divisor) {
        while ((std::uint64_t{1} << shift) < divisor) ++shift;
        factor = static_cast<std::uint32_t>(((((std::uint64_t{1} << shift) - divisor) << 32) / divisor) + 1);
    }
};

/// The batch's tensor, cut into tiles, and every tile's places, in their order, into chunks of 256: a warp's
/// share. Tiles at the border have fewer chunks than there are numbers for.
struct BatchGrid {
    std::uint32_t pictures = 1, channels = 1, height = 1, width = 1;
    std::uint32_t edge = 1;               ///< of a tile
    std::uint32_t rows = 1, columns = 1;  ///< of the tile grid
    std::uint32_t chunks_per_tile = 1;
    Divisor by_chunks, by_columns, by_tiles;
    Divisor by_height[2], by_width[2];  ///< of a tile inside, and of one in the last row or column

    [[nodiscard]] std::uint32_t tiles() const { return rows * columns; }
    [[nodiscard]] std::uint32_t batch_tiles() const { return pictures * tiles(); }
    [[nodiscard]] std::uint32_t batch_chunks() const { return batch_tiles() * chunks_per_tile; }
    [[nodiscard]] std::size_t picture_places() const { return std::size_t{channels} * height * width; }
};

inline constexpr std::uint32_t kChunkGroups = 8;  ///< of 32 places
inline constexpr std::uint32_t kChunkPlaces = 32 * kChunkGroups;

/// Where the index lies, or the table of each channel.
struct IndexView {
    const std::uint8_t* ids = nullptr;  ///< [pictures, channels, height, width] or null
    std::uint32_t height = 0, width = 0;
    const std::uint8_t* channel_ids = nullptr;  ///< [channels]
};

struct TileEntry {
    std::uint32_t first = 0;  ///< number of its first segment in the batch
    std::uint32_t segments = 0;
};

/// A segment without its CRC and escape count, which the host has read. Its states begin at a multiple of 16
/// in the payload, its words as well, with what follows them behind.
struct alignas(16) SegmentEntry {
    std::uint32_t tile = 0;    ///< in the batch
    std::uint32_t number = 0;  ///< in the tile
    std::uint32_t lanes = 1;
    std::uint32_t escapes = 0;
    std::uint32_t states = 0;      ///< offset in the payload
    std::uint32_t words = 0;       ///< offset in the payload
    std::uint32_t tail_bytes = 0;  ///< of words, raw bits and escapes
    std::uint32_t unused = 0;
};
static_assert(sizeof(SegmentEntry) == 32);

/// The payload ends with as many zeros, so that a reader of raw bits need not look where it stops.
inline constexpr std::size_t kPayloadSlack = 16;

/// Coded symbols and raw bits: of a chunk and then, scanned, of all chunks before it in its tile; of a tile.
struct Amount {
    std::uint32_t coded = 0, raw_bits = 0;
};

/// The one or two symbols of a range of slots, as in the CPU's search form (codebook_impl.hpp): frequency <<
/// 20 | start << 8 | quotient byte, the second taken from its start on. Where there are more, `first` is
/// below 2^20: the number of a row with an entry for every slot of the range.
struct alignas(8) SlotBucket {
    std::uint32_t first = 0, second = 0;
};

/// Quotient range and raw bits of a table.
struct TableRange {
    std::int8_t low = 0, high = 0;
    std::uint8_t shift = 0, unused = 0;
};

/// A codebook on the device.
struct TablesView {
    const SlotBucket* buckets = nullptr;  ///< 2^bucket_bits of each table
    const std::uint32_t* rows = nullptr;  ///< right behind the buckets
    const TableRange* ranges = nullptr;   ///< 256
    std::uint32_t count = 0;
    std::uint32_t bucket_bits = 8;
    std::uint32_t bucket_bytes = 0;  ///< of all buckets, a multiple of 16
    std::uint32_t shared_bytes = 0;  ///< what goes to shared memory: the buckets, or the rows as well
    bool raw = false;                ///< some table has raw bits
};

/// What is wrong with a segment, or its tile. Reports are ordered: the lowest number wins.
enum class Fault : std::uint32_t {
    segment_count = 1,  ///< a tile's segments do not go with its coded symbols
    part_sizes = 2,
    raw_padding = 3,
    words = 4,
    final_state = 5,
    escapes = 6,
    range = 7,   ///< a symbol outside 16 bits
    limits = 8,  ///< a symbol that the decoder was told not to let through
};

inline constexpr std::uint64_t kNoFault = ~std::uint64_t{0};

/// Reports from different places compare by tile, then segment.
struct FaultReport {
    std::uint32_t tile = 0, segment = 0;
    Fault fault{};

    static constexpr unsigned kFaultBits = 4, kSegmentBits = 31;

    [[nodiscard]] static FaultReport from(std::uint64_t word) {
        FaultReport report;
        report.fault = static_cast<Fault>(word & ((1u << kFaultBits) - 1));
        report.segment = static_cast<std::uint32_t>(word >> kFaultBits & ((1u << kSegmentBits) - 1));
        report.tile = static_cast<std::uint32_t>(word >> (kFaultBits + kSegmentBits));
        return report;
    }
};

/// Everything on the device that the entropy kernels of a batch work with.
struct EntropyBatch {
    BatchGrid grid;
    IndexView index;
    TablesView tables;

    // from the host
    const std::uint32_t* segment_count = nullptr;
    const TileEntry* tiles = nullptr;        ///< [batch_tiles]
    const SegmentEntry* segments = nullptr;  ///< [segment_count]
    const std::uint8_t* payload = nullptr;
    std::uint32_t payload_bytes = 0;  ///< with its slack

    // between kernels
    Amount* chunks = nullptr;  ///< [batch_tiles, chunks_per_tile]
    Amount* totals = nullptr;  ///< [batch_tiles]
    /// Table ids of the coded symbols, each tile's from the tile's first place on.
    std::uint8_t* ids = nullptr;
    std::int16_t* quotients = nullptr;      ///< likewise
    std::uint32_t* segment_bits = nullptr;  ///< raw bits before the segment in its tile; unused without raw
    std::uint32_t* raw_places = nullptr;    ///< where a segment's raw bits begin in the payload

    std::int32_t* symbols = nullptr;  ///< [pictures, channels, height, width]
    std::int32_t low = 0, high = 0;   ///< of the symbols
    std::uint64_t* fault = nullptr;
};

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device

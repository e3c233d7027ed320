// Decoder loop over lanes one by one, inlined into a function of each instruction set.
#pragma once

#include <utility>

#include "bytes.hpp"
#include "codebook_impl.hpp"
#include "compiler.hpp"
#include "rans_decode.hpp"

namespace nicrt {

inline constexpr std::uint32_t kSlotMask = kProbabilityTotal - 1;

/// A path finds the entry of a slot and how far the slot lies behind its symbol's start.
struct LookupPath {
    const std::uint32_t* entries;
    explicit LookupPath(const DecodeTables& tables) : entries(tables.lookup) {}

    [[nodiscard]] NICRT_ALWAYS_INLINE std::uint32_t entry(std::uint32_t table, std::uint32_t slot) const {
        return entries[table << kProbabilityBits | slot];
    }
    [[nodiscard]] NICRT_ALWAYS_INLINE std::uint32_t offset(std::uint32_t entry, std::uint32_t) const {
        return entry >> 8 & kSlotMask;
    }
};

struct SearchPath {
    const Bucket* buckets;
    const std::uint32_t* rows;
    explicit SearchPath(const DecodeTables& tables) : buckets(tables.buckets), rows(tables.rows) {}

    [[nodiscard]] NICRT_ALWAYS_INLINE std::uint32_t entry(std::uint32_t table, std::uint32_t slot) const {
        const Bucket bucket = buckets[table << kBucketBits | slot / kBucketSlots];
        const std::uint32_t found = slot >= (bucket.second >> 8 & kSlotMask) ? bucket.second : bucket.first;
        if (found >= 1u << 20) [[likely]]
            return found;
        return rows[found * kBucketSlots + slot % kBucketSlots];
    }
    [[nodiscard]] NICRT_ALWAYS_INLINE std::uint32_t offset(std::uint32_t entry, std::uint32_t slot) const {
        return slot - (entry >> 8 & kSlotMask);
    }
};

/// One symbol of one lane. Whether a word is taken is as good as random, so it must not become a branch.
template <class Path>
NICRT_ALWAYS_INLINE std::int16_t decode_symbol(const Path& path, std::uint32_t table, std::uint32_t& state,
                                               const std::uint8_t*& next) {
    const std::uint32_t slot = state & kSlotMask;
    const std::uint32_t entry = path.entry(table, slot);
    const std::uint32_t x = (entry >> 20) * (state >> kProbabilityBits) + path.offset(entry, slot);
    const std::uint32_t refilled = x << 16 | load_le<std::uint16_t>(next);
    const bool take = x < kStateFloor;
    state = take ? refilled : x;
    next += take ? 2 : 0;
    return static_cast<std::int8_t>(entry);
}

template <class Path, unsigned kLanes>
NICRT_ALWAYS_INLINE std::size_t decode_lanes(const DecodeTables& tables, const std::uint8_t* table_ids,
                                             std::size_t rounds, std::int16_t* quotients, LaneStates& lanes) {
    const Path path(tables);
    std::uint32_t state[kLanes];
    for (unsigned lane = 0; lane < kLanes; ++lane) state[lane] = lanes.state[lane];
    const std::uint8_t* next = lanes.next;
    const std::uint8_t* const end = lanes.end;
    std::size_t round = 0;
    for (; round < rounds && end - next >= 2 * static_cast<std::ptrdiff_t>(kLanes); ++round) {
#pragma GCC unroll 8
        for (unsigned lane = 0; lane < kLanes; ++lane)
            quotients[lane] = decode_symbol(path, table_ids[lane], state[lane], next);
        table_ids += kLanes;
        quotients += kLanes;
    }
    for (unsigned lane = 0; lane < kLanes; ++lane) lanes.state[lane] = state[lane];
    lanes.next = next;
    return round;
}

}  // namespace nicrt

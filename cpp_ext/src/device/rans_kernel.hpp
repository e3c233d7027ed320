// The rANS decoder (FORMAT.md sections 5 and 6): a warp takes a segment, a lane of it a lane.
#pragma once

#include "compact_kernels.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

inline constexpr u32 kSlotBits = 12;
inline constexpr u32 kSlots = 1u << kSlotBits;
inline constexpr u32 kFloor = 1u << 16;  ///< every state is at least this between symbols
inline constexpr i32 kEscapeByte = -128;

/// Finds the entry of a slot: one look-up, two for the few slots of crowded buckets.
struct SlotSearch {
    const SlotBucket* buckets;
    const u32* rows;
    u32 bucket_bits;

    NICRT_DEVICE static u32 start(u32 entry) { return entry >> 8 & (kSlots - 1); }

    [[nodiscard]] NICRT_DEVICE u32 find(u32 table, u32 slot) const {
        const u32 slot_bits = kSlotBits - bucket_bits;
        const SlotBucket bucket = buckets[table << bucket_bits | slot >> slot_bits];
        if (bucket.first < 1u << 20)
            return rows[bucket.first << slot_bits | (slot & ((1u << slot_bits) - 1))];
        return slot >= start(bucket.second) ? bucket.second : bucket.first;
    }
};

/// Where the parts of a segment lie.
struct SegmentParts {
    u32 count = 0;    ///< symbols; 0 when the segment cannot be decoded
    u64 first = 0;    ///< place of the first one among the compacted symbols of the batch
    u32 words = 0;    ///< number of words
    u32 escapes = 0;  ///< place in the payload
};

struct RansKernel {
    static constexpr u32 kWarps = 16;
    static constexpr u32 kAhead = 8;  ///< rounds whose table ids are loaded together, one batch ahead
    EntropyBatch batch;

    /// Blocks without a segment do not wait for the tables.
    NICRT_DEVICE bool prepare(const Place& place, u8* shared) const {
        if (place.block >= *batch.segment_count) return false;
        copy_to_shared(place, shared, batch.tables.buckets, batch.tables.shared_bytes);
        return true;
    }

    NICRT_DEVICE void run(const Warp& warp, u8* shared) const {
        const TablesView& tables = batch.tables;
        const bool all_shared = tables.shared_bytes > tables.bucket_bytes;
        const SlotSearch search{
            reinterpret_cast<const SlotBucket*>(shared),
            all_shared ? reinterpret_cast<const u32*>(shared + tables.bucket_bytes) : tables.rows,
            tables.bucket_bits};
        const Place& at = warp.place();
        const u32 segments = *batch.segment_count;
        for (u32 i = at.block + at.blocks * at.warp; i < segments; i += at.blocks * at.warps)
            decode(warp, search, i);
    }

private:
    struct TableIds {
        u32 id[kAhead];
    };

    struct Decoder {
        PerLane<u32> state;
        PerLane<u32> rounds;  ///< of each lane
        PerLane<u32> words;   ///< two windows of 32 words each, the second in the upper halves
        PerLane<u32> ahead;   ///< the window behind them
        u32 window = 0;       ///< number of the first word in `words`
        u32 within = 0;       ///< words of the first window that are taken
        u32 escapes = 0;
        bool bad_escape = false;
    };

    NICRT_DEVICE u16 load16(u32 place) const {
        return static_cast<u16>(batch.payload[place] | batch.payload[place + 1] << 8);
    }

    NICRT_DEVICE void fail(const Warp& warp, const SegmentEntry& entry, Fault fault) const {
        warp.once([&] { report(batch.fault, entry.tile, entry.number, fault); });
    }

    /// Checks the sizes and says the scatter kernel where the raw bits are.
    NICRT_DEVICE SegmentParts find_parts(const Warp& warp, const SegmentEntry& entry, u32 number) const {
        SegmentParts parts;
        const TileEntry tile = batch.tiles[entry.tile];
        const Amount total = batch.totals[entry.tile];
        warp.once([&] { batch.raw_places[number] = 0; });
        if (!segments_fit(total.coded, tile.segments)) return parts;  // reported already
        const u32 begin = segment_begin(total.coded, tile.segments, entry.number);
        const u32 end = segment_begin(total.coded, tile.segments, entry.number + 1);
        u32 raw_bits = 0;
        if (batch.tables.raw) {
            const bool last = entry.number + 1 == tile.segments;
            raw_bits = (last ? total.raw_bits : batch.segment_bits[number + 1]) - batch.segment_bits[number];
        }
        const u32 raw_bytes = raw_bits / 8 + (raw_bits % 8 != 0);
        const u64 fixed = raw_bytes + u64{2} * entry.escapes;
        if (fixed > entry.tail_bytes || (entry.tail_bytes - fixed) % 2 != 0) {
            fail(warp, entry, Fault::part_sizes);
            return parts;
        }
        const u32 word_bytes = entry.tail_bytes - static_cast<u32>(fixed);
        const u32 raw_place = entry.words + word_bytes;
        parts.escapes = raw_place + raw_bytes;
        warp.once([&] { batch.raw_places[number] = raw_place; });
        if (raw_bits % 8 != 0 && batch.payload[parts.escapes - 1] >> raw_bits % 8 != 0)
            fail(warp, entry, Fault::raw_padding);
        parts.words = word_bytes / 2;
        parts.count = end - begin;
        parts.first = TileArea(batch.grid, entry.tile).first + begin;
        return parts;
    }

    NICRT_DEVICE void decode(const Warp& warp, const SlotSearch& search, u32 number) const {
        const SegmentEntry entry = batch.segments[number];
        const SegmentParts parts = find_parts(warp, entry, number);
        if (parts.count == 0) return;
        Decoder decoder;
        start(warp, entry, parts, decoder);
        const u32 rounds = (parts.count - 1) / entry.lanes + 1;
        PerLane<TableIds> next = load_ids(warp, entry, parts, decoder, 0);
        for (u32 round = 0; round < rounds; round += kAhead) {
            const PerLane<TableIds> now = next;
            next = load_ids(warp, entry, parts, decoder, round + kAhead);
            NICRT_UNROLL
            for (u32 j = 0; j < kAhead; ++j) step(warp, search, entry, parts, now, round, j, decoder);
        }
        finish(warp, entry, parts, decoder);
    }

    [[nodiscard]] NICRT_DEVICE u32 load_word(const SegmentEntry& entry, const SegmentParts& parts,
                                             u32 number) const {
        const auto* const words = reinterpret_cast<const u16*>(batch.payload + entry.words);
        return number < parts.words ? words[number] : 0u;
    }

    NICRT_DEVICE void start(const Warp& warp, const SegmentEntry& entry, const SegmentParts& parts,
                            Decoder& decoder) const {
        const auto* const states = reinterpret_cast<const u32*>(batch.payload + entry.states);
        warp.each([&](u32 lane) {
            const bool used = lane < entry.lanes;
            decoder.state[lane] = used ? states[lane] : kFloor;
            decoder.rounds[lane] =
                used && lane < parts.count ? (parts.count - 1 - lane) / entry.lanes + 1 : 0u;
            decoder.words[lane] = load_word(entry, parts, lane) | load_word(entry, parts, kWarpLanes + lane)
                                                                      << 16;
            decoder.ahead[lane] = load_word(entry, parts, 2 * kWarpLanes + lane);
        });
    }

    [[nodiscard]] NICRT_DEVICE PerLane<TableIds> load_ids(const Warp& warp, const SegmentEntry& entry,
                                                          const SegmentParts& parts, const Decoder& decoder,
                                                          u32 round) const {
        PerLane<TableIds> ids;
        const u8* const from = batch.ids + parts.first;
        warp.each([&](u32 lane) {
            NICRT_UNROLL
            for (u32 j = 0; j < kAhead; ++j)
                ids[lane].id[j] =
                    round + j < decoder.rounds[lane] ? from[(round + j) * entry.lanes + lane] : 0u;
        });
        return ids;
    }

    /// Symbol `round + j` of every lane. What the next step waits for: slot → entry → product → whether a
    /// word is needed → which → state. Nothing else may stand in that line.
    NICRT_DEVICE void step(const Warp& warp, const SlotSearch& search, const SegmentEntry& entry,
                           const SegmentParts& parts, const PerLane<TableIds>& ids, u32 round, u32 j,
                           Decoder& decoder) const {
        PerLane<u32> product;
        PerLane<i32> quotient;
        warp.each([&](u32 lane) {
            const u32 slot = decoder.state[lane] & (kSlots - 1);
            const u32 found = search.find(ids[lane].id[j], slot);
            product[lane] =
                (found >> 20) * (decoder.state[lane] >> kSlotBits) + slot - SlotSearch::start(found);
            quotient[lane] = static_cast<std::int8_t>(found);
        });
        const auto active = [&](u32 lane) { return round + j < decoder.rounds[lane]; };
        const u32 taken = warp.ballot([&](u32 lane) { return active(lane) && product[lane] < kFloor; });
        const auto word_place = [&](u32 lane) { return decoder.within + rank(taken, lane); };
        const PerLane<u32> words =
            warp.gather(decoder.words, [&](u32 lane) { return word_place(lane) % kWarpLanes; });
        warp.each([&](u32 lane) {
            const u32 word = word_place(lane) < kWarpLanes ? words[lane] & 0xFFFFu : words[lane] >> 16;
            const u32 refilled = is_set(taken, lane) ? product[lane] << 16 | word : product[lane];
            decoder.state[lane] = active(lane) ? refilled : decoder.state[lane];
        });
        decoder.within += count_bits(taken);
        if (decoder.within >= kWarpLanes) advance(warp, entry, parts, decoder);

        const u32 escaped =
            warp.ballot([&](u32 lane) { return active(lane) && quotient[lane] == kEscapeByte; });
        if (escaped != 0) read_escapes(warp, entry, parts, ids, j, escaped, quotient, decoder);
        i16* const out = batch.quotients + parts.first;
        warp.each([&](u32 lane) {
            if (active(lane)) out[(round + j) * entry.lanes + lane] = static_cast<i16>(quotient[lane]);
        });
    }

    NICRT_DEVICE void advance(const Warp& warp, const SegmentEntry& entry, const SegmentParts& parts,
                              Decoder& decoder) const {
        decoder.within -= kWarpLanes;
        decoder.window += kWarpLanes;
        warp.each([&](u32 lane) {
            decoder.words[lane] = decoder.words[lane] >> 16 | decoder.ahead[lane] << 16;
            decoder.ahead[lane] = load_word(entry, parts, decoder.window + 2 * kWarpLanes + lane);
        });
    }

    NICRT_DEVICE void read_escapes(const Warp& warp, const SegmentEntry& entry, const SegmentParts& parts,
                                   const PerLane<TableIds>& ids, u32 j, u32 escaped, PerLane<i32>& quotient,
                                   Decoder& decoder) const {
        const u32 bad = warp.ballot([&](u32 lane) {
            if (!is_set(escaped, lane)) return false;
            const u32 number = decoder.escapes + rank(escaped, lane);
            if (number >= entry.escapes) return true;
            quotient[lane] = static_cast<i16>(load16(parts.escapes + 2 * number));
            const TableRange range = batch.tables.ranges[ids[lane].id[j]];
            return quotient[lane] >= range.low && quotient[lane] <= range.high;
        });
        decoder.escapes += count_bits(escaped);
        if (bad != 0) decoder.bad_escape = true;
    }

    NICRT_DEVICE void finish(const Warp& warp, const SegmentEntry& entry, const SegmentParts& parts,
                             const Decoder& decoder) const {
        const u32 unfinished = warp.ballot([&](u32 lane) { return decoder.state[lane] != kFloor; });
        const u32 words = decoder.window + decoder.within;
        if (words > parts.words) fail(warp, entry, Fault::words);
        else if (words < parts.words || unfinished != 0) fail(warp, entry, Fault::final_state);
        if (decoder.bad_escape || decoder.escapes != entry.escapes) fail(warp, entry, Fault::escapes);
    }
};

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device

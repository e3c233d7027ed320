// The forms of a codebook that the coders work with. Each is made on first use: a process that only decodes
// never pays for the encoder's, and a short stream never for the full look-up table.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "nicrt/codebook.hpp"

namespace nicrt {

/// Byte that stands for an escaped symbol in place of a quotient.
inline constexpr std::int8_t kEscape = -128;

struct TableInfo {
    std::int32_t low = 0;     ///< first coded quotient
    std::uint32_t coded = 0;  ///< number of coded quotients; the id of the escape
    std::uint32_t shift = 0;  ///< number of raw bits
    std::size_t first = 0;    ///< place of its frequencies among those of all tables

    [[nodiscard]] std::uint8_t quotient_byte(std::uint32_t id) const {
        return static_cast<std::uint8_t>(id == coded ? kEscape : low + static_cast<std::int32_t>(id));
    }
};

/// What splits symbols of a table, in four bytes.
struct QuotientRange {
    std::int8_t low = 0, high = 0;  ///< first and last coded quotient
    std::uint8_t shift = 0;
    std::uint8_t unused = 0;
};
static_assert(sizeof(QuotientRange) == 4);

/// Per table a byte, for all 256 table ids: what vector code looks up by table without a gather.
struct alignas(64) ByteMaps {
    std::array<std::uint8_t, kMaxTables> shift{};
    std::array<std::int8_t, kMaxTables> low{};   ///< first coded quotient
    std::array<std::int8_t, kMaxTables> high{};  ///< last coded quotient
    /// Bit h % 8 of byte h / 8 * 16 + l is set when table 16 h + l has raw bits.
    std::array<std::uint8_t, 32> has_shift{};
    unsigned first_shift = kMaxTables;  ///< lowest id of a table with raw bits
};

/// The search form splits the slots of a table into buckets of 16. A bucket holds the entries of its first
/// and second symbol; nearly every bucket of a real table has no more. One with more refers to a row with an
/// entry per slot.
///
/// Entry: frequency << 20 | start << 8 | quotient byte. Reference to a row: its number, so the frequency bits
/// are 0.
inline constexpr unsigned kBucketBits = 8;
inline constexpr unsigned kBucketSlots = kProbabilityTotal >> kBucketBits;

struct Bucket {
    std::uint32_t first;
    std::uint32_t second;  ///< taken from its start on; equal to `first` when there is none
};

struct SearchForm {
    std::vector<Bucket> buckets;      ///< 2^kBucketBits per table
    std::vector<std::uint32_t> rows;  ///< kBucketSlots per crowded bucket
};

struct Codebook::Impl {
    std::vector<TableInfo> tables;
    std::vector<std::uint16_t> frequencies;  ///< of all tables, one after another
    ByteMaps bytes;
    std::array<QuotientRange, kMaxTables> ranges{};

    /// 4096 entries per table, frequency << 20 | (slot - start) << 8 | quotient byte.
    [[nodiscard]] const std::uint32_t* lookup() const;
    [[nodiscard]] bool lookup_ready() const { return lookup_ready_.load(std::memory_order_acquire); }
    [[nodiscard]] const SearchForm& search() const;

    /// 256 entries per table by quotient byte, frequency | start << 16; every quotient that the table does
    /// not code has the escape's.
    [[nodiscard]] const std::uint32_t* encode() const;

    /// 256 entries per table by quotient byte, as `encode`: bits of a symbol times 2^16, raw bits included.
    [[nodiscard]] const std::uint32_t* lengths() const;

private:
    mutable std::once_flag lookup_once_, search_once_, encode_once_, lengths_once_;
    mutable std::atomic<bool> lookup_ready_{false};
    mutable std::vector<std::uint32_t> lookup_, encode_, lengths_;
    mutable SearchForm search_;
};

}  // namespace nicrt

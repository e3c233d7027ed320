// The rANS decoder's inner loops (FORMAT.md section 6), one set per instruction set and way of finding an id.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "nicrt/segment.hpp"

namespace nicrt {

inline constexpr unsigned kMaxLanes = 32;
inline constexpr std::uint32_t kStateFloor = 1u << 16;  ///< every state is at least this between symbols

/// The table form that a loop reads.
struct DecodeTables {
    const std::uint32_t* lookup = nullptr;   ///< the look-up path's (Codebook::Impl::lookup)
    const struct Bucket* buckets = nullptr;  ///< the search path's (SearchForm)
    const std::uint32_t* rows = nullptr;
};

/// All lanes of a segment between two rounds; a round is one symbol of each lane.
struct LaneStates {
    alignas(64) std::array<std::uint32_t, kMaxLanes> state{};
    const std::uint8_t* next = nullptr;  ///< next word
    /// A round takes at most one word a lane and may look at as many, so none begins with fewer before this
    /// end.
    const std::uint8_t* end = nullptr;
};

/// Decodes up to `rounds` rounds into quotient bytes widened to 16 bits, fewer when the words before `end`
/// might run out. Returns the rounds decoded. Every table id must be one of the codebook's.
using DecodeRounds = std::size_t (*)(const DecodeTables& tables, const std::uint8_t* table_ids,
                                     std::size_t rounds, std::int16_t* quotients, LaneStates& lanes);

/// Loops for 1, 4, 8 and 32 lanes; vectors pay for 32 only. `path` must not be `automatic`.
[[nodiscard]] DecodeRounds decode_rounds_scalar(DecodePath path, unsigned lanes);
[[nodiscard]] DecodeRounds decode_rounds_avx2(DecodePath path, unsigned lanes);
[[nodiscard]] DecodeRounds decode_rounds_avx512(DecodePath path, unsigned lanes);

/// Decodes the first `count` lanes of a round by the book, every word checked. False when a word is missing.
[[nodiscard]] bool decode_partial_round(const DecodeTables& tables, DecodePath path,
                                        const std::uint8_t* table_ids, std::size_t count,
                                        std::int16_t* quotients, LaneStates& lanes);

}  // namespace nicrt

// The encoder's inner loops (FORMAT.md sections 4 and 6). Every instruction set makes the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codebook_impl.hpp"
#include "marks.hpp"
#include "rans_decode.hpp"

namespace nicrt {

struct EncodeLoops {
    /// Finds the quotient bytes of n symbols. Bit i % 64 of marks[i / 64]: symbol i is escaped or has raw
    /// bits.
    void (*split)(const Codebook::Impl& book, const std::uint8_t* table_ids, const std::int16_t* symbols,
                  std::size_t n, std::uint8_t* quotients, std::uint64_t* marks);

    /// Encodes `rounds` rounds, the last first, and puts their words before `words`, where 8 words more than
    /// one a symbol must have room. Returns the first word. `entries`: Codebook::Impl::encode.
    std::uint16_t* (*rounds)(const std::uint32_t* entries, const std::uint8_t* table_ids,
                             const std::uint8_t* quotients, std::size_t rounds, std::uint32_t* states,
                             std::uint16_t* words);
};

inline constexpr std::size_t kWordSlack = 8;

/// Loops for 1, 4, 8 and 32 lanes; vectors of states pay for 32 only.
[[nodiscard]] EncodeLoops encode_loops_scalar(unsigned lanes);
[[nodiscard]] EncodeLoops encode_loops_avx2(unsigned lanes);
[[nodiscard]] EncodeLoops encode_loops_avx512(unsigned lanes);

/// Encodes the first `count` lanes of a round.
[[nodiscard]] std::uint16_t* encode_partial_round(const std::uint32_t* entries, const std::uint8_t* table_ids,
                                                  const std::uint8_t* quotients, std::size_t count,
                                                  std::uint32_t* states, std::uint16_t* words);

}  // namespace nicrt

// The encoder's inner loops (FORMAT.md sections 4 and 6). Every instruction set makes the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codebook_impl.hpp"
#include "marks.hpp"
#include "rans_decode.hpp"

namespace nicrt {

/// Finds the quotient bytes of count <= kMarkRun symbols. Bit i of the result: symbol i is escaped or has raw bits.
using SplitSymbols = std::uint64_t (*)(const Codebook::Impl& book, const std::uint8_t* table_ids,
                                       const std::int16_t* symbols, std::size_t count, std::uint8_t* quotients);

/// Encodes `rounds` rounds, the last first, and puts their words before `words_end`, where a word for each symbol must
/// have room. Returns the first word. `entries`: Codebook::Impl::encode.
using EncodeRounds = std::uint16_t* (*)(const std::uint32_t* entries, const std::uint8_t* table_ids,
                                        const std::uint8_t* quotients, std::size_t rounds, std::uint32_t* states,
                                        std::uint16_t* words_end);

struct EncodeLoops {
    SplitSymbols split;
    EncodeRounds rounds;
};

[[nodiscard]] EncodeLoops encode_loops_scalar(unsigned lanes);
[[nodiscard]] EncodeLoops encode_loops_avx512(unsigned lanes);

/// Encodes the first `count` lanes of a round.
[[nodiscard]] std::uint16_t* encode_partial_round(const std::uint32_t* entries, const std::uint8_t* table_ids,
                                                  const std::uint8_t* quotients, std::size_t count,
                                                  std::uint32_t* states, std::uint16_t* words_end);

}  // namespace nicrt

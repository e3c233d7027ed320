// What the two directions of a segment share (FORMAT.md section 5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "nicrt/segment.hpp"

namespace nicrt {

inline constexpr std::size_t kCrcBytes = 4;

/// An escape count of one byte, the states, the CRC.
[[nodiscard]] constexpr std::size_t min_segment_size(unsigned lanes) {
    return 1 + 4 * std::size_t{lanes} + kCrcBytes;
}

[[nodiscard]] constexpr std::uint64_t raw_bytes(std::uint64_t raw_bits) { return (raw_bits + 7) / 8; }

/// What the caller of either direction can get wrong, but for the table ids.
[[nodiscard]] Status check_arguments(std::size_t n, unsigned lanes, Isa isa);

/// The instruction set that `best` stands for here; any other stands for itself.
[[nodiscard]] Isa resolve_isa(Isa isa);

/// The byte after the varint, or null when it is cut short, not in its shortest form or over 2^32 - 1.
[[nodiscard]] const std::uint8_t* read_varint(const std::uint8_t* p, const std::uint8_t* end,
                                              std::uint32_t& value);

void append_varint(std::uint32_t value, std::vector<std::uint8_t>& out);

}  // namespace nicrt

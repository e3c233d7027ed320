// What the two directions of a segment share (FORMAT.md section 5).
#pragma once

#include <cstddef>
#include <cstdint>

#include "nicrt/segment.hpp"

namespace nicrt {

inline constexpr std::size_t kCrcBytes = 4;

[[nodiscard]] constexpr bool lanes_allowed(unsigned lanes) {
    return lanes == 1 || lanes == 4 || lanes == 8 || lanes == 32;
}

/// An escape count of one byte, the states, the CRC.
[[nodiscard]] constexpr std::size_t min_segment_size(unsigned lanes) { return 1 + 4 * std::size_t{lanes} + kCrcBytes; }

/// The instruction set that `best` stands for here; any other stands for itself.
[[nodiscard]] Isa resolve_isa(Isa isa);

/// The byte after the varint, or null when it is cut short, not in its shortest form or over 2^32 - 1.
[[nodiscard]] inline const std::uint8_t* read_varint(const std::uint8_t* p, const std::uint8_t* end,
                                                     std::uint32_t& value) {
    std::uint64_t sum = 0;
    for (unsigned shift = 0; shift < 35 && p != end; shift += 7) {
        const std::uint8_t byte = *p++;
        sum |= std::uint64_t{byte & 0x7fu} << shift;
        if (byte & 0x80) continue;
        if ((byte == 0 && shift > 0) || sum > 0xFFFFFFFFu) return nullptr;
        value = static_cast<std::uint32_t>(sum);
        return p;
    }
    return nullptr;
}

}  // namespace nicrt

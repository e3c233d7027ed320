// Characters in UTF-8 (RFC 3629).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nicrt {

/// Bytes of the character that starts here, 0 where none does: a longer form, a surrogate or a number above
/// U+10FFFF is none.
inline std::size_t utf8_bytes(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
    const std::uint8_t first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t count = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() < count) return 0;
    for (std::size_t i = 1; i < count; ++i)
        if ((byte(i) & 0xC0) != 0x80) return 0;
    const std::uint8_t second = byte(1);
    const bool wrong = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
                       (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);
    return wrong ? 0 : count;
}

/// Writes a character that is no surrogate, returns the place behind it.
inline char* write_utf8(std::uint32_t code, char* to) {
    const auto put = [&](std::uint32_t byte) { *to++ = static_cast<char>(static_cast<std::uint8_t>(byte)); };
    const auto more = [&](unsigned shift) { put(0x80 | (code >> shift & 0x3F)); };
    if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xC0 | code >> 6);
        more(0);
    } else if (code < 0x10000) {
        put(0xE0 | code >> 12);
        more(6);
        more(0);
    } else {
        put(0xF0 | code >> 18);
        more(12);
        more(6);
        more(0);
    }
    return to;
}

}  // namespace nicrt

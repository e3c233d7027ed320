// Texts of a model: valid UTF-8 of bounded length that can be shown in one line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "onnx/wire.hpp"

namespace nicrt::onnx {

constexpr std::size_t kMaxTextBytes = 512;

/// Bytes of the character that starts here, 0 where none does: a longer form, a surrogate or a number above
/// U+10FFFF is none, nor is a control character.
inline std::size_t character_bytes(Bytes text) {
    const std::uint8_t first = text[0];
    if (first < 0x80) return first >= 0x20 && first != 0x7F ? 1 : 0;
    const std::size_t count = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() < count) return 0;
    for (std::size_t i = 1; i < count; ++i)
        if ((text[i] & 0xC0) != 0x80) return 0;
    const std::uint8_t second = text[1];
    const bool wrong = (first == 0xC2 && second < 0xA0) || (first == 0xE0 && second < 0xA0) ||
                       (first == 0xED && second > 0x9F) || (first == 0xF0 && second < 0x90) ||
                       (first == 0xF4 && second > 0x8F);
    return wrong ? 0 : count;
}

inline Status read_text(Bytes bytes, std::string_view& text) {
    if (bytes.size() > kMaxTextBytes)
        return unsupported("has a text of " + std::to_string(bytes.size()) + " bytes, where the limit is " +
                           std::to_string(kMaxTextBytes));
    for (Bytes rest = bytes; !rest.empty();) {
        const std::size_t count = character_bytes(rest);
        if (count == 0) return unsupported("has a text that is not UTF-8, or has control characters");
        rest = rest.subspan(count);
    }
    text = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    return {};
}

}  // namespace nicrt::onnx

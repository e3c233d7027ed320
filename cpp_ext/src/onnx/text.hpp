// Texts of a model: valid UTF-8 of bounded length that can be shown in one line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "onnx/wire.hpp"
#include "utf8.hpp"

namespace nicrt::onnx {

constexpr std::size_t kMaxTextBytes = 512;

/// Bytes of the character that starts here, 0 where none does or it is a control character.
inline std::size_t character_bytes(std::string_view text) {
    const auto first = static_cast<std::uint8_t>(text[0]);
    if (first < 0x20 || first == 0x7F) return 0;
    if (first == 0xC2 && text.size() > 1 && static_cast<std::uint8_t>(text[1]) < 0xA0) return 0;
    return utf8_bytes(text);
}

inline Status read_text(Bytes bytes, std::string_view& text) {
    if (bytes.size() > kMaxTextBytes)
        return unsupported("has a text of " + std::to_string(bytes.size()) + " bytes, where the limit is " +
                           std::to_string(kMaxTextBytes));
    const std::string_view whole{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    for (std::string_view rest = whole; !rest.empty();) {
        const std::size_t count = character_bytes(rest);
        if (count == 0) return unsupported("has a text that is not UTF-8, or has control characters");
        rest.remove_prefix(count);
    }
    text = whole;
    return {};
}

}  // namespace nicrt::onnx

// Text of a file in a message.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace nicrt {

/// One line of at most about `most` bytes: what a file says must not write lines of its own, nor fill a
/// screen.
inline std::string shown(std::string_view text, std::size_t most = 80) {
    std::size_t end = std::min(text.size(), most);
    while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    std::string line(text.substr(0, end));
    for (char& c : line)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
    return end < text.size() ? line + "..." : line;
}

}  // namespace nicrt

// Other libraries' messages, for use inside one of ours.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nicrt {

/// One line of plain text, cut where it is long: runs of white space and control characters are one space.
inline std::string one_line(std::string_view text) {
    constexpr std::size_t kMostBytes = 200;
    std::string line;
    bool space = false;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte <= 0x20 || byte == 0x7F) {
            space = !line.empty();
            continue;
        }
        const bool begins = (byte & 0xC0) != 0x80;  // not inside a character of UTF-8
        if (begins && line.size() >= kMostBytes) return line + "...";
        if (space) line += ' ';
        space = false;
        line += c;
    }
    return line;
}

}  // namespace nicrt

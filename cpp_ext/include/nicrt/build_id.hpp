// Which build of the library this is.
#pragma once

#include <string_view>

namespace nicrt {

/// Hexadecimal digits over the sources, the compiler and its flags: two builds with one id compute the same.
[[nodiscard]] std::string_view build_id();

}  // namespace nicrt

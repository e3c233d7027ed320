// Little-endian loads and stores at any address.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace nicrt {

static_assert(std::endian::native == std::endian::little, "a big-endian host needs byte swaps here");

template <class Integer>
[[nodiscard]] inline Integer load_le(const std::uint8_t* p) {
    Integer value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

template <class Integer>
inline void store_le(std::uint8_t* p, Integer value) {
    std::memcpy(p, &value, sizeof value);
}

}  // namespace nicrt

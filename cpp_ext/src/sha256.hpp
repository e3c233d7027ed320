// SHA-256 (FIPS 180-4).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace nicrt {

class Sha256 {
public:
    void update(std::span<const std::uint8_t> data);
    void update(std::string_view text) {
        update({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    }

    /// Of all that was given; the object is used up.
    [[nodiscard]] std::array<std::uint8_t, 32> digest();

    /// 64 lower-case hexadecimal digits.
    [[nodiscard]] std::string hex_digest();

private:
    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::uint8_t, 64> block_{};
    std::uint64_t bytes_ = 0;
};

}  // namespace nicrt

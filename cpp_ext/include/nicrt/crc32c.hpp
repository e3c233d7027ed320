// CRC32C (Castagnoli), the checksum of headers and segments (FORMAT.md).
#pragma once

#include <cstdint>
#include <span>

namespace nicrt {

/// Checksum of `data`; pass the checksum of what came before as `crc` to go on from there.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::uint8_t> data, std::uint32_t crc = 0);

namespace detail {

/// The portable version, apart so that tests can compare it with what this processor runs.
[[nodiscard]] std::uint32_t crc32c_table(std::span<const std::uint8_t> data, std::uint32_t crc = 0);

}  // namespace detail
}  // namespace nicrt

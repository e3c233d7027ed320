#include "nicrt/crc32c.hpp"

#include <array>
#include <cstddef>
#include <cstring>

#include "cpu.hpp"

#ifdef NICRT_X86
#include "simd.hpp"
#endif

namespace nicrt {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78u;  // reflected

using ByteTable = std::array<std::uint32_t, 256>;

constexpr ByteTable make_byte_table() {
    ByteTable table{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t remainder = byte;
        for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) ? kPolynomial : 0);
        table[byte] = remainder;
    }
    return table;
}

constexpr ByteTable kByteTable = make_byte_table();

#ifdef NICRT_X86

// The crc32 instruction takes three cycles but one can start every cycle, so three chains run side by side
// over three neighbouring blocks. A CRC is linear: the chain of an earlier block is carried over a later one
// by feeding it that many zero bytes, which for a fixed block size is one table look-up per byte of the CRC.
constexpr std::size_t kBlock = 1024;

constexpr std::array<ByteTable, 4> make_block_shift() {
    std::array<std::uint32_t, 32> image{};  // of each single bit
    for (int bit = 0; bit < 32; ++bit) {
        std::uint32_t crc = 1u << bit;
        for (std::size_t i = 0; i < kBlock; ++i) crc = (crc >> 8) ^ kByteTable[crc & 0xff];
        image[static_cast<std::size_t>(bit)] = crc;
    }
    std::array<ByteTable, 4> shift{};
    for (std::size_t byte = 0; byte < 4; ++byte)
        for (std::uint32_t value = 0; value < 256; ++value)
            for (std::size_t bit = 0; bit < 8; ++bit)
                if (value >> bit & 1) shift[byte][value] ^= image[8 * byte + bit];
    return shift;
}

constexpr std::array<ByteTable, 4> kBlockShift = make_block_shift();

std::uint64_t over_block(std::uint64_t crc) {
    return kBlockShift[0][crc & 0xff] ^ kBlockShift[1][crc >> 8 & 0xff] ^ kBlockShift[2][crc >> 16 & 0xff] ^
           kBlockShift[3][crc >> 24 & 0xff];
}

std::uint64_t load64(const std::uint8_t* p) {
    std::uint64_t value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

NICRT_TARGET("sse4.2,crc32")
std::uint32_t crc32c_sse42(std::span<const std::uint8_t> data, std::uint32_t crc) {
    const std::uint8_t* p = data.data();
    std::size_t left = data.size();
    std::uint64_t a = crc ^ 0xFFFFFFFFu;
    for (; left >= 3 * kBlock; left -= 3 * kBlock, p += 3 * kBlock) {
        std::uint64_t b = 0, c = 0;
        for (std::size_t i = 0; i < kBlock; i += 8) {
            a = _mm_crc32_u64(a, load64(p + i));
            b = _mm_crc32_u64(b, load64(p + kBlock + i));
            c = _mm_crc32_u64(c, load64(p + 2 * kBlock + i));
        }
        a = over_block(over_block(a) ^ b) ^ c;
    }
    for (; left >= 8; left -= 8, p += 8) a = _mm_crc32_u64(a, load64(p));
    auto tail = static_cast<std::uint32_t>(a);
    for (; left > 0; --left, ++p) tail = _mm_crc32_u8(tail, *p);
    return tail ^ 0xFFFFFFFFu;
}

#endif

}  // namespace

std::uint32_t detail::crc32c_table(std::span<const std::uint8_t> data, std::uint32_t crc) {
    crc ^= 0xFFFFFFFFu;
    for (const std::uint8_t byte : data) crc = (crc >> 8) ^ kByteTable[(crc ^ byte) & 0xff];
    return crc ^ 0xFFFFFFFFu;
}

std::uint32_t crc32c(std::span<const std::uint8_t> data, std::uint32_t crc) {
#ifdef NICRT_X86
    if (cpu().sse42) return crc32c_sse42(data, crc);
#endif
    return detail::crc32c_table(data, crc);
}

}  // namespace nicrt

// Bounds-checked reading and writing of the integers of FORMAT.md, one after the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nicrt {

enum class ReadError {
    none,
    end,        ///< the bytes ran out
    malformed,  ///< a varint in a longer form than needed, or above 2^32 - 1
};

/// Keeps its first error: after one every read gives 0, so a parser may check once per group of fields.
class ByteReader {
public:
    explicit ByteReader(std::span<const std::uint8_t> data) : data_(data) {}

    [[nodiscard]] ReadError error() const { return error_; }
    [[nodiscard]] bool ok() const { return error_ == ReadError::none; }
    [[nodiscard]] std::size_t position() const { return position_; }
    [[nodiscard]] std::size_t remaining() const { return data_.size() - position_; }

    std::span<const std::uint8_t> bytes(std::size_t count) {
        if (!ok() || remaining() < count) {
            fail(ReadError::end);
            return {};
        }
        const auto result = data_.subspan(position_, count);
        position_ += count;
        return result;
    }

    std::uint32_t u32() {
        const auto b = bytes(4);
        if (b.empty()) return 0;
        return std::uint32_t{b[0]} | std::uint32_t{b[1]} << 8 | std::uint32_t{b[2]} << 16 |
               std::uint32_t{b[3]} << 24;
    }

    std::uint32_t varint() {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 35; shift += 7) {
            const auto b = bytes(1);
            if (b.empty()) return 0;
            value |= std::uint64_t{b[0] & 0x7Fu} << shift;
            if (b[0] < 0x80) {
                const bool longer_form = b[0] == 0 && shift > 0;
                if (longer_form || value > UINT32_MAX) break;
                return static_cast<std::uint32_t>(value);
            }
        }
        fail(ReadError::malformed);
        return 0;
    }

    std::int32_t svarint() {
        const std::uint32_t z = varint();
        return static_cast<std::int32_t>((z >> 1) ^ (0u - (z & 1u)));
    }

private:
    void fail(ReadError error) {
        if (ok()) error_ = error;
    }

    std::span<const std::uint8_t> data_;
    std::size_t position_ = 0;
    ReadError error_ = ReadError::none;
};

inline void put_bytes(std::vector<std::uint8_t>& out, std::span<const std::uint8_t> bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
}

inline void put_u32(std::vector<std::uint8_t>& out, std::uint32_t value) {
    for (unsigned shift = 0; shift < 32; shift += 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

inline void put_varint(std::vector<std::uint8_t>& out, std::uint32_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::uint8_t>(value | 0x80));
    out.push_back(static_cast<std::uint8_t>(value));
}

inline void put_svarint(std::vector<std::uint8_t>& out, std::int32_t value) {
    const auto bits = static_cast<std::uint32_t>(value);
    put_varint(out, (bits << 1) ^ (value < 0 ? UINT32_MAX : 0u));
}

}  // namespace nicrt

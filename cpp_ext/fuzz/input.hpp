// What every fuzz target reads its choices from, and how it says that a promise was broken.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

/// Ends the program where a condition that holds for every input does not.
#define MUST(...)                                                                          \
    do {                                                                                   \
        if (!(__VA_ARGS__)) {                                                              \
            std::fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #__VA_ARGS__); \
            std::abort();                                                                  \
        }                                                                                  \
    } while (false)

namespace nicrt::fuzz {

/// The fuzzer's bytes, read from the front; past their end everything is 0.
class Input {
public:
    Input(const std::uint8_t* data, std::size_t size) : bytes_(data, size) {}

    [[nodiscard]] std::size_t left() const { return bytes_.size(); }

    std::uint8_t byte() {
        if (bytes_.empty()) return 0;
        const std::uint8_t value = bytes_.front();
        bytes_ = bytes_.subspan(1);
        return value;
    }

    std::uint16_t word() {
        const unsigned low = byte();
        return static_cast<std::uint16_t>(low | unsigned{byte()} << 8);
    }

    std::uint32_t number() {
        const std::uint32_t low = word();
        return low | std::uint32_t{word()} << 16;
    }

    bool flag() { return (byte() & 1) != 0; }

    /// 0 .. below - 1
    std::uint32_t below(std::uint32_t below) { return below <= 256 ? byte() % below : number() % below; }

    /// Any float, an ordinary one in half of the cases.
    float real() {
        const std::uint32_t bits = number();
        if ((bits & 1) != 0) return static_cast<float>(static_cast<std::int32_t>(bits)) / 65536.0F;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }

    std::vector<std::uint8_t> bytes(std::size_t count) {
        const auto taken = bytes_.first(std::min(count, bytes_.size()));
        bytes_ = bytes_.subspan(taken.size());
        return {taken.begin(), taken.end()};
    }

private:
    std::span<const std::uint8_t> bytes_;
};

/// The product of extents, or `most` + 1 where it is larger.
inline std::size_t product(std::initializer_list<std::uint32_t> extents, std::size_t most) {
    std::uint64_t result = 1;
    for (const std::uint32_t extent : extents) result = std::min<std::uint64_t>(result * extent, most + 1);
    return static_cast<std::size_t>(result);
}

/// A copy in memory of exactly its size, so that the sanitizer sees a read past its end.
class Exact {
public:
    explicit Exact(std::span<const std::uint8_t> bytes)
        : size_(bytes.size()), data_(new std::uint8_t[bytes.size()]) {
        std::copy(bytes.begin(), bytes.end(), data_.get());
    }

    [[nodiscard]] std::span<const std::uint8_t> bytes() const { return {data_.get(), size_}; }

private:
    std::size_t size_;
    std::unique_ptr<std::uint8_t[]> data_;
};

}  // namespace nicrt::fuzz

#include "rans_encode.hpp"

#include <algorithm>
#include <array>

namespace nicrt {
namespace {

/// x div f = x * reciprocal[f] >> 44 for the states that the division meets, x < f * 2^20: with the
/// reciprocal ceil(2^44 / f) the product exceeds x / f * 2^44 by less than x < 2^32 < 2^44 / f, so the
/// division comes out exact, and it stays below 2^64 because f < 2^12.
constexpr unsigned kReciprocalBits = 44;

constexpr std::array<std::uint64_t, kProbabilityTotal> make_reciprocals() {
    std::array<std::uint64_t, kProbabilityTotal> reciprocals{};
    for (std::uint64_t f = 1; f < kProbabilityTotal; ++f)
        reciprocals[f] = ((std::uint64_t{1} << kReciprocalBits) + f - 1) / f;
    return reciprocals;
}

constexpr auto kReciprocals = make_reciprocals();

void split(const Codebook::Impl& book, const std::uint8_t* table_ids, const std::int16_t* symbols,
           std::size_t n, std::uint8_t* quotients, std::uint64_t* marks) {
    for (std::size_t i = 0; i < n; i += kMarkRun) {
        std::uint64_t run = 0;
        for (std::size_t j = i; j < std::min(i + kMarkRun, n); ++j) {
            const QuotientRange range = book.ranges[table_ids[j]];
            const int quotient = symbols[j] >> range.shift;
            const bool escaped = (quotient < range.low) | (quotient > range.high);
            quotients[j] = static_cast<std::uint8_t>(escaped ? kEscape : quotient);
            if (escaped | (range.shift != 0)) run |= std::uint64_t{1} << j % kMarkRun;
        }
        marks[i / kMarkRun] = run;
    }
}

/// One symbol of one lane; returns where the words now begin. Whether a word is given is no branch, as in the
/// decoder.
inline std::uint16_t* encode_symbol(std::uint32_t entry, std::uint32_t& state, std::uint16_t* words) {
    const std::uint32_t frequency = entry & 0xffff, start = entry >> 16;
    words[-1] = static_cast<std::uint16_t>(state);
    const bool give = state >> (32 - kProbabilityBits) >= frequency;
    words -= give ? 1 : 0;
    const std::uint32_t x = give ? state >> 16 : state;
    const auto quotient = static_cast<std::uint32_t>(x * kReciprocals[frequency] >> kReciprocalBits);
    state = x + start + quotient * (kProbabilityTotal - frequency);
    return words;
}

template <unsigned kLanes>
std::uint16_t* encode_rounds(const std::uint32_t* entries, const std::uint8_t* table_ids,
                             const std::uint8_t* quotients, std::size_t rounds, std::uint32_t* states,
                             std::uint16_t* words) {
    std::uint32_t state[kLanes];
    for (unsigned lane = 0; lane < kLanes; ++lane) state[lane] = states[lane];
    for (std::size_t i = rounds * kLanes; i > 0;) {
        i -= kLanes;
#pragma GCC unroll 8
        for (int j = static_cast<int>(kLanes) - 1; j >= 0; --j) {
            const auto lane = static_cast<unsigned>(j);
            words =
                encode_symbol(entries[table_ids[i + lane] << 8 | quotients[i + lane]], state[lane], words);
        }
    }
    for (unsigned lane = 0; lane < kLanes; ++lane) states[lane] = state[lane];
    return words;
}

}  // namespace

std::uint16_t* encode_partial_round(const std::uint32_t* entries, const std::uint8_t* table_ids,
                                    const std::uint8_t* quotients, std::size_t count, std::uint32_t* states,
                                    std::uint16_t* words) {
    while (count-- > 0)
        words = encode_symbol(entries[table_ids[count] << 8 | quotients[count]], states[count], words);
    return words;
}

EncodeLoops encode_loops_scalar(unsigned lanes) {
    switch (lanes) {
        case 1: return {split, encode_rounds<1>};
        case 4: return {split, encode_rounds<4>};
        case 8: return {split, encode_rounds<8>};
        default: return {split, encode_rounds<32>};
    }
}

}  // namespace nicrt

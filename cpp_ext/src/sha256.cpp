#include "sha256.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "cpu.hpp"

#ifdef NICRT_X86
#include <immintrin.h>
#endif

namespace nicrt {
namespace {

constexpr std::size_t kBlockBytes = 64;

constexpr std::array<std::uint32_t, 64> kRounds{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

using State = std::array<std::uint32_t, 8>;

std::uint32_t load_be(const std::uint8_t* p) {
    return std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
}

void hash_block(State& state, const std::uint8_t* data) {
    std::array<std::uint32_t, 64> w;
    for (std::size_t i = 0; i < 16; ++i) w[i] = load_be(data + 4 * i);
    for (std::size_t i = 16; i < 64; ++i) {
        const std::uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) +
               (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (std::size_t i = 0; i < 64; ++i) {
        const std::uint32_t t1 = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
                                 ((e & f) ^ (~e & g)) + kRounds[i] + w[i];
        const std::uint32_t t2 =
            (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    const State sums{a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state[i] += sums[i];
}

#ifdef NICRT_X86
/// The same by the processor's instructions for it, which do two rounds each. They keep the state as two
/// vectors, f e b a and h g d c from the lowest number up.
NICRT_TARGET("sha,sse4.1")
void hash_blocks_sha(State& state, const std::uint8_t* data, std::size_t count) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    State words{state[5], state[4], state[1], state[0], state[7], state[6], state[3], state[2]};
    __m128i feba = _mm_loadu_si128(reinterpret_cast<const __m128i*>(words.data()));
    __m128i hgdc = _mm_loadu_si128(reinterpret_cast<const __m128i*>(words.data() + 4));
    for (; count > 0; --count, data += kBlockBytes) {
        const __m128i feba_before = feba, hgdc_before = hgdc;
        __m128i w[4];  // the last 16 words of the schedule
        for (std::size_t i = 0; i < 16; ++i) {
            __m128i& next = w[i % 4];
            if (i < 4) {
                next = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + 16 * i));
                next = _mm_shuffle_epi8(next, big_endian);
            } else {
                const __m128i& last = w[(i + 3) % 4];
                next = _mm_add_epi32(_mm_sha256msg1_epu32(next, w[(i + 1) % 4]),
                                     _mm_alignr_epi8(last, w[(i + 2) % 4], 4));
                next = _mm_sha256msg2_epu32(next, last);
            }
            const auto* const constants = reinterpret_cast<const __m128i*>(kRounds.data() + 4 * i);
            const __m128i sum = _mm_add_epi32(next, _mm_loadu_si128(constants));
            hgdc = _mm_sha256rnds2_epu32(hgdc, feba, sum);
            feba = _mm_sha256rnds2_epu32(feba, hgdc, _mm_shuffle_epi32(sum, 0x0E));
        }
        feba = _mm_add_epi32(feba, feba_before);
        hgdc = _mm_add_epi32(hgdc, hgdc_before);
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(words.data()), feba);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(words.data() + 4), hgdc);
    state = {words[3], words[2], words[7], words[6], words[1], words[0], words[5], words[4]};
}
#endif

void hash_blocks(State& state, const std::uint8_t* data, std::size_t count) {
#ifdef NICRT_X86
    if (cpu().sha) return hash_blocks_sha(state, data, count);
#endif
    for (; count > 0; --count, data += kBlockBytes) hash_block(state, data);
}

}  // namespace

void Sha256::update(std::span<const std::uint8_t> data) {
    std::size_t held = static_cast<std::size_t>(bytes_ % kBlockBytes);
    bytes_ += data.size();
    if (held > 0) {
        const std::size_t count = std::min(kBlockBytes - held, data.size());
        std::copy_n(data.begin(), count, block_.begin() + static_cast<std::ptrdiff_t>(held));
        data = data.subspan(count);
        if (held + count < kBlockBytes) return;
        hash_blocks(state_, block_.data(), 1);
    }
    const std::size_t whole = data.size() / kBlockBytes;
    hash_blocks(state_, data.data(), whole);
    data = data.subspan(whole * kBlockBytes);
    std::copy(data.begin(), data.end(), block_.begin());
}

std::array<std::uint8_t, 32> Sha256::digest() {
    const std::uint64_t bits = bytes_ * 8;
    constexpr std::array<std::uint8_t, kBlockBytes> padding{0x80};
    const std::size_t held = static_cast<std::size_t>(bytes_ % kBlockBytes);
    update(std::span(padding).first((held < 56 ? 56 : 120) - held));
    std::array<std::uint8_t, 8> length;
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
    update(length);
    std::array<std::uint8_t, 32> result;
    for (std::size_t i = 0; i < 32; ++i)
        result[i] = static_cast<std::uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
    return result;
}

std::string Sha256::hex_digest() {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : digest()) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

}  // namespace nicrt

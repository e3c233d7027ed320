#include "cpu.hpp"
#include "rans_encode.hpp"

#ifdef NICRT_X86

#include "byte_maps_avx512.hpp"
#include "rans_decode_vector.hpp"

namespace nicrt {
namespace {

/// Which of 32 quotients lie outside these ranges.
NICRT_AVX512_INLINE __mmask32 outside(__m512i quotients, __m256i low, __m256i high) {
    return _mm512_cmplt_epi16_mask(quotients, _mm512_cvtepi8_epi16(low)) |
           _mm512_cmpgt_epi16_mask(quotients, _mm512_cvtepi8_epi16(high));
}

NICRT_AVX512_INLINE __m256i half(__m512i v) { return _mm512_castsi512_si256(v); }
NICRT_AVX512_INLINE __m256i other_half(__m512i v) { return _mm512_extracti64x4_epi64(v, 1); }

NICRT_AVX512 void split(const Codebook::Impl& book, const std::uint8_t* table_ids,
                        const std::int16_t* symbols, std::size_t n, std::uint8_t* quotients,
                        std::uint64_t* marks) {
    const ByteMap512 shifts(book.bytes.shift.data()), lows(book.bytes.low.data()),
        highs(book.bytes.high.data());
    std::size_t i = 0;
    for (; i + kMarkRun <= n; i += kMarkRun) {
        const __m512i tables = _mm512_loadu_si512(table_ids + i);
        const __m512i shift = shifts[tables], low = lows[tables], high = highs[tables];
        const __m512i a =
            _mm512_srav_epi16(_mm512_loadu_si512(symbols + i), _mm512_cvtepu8_epi16(half(shift)));
        const __m512i b =
            _mm512_srav_epi16(_mm512_loadu_si512(symbols + i + 32), _mm512_cvtepu8_epi16(other_half(shift)));
        const std::uint64_t escaped_a = outside(a, half(low), half(high));
        const std::uint64_t escaped_b = outside(b, other_half(low), other_half(high));
        const std::uint64_t escaped = escaped_a | escaped_b << 32;
        const __m512i bytes =
            _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(a)), _mm512_cvtepi16_epi8(b), 1);
        _mm512_storeu_si512(quotients + i, _mm512_mask_blend_epi8(escaped, bytes, _mm512_set1_epi8(kEscape)));
        marks[i / kMarkRun] = escaped | _mm512_test_epi8_mask(shift, shift);
    }
    encode_loops_scalar(1).split(book, table_ids + i, symbols + i, n - i, quotients + i,
                                 marks + i / kMarkRun);
}

/// x div f for x < f * 2^20. Converting x, the divisor and dividing each err by up to 2^-24 of the quotient,
/// the divisor is too large by 2^-22: so the float quotient is too small, by less than one half, as the true
/// one is below 2^20. Its integer part is right or one too small.
NICRT_AVX512_INLINE __m256i divide(__m256i x, __m256i f) {
    const __m256 divisor = _mm256_mul_ps(_mm256_cvtepi32_ps(f), _mm256_set1_ps(1.0f + 0x1p-22f));
    const __m256i quotient = _mm256_cvttps_epi32(_mm256_div_ps(_mm256_cvtepu32_ps(x), divisor));
    const __m256i rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, f));
    return _mm256_mask_add_epi32(quotient, _mm256_cmpge_epi32_mask(rest, f), quotient, _mm256_set1_epi32(1));
}

/// One symbol of each of eight lanes; returns where the words now begin.
NICRT_AVX512_INLINE std::uint16_t* encode8(const std::uint32_t* entries, const std::uint8_t* table_ids,
                                           const std::uint8_t* quotients, __m256i& state,
                                           std::uint16_t* words) {
    const __m256i entry =
        load_entries(entries, _mm256_or_si256(_mm256_slli_epi32(widen8(table_ids), 8), widen8(quotients)));
    const __m256i frequency = _mm256_and_si256(entry, _mm256_set1_epi32(0xffff));
    const __m256i start = _mm256_srli_epi32(entry, 16);

    const __mmask8 give = _mm256_cmpge_epu32_mask(_mm256_srli_epi32(state, 32 - kProbabilityBits), frequency);
    const auto count = static_cast<unsigned>(_mm_popcnt_u32(give));
    words -= count;
    const __m128i given = _mm256_cvtepi32_epi16(_mm256_maskz_compress_epi32(give, state));
    _mm_mask_storeu_epi16(words, static_cast<__mmask8>((1u << count) - 1), given);
    const __m256i x = _mm256_mask_srli_epi32(state, give, state, 16);

    const __m256i factor = _mm256_sub_epi32(_mm256_set1_epi32(kProbabilityTotal), frequency);
    state = _mm256_add_epi32(_mm256_add_epi32(x, start), _mm256_mullo_epi32(divide(x, frequency), factor));
    return words;
}

NICRT_AVX512 std::uint16_t* encode_32(const std::uint32_t* entries, const std::uint8_t* table_ids,
                                      const std::uint8_t* quotients, std::size_t rounds,
                                      std::uint32_t* states, std::uint16_t* words) {
    __m256i state[4];
    for (unsigned g = 0; g < 4; ++g)
        state[g] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(states + 8 * g));
    for (std::size_t i = 32 * rounds; i > 0;) {
        i -= 32;
        words = encode8(entries, table_ids + i + 24, quotients + i + 24, state[3], words);
        words = encode8(entries, table_ids + i + 16, quotients + i + 16, state[2], words);
        words = encode8(entries, table_ids + i + 8, quotients + i + 8, state[1], words);
        words = encode8(entries, table_ids + i, quotients + i, state[0], words);
    }
    for (unsigned g = 0; g < 4; ++g)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(states + 8 * g), state[g]);
    return words;
}

}  // namespace

EncodeLoops encode_loops_avx512(unsigned lanes) {
    return {split, lanes == 32 ? encode_32 : encode_loops_scalar(lanes).rounds};
}

}  // namespace nicrt

#else

namespace nicrt {
EncodeLoops encode_loops_avx512(unsigned lanes) { return encode_loops_scalar(lanes); }
}  // namespace nicrt

#endif

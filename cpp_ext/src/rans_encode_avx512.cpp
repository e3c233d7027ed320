#include "cpu.hpp"
#include "rans_encode.hpp"

#ifdef NICRT_X86

#include "byte_maps_avx512.hpp"

namespace nicrt {
namespace {

/// Half of the bytes, widened to 16 bits.
template <int kHalf>
NICRT_AVX512_INLINE __m512i widen(__m512i bytes) {
    return _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(bytes, kHalf));
}

NICRT_AVX512 std::uint64_t split_avx512(const Codebook::Impl& book, const std::uint8_t* table_ids,
                                     const std::int16_t* symbols, std::size_t count, std::uint8_t* quotients) {
    if (count < kMarkRun) return encode_loops_scalar(1).split(book, table_ids, symbols, count, quotients);
    const __m512i tables = _mm512_loadu_si512(table_ids);
    const __m512i shift = ByteMap512(book.bytes.shift.data())[tables];
    const __m512i low = ByteMap512(book.bytes.low.data())[tables];
    const __m512i high = ByteMap512(book.bytes.high.data())[tables];
    const __m512i q0 = _mm512_srav_epi16(_mm512_loadu_si512(symbols), widen<0>(shift));
    const __m512i q1 = _mm512_srav_epi16(_mm512_loadu_si512(symbols + 32), widen<1>(shift));
    const __mmask32 out0 = _mm512_cmplt_epi16_mask(q0, widen<0>(low)) | _mm512_cmpgt_epi16_mask(q0, widen<0>(high));
    const __mmask32 out1 = _mm512_cmplt_epi16_mask(q1, widen<1>(low)) | _mm512_cmpgt_epi16_mask(q1, widen<1>(high));
    const __mmask64 escaped = out0 | static_cast<__mmask64>(out1) << 32;
    const __m512i bytes = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(q0)), _mm512_cvtepi16_epi8(q1), 1);
    _mm512_storeu_si512(quotients, _mm512_mask_blend_epi8(escaped, bytes, _mm512_set1_epi8(kEscape)));
    return escaped | _mm512_test_epi8_mask(shift, shift);
}

/// One symbol of each of sixteen lanes; returns where the words now begin.
NICRT_AVX512_INLINE std::uint16_t* encode16(const std::uint32_t* entries, const std::uint8_t* table_ids,
                                         const std::uint8_t* quotients, __m512i& state, std::uint16_t* words) {
    const __m256i tables = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table_ids)));
    const __m256i bytes = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(quotients)));
    const __m512i index = _mm512_cvtepu16_epi32(_mm256_or_si256(_mm256_slli_epi16(tables, 8), bytes));
    const __m512i entry = _mm512_i32gather_epi32(index, entries, 4);
    const __m512i frequency = _mm512_and_si512(entry, _mm512_set1_epi32(0xffff));
    const __m512i start = _mm512_srli_epi32(entry, 16);

    const __mmask16 give = _mm512_cmpge_epu32_mask(_mm512_srli_epi32(state, 32 - kProbabilityBits), frequency);
    const auto given = static_cast<unsigned>(_mm_popcnt_u32(give));
    words -= given;
    const __m256i packed = _mm256_maskz_compress_epi16(give, _mm512_cvtepi32_epi16(state));
    _mm256_mask_storeu_epi16(words, static_cast<__mmask16>((1u << given) - 1), packed);
    const __m512i x = _mm512_mask_srli_epi32(state, give, state, 16);

    // The quotient is below 2^20 and every step rounds towards zero, so the estimate is right or one too small.
    constexpr int kDown = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
    const __m512 ratio = _mm512_div_round_ps(_mm512_cvt_roundepu32_ps(x, kDown),
                                             _mm512_cvt_roundepu32_ps(frequency, kDown), kDown);
    __m512i quotient = _mm512_cvttps_epi32(ratio);
    const __m512i rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, frequency));
    const __mmask16 small = _mm512_cmpge_epu32_mask(rest, frequency);
    quotient = _mm512_mask_add_epi32(quotient, small, quotient, _mm512_set1_epi32(1));

    const __m512i factor = _mm512_sub_epi32(_mm512_set1_epi32(kProbabilityTotal), frequency);
    state = _mm512_add_epi32(_mm512_add_epi32(x, start), _mm512_mullo_epi32(quotient, factor));
    return words;
}

NICRT_AVX512 std::uint16_t* encode_32(const std::uint32_t* entries, const std::uint8_t* table_ids,
                                   const std::uint8_t* quotients, std::size_t rounds, std::uint32_t* states,
                                   std::uint16_t* words) {
    __m512i low = _mm512_loadu_si512(states), high = _mm512_loadu_si512(states + 16);
    for (std::size_t i = 32 * rounds; i > 0;) {
        i -= 32;
        words = encode16(entries, table_ids + i + 16, quotients + i + 16, high, words);
        words = encode16(entries, table_ids + i, quotients + i, low, words);
    }
    _mm512_storeu_si512(states, low);
    _mm512_storeu_si512(states + 16, high);
    return words;
}

}  // namespace

EncodeLoops encode_loops_avx512(unsigned lanes) {
    return {split_avx512, lanes == 32 ? encode_32 : encode_loops_scalar(lanes).rounds};
}

}  // namespace nicrt

#else

namespace nicrt {
EncodeLoops encode_loops_avx512(unsigned lanes) { return encode_loops_scalar(lanes); }
}  // namespace nicrt

#endif

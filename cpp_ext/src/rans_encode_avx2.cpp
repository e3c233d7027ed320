#include "rans_encode.hpp"

#include "rans_decode_vector.hpp"

#ifdef NICRT_X86

namespace nicrt {
namespace {

/// For each set of lanes that give a word, the order that brings these lanes to the end.
struct alignas(64) GiversLast {
    std::uint8_t lane[256][8];
};

constexpr GiversLast make_givers_last() {
    GiversLast order{};
    for (unsigned givers = 0; givers < 256; ++givers) {
        unsigned place = 8;
        for (unsigned lane = 8; lane-- > 0;)
            if (givers >> lane & 1) order.lane[givers][--place] = static_cast<std::uint8_t>(lane);
    }
    return order;
}

constexpr GiversLast kGiversLast = make_givers_last();

/// Eight symbols of sixteen bits, eight table ids; quotient bytes go to the low bytes of the result, marks to
/// `marked`.
NICRT_AVX2_INLINE __m256i split8(const QuotientRange* ranges, const std::uint8_t* table_ids,
                                 const std::int16_t* symbols, unsigned& marked) {
    const auto load = [&](unsigned i) NICRT_AVX2 {
        return load_le<int>(reinterpret_cast<const std::uint8_t*>(ranges + table_ids[i]));
    };
    const __m256i range =
        _mm256_setr_epi32(load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7));
    const __m256i low = _mm256_srai_epi32(_mm256_slli_epi32(range, 24), 24);
    const __m256i high = _mm256_srai_epi32(_mm256_slli_epi32(range, 16), 24);
    const __m256i shift = _mm256_srli_epi32(range, 16);
    const __m256i symbol = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols)));
    const __m256i quotient = _mm256_srav_epi32(symbol, shift);
    const __m256i escaped =
        _mm256_or_si256(_mm256_cmpgt_epi32(low, quotient), _mm256_cmpgt_epi32(quotient, high));
    const __m256i shifted = _mm256_cmpgt_epi32(shift, _mm256_setzero_si256());
    marked =
        static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_or_si256(escaped, shifted))));
    return _mm256_blendv_epi8(quotient, _mm256_set1_epi32(kEscape), escaped);
}

NICRT_AVX2 void split(const Codebook::Impl& book, const std::uint8_t* table_ids, const std::int16_t* symbols,
                      std::size_t n, std::uint8_t* quotients, std::uint64_t* marks) {
    std::size_t i = 0;
    for (; i + kMarkRun <= n; i += kMarkRun) {
        std::uint64_t run = 0;
        for (std::size_t j = 0; j < kMarkRun; j += 16) {
            unsigned marked_a, marked_b;
            const __m256i a = split8(book.ranges.data(), table_ids + i + j, symbols + i + j, marked_a);
            const __m256i b =
                split8(book.ranges.data(), table_ids + i + j + 8, symbols + i + j + 8, marked_b);
            const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
            const __m128i bytes =
                _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(quotients + i + j), bytes);
            run |= std::uint64_t{marked_a | marked_b << 8} << j;
        }
        marks[i / kMarkRun] = run;
    }
    encode_loops_scalar(1).split(book, table_ids + i, symbols + i, n - i, quotients + i,
                                 marks + i / kMarkRun);
}

/// x div f for x < f * 2^20. Converting x, the divisor and dividing each err by up to 2^-24 of the quotient,
/// the divisor is too large by 2^-22: so the float quotient is too small, by less than one half, as the true
/// one is below 2^20. Its integer part is right or one too small.
NICRT_AVX2_INLINE __m256i divide(__m256i x, __m256i f) {
    const __m256 high = _mm256_cvtepi32_ps(_mm256_srli_epi32(x, 16));
    const __m256 low = _mm256_cvtepi32_ps(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)));
    const __m256 whole = _mm256_add_ps(_mm256_mul_ps(high, _mm256_set1_ps(0x1p16f)), low);
    const __m256 divisor = _mm256_mul_ps(_mm256_cvtepi32_ps(f), _mm256_set1_ps(1.0f + 0x1p-22f));
    const __m256i quotient = _mm256_cvttps_epi32(_mm256_div_ps(whole, divisor));
    const __m256i rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, f));
    const __m256i right = _mm256_cmpgt_epi32(f, rest);  // -1 where it holds
    return _mm256_add_epi32(quotient, _mm256_add_epi32(right, _mm256_set1_epi32(1)));
}

/// One symbol of each of eight lanes; returns where the words now begin.
NICRT_AVX2_INLINE std::uint16_t* encode8(const std::uint32_t* entries, const std::uint8_t* table_ids,
                                         const std::uint8_t* quotients, __m256i& state,
                                         std::uint16_t* words) {
    const __m256i entry =
        load_entries(entries, _mm256_or_si256(_mm256_slli_epi32(widen8(table_ids), 8), widen8(quotients)));
    const __m256i frequency = _mm256_and_si256(entry, _mm256_set1_epi32(0xffff));
    const __m256i start = _mm256_srli_epi32(entry, 16);

    const __m256i keep = _mm256_cmpgt_epi32(frequency, _mm256_srli_epi32(state, 32 - kProbabilityBits));
    const auto givers = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(keep))) ^ 0xff;
    const __m256i order = widen8(kGiversLast.lane[givers]);
    const __m256i given =
        _mm256_and_si256(_mm256_permutevar8x32_epi32(state, order), _mm256_set1_epi32(0xffff));
    const __m128i packed =
        _mm_packus_epi32(_mm256_castsi256_si128(given), _mm256_extracti128_si256(given, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(words - 8), packed);
    words -= _mm_popcnt_u32(givers);

    const __m256i x = _mm256_blendv_epi8(_mm256_srli_epi32(state, 16), state, keep);
    const __m256i factor = _mm256_sub_epi32(_mm256_set1_epi32(kProbabilityTotal), frequency);
    state = _mm256_add_epi32(_mm256_add_epi32(x, start), _mm256_mullo_epi32(divide(x, frequency), factor));
    return words;
}

NICRT_AVX2 std::uint16_t* encode_32(const std::uint32_t* entries, const std::uint8_t* table_ids,
                                    const std::uint8_t* quotients, std::size_t rounds, std::uint32_t* states,
                                    std::uint16_t* words) {
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

EncodeLoops encode_loops_avx2(unsigned lanes) {
    return {split, lanes == 32 ? encode_32 : encode_loops_scalar(lanes).rounds};
}

}  // namespace nicrt

#else

namespace nicrt {
EncodeLoops encode_loops_avx2(unsigned lanes) { return encode_loops_scalar(lanes); }
}  // namespace nicrt

#endif

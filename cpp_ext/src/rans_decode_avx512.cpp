// Eight lanes a vector as with AVX2, because shorter vectors mean a shorter wait for the entries of all
// lanes; what AVX-512 gives is masks, and the expand instruction that hands words to the lanes that take one.
#include "rans_decode_vector.hpp"

#ifdef NICRT_X86

namespace nicrt {
namespace {

struct Search8 {
    const Bucket* buckets;
    const std::uint32_t* rows;
    explicit Search8(const DecodeTables& tables) : buckets(tables.buckets), rows(tables.rows) {}

    NICRT_AVX512_INLINE __m256i find(__m256i table, __m256i slot) const {
        const BucketEntries bucket = load_buckets(buckets, table, slot);
        // bits 31..20 of both sides are a slot and a start; the ones below the slot make its side the larger
        // when they agree
        const __m256i key = _mm256_or_si256(_mm256_slli_epi32(slot, 20), _mm256_set1_epi32(0xfffff));
        __m256i entry = _mm256_mask_blend_epi32(
            _mm256_cmplt_epu32_mask(key, _mm256_slli_epi32(bucket.second, 12)), bucket.second, bucket.first);
        const __mmask8 crowded = _mm256_cmplt_epu32_mask(entry, _mm256_set1_epi32(1 << 20));
        if (crowded != 0) [[unlikely]]
            entry = _mm256_mmask_i32gather_epi32(entry, crowded, row_places(entry, slot), rows, 4);
        return entry;
    }
    NICRT_AVX512_INLINE static __m256i offset(__m256i entry, __m256i slot) {
        return _mm256_sub_epi32(slot, start_of(entry));
    }
};

/// The states after these entries, eight lanes of them.
template <class Path>
NICRT_AVX512_INLINE __m256i advance(__m256i state, __m256i entry, __m256i slot, const std::uint8_t*& next) {
    const __m256i x = _mm256_add_epi32(
        _mm256_mullo_epi32(_mm256_srli_epi32(entry, 20), _mm256_srli_epi32(state, kProbabilityBits)),
        Path::offset(entry, slot));
    const __mmask8 take = _mm256_cmplt_epu32_mask(x, _mm256_set1_epi32(kStateFloor));
    const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(next)));
    next += 2 * _mm_popcnt_u32(take);
    return _mm256_or_si256(_mm256_mask_slli_epi32(x, take, x, 16), _mm256_maskz_expand_epi32(take, words));
}

/// Every group of eight lanes looks at the 8 words from `next`; the groups before it have taken at most 8
/// each.
template <class Path>
NICRT_AVX512 std::size_t decode_32(const DecodeTables& tables, const std::uint8_t* table_ids,
                                   std::size_t rounds, std::int16_t* quotients, LaneStates& lanes) {
    constexpr unsigned kGroups = 4;
    const Path path(tables);
    __m256i state[kGroups];
    for (unsigned g = 0; g < kGroups; ++g)
        state[g] = _mm256_load_si256(reinterpret_cast<const __m256i*>(&lanes.state[8 * g]));
    const std::uint8_t* next = lanes.next;
    const std::uint8_t* const end = lanes.end;
    std::size_t round = 0;
    for (; round < rounds && end - next >= 64; ++round) {
        __m256i slot[kGroups], entry[kGroups];
#pragma GCC unroll 4
        for (unsigned g = 0; g < kGroups; ++g) {
            slot[g] = _mm256_and_si256(state[g], _mm256_set1_epi32(kSlotMask));
            entry[g] = path.find(widen8(table_ids + 8 * g), slot[g]);
        }
#pragma GCC unroll 4
        for (unsigned g = 0; g < kGroups; ++g) {
            state[g] = advance<Path>(state[g], entry[g], slot[g], next);
            const __m128i packed = _mm_cvtepi8_epi16(_mm256_cvtepi32_epi8(entry[g]));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(quotients + 8 * g), packed);
        }
        table_ids += 32;
        quotients += 32;
    }
    for (unsigned g = 0; g < kGroups; ++g)
        _mm256_store_si256(reinterpret_cast<__m256i*>(&lanes.state[8 * g]), state[g]);
    lanes.next = next;
    return round;
}

}  // namespace

DecodeRounds decode_rounds_avx512(DecodePath path, unsigned lanes) {
    if (lanes != 32) return decode_rounds_scalar(path, lanes);
    return path == DecodePath::lookup ? decode_32<Lookup8> : decode_32<Search8>;
}

}  // namespace nicrt

#else

namespace nicrt {
DecodeRounds decode_rounds_avx512(DecodePath path, unsigned lanes) {
    return decode_rounds_scalar(path, lanes);
}
}  // namespace nicrt

#endif

#include "rans_decode_vector.hpp"

#ifdef NICRT_X86

namespace nicrt {
namespace {

/// For each set of lanes that take a word, which word each lane takes: a lane's rank among the takers.
struct alignas(64) Ranks {
    std::uint8_t of[256][8];
};

constexpr Ranks make_ranks() {
    Ranks ranks{};
    for (unsigned takers = 0; takers < 256; ++takers) {
        std::uint8_t count = 0;
        for (unsigned lane = 0; lane < 8; ++lane) {
            ranks.of[takers][lane] = count;
            count = static_cast<std::uint8_t>(count + (takers >> lane & 1));
        }
    }
    return ranks;
}

constexpr Ranks kRanks = make_ranks();

struct Search8 {
    const Bucket* buckets;
    const std::uint32_t* rows;
    explicit Search8(const DecodeTables& tables) : buckets(tables.buckets), rows(tables.rows) {}

    NICRT_AVX2_INLINE __m256i find(__m256i table, __m256i slot) const {
        const BucketEntries bucket = load_buckets(buckets, table, slot);
        const __m256i before_second = _mm256_cmpgt_epi32(start_of(bucket.second), slot);
        __m256i entry = _mm256_blendv_epi8(bucket.second, bucket.first, before_second);
        const __m256i crowded = _mm256_cmpeq_epi32(_mm256_srli_epi32(entry, 20), _mm256_setzero_si256());
        if (!_mm256_testz_si256(crowded, crowded)) [[unlikely]]
            entry = _mm256_mask_i32gather_epi32(entry, reinterpret_cast<const int*>(rows),
                                                row_places(entry, slot), crowded, 4);
        return entry;
    }
    NICRT_AVX2_INLINE static __m256i offset(__m256i entry, __m256i slot) {
        return _mm256_sub_epi32(slot, start_of(entry));
    }
};

/// The states after these entries, eight lanes of them.
template <class Path>
NICRT_AVX2_INLINE __m256i advance(__m256i state, __m256i entry, __m256i slot, const std::uint8_t*& next) {
    const __m256i x = _mm256_add_epi32(
        _mm256_mullo_epi32(_mm256_srli_epi32(entry, 20), _mm256_srli_epi32(state, kProbabilityBits)),
        Path::offset(entry, slot));
    const __m256i take = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    const auto takers = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(take)));
    const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(next)));
    const __m256i taken = _mm256_permutevar8x32_epi32(words, widen8(kRanks.of[takers]));
    next += 2 * _mm_popcnt_u32(takers);
    return _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), taken), take);
}

/// The low bytes of sixteen entries, sign-extended.
NICRT_AVX2_INLINE __m256i quotients16(__m256i a, __m256i b) {
    const __m256i low = _mm256_srai_epi32(_mm256_slli_epi32(a, 24), 24);
    const __m256i high = _mm256_srai_epi32(_mm256_slli_epi32(b, 24), 24);
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

/// Every group of eight lanes looks at the 8 words from `next`; the groups before it have taken at most 8
/// each.
template <class Path>
NICRT_AVX2 std::size_t decode_32(const DecodeTables& tables, const std::uint8_t* table_ids,
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
        __m256i entry[kGroups];
#pragma GCC unroll 4
        for (unsigned g = 0; g < kGroups; ++g) {
            const __m256i slot = _mm256_and_si256(state[g], _mm256_set1_epi32(kSlotMask));
            entry[g] = path.find(widen8(table_ids + 8 * g), slot);
            state[g] = advance<Path>(state[g], entry[g], slot, next);
        }
        auto* const out = reinterpret_cast<__m256i*>(quotients);
        _mm256_storeu_si256(out, quotients16(entry[0], entry[1]));
        _mm256_storeu_si256(out + 1, quotients16(entry[2], entry[3]));
        table_ids += 32;
        quotients += 32;
    }
    for (unsigned g = 0; g < kGroups; ++g)
        _mm256_store_si256(reinterpret_cast<__m256i*>(&lanes.state[8 * g]), state[g]);
    lanes.next = next;
    return round;
}

}  // namespace

DecodeRounds decode_rounds_avx2(DecodePath path, unsigned lanes) {
    if (lanes != 32) return decode_rounds_scalar(path, lanes);
    return path == DecodePath::lookup ? decode_32<Lookup8> : decode_32<Search8>;
}

}  // namespace nicrt

#else

namespace nicrt {
DecodeRounds decode_rounds_avx2(DecodePath path, unsigned lanes) { return decode_rounds_scalar(path, lanes); }
}  // namespace nicrt

#endif

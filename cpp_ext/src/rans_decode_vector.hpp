// What the AVX2 and the AVX-512 decoder share: table entries of eight lanes. They are loaded one by one,
// which on the processors measured beats the gather instructions.
#pragma once

#include "cpu.hpp"
#include "rans_decode_lanes.hpp"

#ifdef NICRT_X86

#include "simd.hpp"

namespace nicrt {

NICRT_AVX2_INLINE __m256i widen8(const std::uint8_t* bytes) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

/// Eight 32-bit indices in four registers.
struct Indices {
    std::uint64_t pair[4];

    NICRT_AVX2_INLINE explicit Indices(__m256i index)
        : pair{static_cast<std::uint64_t>(_mm256_extract_epi64(index, 0)),
               static_cast<std::uint64_t>(_mm256_extract_epi64(index, 1)),
               static_cast<std::uint64_t>(_mm256_extract_epi64(index, 2)),
               static_cast<std::uint64_t>(_mm256_extract_epi64(index, 3))} {}

    [[nodiscard]] NICRT_AVX2_INLINE std::uint64_t operator[](unsigned lane) const {
        return lane % 2 ? pair[lane / 2] >> 32 : pair[lane / 2] & 0xFFFFFFFFu;
    }
};

NICRT_AVX2_INLINE __m256i load_entries(const std::uint32_t* entries, __m256i index) {
    const Indices at(index);
    const auto entry = [&](unsigned lane) NICRT_AVX2 { return static_cast<int>(entries[at[lane]]); };
    return _mm256_setr_epi32(entry(0), entry(1), entry(2), entry(3), entry(4), entry(5), entry(6), entry(7));
}

/// Where the symbols of these entries of the search form begin.
NICRT_AVX2_INLINE __m256i start_of(__m256i entry) {
    return _mm256_and_si256(_mm256_srli_epi32(entry, 8), _mm256_set1_epi32(kSlotMask));
}

/// The look-up path for eight lanes.
struct Lookup8 {
    const std::uint32_t* entries;
    explicit Lookup8(const DecodeTables& tables) : entries(tables.lookup) {}

    [[nodiscard]] NICRT_AVX2_INLINE __m256i find(__m256i table, __m256i slot) const {
        return load_entries(entries, _mm256_or_si256(_mm256_slli_epi32(table, kProbabilityBits), slot));
    }
    [[nodiscard]] NICRT_AVX2_INLINE static __m256i offset(__m256i entry, __m256i) {
        return _mm256_and_si256(_mm256_srli_epi32(entry, 8), _mm256_set1_epi32(kSlotMask));
    }
};

struct BucketEntries {
    __m256i first, second;
};

NICRT_AVX2_INLINE BucketEntries load_buckets(const Bucket* buckets, __m256i table, __m256i slot) {
    const Indices at(_mm256_or_si256(_mm256_slli_epi32(table, kBucketBits),
                                     _mm256_srli_epi32(slot, kProbabilityBits - kBucketBits)));
    const auto bucket = [&](unsigned lane) NICRT_AVX2 {
        return load_le<long long>(reinterpret_cast<const std::uint8_t*>(buckets + at[lane]));
    };
    // in this order the shuffles, which work on 128-bit halves, leave lanes 0 .. 7
    const __m256 left = _mm256_castsi256_ps(_mm256_setr_epi64x(bucket(0), bucket(1), bucket(4), bucket(5)));
    const __m256 right = _mm256_castsi256_ps(_mm256_setr_epi64x(bucket(2), bucket(3), bucket(6), bucket(7)));
    return {_mm256_castps_si256(_mm256_shuffle_ps(left, right, 0x88)),
            _mm256_castps_si256(_mm256_shuffle_ps(left, right, 0xdd))};
}

/// Where the rows of crowded buckets hold the entries of these slots; `references` in place of entries.
NICRT_AVX2_INLINE __m256i row_places(__m256i references, __m256i slot) {
    return _mm256_or_si256(_mm256_slli_epi32(references, kProbabilityBits - kBucketBits),
                           _mm256_and_si256(slot, _mm256_set1_epi32(kBucketSlots - 1)));
}

}  // namespace nicrt

#endif

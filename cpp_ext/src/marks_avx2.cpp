#include "cpu.hpp"
#include "marks.hpp"

#ifdef NICRT_X86

#include "simd.hpp"

namespace nicrt {
namespace {

NICRT_AVX2_INLINE __m256i load32(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

/// The set of tables with raw bits. The low half of a table id picks a byte of the bitmap, the high half a
/// bit in it.
struct ShiftSet {
    __m256i low_tables, high_tables;  ///< below 128 and from there on

    NICRT_AVX2_INLINE explicit ShiftSet(const ByteMaps& maps) {
        const auto* const sets = reinterpret_cast<const __m128i*>(maps.has_shift.data());
        low_tables = _mm256_broadcastsi128_si256(_mm_load_si128(sets));
        high_tables = _mm256_broadcastsi128_si256(_mm_load_si128(sets + 1));
    }

    /// Which of 32 tables are in it.
    [[nodiscard]] NICRT_AVX2_INLINE std::uint32_t contains(__m256i tables) const {
        const __m256i nibble = _mm256_set1_epi8(15);
        const __m256i low = _mm256_and_si256(tables, nibble);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(tables, 4), nibble);
        const __m256i bit =
            _mm256_shuffle_epi8(_mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u)), high);
        const __m256i set = _mm256_blendv_epi8(_mm256_shuffle_epi8(low_tables, low),
                                               _mm256_shuffle_epi8(high_tables, low), tables);
        return static_cast<std::uint32_t>(
            _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_and_si256(set, bit), bit)));
    }
};

NICRT_AVX2_INLINE std::uint32_t escapes32(const std::int16_t* quotients) {
    const __m256i packed = _mm256_packs_epi16(load32(quotients), load32(quotients + 16));
    const __m256i ordered = _mm256_permute4x64_epi64(packed, 0xd8);
    return static_cast<std::uint32_t>(
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(ordered, _mm256_set1_epi8(kEscape))));
}

NICRT_AVX2 TableScan scan(const ByteMaps& maps, const std::uint8_t* table_ids, std::size_t n) {
    const ShiftSet set(maps);
    __m256i largest = _mm256_setzero_si256();
    std::uint64_t raw_bits = 0;
    std::size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m256i tables = load32(table_ids + i);
        largest = _mm256_max_epu8(largest, tables);
        for_each_mark(set.contains(tables), [&](std::size_t j) { raw_bits += maps.shift[table_ids[i + j]]; });
    }
    TableScan scan = mark_loops_scalar().scan(maps, table_ids + i, n - i);
    scan.raw_bits += raw_bits;
    alignas(32) std::uint8_t lanes[32];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), largest);
    for (const std::uint8_t lane : lanes) scan.largest = lane > scan.largest ? lane : scan.largest;
    return scan;
}

NICRT_AVX2 void special(const ByteMaps& maps, const std::uint8_t* table_ids, const std::int16_t* quotients,
                        std::size_t n, std::uint64_t* marks) {
    const ShiftSet set(maps);
    std::size_t i = 0;
    for (; i + kMarkRun <= n; i += kMarkRun) {
        const std::uint64_t low = set.contains(load32(table_ids + i)) | escapes32(quotients + i);
        const std::uint64_t high = set.contains(load32(table_ids + i + 32)) | escapes32(quotients + i + 32);
        marks[i / kMarkRun] = low | high << 32;
    }
    mark_loops_scalar().special(maps, table_ids + i, quotients + i, n - i, marks + i / kMarkRun);
}

}  // namespace

MarkLoops mark_loops_avx2() { return {scan, special}; }

}  // namespace nicrt

#else

namespace nicrt {
MarkLoops mark_loops_avx2() { return mark_loops_scalar(); }
}  // namespace nicrt

#endif

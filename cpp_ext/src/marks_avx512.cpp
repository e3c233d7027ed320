#include "cpu.hpp"
#include "marks.hpp"

#ifdef NICRT_X86

#include "byte_maps_avx512.hpp"

namespace nicrt {
namespace {

NICRT_AVX512 TableScan scan(const ByteMaps& maps, const std::uint8_t* table_ids, std::size_t n) {
    const ByteMap512 shift(maps.shift.data());
    __m512i largest = _mm512_setzero_si512(), raw_bits = _mm512_setzero_si512();
    std::size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const __m512i tables = _mm512_loadu_si512(table_ids + i);
        largest = _mm512_max_epu8(largest, tables);
        raw_bits = _mm512_add_epi64(raw_bits, _mm512_sad_epu8(shift[tables], _mm512_setzero_si512()));
    }
    TableScan scan = mark_loops_scalar().scan(maps, table_ids + i, n - i);
    scan.raw_bits += static_cast<std::uint64_t>(_mm512_reduce_add_epi64(raw_bits));
    alignas(64) std::uint8_t lanes[64];
    _mm512_store_si512(lanes, largest);
    for (const std::uint8_t lane : lanes) scan.largest = lane > scan.largest ? lane : scan.largest;
    return scan;
}

NICRT_AVX512 void special(const ByteMaps& maps, const std::uint8_t* table_ids, const std::int16_t* quotients,
                          std::size_t n, std::uint64_t* marks) {
    const ByteMap512 shift(maps.shift.data());
    const __m512i escape = _mm512_set1_epi16(kEscape);
    std::size_t i = 0;
    for (; i + kMarkRun <= n; i += kMarkRun) {
        const __m512i shifts = shift[_mm512_loadu_si512(table_ids + i)];
        const std::uint64_t low = _mm512_cmpeq_epi16_mask(_mm512_loadu_si512(quotients + i), escape);
        const std::uint64_t high = _mm512_cmpeq_epi16_mask(_mm512_loadu_si512(quotients + i + 32), escape);
        marks[i / kMarkRun] = _mm512_test_epi8_mask(shifts, shifts) | low | high << 32;
    }
    mark_loops_scalar().special(maps, table_ids + i, quotients + i, n - i, marks + i / kMarkRun);
}

}  // namespace

MarkLoops mark_loops_avx512() { return {scan, special}; }

}  // namespace nicrt

#else

namespace nicrt {
MarkLoops mark_loops_avx512() { return mark_loops_scalar(); }
}  // namespace nicrt

#endif

#include "marks.hpp"

#include <algorithm>

namespace nicrt {
namespace {

/// Whether some symbol of a run may be marked: loops without look-ups or branches, which compilers turn into
/// vectors.
bool maybe_special(const ByteMaps& maps, const std::uint8_t* table_ids, const std::int16_t* quotients,
                   std::size_t count) {
    std::uint8_t largest = 0;
    for (std::size_t i = 0; i < count; ++i) largest = std::max(largest, table_ids[i]);
    std::int16_t smallest = 0;
    for (std::size_t i = 0; i < count; ++i) smallest = std::min(smallest, quotients[i]);
    return largest >= maps.first_shift || smallest == kEscape;
}

TableScan scan(const ByteMaps& maps, const std::uint8_t* table_ids, std::size_t n) {
    TableScan scan;
    for (std::size_t i = 0; i < n; i += kMarkRun) {
        const std::size_t end = std::min(i + kMarkRun, n);
        std::uint8_t largest = 0;
        for (std::size_t j = i; j < end; ++j) largest = std::max(largest, table_ids[j]);
        scan.largest = std::max(scan.largest, largest);
        if (largest < maps.first_shift) continue;
        for (std::size_t j = i; j < end; ++j) scan.raw_bits += maps.shift[table_ids[j]];
    }
    return scan;
}

void special(const ByteMaps& maps, const std::uint8_t* table_ids, const std::int16_t* quotients,
             std::size_t n, std::uint64_t* marks) {
    for (std::size_t i = 0; i < n; i += kMarkRun) {
        const std::size_t count = std::min(kMarkRun, n - i);
        std::uint64_t run = 0;
        if (maybe_special(maps, table_ids + i, quotients + i, count))
            for (std::size_t j = 0; j < count; ++j)
                run |= static_cast<std::uint64_t>((maps.shift[table_ids[i + j]] != 0) |
                                                  (quotients[i + j] == kEscape))
                       << j;
        marks[i / kMarkRun] = run;
    }
}

}  // namespace

MarkLoops mark_loops_scalar() { return {scan, special}; }

MarkLoops mark_loops(Isa isa) {
    if (isa == Isa::avx512) return mark_loops_avx512();
    if (isa == Isa::avx2) return mark_loops_avx2();
    return mark_loops_scalar();
}

}  // namespace nicrt

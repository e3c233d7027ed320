// Which symbols need more than their quotient byte. In most streams few do, so they are found 64 at a time
// and then treated one by one.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "codebook_impl.hpp"
#include "nicrt/segment.hpp"

namespace nicrt {

inline constexpr std::size_t kMarkRun = 64;

struct TableScan {
    std::uint64_t raw_bits = 0;  ///< of all symbols; unspecified when an id has no table
    std::uint8_t largest = 0;    ///< table id
};

struct MarkLoops {
    /// Reads all table ids once, before anything relies on them.
    TableScan (*scan)(const ByteMaps& maps, const std::uint8_t* table_ids, std::size_t n);

    /// Bit i % 64 of marks[i / 64]: the table of symbol i has raw bits, or quotient i is the escape byte.
    void (*special)(const ByteMaps& maps, const std::uint8_t* table_ids, const std::int16_t* quotients,
                    std::size_t n, std::uint64_t* marks);
};

[[nodiscard]] MarkLoops mark_loops(Isa isa);  ///< not `best`
[[nodiscard]] MarkLoops mark_loops_scalar();
[[nodiscard]] MarkLoops mark_loops_avx2();
[[nodiscard]] MarkLoops mark_loops_avx512();

/// Calls visit(i) for every set bit, lowest first.
template <class Visit>
void for_each_mark(std::uint64_t marks, Visit visit) {
    for (; marks != 0; marks &= marks - 1) visit(static_cast<std::size_t>(std::countr_zero(marks)));
}

/// The same from the highest down.
template <class Visit>
void for_each_mark_down(std::uint64_t marks, Visit visit) {
    while (marks != 0) {
        const auto i = static_cast<std::size_t>(63 - std::countl_zero(marks));
        visit(i);
        marks ^= std::uint64_t{1} << i;
    }
}

}  // namespace nicrt

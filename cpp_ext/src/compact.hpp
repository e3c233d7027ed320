// Leaving out the places of a tensor that are not coded, and putting them back as zeros (FORMAT.md section
// 3).
#pragma once

#include <cstddef>
#include <cstdint>

namespace nicrt {

/// Elements that a kernel may touch past the coded ones in a compacted array: written on the way in, read on
/// the way out.
inline constexpr std::size_t kCompactSlack = 64;

/// Rows of `length` neighbouring places; the first places of two rows are `stride` apart.
struct Rows {
    std::size_t count = 1;
    std::size_t length = 0;
    std::size_t stride = 0;
};

/// A place is coded when its index is below `tables` (1 .. 256). Every kernel returns the number of coded
/// places among `rows`.
struct CompactKernels {
    /// ids: the indices of the coded places.
    std::size_t (*ids)(const std::uint8_t* index, Rows rows, unsigned tables, std::uint8_t* ids);

    /// Also gathers their symbols and sets the other places to 0; clears `fits` when one is outside int16.
    std::size_t (*gather)(const std::uint8_t* index, std::int32_t* symbols, Rows rows, unsigned tables,
                          std::uint8_t* ids, std::int16_t* coded, bool& fits);

    /// The inverse: symbols from the coded ones, 0 elsewhere.
    std::size_t (*scatter)(const std::uint8_t* index, Rows rows, unsigned tables, const std::int16_t* coded,
                           std::int32_t* symbols);
};

[[nodiscard]] const CompactKernels& portable_compact_kernels();

/// The fastest ones of this processor.
[[nodiscard]] const CompactKernels& compact_kernels();

}  // namespace nicrt

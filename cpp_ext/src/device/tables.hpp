// A codebook in the form that the device's decoder reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "entropy_layout.hpp"
#include "nicrt/codebook.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

/// The tables on the host, with a view whose pointers are still to be set: buckets, then rows, then ranges,
/// each at a multiple of 16 bytes.
struct TablesImage {
    std::vector<std::uint8_t> bytes;
    std::size_t rows_offset = 0, ranges_offset = 0;
    TablesView view;

    /// The view of a copy at `data`.
    [[nodiscard]] TablesView at(const std::uint8_t* data) const;
};

/// The finest buckets, of 16 slots or more, that `shared_limit` bytes of shared memory hold, if possible with
/// their rows.
[[nodiscard]] TablesImage make_tables(const Codebook& codebook, std::size_t shared_limit);

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device

// What the device's kernels compute with: divisions, sums over the lanes of a warp, layouts of tables.
#include <algorithm>
#include <cstdint>

#include "check.hpp"
#include "device/compact_kernels.hpp"
#include "device/tables.hpp"
#include "device_build.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::testing;

void numbers() {
    for (int round = 0; round < 20000; ++round) {
        const auto value = static_cast<std::uint32_t>(random_int(1, 1 << random_int(1, 28)));
        const auto dividend = static_cast<std::uint32_t>(random_int(0, INT32_MAX));
        const device::Divisor by(value);
        for (const std::uint32_t n :
             {dividend, dividend / value * value, dividend / value * value + value - 1})
            if (n <= INT32_MAX) CHECK(device::divide(n, by) == n / value);
        const auto coded = static_cast<std::uint32_t>(random_int(1, 1 << random_int(1, 28)));
        const auto segments = static_cast<std::uint32_t>(random_int(1, static_cast<int>(coded)));
        const std::uint32_t symbol = dividend % coded;
        const std::uint32_t segment = device::segment_of(symbol, coded, segments);
        CHECK(segment < segments && device::segment_begin(coded, segments, segment) <= symbol);
        CHECK(symbol < device::segment_begin(coded, segments, segment + 1));
    }
    const device::Warp warp({});
    for (int round = 0; round < 100; ++round) {
        device::PerLane<std::uint32_t> values;
        for (auto& value : values.values) value = static_cast<std::uint32_t>(random_int(0, 15));
        device::PerLane<std::uint32_t> whole = values, small = values;
        CHECK(warp.exclusive_sum(whole) == device::exclusive_sum_below_16(warp, small));
        CHECK(std::equal(whole.values, whole.values + 32, small.values));
    }
}

/// The whole of shared memory, some of it, or too little for the rows.
void table_layouts() {
    const auto codebook = make_codebook(64);
    std::uint32_t before = 8;
    for (const std::size_t limit :
         {std::size_t{227} << 10, std::size_t{99} << 10, std::size_t{20} << 10, std::size_t{2} << 10}) {
        const device::TablesView view = device::make_tables(*codebook, limit).view;
        CHECK(view.shared_bytes <= limit && view.shared_bytes >= view.bucket_bytes);
        CHECK(view.bucket_bytes == 64u * 8u << view.bucket_bits && view.bucket_bits <= before);
        before = view.bucket_bits;
    }
    CHECK(before == 2);
    const auto large = make_codebook(256, 255);
    const device::TablesView view = device::make_tables(*large, 227 << 10).view;
    CHECK(view.bucket_bits == 6 && view.shared_bytes == view.bucket_bytes);  // the rows stay behind
}

}  // namespace

int main() {
    numbers();
    table_layouts();
}

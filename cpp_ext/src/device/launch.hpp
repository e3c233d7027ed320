// Running a kernel: <<<>>> on the device, a loop over blocks and warps on the host.
//
// A kernel is a small value with
//     static constexpr u32 kWarps                              warps of a block
//     bool prepare(const Place&, u8* shared) const             by all threads of a block, before its warps
//     run;
//                                                              false, for all alike: the block has nothing to
//                                                              do
//     void run(const Warp&, u8* shared) const                  every warp
#pragma once

#include "nicrt/device.hpp"

#include "lanes.hpp"
#include "queue.hpp"

#ifndef __CUDACC__
#include <vector>
#endif

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

struct Grid {
    u32 blocks = 1;
    std::size_t shared_bytes = 0;
};

/// Of kernels that share nothing.
struct NothingShared {
    NICRT_DEVICE static bool prepare(const Place&, u8*) { return true; }
};

#ifdef __CUDACC__

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kWarps* kWarpLanes)
    kernel_entry(const __grid_constant__ Kernel kernel) {
    extern __shared__ uint4 shared_memory[];
    u8* const shared = reinterpret_cast<u8*>(shared_memory);
    const Place place{blockIdx.x, gridDim.x, threadIdx.x / kWarpLanes, Kernel::kWarps};
    if (!kernel.prepare(place, shared)) return;
    __syncthreads();
    kernel.run(Warp(place), shared);
}

template <class Kernel>
Status launch(Queue& queue, Grid grid, const Kernel& kernel) {
    constexpr std::size_t kWithoutAsking = 48 << 10;
    const DeviceGuard guard(queue.device());
    if (grid.shared_bytes > kWithoutAsking)
        NICRT_RETURN_IF_ERROR(cuda_status(
            cudaFuncSetAttribute(kernel_entry<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(grid.shared_bytes)),
            "asking for shared memory"));
    kernel_entry<Kernel>
        <<<grid.blocks, Kernel::kWarps * kWarpLanes, grid.shared_bytes, queue.impl().stream>>>(kernel);
    return cuda_status(cudaGetLastError(), "launching a kernel");
}

#else

template <class Kernel>
Status launch(Queue& queue, Grid grid, const Kernel& kernel) {
    queue.impl().submit([grid, kernel] {
        std::vector<std::max_align_t> shared(grid.shared_bytes / sizeof(std::max_align_t) + 1);
        u8* const bytes = reinterpret_cast<u8*>(shared.data());
        for (u32 block = 0; block < grid.blocks; ++block) {
            if (!kernel.prepare(Place{block, grid.blocks, 0, Kernel::kWarps}, bytes)) continue;
            for (u32 warp = 0; warp < Kernel::kWarps; ++warp)
                kernel.run(Warp(Place{block, grid.blocks, warp, Kernel::kWarps}), bytes);
        }
    });
    return {};
}

#endif

/// step(row, column) for every element of a table, neighbouring columns by neighbouring lanes.
template <class Step>
struct RowsKernel : NothingShared {
    static constexpr u32 kWarps = 8;
    static constexpr u32 kColumns = 8 * kWarpLanes;  ///< of a row, by one warp
    Step step;
    u64 rows;
    u32 columns, parts;  ///< of a row

    RowsKernel(const Step& step_, u64 rows_, u32 columns_)
        : step(step_), rows(rows_), columns(columns_), parts((columns_ + kColumns - 1) / kColumns) {}

    NICRT_DEVICE void run(const Warp& warp, u8*) const {
        const Place& at = warp.place();
        for (u64 task = u64{at.block} * kWarps + at.warp; task < rows * parts;
             task += u64{at.blocks} * kWarps) {
            const u64 row = task / parts;
            const auto first = static_cast<u32>(task % parts) * kColumns;
            NICRT_UNROLL
            for (u32 i = 0; i < kColumns; i += kWarpLanes)
                warp.each([&](u32 lane) {
                    if (first + i + lane < columns) step(row, first + i + lane);
                });
        }
    }
};

template <class Step>
Status launch_rows(Queue& queue, u64 rows, u32 columns, const Step& step) {
    constexpr u64 kMaxBlocks = 1u << 20;
    const RowsKernel<Step> kernel(step, rows, columns);
    const u64 blocks = (rows * kernel.parts + kernel.kWarps - 1) / kernel.kWarps;
    if (blocks == 0) return {};
    return launch(queue, {static_cast<u32>(blocks < kMaxBlocks ? blocks : kMaxBlocks), 0}, kernel);
}

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device

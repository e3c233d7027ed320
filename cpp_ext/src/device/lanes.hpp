// What kernels are written in, so that one source serves GPUs and CPUs: a warp of 32 lanes that go step by
// step together. On the device a lane is a thread and a value per lane a register; on the host a warp is a
// loop over its lanes and a value per lane an array.
//
// Code between the steps, outside the functions given to a warp, is the same for all lanes: it may hold and
// branch on what the warp's calls return, never on a lane's value.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define NICRT_DEVICE __device__ __forceinline__
#define NICRT_UNROLL _Pragma("unroll")
#else
#include <bit>
#include <cstring>
#define NICRT_DEVICE inline
#define NICRT_UNROLL
#endif

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i16 = std::int16_t;
using i32 = std::int32_t;

inline constexpr u32 kWarpLanes = 32;

/// Where a warp or a block is in its grid.
struct Place {
    u32 block = 0, blocks = 1;
    u32 warp = 0, warps = 1;  ///< in the block
};

#ifdef __CUDACC__

template <class T>
struct PerLane {
    T value;
    NICRT_DEVICE T& operator[](u32) { return value; }
    NICRT_DEVICE const T& operator[](u32) const { return value; }
};

NICRT_DEVICE u32 count_bits(u32 bits) { return static_cast<u32>(__popc(bits)); }

NICRT_DEVICE void atomic_min(u64* to, u64 value) {
    atomicMin(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}

class Warp {
public:
    NICRT_DEVICE explicit Warp(Place place) : place_(place), lane_(threadIdx.x % kWarpLanes) {}

    /// step(lane) for every lane.
    template <class Step>
    NICRT_DEVICE void each(Step step) const {
        step(lane_);
    }

    /// step() once.
    template <class Step>
    NICRT_DEVICE void once(Step step) const {
        if (lane_ == 0) step();
    }

    /// Bit `lane` is test(lane).
    template <class Test>
    NICRT_DEVICE u32 ballot(Test test) const {
        return __ballot_sync(~0u, test(lane_));
    }

    /// Lane's value of `values` in lane from(lane), which must be below 32.
    template <class From>
    NICRT_DEVICE PerLane<u32> gather(const PerLane<u32>& values, From from) const {
        return {__shfl_sync(~0u, values.value, static_cast<int>(from(lane_)))};
    }

    /// Sum of value(lane) over the lanes.
    template <class Value>
    NICRT_DEVICE u32 sum(Value value) const {
        return __reduce_add_sync(~0u, value(lane_));
    }

    /// Every lane's value becomes the sum of those of the lanes before it; returns the sum of all.
    NICRT_DEVICE u32 exclusive_sum(PerLane<u32>& values) const {
        const u32 own = values.value;
        u32 total = own;
        NICRT_UNROLL
        for (u32 step = 1; step < kWarpLanes; step *= 2) {
            const u32 before = __shfl_up_sync(~0u, total, step);
            if (lane_ >= step) total += before;
        }
        values.value = total - own;
        return __shfl_sync(~0u, total, kWarpLanes - 1);
    }

    [[nodiscard]] NICRT_DEVICE const Place& place() const { return place_; }

private:
    Place place_;
    u32 lane_;
};

/// All threads of the block copy together. Both addresses and `bytes` are multiples of 16.
NICRT_DEVICE void copy_to_shared(const Place& place, void* to, const void* from, std::size_t bytes) {
    const auto count = static_cast<u32>(bytes / sizeof(uint4));
#pragma unroll 8
    for (u32 i = threadIdx.x; i < count; i += place.warps * kWarpLanes)
        static_cast<uint4*>(to)[i] = static_cast<const uint4*>(from)[i];
}

#else

template <class T>
struct PerLane {
    T values[kWarpLanes] = {};
    T& operator[](u32 lane) { return values[lane]; }
    const T& operator[](u32 lane) const { return values[lane]; }
};

inline u32 count_bits(u32 bits) { return static_cast<u32>(std::popcount(bits)); }

/// Without atomics: the host's blocks run one after the other.
inline void atomic_min(u64* to, u64 value) {
    if (value < *to) *to = value;
}

class Warp {
public:
    explicit Warp(Place place) : place_(place) {}

    template <class Step>
    void each(Step step) const {
        for (u32 lane = 0; lane < kWarpLanes; ++lane) step(lane);
    }

    template <class Step>
    void once(Step step) const {
        step();
    }

    template <class Test>
    [[nodiscard]] u32 ballot(Test test) const {
        u32 mask = 0;
        for (u32 lane = 0; lane < kWarpLanes; ++lane) mask |= u32{test(lane)} << lane;
        return mask;
    }

    template <class From>
    [[nodiscard]] PerLane<u32> gather(const PerLane<u32>& values, From from) const {
        PerLane<u32> result;
        for (u32 lane = 0; lane < kWarpLanes; ++lane) result[lane] = values[from(lane)];
        return result;
    }

    template <class Value>
    [[nodiscard]] u32 sum(Value value) const {
        u32 total = 0;
        for (u32 lane = 0; lane < kWarpLanes; ++lane) total += value(lane);
        return total;
    }

    u32 exclusive_sum(PerLane<u32>& values) const {
        u32 total = 0;
        for (u32 lane = 0; lane < kWarpLanes; ++lane) {
            const u32 value = values[lane];
            values[lane] = total;
            total += value;
        }
        return total;
    }

    [[nodiscard]] const Place& place() const { return place_; }

private:
    Place place_;
};

inline void copy_to_shared(const Place&, void* to, const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
}

#endif

/// How many bits of `mask` are set below bit `lane`.
NICRT_DEVICE u32 rank(u32 mask, u32 lane) { return count_bits(mask & ((1u << lane) - 1)); }

[[nodiscard]] NICRT_DEVICE bool is_set(u32 mask, u32 lane) { return (mask >> lane & 1) != 0; }

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device

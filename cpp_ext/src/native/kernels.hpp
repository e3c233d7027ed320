// The inner loops, one set per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nicrt::native {

/// Floats of a row are handled in groups of this many, whatever the width of the registers.
inline constexpr std::size_t lane_group = 16;
/// Zeros before and after the lanes of a row, for taps that reach over the edge.
inline constexpr std::size_t lane_pad = 16;
inline constexpr std::size_t max_tile_outputs = 8;
inline constexpr std::size_t max_tile_groups = 3;

/// One tap: where its first input unit lies, and its weights [units][outputs of the tile], in two runs.
/// A unit is 32 bits: one fp32 value, or two bfloat16 values of which both products are added. Those of the
/// second run are fp32 values.
struct Tap {
    const float* in;
    const float* weights[2];
};

/// out[m][lane] = leaky(bias[m] + sum over taps and units of weights[unit][m] * in[unit * in_stride + lane])
struct Tile {
    const Tap* taps;
    std::size_t tap_count;
    std::size_t lane;       ///< first lane, in each tap and in `out`
    std::size_t units[2];   ///< of the two runs of weights; the input's units are one run
    std::size_t in_stride;  ///< floats from one unit to the next
    const float* bias;
    float slope;
    float* out;
    std::size_t out_stride;  ///< floats from one output to the next
};

using TileKernel = void (*)(const Tile&);

struct Kernels {
    std::size_t outputs;  ///< of the largest tile
    std::size_t groups;
    TileKernel fp32[max_tile_outputs][max_tile_groups];  ///< by outputs - 1 and groups of lanes - 1
    TileKernel pairs[max_tile_outputs]
                    [max_tile_groups];  ///< the same for bfloat16 pairs; null where there are none

    /// to[i] = scale * from[i] + add, for i in [0, count); with `more`, to[i] += scale * from[i].
    void (*scale_floats)(const float* from, std::size_t count, float scale, float add, bool more, float* to);
    void (*scale_integers)(const std::int32_t* from, std::size_t count, float scale, float add, bool more,
                           float* to);
    /// squares[i] = value[i]^2
    void (*square)(const float* value, std::size_t count, float* squares);
    /// value[i] *= sqrt(norm[i]), for whole groups of lanes
    void (*scale_by_root)(const float* norm, std::size_t groups, float* value);
    /// pairs[i] = bfloat16 of low[i] in the lower half, of high[i] in the upper one, rounded to the nearest.
    void (*to_pairs)(const float* low, const float* high, std::size_t count, float* pairs);
    /// out[x * planes + p] = clipped and truncated value[p * stride + x], for x in [0, width)
    void (*to_bytes)(const float* value, std::size_t planes, std::size_t stride, std::size_t width, float low,
                     float high, std::uint8_t* out);
};

const Kernels& kernels_scalar();
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();

}  // namespace nicrt::native

// The inner loops of integer networks, one set per instruction set.
//
// A unit is 32 bits: neighbouring channels of one place, 4 bytes or 2 16-bit integers, and the weights that
// they meet. A tile multiplies the units of P places by those of some outputs, one side as vectors, the other
// broadcast: hidden layers hold outputs in vectors (results lie channel by channel in a place), heads hold
// places (results lie place by place in a channel).
#pragma once

#include <cstddef>
#include <cstdint>

#include "nicrt/integer_network.hpp"

namespace nicrt::native {

inline constexpr std::size_t unit_bytes = 4;
inline constexpr std::size_t max_tile_scalars = 6;
inline constexpr std::size_t max_tile_vectors = 4;
inline constexpr std::size_t max_tile_lanes = 64;  ///< of all vectors of a tile

/// sums[p][lane] = sum over taps and units of scalars[p][offset of the tap + unit] * vectors[tap][unit][lane]
struct IntegerTile {
    const std::uint8_t* const* scalars;  ///< per p
    const std::ptrdiff_t* offsets;       ///< bytes, per tap
    std::size_t taps, units;
    const std::uint8_t* vectors;  ///< [taps][units][lanes of the tile]
    std::int32_t* sums;           ///< rows of max_tile_lanes
};

using IntegerTileKernel = void (*)(const IntegerTile&);

struct IntegerKernels {
    bool bytes;           ///< units of 4 bytes, activations unsigned; else of 2 signed 16-bit integers
    std::size_t lanes;    ///< of a vector
    std::size_t vectors;  ///< of the largest tile
    std::size_t scalars;
    IntegerTileKernel weights_in_vectors[max_tile_scalars][max_tile_vectors];  ///< by counts - 1
    IntegerTileKernel places_in_vectors[max_tile_scalars][max_tile_vectors];

    /// Activations of one place: with s = sums[i] + bias[i], the larger of s * multiplier[i] and s *
    /// negative[i], rounded and clipped to `range`.
    void (*hidden_bytes)(const std::int32_t* sums, const std::int32_t* bias, const float* multiplier,
                         const float* negative, std::size_t count, IntegerRange range, std::uint8_t* out);
    void (*hidden_shorts)(const std::int32_t* sums, const std::int32_t* bias, const float* multiplier,
                          const float* negative, std::size_t count, IntegerRange range, std::int16_t* out);
    /// One channel of a head, for `count` places.
    void (*head_floats)(const std::int32_t* sums, std::int32_t bias, float multiplier, std::size_t count,
                        float* out);
    void (*head_indices)(const std::int32_t* sums, std::int32_t bias, float multiplier, std::size_t count,
                         const IndexRule& rule, std::uint8_t* out);
    void (*head_table)(const std::int32_t* sums, std::int32_t bias, float multiplier, std::size_t count,
                       const IndexRule& rule, std::uint8_t* out);
};

const IntegerKernels& integer_kernels_scalar();
const IntegerKernels& integer_kernels_avx2();
const IntegerKernels& integer_kernels_avx512(bool bytes);

}  // namespace nicrt::native

// An integer network as the kernels read it.
//
// A transposed convolution of stride s is s ordinary ones in each direction, one per output phase (place
// modulo s), each with the taps that fall on that phase; so sums are never scattered. Activations lie place
// by place, [rows + border][columns + border][units], the border holding what stands for 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "integer_kernels.hpp"
#include "memory.hpp"

namespace nicrt::native {

/// Output place s * i + phase reads input place i + offset, in each direction.
struct IntegerTap {
    std::int32_t row, column;
};

/// Outputs from `first` on that fill this many vectors (the last ones perhaps with zeros).
struct IntegerPanel {
    std::uint32_t first, vectors;
    std::size_t weights;  ///< bytes before them: [taps][units][lanes]
};

struct IntegerPhase {
    std::uint32_t row, column;
    std::vector<IntegerTap> taps;
    std::vector<IntegerPanel> panels;
    std::vector<std::int32_t>
        zero;  ///< per output what inputs of 0 add up to, since they are stored as `zero`
};

struct PackedIntegerLayer {
    std::uint32_t in, out;
    std::uint32_t stride_y, stride_x;
    IntegerRange range;
    std::size_t units;
    std::size_t border;  ///< places around the input that taps reach
    std::vector<IntegerPhase> phases;
    std::vector<std::uint8_t> weights;
};

/// weights: [out][taps][units], for kernels that hold places in vectors.
struct PackedHead {
    std::uint32_t out;
    std::vector<IntegerTap> taps;
    std::vector<std::uint8_t> weights;
};

class PackedNetwork {
public:
    IntegerIsa isa = IntegerIsa::scalar;
    const IntegerKernels* kernels = nullptr;
    IntegerRange input;
    std::int32_t zero = 0;  ///< what an input of 0 is stored as
    std::vector<PackedIntegerLayer> hidden;
    std::vector<PackedHead> heads;
    std::size_t head_units = 0;   ///< of a place
    std::size_t head_border = 0;  ///< places that taps reach beyond it
    std::size_t scale_y = 1, scale_x = 1;
    mutable Pool pool;
};

Status pack(std::span<const IntegerLayer> hidden, std::span<const IntegerLayer> heads, IntegerRange input,
            PackedNetwork& network);

Status run(const PackedNetwork& network, const std::int32_t* in, std::size_t height, std::size_t width,
           std::span<const Rescale> rescales, std::span<const HeadOutput> outputs, const Work& work);

}  // namespace nicrt::native

// A chain of transposed convolutions as the kernels read it.
//
// A transposed convolution of stride s is s ordinary ones, one per output phase (place modulo s), each with
// the taps that fall on that phase. So no sum is ever scattered: a tile of outputs stays in registers over
// all taps and channels. Columns are kept by phase: column x of a tensor whose columns have P phases over the
// latents lies in lane x / P of phase x % P, so that a stride in x is a step between phases and one in lanes,
// and the lanes of all layers are the latents' columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.hpp"
#include "memory.hpp"
#include "nicrt/native.hpp"

namespace nicrt::native {

/// A tap of an output row's phase: output row s * j + phase reads input row j + offset.
struct RowTap {
    std::uint32_t tap;
    std::int32_t offset;
};

/// A tap of an output column's phase: lane i of it reads lane i + offset of an input phase.
struct ColumnTap {
    std::uint32_t tap;
    std::uint32_t phase;
    std::int32_t offset;
};

/// A block of output channels of one phase: for each row tap and column tap [units][count] weights from
/// `weights` on.
struct Panel {
    std::uint32_t first, count;
    std::size_t weights;
};

/// The inverse GDN of a row, one phase of places after the other: panels of [units][count] weights.
struct PackedNorm {
    std::vector<Panel> panels;  ///< none: no normalisation
    std::size_t units = 0;      ///< per place, of all channels
    std::vector<float> weights;
    std::vector<float> beta;
};

/// Input channels whose products are so large that they need more than a bfloat16's 8 bits: they are
/// multiplied in fp32. In a row their units stand behind the pairs of the others.
struct Precise {
    std::vector<std::uint32_t> channels;
    std::vector<float>
        weights;  ///< per panel and tap [channels][count], in the order of PackedLayer::weights
};

struct PackedLayer {
    std::uint32_t in, out;
    PackedNorm norm;
    Axis y, x;
    float slope;
    std::size_t units;      ///< per place of the input row, those of precise channels besides
    std::size_t in_phases;  ///< of a column
    bool pairs;
    std::vector<std::vector<RowTap>> rows;        ///< by phase, y.stride of them
    std::vector<std::vector<ColumnTap>> columns;  ///< by phase, in_phases * x.stride of them
    std::vector<std::vector<Panel>> panels;       ///< by row phase * x.stride + column phase % x.stride
    std::vector<float> weights;
    std::vector<float> bias;
    std::vector<std::uint32_t> paired;  ///< the channels of the pairs, in their order
    Precise precise;                    ///< none without pairs

    /// Whether its input rows are made from rows of plain floats; the first layer's always are.
    [[nodiscard]] bool finished() const { return pairs || !norm.panels.empty(); }
    [[nodiscard]] std::size_t out_phases() const { return in_phases * x.stride; }
};

class PackedChain {
public:
    Arithmetic arithmetic = Arithmetic::scalar;
    const Kernels* kernels = nullptr;
    std::vector<PackedLayer> layers;
    std::size_t scale_y = 1, scale_x = 1;
    mutable Pool pool;
};

/// invalid_argument or unsupported where it cannot be.
Status pack(std::span<const Layer> layers, const Kernels& kernels, Arithmetic arithmetic, PackedChain& chain);

/// By layer, the input channels with the largest products, were the layer one of pairs: what the weights say
/// of it. All channels where no few of them have most of the energy.
std::vector<std::vector<std::uint32_t>> precise_channels(std::span<const Layer> layers);

Status run(const PackedChain& chain, const Input& input, float low, float high, const Work& work,
           std::uint8_t* out);

}  // namespace nicrt::native

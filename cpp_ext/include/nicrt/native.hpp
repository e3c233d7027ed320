// Chains of transposed convolutions from latents to a picture, computed by kernels of our own.
//
// Layer l turns [in, h, w] into [out, h * stride_y, w * stride_x]; before a layer may stand an inverse GDN
// (Ballé, Laparra, Simoncelli 2016), behind it a leaky ReLU; after the last one values are clipped, truncated
// and stored as uint8 [h', w', out]. The input is an affine combination, channel by channel, of any number of
// tensors: x[c] = offset[c] + sum over i of scale[i][c] * tensor_i[c].
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "nicrt/runner.hpp"
#include "nicrt/status.hpp"

namespace nicrt::native {

/// One direction of a transposed convolution: place i of the input adds kernel tap t to place i * stride + t
/// - pad. The output has exactly stride times as many places as the input; what lies outside is dropped.
struct Axis {
    std::uint32_t kernel = 1;
    std::uint32_t stride = 1;
    std::uint32_t pad = 0;
};

/// Inverse GDN of what goes into a layer: x[i] * sqrt(beta[i] + sum over j of gamma[i][j] * x[j]^2).
struct Norm {
    std::span<const float> beta;   ///< [in]; empty for none
    std::span<const float> gamma;  ///< [in, in]
};

struct Layer {
    std::uint32_t in = 0, out = 0;
    Norm norm;
    Axis y, x;
    float slope = 1;                 ///< of the leaky ReLU behind it for values below 0; 1 for none
    std::span<const float> weights;  ///< [in, out, y.kernel, x.kernel]
    std::span<const float> bias;     ///< [out]
};

/// How products are computed. `avx512_bf16` rounds inputs and weights of the first layer, and of normalised
/// ones, to bfloat16 where they are much of the work, and adds in fp32. The channels with the largest
/// products, by the weights alone, stay fp32 (packed.hpp), and so do layers where no few channels have most.
/// The others are fp32 throughout, and `scalar` is there to test them against.
enum class Arithmetic { best, scalar, avx2, avx512, avx512_bf16 };

[[nodiscard]] bool arithmetic_available(Arithmetic arithmetic);

/// One tensor of the affine combination: [in, h, w] of the first layer.
struct Term {
    const float* floats = nullptr;           ///< either these
    const std::int32_t* integers = nullptr;  ///< or these
    std::span<const float> scale;            ///< [in]
};

struct Input {
    std::vector<Term> terms;
    std::span<const float> offset;  ///< [in]
    std::size_t height = 0, width = 0;
};

class PackedChain;

/// Weights in the order in which the kernels read them. Immutable: any number of threads may run it.
class Chain {
public:
    /// invalid_argument for layers that do not fit each other, unsupported for what the kernels cannot do.
    static Status make(std::span<const Layer> layers, Arithmetic arithmetic, Chain& chain);

    [[nodiscard]] Arithmetic arithmetic() const;  ///< never `best`
    [[nodiscard]] std::size_t input_channels() const;
    [[nodiscard]] std::size_t output_channels() const;
    [[nodiscard]] std::size_t scale_y() const;  ///< rows of the picture per row of latents
    [[nodiscard]] std::size_t scale_x() const;

    /// out: uint8 [height * scale_y, width * scale_x, output_channels]. low <= high, both in 0..255. The
    /// bytes do not depend on the number of threads.
    Status run(const Input& input, float low, float high, const Work& work, std::uint8_t* out) const;

private:
    std::shared_ptr<const PackedChain> packed_;
};

}  // namespace nicrt::native

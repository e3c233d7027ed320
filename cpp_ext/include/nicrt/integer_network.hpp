// Networks of integers: transposed convolutions of int8 weights, computed in integers, with the same bits on
// every processor.
//
// Hidden layer l turns [in, h, w] into [out, h * stride_y, w * stride_x]: sums of products and a bias, times
// one float32 multiplier per output (rounded once, as IEEE 754 defines it), rounded to the nearest integer,
// ties to even, clipped to low..high. Behind the last of them stand heads: convolutions of stride 1 of the
// same activations whose sums, times a multiplier, leave the network.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "nicrt/native.hpp"
#include "nicrt/status.hpp"

namespace nicrt::native {

struct IntegerRange {
    std::int32_t low = 0, high = 0;
};

struct IntegerLayer {
    std::uint32_t in = 0, out = 0;
    Axis y, x;                             ///< of a head: stride 1
    std::span<const std::int8_t> weights;  ///< [in, out, y.kernel, x.kernel]
    IntegerRange range;                    ///< what the outputs of a hidden layer are clipped to
};

/// Per output of a layer: sums are (products + bias) * multiplier; of a hidden layer with `negative` ones the
/// larger of that and (products + bias) * negative, a leaky ReLU.
struct Rescale {
    std::span<const std::int32_t> bias;
    std::span<const float> multiplier;
    std::span<const float> negative;  ///< or none
};

/// From a rounded value v to a place in `values`: clipped to low..high, as it is below `limit`, from there on
/// floor(v * unit) + add.
struct ScaleTable {
    std::span<const float> values;
    float low = 0, high = 0;
    float limit = 0, unit = 1, add = 0;
};

/// Of a head: from rounded values v (or what `table` has for them) to uint8 floor((v + add) * unit), clipped
/// to low..high; below `skip` it becomes `skipped`. Without such a rule the head gives its values as float32,
/// not rounded.
struct IndexRule {
    float add = 0, unit = 1;
    float low = 0, high = 255;  ///< within 0..255
    float skip = 0;
    std::uint8_t skipped = 255;
    ScaleTable table;  ///< none where it has no values
};

/// invalid_argument for a rule beyond what the kernels take.
[[nodiscard]] Status check(const IndexRule& rule);

/// Where a head's values go, [out, h, w]: one of the two.
struct HeadOutput {
    float* floats = nullptr;
    std::uint8_t* indices = nullptr;
    IndexRule rule;  ///< of indices
};

/// Instruction sets, each with the same results. `avx512_vnni` multiplies bytes where all activations are
/// unsigned bytes, else, as the others do, 16-bit integers.
enum class IntegerIsa { best, scalar, avx2, avx512_vnni };

[[nodiscard]] bool integer_isa_available(IntegerIsa isa);

class PackedNetwork;

/// Weights in the order in which the kernels read them. Immutable: any number of threads may run it.
class IntegerNetwork {
public:
    /// `input`: what the inputs lie in. invalid_argument for layers that do not fit each other, unsupported
    /// for ranges or sums that the kernels cannot hold.
    static Status make(std::span<const IntegerLayer> hidden, std::span<const IntegerLayer> heads,
                       IntegerRange input, IntegerIsa isa, IntegerNetwork& network);

    [[nodiscard]] IntegerIsa isa() const;  ///< never `best`
    [[nodiscard]] std::size_t input_channels() const;
    [[nodiscard]] std::size_t head_channels(std::size_t head) const;
    [[nodiscard]] std::size_t heads() const;
    [[nodiscard]] std::size_t scale_y() const;  ///< rows of the outputs per row of the input
    [[nodiscard]] std::size_t scale_x() const;

    /// in: [input_channels, height, width]. rescales: of the hidden layers, then of the heads.
    /// invalid_argument: an input outside its range, or spans that do not fit. The results do not depend on
    /// the number of threads.
    Status run(const std::int32_t* in, std::size_t height, std::size_t width,
               std::span<const Rescale> rescales, std::span<const HeadOutput> outputs,
               const Work& work) const;

private:
    std::shared_ptr<const PackedNetwork> packed_;
};

}  // namespace nicrt::native

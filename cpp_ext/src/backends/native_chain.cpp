// Chains of transposed convolutions that make a picture.
//
// With AVX512_BF16 the products of large layers are of bfloat16 values, added in float32; the pixels stay
// within one grey level of float32's (with GDN, on Kodak, but for one value in 200 million).
#include <algorithm>
#include <cmath>

#include "backends/native.hpp"
#include "bundle/check.hpp"
#include "parallel.hpp"

namespace nicrt::engine {
namespace {

using bundle::Element;
using native::Arithmetic;

/// Latents that lie around larger constants are multiplied in float32: bfloat16 would round away what they
/// differ by, and its weights what bias takes off again. At 110 pixels were off by 2 grey levels, at 300 by
/// 255.
constexpr float kMaxBfloat16Offset = 16;
constexpr double kWorkspace = 1;         ///< bytes per pixel: a few rows of each layer, whatever the height
constexpr double kNormedWorkspace = 16;  ///< of a tile 512 wide; less of wider ones

/// The vectors of the sum in front of a chain.
struct Vectors {
    std::vector<std::vector<float>> scales;  ///< by term
    std::vector<float> offset;
};

std::uint32_t extent(const bundle::Tensor& tensor, std::size_t axis) {
    return static_cast<std::uint32_t>(tensor.shape[axis]);
}

Status pack(const Weights& weights, const bundle::TransposedChain& chain, Arithmetic arithmetic,
            native::Chain& out) {
    std::vector<std::vector<float>> zeros;
    zeros.reserve(chain.layers.size());
    std::vector<native::Layer> layers;
    for (const bundle::Layer& layer : chain.layers) {
        const bundle::Tensor& weight = weights.tensor(layer.weight);
        native::Layer& made = layers.emplace_back();
        made.in = extent(weight, 0);
        made.out = extent(weight, 1);
        made.y = axis_of(weight, layer, 0);
        made.x = axis_of(weight, layer, 1);
        made.slope = static_cast<float>(layer.slope);
        made.weights = weights.floats(layer.weight);
        made.bias = layer.bias ? weights.floats(*layer.bias) : zeros.emplace_back(made.out, 0.0F);
        if (layer.norm) made.norm = {weights.floats(layer.norm->beta), weights.floats(layer.norm->gamma)};
    }
    return native::Chain::make(layers, arithmetic, out);
}

class ChainExecutable final : public Executable {
public:
    ChainExecutable(NativeGraph native, const bundle::TransposedChain& chain)
        : native_(std::move(native)),
          chain_(chain),
          channels_(extent(native_.weights.tensor(chain.layers.front().weight), 0)),
          vectors_([this](const Parameters& parameters, Vectors& out) { return vectors(parameters, out); }) {}

    Status make(Arithmetic arithmetic) {
        if (!chain_.picture || chain_.picture->dtype != Element::uint8)
            return {Code::unsupported, "a chain that does not make a picture of uint8"};
        for (const bool largest : {false, true}) {
            Vectors made;
            NICRT_RETURN_IF_ERROR(vectors(native_.extreme_parameters(largest), made));
            const auto small = [](float value) { return std::abs(value) <= kMaxBfloat16Offset; };
            if (arithmetic == Arithmetic::avx512_bf16 &&
                !std::all_of(made.offset.begin(), made.offset.end(), small))
                arithmetic = Arithmetic::avx512;
        }
        NICRT_RETURN_IF_ERROR(pack(native_.weights, chain_, arithmetic, packed_));
        for (const bundle::Layer& layer : chain_.layers) native_.weights.forget(layer.weight);
        return {};
    }

    [[nodiscard]] std::optional<double> workspace_bytes_per_pixel() const override {
        const auto normed = [](const bundle::Layer& layer) { return layer.norm.has_value(); };
        return std::any_of(chain_.layers.begin(), chain_.layers.end(), normed) ? kNormedWorkspace
                                                                               : kWorkspace;
    }

    /// One picture after the other: the threads share the places of one. A tensor of one picture is that of
    /// all.
    Status run(std::span<const Named> inputs, std::span<Named> outputs, const Work& work) const override {
        return of_run(status_of([&] { return pictures(inputs, outputs, work); }));
    }

private:
    Status vectors(const Parameters& parameters, Vectors& out) const {
        for (const bundle::Term& term : chain_.terms)
            NICRT_RETURN_IF_ERROR(
                vector(term.scale, channels_, native_.weights, parameters, 1, out.scales.emplace_back()));
        return vector(chain_.offset, channels_, native_.weights, parameters, 0, out.offset);
    }

    Status pictures(std::span<const Named> inputs, std::span<Named> outputs, const Work& work) const {
        std::shared_ptr<const Vectors> vectors;
        NICRT_RETURN_IF_ERROR(vectors_.of(native_.parameters(inputs), vectors));
        std::vector<const Array*> tensors;
        std::int64_t count = 1;
        for (const bundle::Term& term : chain_.terms) {
            tensors.push_back(&array_of(inputs, term.value));
            count = std::max(count, tensors.back()->shape[0]);
        }
        const auto height = static_cast<std::size_t>(tensors[0]->shape[2]);
        const auto width = static_cast<std::size_t>(tensors[0]->shape[3]);
        const std::size_t picture_bytes =
            height * packed_.scale_y() * width * packed_.scale_x() * packed_.output_channels();
        for (Named& output : outputs) {
            if (output.array.bytes() != static_cast<std::size_t>(count) * picture_bytes)
                return {Code::internal, "an output of another size than the chain makes"};
            NICRT_RETURN_IF_ERROR(
                Array::make(Element::uint8, std::vector(output.array.shape), work.budget, output.array));
            for (std::int64_t i = 0; i < count; ++i) {
                const native::Input input{terms(tensors, *vectors, i), vectors->offset, height, width};
                NICRT_RETURN_IF_ERROR(packed_.run(input, static_cast<float>(chain_.picture->low),
                                                  static_cast<float>(chain_.picture->high), work,
                                                  output.array.data + i * picture_bytes));
            }
        }
        return {};
    }

    /// Of picture i.
    [[nodiscard]] std::vector<native::Term> terms(const std::vector<const Array*>& tensors,
                                                  const Vectors& vectors, std::int64_t i) const {
        std::vector<native::Term> terms;
        for (std::size_t t = 0; t < tensors.size(); ++t) {
            const Array& tensor = *tensors[t];
            const std::int64_t places = tensor.shape[1] * tensor.shape[2] * tensor.shape[3];
            const std::int64_t first = tensor.shape[0] == 1 ? 0 : i * places;
            native::Term& term = terms.emplace_back();
            term.scale = vectors.scales[t];
            if (tensor.dtype == Element::float32) term.floats = tensor.as<const float>() + first;
            else term.integers = tensor.as<const std::int32_t>() + first;
        }
        return terms;
    }

    NativeGraph native_;
    const bundle::TransposedChain chain_;
    const std::size_t channels_;
    const PerParameters<Vectors> vectors_;
    native::Chain packed_;
};

}  // namespace

Status make_chain(NativeGraph native, const bundle::TransposedChain& chain, Arithmetic arithmetic,
                  std::shared_ptr<const Executable>& out) {
    const auto made = std::make_shared<ChainExecutable>(std::move(native), chain);
    NICRT_RETURN_IF_ERROR(made->make(arithmetic));
    out = made;
    return {};
}

}  // namespace nicrt::engine

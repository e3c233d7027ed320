// Native synthesis chains of any description: refused, or run to the same bytes by any number of threads.
#include "input.hpp"
#include "nicrt/native.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;
using namespace nicrt::native;

constexpr std::size_t kMostWeights = 1 << 18, kMostPlaces = 1 << 18;

/// Layers with the arrays that they view.
class Layers {
public:
    explicit Layers(fuzz::Input& in) : wild_(in.flag()) {
        const unsigned count = in.below(10);
        std::uint32_t channels = 1 + in.below(20);
        for (unsigned i = 0; i < count && !too_large; ++i) channels = add(in, channels);
    }

    std::vector<Layer> layers;
    bool too_large = false;

private:
    /// An extent; among wild ones are some beyond every limit.
    std::uint32_t extent(fuzz::Input& in, std::uint32_t least) {
        const std::uint8_t byte = in.byte();
        if (wild_) return byte == 255 ? in.number() : byte % 9;
        return least + byte % 5;
    }

    std::uint32_t add(fuzz::Input& in, std::uint32_t channels) {
        Layer layer;
        layer.in = wild_ ? extent(in, 0) : channels;
        layer.out = extent(in, 1);
        layer.y = {extent(in, 1), extent(in, 1), extent(in, 0)};
        layer.x = {extent(in, 1), extent(in, 1), extent(in, 0)};
        layer.slope = in.real();
        const std::size_t places =
            product({layer.in, layer.out, layer.y.kernel, layer.x.kernel}, kMostWeights);
        too_large = places > kMostWeights;
        if (too_large) return 0;
        layer.weights = values(in, places + (wild_ ? in.below(2) : 0));
        layer.bias = values(in, std::min<std::size_t>(layer.out, 1 << 12));
        if (in.flag()) {
            const std::size_t normed = std::min<std::size_t>(layer.in, 64);
            layer.norm = {values(in, normed), values(in, normed * normed)};
        }
        layers.push_back(layer);
        return layer.out;
    }

    std::span<const float> values(fuzz::Input& in, std::size_t count) {
        auto& kept = *arrays_.emplace_back(std::make_unique<std::vector<float>>(count, 0.25F));
        const bool any = in.byte() % 16 == 0;
        for (float& value : kept)
            if (in.left() > 0)
                value = any ? in.real() : static_cast<float>(static_cast<std::int8_t>(in.byte())) / 16;
        return kept;
    }

    bool wild_;
    std::vector<std::unique_ptr<std::vector<float>>> arrays_;
};

void check_runs(const Chain& chain, fuzz::Input in) {
    const std::size_t height = 1 + in.below(9), width = 1 + in.below(40);
    const std::size_t taken = chain.input_channels() * height * width;
    const std::size_t given = height * chain.scale_y() * width * chain.scale_x() * chain.output_channels();
    if (taken > kMostPlaces || given > kMostPlaces) return;
    std::vector<float> floats(taken);
    std::vector<std::int32_t> integers(taken);
    for (std::size_t i = 0; i < taken; ++i) {
        floats[i] = in.left() > 3 ? in.real() : static_cast<float>(i % 31) - 15;
        integers[i] = static_cast<std::int32_t>(i * 5 % 17) - 8;
    }
    const std::vector<float> scale(chain.input_channels(), 0.5F), offset(chain.input_channels(), 0.1F);
    const nicrt::native::Input input{
        {{floats.data(), nullptr, scale}, {nullptr, integers.data(), scale}}, offset, height, width};
    const std::unique_ptr<std::uint8_t[]> one(new std::uint8_t[given]), two(new std::uint8_t[given]);
    MUST(chain.run(input, 0, 255, {}, one.get()).ok() &&
         chain.run(input, 0, 255, {&process_pool(), 2}, two.get()).ok());
    MUST(std::memcmp(one.get(), two.get(), given) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input in(data, size);
    const Layers described(in);
    if (described.too_large) return 0;
    for (const Arithmetic arithmetic :
         {Arithmetic::scalar, Arithmetic::avx2, Arithmetic::avx512, Arithmetic::avx512_bf16}) {
        if (!arithmetic_available(arithmetic)) continue;
        Chain chain;
        const Status status = Chain::make(described.layers, arithmetic, chain);
        MUST(status.code() != Code::internal);
        if (status.ok()) check_runs(chain, in);
    }
    return 0;
}

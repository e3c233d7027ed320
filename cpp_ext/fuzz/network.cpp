// Native integer networks of any description: refused, or run to the same bits by every instruction set.
#include "input.hpp"

#include <optional>

#include "nicrt/integer_network.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;
using namespace nicrt::native;

constexpr std::size_t kMostWeights = 1 << 18, kMostPlaces = 1 << 17;

/// Layers and heads with the weights that they view.
class Network {
public:
    explicit Network(fuzz::Input& in) : wild_(in.flag()) {
        const unsigned hidden_count = in.below(5), head_count = in.below(3) + (wild_ ? 0 : 1);
        std::uint32_t channels = 1 + in.below(20);
        range = wild_ ? any_range(in) : IntegerRange{-int{in.byte()}, in.byte()};
        for (unsigned i = 0; i < hidden_count + head_count && !too_large; ++i) {
            const bool is_head = i >= hidden_count;
            const IntegerLayer layer = make(in, channels, is_head);
            if (!is_head) channels = layer.out;
            (is_head ? heads : hidden).push_back(layer);
        }
    }

    IntegerRange range;
    std::vector<IntegerLayer> hidden, heads;
    bool too_large = false;

private:
    static IntegerRange any_range(fuzz::Input& in) {
        const auto low = static_cast<std::int32_t>(in.number());
        return {low, static_cast<std::int32_t>(in.number())};
    }

    std::uint32_t extent(fuzz::Input& in, std::uint32_t least) {
        const std::uint8_t byte = in.byte();
        if (wild_) return byte == 255 ? in.number() : byte % 9;
        return least + byte % 5;
    }

    Axis axis(fuzz::Input& in, bool is_head) {
        Axis axis{extent(in, 1), extent(in, 1), extent(in, 0)};
        if (wild_) return axis;
        if (is_head) axis.stride = 1;
        axis.pad %= axis.kernel;
        return axis;
    }

    IntegerLayer make(fuzz::Input& in, std::uint32_t channels, bool is_head) {
        IntegerLayer layer;
        layer.in = wild_ ? extent(in, 0) : channels;
        layer.out = extent(in, 1);
        layer.y = axis(in, is_head);
        layer.x = axis(in, is_head);
        layer.range = wild_ ? any_range(in) : IntegerRange{in.flag() ? -int{in.byte()} : 0, in.byte()};
        const std::size_t places =
            product({layer.in, layer.out, layer.y.kernel, layer.x.kernel}, kMostWeights);
        too_large = places > kMostWeights;
        if (too_large) return layer;
        auto& kept =
            *weights_.emplace_back(std::make_unique<std::vector<std::int8_t>>(places, std::int8_t{3}));
        for (auto& weight : kept)
            if (in.left() > 0) weight = static_cast<std::int8_t>(in.byte());
        layer.weights = kept;
        return layer;
    }

    bool wild_;
    std::vector<std::unique_ptr<std::vector<std::int8_t>>> weights_;
};

/// What a run takes besides the network, and what it gave.
class Run {
public:
    Run(const Network& network, const IntegerNetwork& made, fuzz::Input in)
        : height_(1 + in.below(7)), width_(1 + in.below(40)) {
        const std::size_t taken = made.input_channels() * height_ * width_;
        places_ = height_ * made.scale_y() * width_ * made.scale_x();
        fits = taken <= kMostPlaces && places_ <= kMostPlaces;
        for (std::size_t head = 0; head < made.heads(); ++head)
            fits = fits && made.head_channels(head) * places_ <= kMostPlaces;
        if (!fits) return;
        const std::uint8_t mode = in.byte();
        threads_ = 1 + mode % 2;
        const std::uint64_t span = std::uint64_t(std::int64_t{network.range.high} - network.range.low) + 1;
        for (std::size_t i = 0; i < taken; ++i)
            tensor_.push_back(
                static_cast<std::int32_t>(network.range.low + std::int64_t(in.number() % span)));
        if ((mode & 2) != 0) tensor_.back() = static_cast<std::int32_t>(in.number());
        for (const auto* layers : {&network.hidden, &network.heads})
            for (const IntegerLayer& layer : *layers) add_rescale(in, layer.out, (mode & 4) != 0);
        for (float& value : table_) value = in.real();
        for (std::size_t head = 0; head < made.heads(); ++head) add_output(in, made.head_channels(head));
    }

    Status run(const IntegerNetwork& network) {
        return network.run(tensor_.data(), height_, width_, rescales_, outputs_, {&process_pool(), threads_});
    }

    [[nodiscard]] bool same_as(const Run& other) const {
        for (std::size_t i = 0; i < indices_.size(); ++i) {
            const auto &mine = *floats_[i], &its = *other.floats_[i];
            if (*indices_[i] != *other.indices_[i] || mine.size() != its.size()) return false;
            if (!mine.empty() && std::memcmp(mine.data(), its.data(), mine.size() * sizeof(float)) != 0)
                return false;
        }
        return true;
    }

    bool fits = false;

private:
    template <class Value>
    using Arrays = std::vector<std::unique_ptr<std::vector<Value>>>;

    template <class Value>
    static std::vector<Value>& keep(Arrays<Value>& arrays, std::size_t size) {
        return *arrays.emplace_back(std::make_unique<std::vector<Value>>(size));
    }

    void add_rescale(fuzz::Input& in, std::uint32_t channels, bool negative) {
        auto& bias = keep(biases_, channels);
        auto& multiplier = keep(multipliers_, channels);
        auto& below = keep(multipliers_, negative ? channels : 0);
        for (auto& value : bias) value = static_cast<std::int32_t>(in.number()) % (1 << 30);
        for (auto& value : multiplier) value = in.left() > 3 ? in.real() : 0.01F;
        for (auto& value : below) value = in.left() > 3 ? in.real() : 0.001F;
        rescales_.push_back({bias, multiplier, below});
    }

    void add_output(fuzz::Input& in, std::size_t channels) {
        const std::uint8_t kind = in.byte();
        const std::size_t places = channels * places_;
        auto& indices = keep(indices_, kind % 2 != 0 ? places : 0);
        auto& floats = keep(floats_, kind % 2 != 0 ? 0 : places);
        HeadOutput& output = outputs_.emplace_back();
        if (kind % 2 == 0) {
            output.floats = floats.data();
            return;
        }
        output.indices = indices.data();
        output.rule = {
            in.real(), in.real(), static_cast<float>(in.byte()), static_cast<float>(in.byte()), in.real(),
            in.byte(), {}};
        if ((kind & 2) != 0)
            output.rule.table = {table_, in.real(), in.real(), in.real(), in.real(), in.real()};
    }

    std::size_t height_, width_, places_ = 0;
    unsigned threads_ = 1;
    std::vector<std::int32_t> tensor_;
    std::vector<float> table_ = std::vector<float>(70);
    Arrays<std::int32_t> biases_;
    Arrays<float> multipliers_, floats_;
    Arrays<std::uint8_t> indices_;
    std::vector<Rescale> rescales_;
    std::vector<HeadOutput> outputs_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input in(data, size);
    const Network network(in);
    if (network.too_large) return 0;
    std::unique_ptr<Run> first;
    std::optional<Code> answer;
    for (const IntegerIsa isa : {IntegerIsa::scalar, IntegerIsa::avx2, IntegerIsa::avx512_vnni}) {
        if (!integer_isa_available(isa)) continue;
        IntegerNetwork made;
        const Status status = IntegerNetwork::make(network.hidden, network.heads, network.range, isa, made);
        MUST(status.code() != Code::internal);
        if (!status.ok()) continue;
        auto run = std::make_unique<Run>(network, made, in);
        if (!run->fits) return 0;
        const Status ran = run->run(made);
        MUST(ran.code() != Code::internal && (!answer || *answer == ran.code()));
        answer = ran.code();
        if (!ran.ok()) continue;
        if (first == nullptr) first = std::move(run);
        else MUST(run->same_as(*first));
    }
    return 0;
}

// Networks of integers. Weights are packed once; what depends on parameters is evaluated when they change.
#include <algorithm>
#include <cmath>
#include <deque>

#include "backends/native.hpp"
#include "bundle/check.hpp"
#include "parallel.hpp"

namespace nicrt::engine {
namespace {

using bundle::Element;
using bundle::in_quotes;

constexpr std::int32_t kMaxBias = 1 << 30;

/// What a run takes besides its tensor.
struct Settings {
    std::vector<native::Rescale> rescales;  ///< of the hidden layers, then of the heads
    struct Rule {
        std::vector<float> table;
        native::IndexRule rule;
    };
    std::deque<Rule> rules;  ///< by head, of indices
};

native::IntegerLayer layer_of(const Weights& weights, const bundle::IntegerConvolution& layer,
                              native::IntegerRange range) {
    const bundle::Tensor& weight = weights.tensor(layer.weight);
    return {static_cast<std::uint32_t>(weight.shape[0]),
            static_cast<std::uint32_t>(weight.shape[1]),
            axis_of(weight, layer, 0),
            axis_of(weight, layer, 1),
            weights.values<std::int8_t>(layer.weight),
            range};
}

/// Biases and multipliers of all rows, whichever of them a file asks for.
Status check_numbers(const Weights& weights, const bundle::IntegerConvolution& layer) {
    for (const std::int32_t bias : weights.values<std::int32_t>(layer.bias))
        if (bias < -kMaxBias || bias > kMaxBias)
            return {Code::unsupported, "biases " + in_quotes(layer.bias) + " beyond 2^30"};
    for (const std::string_view name : {layer.multiplier, layer.negative.value_or(layer.multiplier)})
        for (const float value : weights.floats(name))
            if (!std::isfinite(value))
                return {Code::unsupported, "tensor " + in_quotes(name) + " has values that are not numbers"};
    return {};
}

class NetworkExecutable final : public Executable {
public:
    NetworkExecutable(NativeGraph native, const bundle::IntegerNetwork& network)
        : native_(std::move(native)),
          network_(network),
          settings_(
              [this](const Parameters& parameters, Settings& out) { return settings(parameters, out); }) {}

    Status make(native::IntegerIsa isa) {
        std::vector<native::IntegerLayer> hidden, heads;
        for (const bundle::IntegerLayer& layer : network_.hidden) {
            NICRT_RETURN_IF_ERROR(check_numbers(native_.weights, layer));
            hidden.push_back(layer_of(native_.weights, layer, {layer.low, layer.high}));
        }
        for (const bundle::Head& head : network_.heads) {
            NICRT_RETURN_IF_ERROR(check_numbers(native_.weights, head));
            if (head.stride != bundle::Pair{1, 1})
                return {Code::unsupported, "head " + in_quotes(head.out) + " has a stride"};
            heads.push_back(layer_of(native_.weights, head, {}));
        }
        for (const bool largest : {false, true}) {  // numbers beyond what the kernels take show here
            Settings made;
            NICRT_RETURN_IF_ERROR(settings(native_.extreme_parameters(largest), made));
        }
        const bundle::Pair range = *native_.graph.inputs.find(network_.value)->range;
        NICRT_RETURN_IF_ERROR(
            native::IntegerNetwork::make(hidden, heads, {range[0], range[1]}, isa, packed_));
        for (const bundle::IntegerLayer& layer : network_.hidden) native_.weights.forget(layer.weight);
        for (const bundle::Head& head : network_.heads) native_.weights.forget(head.weight);
        return {};
    }

    /// The manifest counts float tensors, of which bytes, or pairs of them, take a quarter to a half.
    [[nodiscard]] std::optional<double> workspace_bytes_per_pixel() const override {
        return 0.5 * native_.graph.workspace_bytes_per_pixel.value_or(0);
    }

    Status run(std::span<const Named> inputs, std::span<Named> outputs, const Work& work) const override {
        return of_run(status_of([&] { return pictures(inputs, outputs, work); }));
    }

private:
    Status settings(const Parameters& parameters, Settings& out) const {
        for (const bundle::IntegerLayer& layer : network_.hidden)
            NICRT_RETURN_IF_ERROR(rescale(layer, native_.weights, parameters, out.rescales.emplace_back()));
        for (const bundle::Head& head : network_.heads) {
            NICRT_RETURN_IF_ERROR(rescale(head, native_.weights, parameters, out.rescales.emplace_back()));
            Settings::Rule& rule = out.rules.emplace_back();
            if (head.index)
                NICRT_RETURN_IF_ERROR(
                    index_rule(*head.index, native_.weights, parameters, rule.table, rule.rule));
        }
        return {};
    }

    Status pictures(std::span<const Named> inputs, std::span<Named> outputs, const Work& work) const {
        std::shared_ptr<const Settings> settings;
        NICRT_RETURN_IF_ERROR(settings_.of(native_.parameters(inputs), settings));
        const Array& tensor = array_of(inputs, network_.value);
        std::vector<Array> made;  // of every head, whoever asks for it
        for (std::size_t head = 0; head < network_.heads.size(); ++head)
            NICRT_RETURN_IF_ERROR(make_output(head, tensor, work, made.emplace_back()));
        const auto height = static_cast<std::size_t>(tensor.shape[2]);
        const auto width = static_cast<std::size_t>(tensor.shape[3]);
        const std::int64_t places = tensor.shape[1] * tensor.shape[2] * tensor.shape[3];
        for (std::int64_t i = 0; i < tensor.shape[0]; ++i) {
            std::vector<native::HeadOutput> heads;
            for (std::size_t head = 0; head < made.size(); ++head)
                heads.push_back(head_output(head, made[head], *settings, i));
            NICRT_RETURN_IF_ERROR(packed_.run(tensor.as<const std::int32_t>() + i * places, height, width,
                                              settings->rescales, heads, work));
        }
        return hand_out(made, outputs);
    }

    Status make_output(std::size_t head, const Array& tensor, const Work& work, Array& out) const {
        const std::int64_t shape[] = {tensor.shape[0], static_cast<std::int64_t>(packed_.head_channels(head)),
                                      tensor.shape[2] * static_cast<std::int64_t>(packed_.scale_y()),
                                      tensor.shape[3] * static_cast<std::int64_t>(packed_.scale_x())};
        return Array::make(network_.heads[head].index ? Element::uint8 : Element::float32, shape, work.budget,
                           out);
    }

    [[nodiscard]] native::HeadOutput head_output(std::size_t head, const Array& array,
                                                 const Settings& settings, std::int64_t picture) const {
        const std::int64_t first = picture * array.shape[1] * array.shape[2] * array.shape[3];
        if (network_.heads[head].index) return {nullptr, array.data + first, settings.rules[head].rule};
        return {array.as<float>() + first, nullptr, {}};
    }

    Status hand_out(const std::vector<Array>& made, std::span<Named> outputs) const {
        for (Named& output : outputs) {
            std::size_t head = 0;
            while (head < made.size() && network_.heads[head].out != output.port) ++head;
            if (head == made.size() || made[head].shape != output.array.shape ||
                made[head].dtype != output.array.dtype)
                return {Code::internal, "an output of another name, type or shape than the network makes"};
            output.array = made[head];
        }
        return {};
    }

    NativeGraph native_;
    const bundle::IntegerNetwork network_;
    const PerParameters<Settings> settings_;
    native::IntegerNetwork packed_;
};

}  // namespace

Status make_network(NativeGraph native, const bundle::IntegerNetwork& network, native::IntegerIsa isa,
                    std::shared_ptr<const Executable>& out) {
    const auto made = std::make_shared<NetworkExecutable>(std::move(native), network);
    NICRT_RETURN_IF_ERROR(made->make(isa));
    out = made;
    return {};
}

}  // namespace nicrt::engine

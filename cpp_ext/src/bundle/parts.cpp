#include "bundle/parts.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "bundle/check.hpp"
#include "bytes.hpp"
#ifdef NICRT_ONNX
#include "nicrt/onnx.hpp"
#endif

namespace nicrt::bundle {
namespace {

constexpr std::int64_t kMaxSum = INT32_MAX;

/// Per output channel the magnitudes of its weights, int8 [in, out, rows, columns].
std::vector<std::int64_t> weight_sums(const Tensor& weights) {
    const auto outputs = static_cast<std::size_t>(weights.shape[1]);
    const std::size_t taps =
        static_cast<std::size_t>(weights.shape[2]) * static_cast<std::size_t>(weights.shape[3]);
    std::vector<std::int64_t> sums(outputs, 0);
    for (std::size_t i = 0; i < weights.data.size(); ++i)
        sums[i / taps % outputs] += std::abs(static_cast<int>(static_cast<std::int8_t>(weights.data[i])));
    return sums;
}

/// Whether a sum can leave 32 bits when inputs are at most `reach` in magnitude. bias: int32 [out] or [rows,
/// out].
bool can_overflow(const Tensor& weights, const Tensor& bias, std::int64_t reach) {
    const std::vector<std::int64_t> sums = weight_sums(weights);
    for (std::size_t i = 0; i < bias.data.size() / 4; ++i) {
        const std::int64_t of_bias = std::abs(std::int64_t{load_le<std::int32_t>(bias.data.data() + 4 * i)});
        const std::int64_t sum = sums[i % sums.size()];
        if (of_bias > kMaxSum || (reach > 0 && sum > (kMaxSum - of_bias) / reach)) return true;
    }
    return false;
}

#ifdef NICRT_ONNX
bool is_element(Element dtype, onnx::Element element) {
    switch (dtype) {
        case Element::float32: return element == onnx::Element::float32;
        case Element::float16: return element == onnx::Element::float16;
        case Element::int64: return element == onnx::Element::int64;
        case Element::int32: return element == onnx::Element::int32;
        case Element::int16: return element == onnx::Element::int16;
        case Element::int8: return element == onnx::Element::int8;
        case Element::uint16: return element == onnx::Element::uint16;
        case Element::uint8: break;
    }
    return element == onnx::Element::uint8;
}

bool is_dimension(const Dimension& dimension, const onnx::Dimension& made) {
    if (dimension.extent > 0) return made.extent == dimension.extent;
    return !made.extent && made.symbol == dimension.spelled;
}

Status check_side(const std::vector<onnx::Port>& made, const Named<Port>& ports) {
    if (made.size() != ports.size())
        return {Code::unsupported, "the ports of the ONNX model are not those of the manifest"};
    std::map<std::string_view, const Port*> by_name;
    for (const auto& [name, port] : ports) by_name[name] = &port;
    for (const onnx::Port& port : made) {  // whose names differ: the model has been checked
        const auto listed = by_name.find(port.name);
        if (listed == by_name.end())
            return {Code::unsupported, "the ports of the ONNX model are not those of the manifest"};
        const auto& dims = listed->second->dims;
        if (!is_element(listed->second->dtype, port.element) || !port.shape ||
            !std::equal(dims.begin(), dims.end(), port.shape->begin(), port.shape->end(), is_dimension))
            return {Code::unsupported,
                    "port " + in_quotes(port.name) + " of the ONNX model is not that of the manifest"};
    }
    return {};
}
#endif

}  // namespace

Status check_sums(std::string_view name, const Graph& graph, std::span<const Tensor> tensors) {
    std::map<std::string_view, const Tensor*> by_name;
    for (const Tensor& tensor : tensors) by_name[tensor.name] = &tensor;
    for (const Operation& operation : graph.native->operations) {
        const auto* const network = std::get_if<IntegerNetwork>(&operation);
        if (network == nullptr) continue;
        Pair bounds = *graph.inputs.find(network->value)->range;
        const auto check = [&](const IntegerConvolution& layer) -> Status {
            const std::int64_t reach =
                std::max(std::abs(std::int64_t{bounds[0]}), std::abs(std::int64_t{bounds[1]}));
            if (!can_overflow(*by_name[layer.weight], *by_name[layer.bias], reach)) return {};
            return invalid_bundle("the native form of graph " + in_quotes(name) + ": sums of weights " +
                                  in_quotes(layer.weight) + " may leave 32 bits");
        };
        for (const IntegerLayer& layer : network->hidden) {
            NICRT_RETURN_IF_ERROR(check(layer));
            bounds = {layer.low, layer.high};
        }
        for (const Head& head : network->heads) NICRT_RETURN_IF_ERROR(check(head));
    }
    return {};
}

#ifdef NICRT_ONNX
Status write_again(std::span<const std::uint8_t> model, const Graph& graph, std::vector<std::uint8_t>& out) {
    onnx::Model read;
    NICRT_RETURN_IF_ERROR(onnx::read(model, read));
    NICRT_RETURN_IF_ERROR(check_side(read.inputs, graph.inputs));
    NICRT_RETURN_IF_ERROR(check_side(read.outputs, graph.outputs));
    out.resize(onnx::written_bytes(read));
    onnx::write(read, out);
    return {};
}
#else
Status write_again(std::span<const std::uint8_t>, const Graph&, std::vector<std::uint8_t>&) {
    return {Code::unsupported, "this build of nicrt reads no ONNX models: build it with NICRT_ONNX=ON"};
}
#endif

}  // namespace nicrt::bundle

// Our own kernels on the CPU as a backend: which of them a native form of one operation gets.
#include "backends/native.hpp"

#include <algorithm>
#include <string>

#include "nicrt/build_id.hpp"
#include "nicrt/segment.hpp"
#include "parallel.hpp"

namespace nicrt::engine {
namespace {

using native::Arithmetic;
using native::IntegerIsa;

/// Whether a port is a parameter: int32 [1].
bool is_parameter(const bundle::Port& port) { return port.dims.size() == 1 && port.dims[0].extent == 1; }

Arithmetic best_arithmetic() {
    for (const Arithmetic a : {Arithmetic::avx512_bf16, Arithmetic::avx512, Arithmetic::avx2})
        if (native::arithmetic_available(a)) return a;
    return Arithmetic::scalar;
}

IntegerIsa best_isa() {
    for (const IntegerIsa isa : {IntegerIsa::avx512_vnni, IntegerIsa::avx2})
        if (native::integer_isa_available(isa)) return isa;
    return IntegerIsa::scalar;
}

/// Options whose `best` has been resolved.
class Kernels {
public:
    explicit Kernels(const NativeOptions& options)
        : chosen_(options.arithmetic != Arithmetic::best || options.isa != IntegerIsa::best),
          beside_onnxruntime_(options.beside_onnxruntime),
          arithmetic_(options.arithmetic == Arithmetic::best ? best_arithmetic() : options.arithmetic),
          isa_(options.isa == IntegerIsa::best ? best_isa() : options.isa) {}

    Status load(NativeGraph native, std::shared_ptr<const Executable>& out) const {
        const bundle::Graph& graph = native.graph;
        if (!graph.native) return {Code::unsupported, "it has no native form"};
        if (graph.native->operations.size() == 1) {
            const bundle::Operation operation = graph.native->operations.front();
            if (const auto* const chain = std::get_if<bundle::TransposedChain>(&operation)) {
                NICRT_RETURN_IF_ERROR(check_fast(graph, *chain));
                return make_chain(std::move(native), *chain, arithmetic_, out);
            }
            if (const auto* const network = std::get_if<bundle::IntegerNetwork>(&operation)) {
                if (yields(graph) && isa_ == IntegerIsa::scalar)
                    return {Code::unsupported, "this processor has no AVX2"};
                return make_network(std::move(native), *network, isa_, out);
            }
        }
        return {Code::unsupported, "its native form is not one operation that there is a kernel for"};
    }

    [[nodiscard]] std::string identity() const {
        return "native " + std::string(build_id()) + " " + std::to_string(static_cast<int>(arithmetic_)) +
               " " + std::to_string(static_cast<int>(isa_));
    }

private:
    /// Whether ONNX Runtime runs the graph where it is the faster one.
    [[nodiscard]] bool yields(const bundle::Graph& graph) const {
        return beside_onnxruntime_ && !chosen_ && graph.onnx.has_value();
    }

    /// With GDN, AVX2 takes 1.0 to 1.9 times ONNX Runtime's time, AVX-512 0.6 to 1.0.
    [[nodiscard]] Status check_fast(const bundle::Graph& graph, const bundle::TransposedChain& chain) const {
        const auto normed = [](const bundle::Layer& layer) { return layer.norm.has_value(); };
        if (!yields(graph)) return {};
        if (arithmetic_ == Arithmetic::scalar) return {Code::unsupported, "this processor has no AVX2"};
        if (arithmetic_ == Arithmetic::avx2 && std::any_of(chain.layers.begin(), chain.layers.end(), normed))
            return {Code::unsupported, "this processor has no AVX-512"};
        return {};
    }

    bool chosen_, beside_onnxruntime_;
    Arithmetic arithmetic_;
    IntegerIsa isa_;
};

/// Whatever the kernels cannot do is no fallback to report.
Status loaded(Status status, bool& other_kind) {
    other_kind = status.code() == Code::unsupported || status.code() == Code::invalid_argument;
    return other_kind ? Status(Code::unsupported, status.message()) : status;
}

class NativeBackend final : public Backend {
public:
    explicit NativeBackend(const NativeOptions& options) : kernels_(options) {}

    [[nodiscard]] std::string_view name() const override { return "native"; }
    [[nodiscard]] std::string identity() const override { return kernels_.identity(); }
    [[nodiscard]] bool proven_when_built() const override { return true; }

    Status load(const bundle::Bundle& bundle, std::string_view graph, std::shared_ptr<const Executable>& out,
                bool& other_kind) const override {
        return status_of([&]() -> Status {
            other_kind = false;
            NICRT_RETURN_IF_ERROR(check_isa_variable());
            const bundle::Graph* const found = bundle.manifest().graphs.find(graph);
            if (found == nullptr) return invalid_argument("the bundle has no such graph");
            std::vector<bundle::Tensor> tensors;
            if (found->native) NICRT_RETURN_IF_ERROR(bundle.weights(graph, tensors));
            return loaded(
                kernels_.load({*found, bundle.manifest().document, Weights(std::move(tensors))}, out),
                other_kind);
        });
    }

private:
    Kernels kernels_;
};

}  // namespace

Parameters NativeGraph::parameters(std::span<const Named> inputs) const {
    Parameters parameters;
    for (const auto& [name, port] : graph.inputs)
        if (is_parameter(port)) parameters[name] = *array_of(inputs, name).as<const std::int32_t>();
    return parameters;
}

Parameters NativeGraph::extreme_parameters(bool largest) const {
    Parameters parameters;
    for (const auto& [name, port] : graph.inputs)
        if (is_parameter(port)) parameters[name] = port.range.value_or(bundle::Pair{0, 0})[largest ? 1 : 0];
    return parameters;
}

Status of_run(Status status) {
    if (status.ok() || status.code() == Code::limit || status.code() == Code::cancelled) return status;
    return {Code::internal, "the native backend failed: " + status.message()};
}

Status make_native_executable(bundle::Graph graph, std::vector<bundle::Tensor> weights,
                              std::shared_ptr<const void> text, NativeOptions options,
                              std::shared_ptr<const Executable>& out, bool& other_kind) {
    return status_of([&]() -> Status {
        other_kind = false;
        return loaded(
            Kernels(options).load({std::move(graph), std::move(text), Weights(std::move(weights))}, out),
            other_kind);
    });
}

std::shared_ptr<const Backend> make_native_backend(NativeOptions options) {
    return std::make_shared<NativeBackend>(options);
}

}  // namespace nicrt::engine

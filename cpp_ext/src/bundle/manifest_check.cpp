// Graphs, quality points, and what a manifest may claim of the work that its graphs are: bounds of counts and
// sizes, which cost nothing to write down and a lot to do.
#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "bundle/check.hpp"
#include "json/write.hpp"

namespace nicrt::bundle {
namespace {

constexpr std::size_t kMaxSteps = 512;  // of all stages of a program, what is shown included
constexpr std::uint64_t kMaxProofElements = std::uint64_t{1} << 22;  // of all inputs and outputs of one proof
// Multiply-accumulates of one proof in a native form, whose kernels are not interrupted.
constexpr std::uint64_t kMaxProofMacs = std::uint64_t{1} << 36;
// Of what all native forms use of the stored tensors: it is in memory while a bundle is in use.
constexpr std::uint64_t kMaxViewBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kMany = std::uint64_t{1} << 48;  // more than any of these bounds

/// Both are at least 1, and at most kMany, as is the result: no product leaves 64 bits.
std::uint64_t product(std::uint64_t a, std::uint64_t b) { return a > kMany / b ? kMany : a * b; }

std::uint64_t product(std::uint64_t a, std::span<const std::int32_t> extents) {
    for (const std::int32_t extent : extents) a = product(a, static_cast<std::uint64_t>(extent));
    return a;
}

Status check_steps(std::string_view name, const Program& program) {
    std::size_t steps = 0;
    for (const Stage& stage : program.stages) steps += stage.steps.size() + stage.show.runs.size();
    if (steps <= kMaxSteps) return {};
    return invalid_bundle(std::to_string(steps) + " steps in variant " + in_quotes(name) + ", over " +
                          std::to_string(kMaxSteps));
}

using Sizes = std::map<std::string_view, std::int32_t>;

/// Elements of a port in a proof, at most kMany; 0 where they do not follow from its sizes.
std::uint64_t elements_of(const Port& port, const Sizes& sizes) {
    std::uint64_t elements = 1;
    for (const Dimension& dimension : port.dims) {
        const auto size = sizes.find(dimension.symbol);
        if (dimension.extent == 0 && size == sizes.end()) return 0;
        const std::int64_t extent =
            dimension.extent > 0 ? dimension.extent : std::int64_t{dimension.factor} * size->second;
        elements = product(elements, static_cast<std::uint64_t>(extent));
    }
    return elements;
}

/// Multiply-accumulates of a proof in the networks of integers of a native form, at most kMany.
std::uint64_t macs_of(const NativeForm& form, const Graph& graph, const Sizes& sizes) {
    std::map<std::string_view, std::span<const std::int32_t>> shapes;
    for (const auto& [name, view] : form.tensors) shapes[name] = view.shape;
    std::uint64_t macs = 0;
    for (const Operation& operation : form.operations) {
        const auto* const network = std::get_if<IntegerNetwork>(&operation);
        if (network == nullptr) continue;
        const Port& port = *graph.inputs.find(network->value);
        std::uint64_t inputs = elements_of(port, sizes) / static_cast<std::uint64_t>(port.dims[1].extent);
        for (const IntegerLayer& layer : network->hidden) {
            macs = std::min(macs + product(inputs, shapes[layer.weight]), kMany);
            inputs = product(inputs, layer.stride);
        }
        for (const Head& head : network->heads)
            macs = std::min(macs + product(inputs, shapes[head.weight]), kMany);
    }
    return macs;
}

Status check_proof_sizes(std::string_view name, const Graph& graph) {
    const auto refuse = [&](std::uint64_t count, std::string_view of, std::uint64_t most) {
        return invalid_bundle("graph " + in_quotes(name) + ": a proof vector of " + std::to_string(count) +
                              std::string(of) + " or more, more than " + std::to_string(most));
    };
    for (const Proof& proof : graph.proofs) {
        const Sizes sizes(proof.sizes.begin(), proof.sizes.end());
        std::uint64_t elements = 0;
        for (const auto* const ports : {&graph.inputs, &graph.outputs})
            for (const auto& [port_name, port] : *ports)
                elements = std::min(elements + elements_of(port, sizes), kMany);
        if (elements > kMaxProofElements) return refuse(elements, " elements", kMaxProofElements);
        const std::uint64_t macs = graph.native ? macs_of(*graph.native, graph, sizes) : 0;
        if (macs > kMaxProofMacs) return refuse(macs, " multiply-accumulates", kMaxProofMacs);
    }
    return {};
}

Status check_views(const Manifest& manifest) {
    std::uint64_t bytes = 0;
    for (const auto& [name, graph] : manifest.graphs)
        if (graph.native)
            for (const auto& [tensor, view] : graph.native->tensors)
                bytes = std::min(bytes + product(bytes_of(view.dtype), view.shape), kMany);
    if (bytes <= kMaxViewBytes) return {};
    return invalid_bundle("its native forms use " + std::to_string(bytes) +
                          " bytes of weights or more, more than " + std::to_string(kMaxViewBytes));
}

Status check_claims(const Manifest& manifest) {
    std::set<std::string_view> files;
    for (const auto& [name, graph] : manifest.graphs)
        if (graph.onnx && !files.insert(graph.onnx->file).second)
            return invalid_bundle("two of its graphs are the file " + std::string(graph.onnx->file));
    for (const auto& [name, variant] : manifest.variants)
        NICRT_RETURN_IF_ERROR(check_steps(name, variant.program));
    return check_views(manifest);
}

/// Whether the batch is in front, or nowhere.
bool has_batch_in_front(const Port& port) {
    for (std::size_t i = 0; i < port.dims.size(); ++i) {
        const Dimension& dimension = port.dims[i];
        if (dimension.extent == 0 && dimension.symbol == kBatch && (i > 0 || dimension.spelled != kBatch))
            return false;
    }
    return true;
}

Status check_port(std::string_view name, const Port& port, std::string_view graph) {
    const auto refuse = [&](const std::string& what) {
        return invalid_bundle("port " + in_quotes(name) + " of graph " + in_quotes(graph) + what);
    };
    if (!has_batch_in_front(port)) return refuse(" has its batch 'n' elsewhere than in front");
    if (port.range && (!is_integer(port.dtype) || (*port.range)[0] > (*port.range)[1]))
        return refuse(" has a range of nothing, or of floats");
    return {};
}

Status check_proof_names(std::string_view name, const Graph& graph) {
    std::set<std::string_view> symbols;
    for (const auto& [port_name, port] : graph.inputs)
        for (const Dimension& dimension : port.dims)
            if (dimension.extent == 0) symbols.insert(dimension.symbol);
    for (const Proof& proof : graph.proofs) {
        std::set<std::string_view> named;
        for (const auto& [symbol, size] : proof.sizes) named.insert(symbol);
        if (named != symbols)
            return invalid_bundle("a proof vector of graph " + in_quotes(name) + " does not name its sizes");
    }
    return {};
}

Status check_exact(std::string_view name, const Graph& graph) {
    if (graph.encoder || graph.proofs.empty())
        return invalid_bundle("exact graph " + in_quotes(name) +
                              " is for the encoder only or has no proof vectors");
    for (const auto& [port_name, port] : graph.inputs)
        if (!is_integer(port.dtype) || !port.range)
            return invalid_bundle("input " + in_quotes(port_name) + " of exact graph " + in_quotes(name) +
                                  " needs an integer type and a range");
    return {};
}

using Parameters = std::map<std::string_view, const Parameter*>;

bool is_allowed(const Setting& setting, const Parameter& p) {
    const auto within = [&](std::int32_t value) { return p.min <= value && value <= p.max; };
    return !p.is_sizes() && setting.values.size() == static_cast<std::size_t>(p.length.value_or(1)) &&
           std::all_of(setting.values.begin(), setting.values.end(), within);
}

Status check_point(const QualityPoint& point, const Parameters& parameters) {
    for (const auto& [key, setting] : point.parameters) {
        const auto known = parameters.find(key);
        if (known == parameters.end() || !is_allowed(setting, *known->second))
            return invalid_bundle("quality " + json::text_of(point.quality) + " sets " + in_quotes(key) +
                                  " to what its program does not allow");
    }
    return {};
}

Status check_quality(const Manifest& manifest) {
    std::map<std::string_view, Parameters> parameters;
    for (const auto& [name, variant] : manifest.variants)
        for (const Parameter& p : variant.program.parameters) parameters[name][p.name] = &p;
    const QualityPoint* before = nullptr;
    for (const QualityPoint& point : manifest.quality) {
        if (before != nullptr && before->quality >= point.quality)
            return invalid_bundle("its quality points do not rise");
        before = &point;
        if (manifest.variants.find(point.variant) == nullptr)
            return invalid_bundle("quality " + json::text_of(point.quality) + " names variant " +
                                  in_quotes(point.variant) + ", which is not there");
        NICRT_RETURN_IF_ERROR(check_point(point, parameters[point.variant]));
    }
    return {};
}

}  // namespace

Status invalid_bundle(const std::string& what) {
    return {Code::unsupported, "the bundle is not valid: " + what};
}

std::optional<Spatial> spatial_axes(const Port& port) {
    Spatial spatial;
    std::size_t found = 0;
    std::string_view factor;
    for (std::size_t axis = 0; axis < port.dims.size(); ++axis) {
        const Dimension& dimension = port.dims[axis];
        if (dimension.extent != 0 || dimension.spelled == kBatch) continue;
        if (found == 2 || axis > UINT8_MAX || dimension.symbol != (found == 0 ? "h" : "w"))
            return std::nullopt;
        if (found == 1 && dimension.factor_text() != factor) return std::nullopt;
        factor = dimension.factor_text();
        spatial.axes[found++] = static_cast<std::uint8_t>(axis);
        spatial.factor = dimension.factor;
    }
    if (found != 2) return std::nullopt;
    return spatial;
}

Status check_graph(std::string_view name, const Graph& graph) {
    if (graph.inputs.size() == 0 || graph.outputs.size() == 0)
        return invalid_bundle("graph " + in_quotes(name) + " has no inputs or no outputs");
    if (!graph.onnx && !graph.native)
        return invalid_bundle("graph " + in_quotes(name) + " has neither an ONNX nor a native form");
    if (graph.native) NICRT_RETURN_IF_ERROR(check_native(name, graph));
    for (const auto* const ports : {&graph.inputs, &graph.outputs})
        for (const auto& [port_name, port] : *ports) NICRT_RETURN_IF_ERROR(check_port(port_name, port, name));
    const auto spatial = [](const auto& named) { return spatial_axes(named.second).has_value(); };
    if (graph.halo && !std::all_of(graph.outputs.begin(), graph.outputs.end(), spatial))
        return invalid_bundle("graph " + in_quotes(name) +
                              " gives a halo, but not all its outputs have rows and columns h and w");
    NICRT_RETURN_IF_ERROR(check_proof_names(name, graph));
    if (graph.exact) NICRT_RETURN_IF_ERROR(check_exact(name, graph));
    return check_proof_sizes(name, graph);
}

Status check_manifest(const Manifest& manifest, const TableGroups& groups) {
    for (const auto& [name, graph] : manifest.graphs) NICRT_RETURN_IF_ERROR(check_graph(name, graph));
    NICRT_RETURN_IF_ERROR(check_claims(manifest));
    if (manifest.quality.empty()) return invalid_bundle("it has no quality points");
    const auto has_tensors = [](const auto& named) {
        return named.second.native && named.second.native->tensors.size() > 0;
    };
    if (!manifest.weights && std::any_of(manifest.graphs.begin(), manifest.graphs.end(), has_tensors))
        return invalid_bundle("its native forms have tensors, but no file of weights");
    NICRT_RETURN_IF_ERROR(check_programs(manifest, groups));
    return check_quality(manifest);
}

}  // namespace nicrt::bundle

#include "program/shapes.hpp"

#include <map>

#include "bundle/check.hpp"

namespace nicrt::program {

using bundle::in_quotes;

namespace {

Status misfit(const PreparedGraph& graph, const PreparedPort& port, bundle::Element dtype,
              std::span<const std::int64_t> shape) {
    std::string dims;
    for (const bundle::Dimension& dimension : port.port->dims) {
        if (!dims.empty()) dims += ", ";
        if (dimension.symbol.empty()) dims += std::to_string(dimension.extent);
        else dims += dimension.spelled;
    }
    return unsupported("graph " + in_quotes(graph.name) + ": port " + in_quotes(port.name) + " is " +
                       std::string(bundle::name_of(port.port->dtype)) + " [" + dims + "], its array " +
                       text_of(dtype, shape));
}

}  // namespace

bool PreparedPort::is_batched() const {
    return !port->dims.empty() && port->dims.front().spelled == bundle::kBatch;
}

PreparedGraph::PreparedGraph(std::string_view of_name, const bundle::Graph& of) : name(of_name), graph(&of) {
    std::map<std::string_view, std::uint32_t> numbers;
    const auto prepare = [&](const bundle::Named<bundle::Port>& ports, std::vector<PreparedPort>& out) {
        for (const auto& [port_name, port] : ports) {
            PreparedPort& prepared =
                out.emplace_back(PreparedPort{port_name, &port, {}, bundle::spatial_axes(port)});
            for (const bundle::Dimension& dimension : port.dims) {
                if (dimension.symbol.empty()) {
                    prepared.symbols.push_back(PreparedPort::kNumber);
                    continue;
                }
                const auto [found, is_new] =
                    numbers.emplace(dimension.symbol, static_cast<std::uint32_t>(symbols.size()));
                if (is_new) symbols.push_back(dimension.symbol);
                prepared.symbols.push_back(found->second);
            }
        }
    };
    prepare(of.inputs, inputs);
    input_symbols = symbols.size();
    prepare(of.outputs, outputs);
}

Status too_large(const PreparedGraph& graph) {
    return {Code::limit, "graph " + in_quotes(graph.name) + " makes a tensor that no machine holds"};
}

Status bind_port(const PreparedGraph& graph, const PreparedPort& port, bundle::Element dtype,
                 std::span<const std::int64_t> shape, Extents& extents) {
    bool fits = dtype == port.port->dtype && shape.size() == port.symbols.size();
    for (std::size_t i = 0; fits && i < shape.size(); ++i) {
        const bundle::Dimension& dimension = port.port->dims[i];
        if (port.symbols[i] == PreparedPort::kNumber) {
            fits = shape[i] == dimension.extent;
            continue;
        }
        std::int64_t& known = extents[port.symbols[i]];
        fits =
            shape[i] % dimension.factor == 0 && (known == kUnknown || known == shape[i] / dimension.factor);
        if (fits) known = shape[i] / dimension.factor;
    }
    return fits ? Status() : misfit(graph, port, dtype, shape);
}

Status shape_of(const PreparedGraph& graph, const PreparedPort& port, const Extents& extents, Shape& out) {
    out.clear();
    for (std::size_t i = 0; i < port.symbols.size(); ++i) {
        const bundle::Dimension& dimension = port.port->dims[i];
        if (port.symbols[i] == PreparedPort::kNumber) {
            out.push_back(dimension.extent);
            continue;
        }
        const std::int64_t extent = extents[port.symbols[i]];
        if (extent < 1)
            return unsupported("graph " + in_quotes(graph.name) + ": nothing says how large " +
                               in_quotes(dimension.symbol) + " of port " + in_quotes(port.name) + " is");
        if (extent > static_cast<std::int64_t>(kMaxTensorBytes) / dimension.factor) return too_large(graph);
        out.push_back(extent * dimension.factor);
    }
    return bytes_of(port.port->dtype, out) > kMaxTensorBytes ? too_large(graph) : Status();
}

std::uint64_t bytes_of(bundle::Element dtype, std::span<const std::int64_t> shape) {
    std::uint64_t bytes = bundle::bytes_of(dtype);
    for (const std::int64_t extent : shape) {
        if (extent != 0 && bytes > UINT64_MAX / static_cast<std::uint64_t>(extent)) return UINT64_MAX;
        bytes *= static_cast<std::uint64_t>(extent);
    }
    return bytes;
}

std::string text_of(bundle::Element dtype, std::span<const std::int64_t> shape) {
    std::string text = std::string(bundle::name_of(dtype)) + " [";
    for (const std::int64_t extent : shape) {
        if (text.back() != '[') text += ", ";
        text += std::to_string(extent);
    }
    return text + "]";
}

Status unsupported(std::string what) { return {Code::unsupported, std::move(what)}; }

}  // namespace nicrt::program

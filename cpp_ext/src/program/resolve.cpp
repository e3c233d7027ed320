#include "program/resolve.hpp"

#include <string>

#include "bundle/check.hpp"
#include "bundle/names.hpp"

namespace nicrt::program {
namespace {

Status not_there(std::string_view what, std::string_view name) {
    return unsupported(std::string("the bundle has no ").append(what) + " " + bundle::in_quotes(name));
}

}  // namespace

std::string_view graph_at(const bundle::Run& run, std::int32_t effort) {
    std::string_view name = run.graph;
    std::int32_t best = 0;
    for (const auto& [level, graph] : run.effort) {  // a level is one digit, 1 .. 9
        const std::int32_t number = level.empty() ? 0 : level.front() - '0';
        if (number > effort || number <= best) continue;
        best = number;
        name = graph;
    }
    return name;
}

Resolver::Resolver(const bundle::Manifest& manifest, const bundle::Program& program) {
    for (const auto& [name, graph] : manifest.graphs) graphs_.emplace(name, &graph);
    for (const bundle::Parameter& parameter : program.parameters)
        parameters_.emplace(parameter.name, static_cast<std::uint32_t>(parameters_.size()));
}

Status Resolver::run(const bundle::Run& run, std::int32_t effort, const PreparedRun*& out) {
    const auto [found, is_new] = runs_.try_emplace(&run);
    if (is_new) NICRT_RETURN_IF_ERROR(prepare(run, graph_at(run, effort), found->second));
    out = &found->second;
    return {};
}

Status Resolver::prepare(const bundle::Run& run, std::string_view name, PreparedRun& out) {
    NICRT_RETURN_IF_ERROR(graph(name, out.graph));
    std::unordered_map<std::string_view, std::string_view> sources;
    for (const auto& [port, source_name] : run.inputs) sources.emplace(port, source_name);
    for (const PreparedPort& port : out.graph->inputs) {
        const auto found = sources.find(port.name);
        if (found == sources.end()) return not_there("source for the port", port.name);
        PreparedSource& prepared = out.inputs.emplace_back();
        prepared.port = &port;
        NICRT_RETURN_IF_ERROR(source(found->second, prepared));
    }
    std::unordered_map<std::string_view, const PreparedPort*> ports;
    for (const PreparedPort& port : out.graph->outputs) ports.emplace(port.name, &port);
    for (const auto& [port, tensor] : run.outputs) {
        const auto found = ports.find(port);
        if (found == ports.end()) return not_there("output port", port);
        out.outputs.emplace_back(found->second, tensor);
    }
    return {};
}

Status Resolver::graph(std::string_view name, const PreparedGraph*& out) {
    const auto known = prepared_.find(name);
    if (known != prepared_.end()) {
        out = &known->second;
        return {};
    }
    const auto found = graphs_.find(name);
    if (found == graphs_.end()) return not_there("graph", name);
    out = &prepared_.try_emplace(name, found->first, *found->second).first->second;
    return {};
}

Status Resolver::source(std::string_view name, PreparedSource& out) const {
    if (bundle::is_parameter(name)) {
        const bundle::ParameterSource found(name);
        out.kind = Source::Kind::parameter;
        out.of_round = found.of_round;
        return parameter(found.name, out.parameter);
    }
    if (name == bundle::kPicture) out.kind = Source::Kind::picture;
    else if (name == bundle::kSize) out.kind = Source::Kind::size;
    else if (name == bundle::kRows) out.kind = Source::Kind::rows;
    else if (name == bundle::kColumns) out.kind = Source::Kind::columns;
    else out.tensor = name;
    return {};
}

Status Resolver::parameter(std::string_view name, std::uint32_t& out) const {
    const auto found = parameters_.find(name);
    if (found == parameters_.end()) return not_there("parameter", name);
    out = found->second;
    return {};
}

}  // namespace nicrt::program

// What the steps of a program name, looked up: the only place that reads `$p` and `@x`.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "nicrt/manifest.hpp"
#include "nicrt/plan.hpp"
#include "program/shapes.hpp"

namespace nicrt::program {

/// Where an input port gets its values.
struct PreparedSource {
    const PreparedPort* port = nullptr;
    Source::Kind kind = Source::Kind::tensor;
    std::string_view tensor;
    std::uint32_t parameter = 0;
    bool of_round = false;
};

/// A graph step whose names have been looked up; the same in every round.
struct PreparedRun {
    const PreparedGraph* graph = nullptr;  ///< of the asked effort
    std::vector<PreparedSource> inputs;    ///< in the order of the graph's ports
    std::vector<std::pair<const PreparedPort*, std::string_view>> outputs;
};

/// The graph that a step runs at an encoder's effort.
[[nodiscard]] std::string_view graph_at(const bundle::Run& run, std::int32_t effort);

/// Looks every step and every graph up once, so that many rounds of large steps cost no more than their size.
class Resolver {
public:
    Resolver(const bundle::Manifest& manifest, const bundle::Program& program);

    /// unsupported: the step names what is not there.
    Status run(const bundle::Run& run, std::int32_t effort, const PreparedRun*& out);

    /// The place of a parameter among the program's.
    Status parameter(std::string_view name, std::uint32_t& out) const;

private:
    Status graph(std::string_view name, const PreparedGraph*& out);
    Status source(std::string_view name, PreparedSource& out) const;
    Status prepare(const bundle::Run& run, std::string_view name, PreparedRun& out);

    std::unordered_map<std::string_view, const bundle::Graph*> graphs_;
    std::unordered_map<std::string_view, std::uint32_t> parameters_;
    std::unordered_map<std::string_view, PreparedGraph> prepared_;
    std::unordered_map<const bundle::Run*, PreparedRun> runs_;
};

}  // namespace nicrt::program

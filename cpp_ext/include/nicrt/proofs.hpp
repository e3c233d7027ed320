// Proofs of exact graphs (docs/BUNDLE.md, section 10): inputs that follow from a seed, and the hash of the
// integers that every backend has to give for them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nicrt/engine.hpp"

namespace nicrt::engine {

/// Extents of a port where its symbols have these sizes. invalid_argument: a symbol without one.
Status shape_of(const bundle::Port& port, const bundle::Named<std::int32_t>& sizes,
                std::vector<std::int64_t>& out);

/// Inputs of an exact graph for one of its proofs, in the order of its ports.
Status proof_inputs(const bundle::Graph& graph, const bundle::Proof& proof, Budget* budget,
                    std::vector<Named>& out);

/// Hex SHA-256 over the integer outputs in the order of the graph's ports, as int32. invalid_argument: one is
/// missing, or of another type than its port's.
Status outputs_sha256(const bundle::Graph& graph, std::span<const Named> outputs, std::string& out);

/// Runs an exact graph's proofs. unsupported: it does not give the integers that it should, or fails; limit
/// and cancelled as `work` says.
Status prove(const bundle::Graph& graph, const Executable& executable, const Work& work);

/// What stands for the proofs of a graph on a backend: another key where the graph, its proofs or what
/// computes it differ.
[[nodiscard]] std::string proof_key(const bundle::Bundle& bundle, std::string_view graph,
                                    std::string_view identity);

}  // namespace nicrt::engine

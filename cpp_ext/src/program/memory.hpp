// Memory that running a plan takes.
#pragma once

#include "nicrt/plan.hpp"

namespace nicrt::program {

/// Bytes per pixel that a graph needs besides its inputs and outputs, as the request or else the manifest
/// says.
[[nodiscard]] double workspace_of(const Request& request, std::string_view name, const bundle::Graph& graph);

/// An estimate of the most that running the plan holds at once: the picture, the tensors that are alive, what
/// a call gets and gives, and the workspaces of all graphs so far, since a backend keeps a graph's memory for
/// its next run.
[[nodiscard]] std::uint64_t memory_of(const Request& request, const Plan& plan);

}  // namespace nicrt::program

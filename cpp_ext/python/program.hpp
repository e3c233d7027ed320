// Plans and parameters between Python and the planner.
#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include "bindings.hpp"
#include "convert.hpp"
#include "nicrt/plan.hpp"

namespace nicrt::python {

using Size = std::pair<std::int32_t, std::int32_t>;  ///< height, width
using Edges = std::array<std::int32_t, 4>;           ///< top, left, bottom, right

/// A plan with what it is a view of.
struct Owned {
    std::shared_ptr<const bundle::Bundle> bundle;
    const bundle::Program* program = nullptr;
    std::shared_ptr<const program::Plan> plan;
};
using OwnedPtr = std::shared_ptr<const Owned>;

/// nicrt._core.Plan
struct PyPlan {
    OwnedPtr owned;
};

/// Raises ValueError where the bundle has no such variant.
[[nodiscard]] const bundle::Program& program_of(const PyBundle& bundle, std::string_view variant);

/// In the program's order. Raises ValueError for other names than its parameters', and for values beyond 32
/// bits.
[[nodiscard]] program::Values values_of(const bundle::Program& program, const nb::dict& by_name);
[[nodiscard]] nb::dict dict_of(const bundle::Program& program, const program::Values& values);

}  // namespace nicrt::python

// Rules of a manifest that its fields alone cannot say.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "bundle/tables.hpp"
#include "nicrt/manifest.hpp"
#include "nicrt/status.hpp"
#include "shown.hpp"

namespace nicrt::bundle {

constexpr std::string_view kBatch = "n";  ///< the symbol of the pictures of a batch

/// Of ports: a type of integers.
[[nodiscard]] constexpr bool is_integer(Element dtype) {
    return dtype == Element::int32 || dtype == Element::int64 || dtype == Element::uint8 ||
           dtype == Element::uint16;
}

/// `unsupported`: "the bundle is not valid: WHAT".
[[nodiscard]] Status invalid_bundle(const std::string& what);

/// 'NAME', as messages show it.
[[nodiscard]] inline std::string in_quotes(std::string_view name) {
    std::string text(1,
                     '\'');  // put together piece by piece: GCC 12 warns of a sum that begins with a literal
    text += shown(name);
    text += '\'';
    return text;
}

/// Largest magnitude of an integer from lowest to highest.
[[nodiscard]] inline std::int64_t reach_of(const Pair& range) {
    return std::max(std::abs(std::int64_t{range[0]}), std::abs(std::int64_t{range[1]}));
}

/// What is wrong with a rule that makes indices `name` of tables; "" where nothing is. minus: reach of the
/// parameter that is taken away. scales: places of its table of scales, where it has one.
[[nodiscard]] std::string fault_of(const IndexRule& rule, std::string_view name, std::int64_t minus,
                                   std::int64_t scales);

/// Names, types, channels and sizes of a graph's native form fit, and give its ports.
Status check_native(std::string_view name, const Graph& graph);

/// Rows and columns of a port, and the factor of its dimensions ("4h", "4w": 4).
struct Spatial {
    std::array<std::uint8_t, 2> axes{};
    std::int32_t factor = 1;
};

/// Where the port's only symbols, besides the batch, are h and w, in this order and with one factor.
[[nodiscard]] std::optional<Spatial> spatial_axes(const Port& port);

/// All of a graph's entry: ports, native form, halo, proofs and what they would cost.
Status check_graph(std::string_view name, const Graph& graph);

/// What the steps of all programs take is there, of its type, and no table index hangs on a float.
Status check_programs(const Manifest& manifest, const TableGroups& groups);

/// All of a manifest: every graph and program, its claims and its quality points.
Status check_manifest(const Manifest& manifest, const TableGroups& groups);

}  // namespace nicrt::bundle

// Rules of a manifest that its fields alone cannot say.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "bundle/tables.hpp"
#include "nicrt/manifest.hpp"
#include "nicrt/status.hpp"

namespace nicrt::bundle {

constexpr std::string_view kBatch = "n";  ///< the symbol of the pictures of a batch

/// Of ports: a type of integers.
[[nodiscard]] constexpr bool is_integer(Element dtype) {
    return dtype == Element::int32 || dtype == Element::int64 || dtype == Element::uint8 ||
           dtype == Element::uint16;
}

/// `unsupported`: "the bundle is not valid: WHAT".
[[nodiscard]] Status invalid_bundle(const std::string& what);

/// 'NAME'
[[nodiscard]] inline std::string in_quotes(std::string_view name) {
    std::string text(1,
                     '\'');  // put together piece by piece: GCC 12 warns of a sum that begins with a literal
    text += name;
    text += '\'';
    return text;
}

/// Names, types, channels and sizes of a graph's native form fit, and give its ports.
Status check_native(std::string_view name, const Graph& graph);

/// Ports, halo and proofs of a graph.
Status check_graph(std::string_view name, const Graph& graph);

/// What the program's steps take is there, of its type, and no table index hangs on a float.
Status check_program(const Program& program, const Manifest& manifest, const TableGroups& groups);

/// All of a manifest: every graph and program, its claims and its quality points.
Status check_manifest(const Manifest& manifest, const TableGroups& groups);

}  // namespace nicrt::bundle

// Leaf hashes and ids (docs/BUNDLE.md, section 7).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nicrt/manifest.hpp"

namespace nicrt::bundle {

/// Hex SHA-256 of a tensor; data: its values, little-endian, the last dimension first in memory.
[[nodiscard]] std::string tensor_leaf(Element dtype, std::span<const std::int32_t> shape,
                                      std::span<const std::uint8_t> data);

/// Hex SHA-256 of a file's bytes.
[[nodiscard]] std::string file_leaf(std::span<const std::uint8_t> bytes);

[[nodiscard]] std::string graph_hash(const Graph& graph);

/// By name: hex SHA-256 over what a graph computes: ports, leaves of its forms, and what the program may do
/// with it.
using GraphHashes = std::map<std::string_view, std::string>;
[[nodiscard]] GraphHashes graph_hashes(const Manifest& manifest);

struct Ids {
    std::string symbol, picture;  ///< 16 and 8 hexadecimal digits
};

/// By place in `manifest.variants`. Every name in its programs must have been checked.
[[nodiscard]] std::vector<Ids> ids_of(const Manifest& manifest, const GraphHashes& hashes);

}  // namespace nicrt::bundle

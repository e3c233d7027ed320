// Shapes of tensors, and how the dimension symbols of a graph's ports tie them to each other.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bundle/check.hpp"
#include "nicrt/manifest.hpp"
#include "nicrt/plan.hpp"
#include "nicrt/status.hpp"

namespace nicrt::program {

using Shape = std::vector<std::int64_t>;

/// A port of a graph, its symbols numbered among the graph's.
struct PreparedPort {
    std::string_view name;
    const bundle::Port* port = nullptr;
    std::vector<std::uint32_t> symbols;  ///< by dimension; kNumber where that is a number
    std::optional<bundle::Spatial> spatial;

    static constexpr std::uint32_t kNumber = UINT32_MAX;

    /// Whether its first dimension is the pictures of a batch.
    [[nodiscard]] bool is_batched() const;
};

/// A graph of a manifest, looked up once.
struct PreparedGraph {
    PreparedGraph(std::string_view of_name, const bundle::Graph& of);

    std::string_view name;
    const bundle::Graph* graph;
    std::vector<PreparedPort> inputs, outputs;
    std::vector<std::string_view> symbols;  ///< those of inputs, then those that only outputs have
    std::size_t input_symbols = 0;
};

/// Extents by symbol, kUnknown at first.
using Extents = std::vector<std::int64_t>;
constexpr std::int64_t kUnknown = -1;

/// Sees what a port's array says about symbols. unsupported: it does not fit the port, or what is known.
Status bind_port(const PreparedGraph& graph, const PreparedPort& port, bundle::Element dtype,
                 std::span<const std::int64_t> shape, Extents& extents);

/// The shape of an output. unsupported: an extent is not known, or 0. limit: more than any machine could
/// hold.
Status shape_of(const PreparedGraph& graph, const PreparedPort& port, const Extents& extents, Shape& out);

/// limit: the graph makes more than any machine could hold.
constexpr std::uint64_t kMaxTensorBytes = std::uint64_t{1} << 50;
[[nodiscard]] Status too_large(const PreparedGraph& graph);

/// Bytes of a tensor, UINT64_MAX where that is more than 64 bits count.
[[nodiscard]] std::uint64_t bytes_of(bundle::Element dtype, std::span<const std::int64_t> shape);

/// As in messages: `float32 [1, 3, 64, 64]`.
[[nodiscard]] std::string text_of(bundle::Element dtype, std::span<const std::int64_t> shape);

/// unsupported: the bundle is at fault. WHAT begins a sentence.
[[nodiscard]] Status unsupported(std::string what);

}  // namespace nicrt::program

// The parts of a bundle: their limits (docs/BUNDLE.md, section 1), and what can be said of a graph's forms
// once their contents have been read.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nicrt/bundle.hpp"

namespace nicrt::bundle {

constexpr std::uint64_t kMaxTablesBytes = 64 << 20, kMaxGraphBytes = 512 << 20, kMaxWeightsBytes = 1 << 30;
constexpr std::uint64_t kMaxCardBytes = 1 << 20;

#ifdef NICRT_HAS_FILES
[[nodiscard]] bool is_folder(const std::string& path);
#endif

/// "PLACE: MESSAGE"
[[nodiscard]] inline Status with_place(const std::string& place, const Status& status) {
    return status.ok() ? status : Status{status.code(), place + ": " + status.message()};
}

/// No sum of a network of integers leaves 32 bits, whatever its input within its range. tensors: what the
/// graph's native form uses, in the form's order.
Status check_sums(std::string_view name, const Graph& graph, std::span<const Tensor> tensors);

/// An ONNX model, read, its ports held to the graph's, and written again. unsupported in a build without
/// ONNX.
Status write_again(std::span<const std::uint8_t> model, const Graph& graph, std::vector<std::uint8_t>& out);

}  // namespace nicrt::bundle

// A manifest from its text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "json/json.hpp"
#include "nicrt/manifest.hpp"
#include "nicrt/status.hpp"

namespace nicrt::bundle {

/// unsupported: another format, a feature that is not known, or anything that the fields' rules do not allow.
Status read_manifest(std::string text, Manifest& out);

/// The entry of one graph; its names are views of the document.
Status read_graph(std::string text, Graph& out, std::unique_ptr<const json::Document>& document);

/// The graphs that any program runs when it decodes, each once.
[[nodiscard]] std::vector<std::string_view> decoding_graphs(const Manifest& manifest);

}  // namespace nicrt::bundle

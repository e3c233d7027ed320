// A manifest from its text.
#pragma once

#include <string>

#include "nicrt/manifest.hpp"
#include "nicrt/status.hpp"

namespace nicrt::bundle {

/// unsupported: another format, a feature that is not known, or anything that the fields' rules do not allow.
Status read_manifest(std::string text, Manifest& out);

/// Every file besides the manifest, sorted.
[[nodiscard]] std::vector<std::string_view> files_of(const Manifest& manifest);

}  // namespace nicrt::bundle

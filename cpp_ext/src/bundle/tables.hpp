// The entropy tables of a bundle (docs/BUNDLE.md, section 4).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bundle/safetensors.hpp"
#include "nicrt/codebook.hpp"
#include "nicrt/status.hpp"

namespace nicrt::bundle {

struct TableGroup {
    std::vector<std::int16_t> low;
    std::vector<std::uint8_t> shift;
    std::vector<std::int32_t> size;
    std::vector<std::uint16_t> frequency;
    std::vector<std::int32_t> channel;  ///< [sets, channels], empty for a group that is used by index alone
    std::int32_t sets = 0, channels = 0;
    std::vector<std::uint32_t> start;  ///< of each table, the place of its first frequency

    [[nodiscard]] std::size_t count() const { return size.size(); }

    [[nodiscard]] TableView view(std::size_t t) const {
        return {low[t], shift[t], std::span(frequency).subspan(start[t], static_cast<std::size_t>(size[t]))};
    }

    /// Hex SHA-256 of what the group's streams see, whatever order or surplus the file has.
    [[nodiscard]] std::string leaf() const;
};

using TableGroups = std::map<std::string_view, TableGroup>;

/// The groups of these names. unsupported: arrays that are missing, do not fit each other, or are beyond
/// FORMAT.md's ranges.
Status read_groups(const TensorFile& file, const Named<std::string_view>& names, TableGroups& out);

}  // namespace nicrt::bundle

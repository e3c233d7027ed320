// Codebooks of a bundle's tables, kept for the next stream that needs the same.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "bundle/tables.hpp"
#include "nicrt/bundle.hpp"
#include "nicrt/status.hpp"

namespace nicrt::bundle {

/// Safe to use from many threads. Groups must outlive it.
class Codebooks {
public:
    /// All tables of a group, no channels.
    Status all(const TableGroup& group, std::shared_ptr<const ChannelTables>& out);

    /// As `Bundle::codebook`.
    Status of_channels(const TableGroup& group, std::span<const std::int32_t> sets,
                       std::shared_ptr<const ChannelTables>& out);

private:
    struct Kept {
        const TableGroup* group;
        std::vector<std::int32_t> sets;  ///< empty for all tables
        std::shared_ptr<const ChannelTables> tables;
    };

    [[nodiscard]] std::shared_ptr<const ChannelTables> find(const TableGroup& group,
                                                            std::span<const std::int32_t> sets);
    void keep(const TableGroup& group, std::span<const std::int32_t> sets,
              std::shared_ptr<const ChannelTables> tables);

    std::mutex mutex_;
    std::list<Kept> kept_;  ///< the last used ones first
    std::size_t tables_ = 0;
};

}  // namespace nicrt::bundle

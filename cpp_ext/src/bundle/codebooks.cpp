#include "bundle/codebooks.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace nicrt::bundle {
namespace {

/// Of all codebooks that are kept: a file may ask for any mixture of sets. Each takes some 20 KiB once all of
/// its forms have been made.
constexpr std::size_t kMaxKeptTables = 4096;

/// A codebook of these tables of a group.
Status build(const TableGroup& group, std::span<const std::size_t> used,
             std::shared_ptr<const Codebook>& out) {
    std::vector<TableView> views;
    for (const std::size_t t : used) views.push_back(group.view(t));
    return Codebook::build(views, out);  // which were checked with the bundle: only their number can be wrong
}

Status check_sets(const TableGroup& group, std::span<const std::int32_t> sets) {
    if (group.channel.empty()) return invalid_argument("the tables have no channel map");
    if (sets.size() != 1 && sets.size() != static_cast<std::size_t>(group.channels))
        return invalid_argument(std::to_string(sets.size()) + " table sets for " +
                                std::to_string(group.channels) + " channels");
    for (const std::int32_t set : sets)
        if (set < 0 || set >= group.sets)
            return invalid_argument("table set " + std::to_string(set) + ", of " +
                                    std::to_string(group.sets));
    return {};
}

}  // namespace

Status Codebooks::all(const TableGroup& group, std::shared_ptr<const ChannelTables>& out) {
    if ((out = find(group, {})) != nullptr) return {};
    std::vector<std::size_t> used(group.count());
    for (std::size_t t = 0; t < used.size(); ++t) used[t] = t;
    auto tables = std::make_shared<ChannelTables>();
    NICRT_RETURN_IF_ERROR(build(group, used, tables->codebook));
    keep(group, {}, tables);
    out = std::move(tables);
    return {};
}

Status Codebooks::of_channels(const TableGroup& group, std::span<const std::int32_t> sets,
                              std::shared_ptr<const ChannelTables>& out) {
    NICRT_RETURN_IF_ERROR(check_sets(group, sets));
    if ((out = find(group, sets)) != nullptr) return {};
    const auto channels = static_cast<std::size_t>(group.channels);
    std::vector<std::size_t> of_channel(channels);
    for (std::size_t c = 0; c < channels; ++c) {
        const auto set = static_cast<std::size_t>(sets[sets.size() == 1 ? 0 : c]);
        of_channel[c] = static_cast<std::size_t>(group.channel[set * channels + c]);
    }
    std::vector<std::size_t> used = of_channel;
    std::sort(used.begin(), used.end());
    used.erase(std::unique(used.begin(), used.end()), used.end());
    if (used.size() > kMaxTables)
        return {Code::unsupported, std::to_string(used.size()) + " tables in one stream, more than 256"};
    auto tables = std::make_shared<ChannelTables>();
    NICRT_RETURN_IF_ERROR(build(group, used, tables->codebook));
    for (const std::size_t t : of_channel) {
        const auto place = std::lower_bound(used.begin(), used.end(), t) - used.begin();
        tables->channels.push_back(static_cast<std::uint8_t>(place));
    }
    keep(group, sets, tables);
    out = std::move(tables);
    return {};
}

std::shared_ptr<const ChannelTables> Codebooks::find(const TableGroup& group,
                                                     std::span<const std::int32_t> sets) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) {
        return kept.group == &group &&
               std::equal(kept.sets.begin(), kept.sets.end(), sets.begin(), sets.end());
    });
    if (found == kept_.end()) return nullptr;
    kept_.splice(kept_.begin(), kept_, found);
    return found->tables;
}

void Codebooks::keep(const TableGroup& group, std::span<const std::int32_t> sets,
                     std::shared_ptr<const ChannelTables> tables) {
    const std::lock_guard lock(mutex_);
    tables_ += tables->codebook->size();
    kept_.push_front({&group, {sets.begin(), sets.end()}, std::move(tables)});
    while (tables_ > kMaxKeptTables && kept_.size() > 1) {
        tables_ -= kept_.back().tables->codebook->size();
        kept_.pop_back();
    }
}

}  // namespace nicrt::bundle

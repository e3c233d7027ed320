#include "bundle/tables.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "bundle/check.hpp"
#include "nicrt/codebook.hpp"
#include "sha256.hpp"

namespace nicrt::bundle {
namespace {

constexpr int kMinQuotient = -127, kQuotients = 128, kMaxShift = 12;  // FORMAT.md, section 4
constexpr std::size_t kMaxChannelPlaces = 1 << 18;  // of all groups: each has a hash go over its table
constexpr std::int32_t kMinSize = 2, kMaxSize = 256;

Status refuse(std::string_view group, const std::string& what) {
    return {Code::unsupported, "table group " + in_quotes(group) + ": " + what};
}

template <class T>
constexpr Element kElementOf = Element::float32;
template <>
constexpr Element kElementOf<std::int16_t> = Element::int16;
template <>
constexpr Element kElementOf<std::uint8_t> = Element::uint8;
template <>
constexpr Element kElementOf<std::int32_t> = Element::int32;
template <>
constexpr Element kElementOf<std::uint16_t> = Element::uint16;

std::string key_of(std::string_view group, std::string_view key) {
    return std::string(group) + "." + std::string(key);
}

template <class T>
Status read_array(const TensorFile& file, std::string_view group, std::string_view key,
                  std::size_t dimensions, std::vector<T>& out) {
    const Stored* const stored = file.find(key_of(group, key));
    if (stored == nullptr || stored->dtype != kElementOf<T> || stored->shape.size() != dimensions)
        return refuse(group, "array " + in_quotes(key) + " is missing or of another type");
    return file.read(*stored, out);
}

Status check_tables(std::string_view name, const TableGroup& group) {
    for (std::size_t t = 0; t < group.count(); ++t) {
        const auto table = group.view(t).frequencies;
        if (std::find(table.begin(), table.end(), 0) != table.end() ||
            std::accumulate(table.begin(), table.end(), 0U) != kProbabilityTotal)
            return refuse(name,
                          "frequencies that are 0, or do not sum to " + std::to_string(kProbabilityTotal));
        if (group.low[t] < kMinQuotient || group.low[t] > kQuotients - (group.size[t] - 1) ||
            group.shift[t] > kMaxShift)
            return refuse(name, "quotients or raw bits beyond what a table may have");
    }
    return {};
}

Status find_starts(std::string_view name, TableGroup& group) {
    if (group.low.size() != group.count() || group.shift.size() != group.count() || group.count() == 0)
        return refuse(name, "its arrays differ in length");
    std::uint64_t sum = 0;
    for (const std::int32_t size : group.size) {
        if (size < kMinSize || size > kMaxSize) return refuse(name, "its sizes do not match its frequencies");
        group.start.push_back(static_cast<std::uint32_t>(sum));  // a file of tables has at most 2^26 bytes
        sum += static_cast<std::uint64_t>(size);
    }
    return sum == group.frequency.size() ? Status{} : refuse(name, "its sizes do not match its frequencies");
}

Status read_channels(const TensorFile& file, std::string_view name, TableGroup& group) {
    const Stored* const stored = file.find(key_of(name, "channel"));
    if (stored == nullptr) return {};
    NICRT_RETURN_IF_ERROR(read_array(file, name, "channel", 2, group.channel));
    const auto beyond = [&](std::int32_t table) {
        return table < 0 || static_cast<std::size_t>(table) >= group.count();
    };
    if (group.channel.empty() || std::any_of(group.channel.begin(), group.channel.end(), beyond))
        return refuse(name, "a channel names a table that is not there");
    group.sets = static_cast<std::int32_t>(stored->shape[0]);  // no more than the file has elements
    group.channels = static_cast<std::int32_t>(stored->shape[1]);
    return {};
}

}  // namespace

std::string TableGroup::leaf() const {
    Sha256 sha;
    const std::string shape =
        channel.empty() ? std::to_string(count()) : std::to_string(sets) + "x" + std::to_string(channels);
    sha.update("nicrt tables 2\n" + shape + "\n");
    const auto add = [&](std::size_t t) {
        std::array<std::uint8_t, 6> head;
        std::memcpy(head.data(), &low[t], 2);
        const std::array<std::uint16_t, 2> numbers{shift[t], static_cast<std::uint16_t>(size[t])};
        std::memcpy(head.data() + 2, numbers.data(), 4);
        sha.update(head);
        const auto frequencies = view(t).frequencies;
        sha.update({reinterpret_cast<const std::uint8_t*>(frequencies.data()), frequencies.size_bytes()});
    };
    if (channel.empty())
        for (std::size_t t = 0; t < count(); ++t) add(t);
    for (const std::int32_t t : channel) add(static_cast<std::size_t>(t));
    return sha.hex_digest();
}

Status read_groups(const TensorFile& file, const Named<std::string_view>& names, TableGroups& out) {
    std::size_t places = 0;
    for (const auto& [name, leaf] : names) {
        TableGroup& group = out[name];
        NICRT_RETURN_IF_ERROR(read_array(file, name, "low", 1, group.low));
        NICRT_RETURN_IF_ERROR(read_array(file, name, "shift", 1, group.shift));
        NICRT_RETURN_IF_ERROR(read_array(file, name, "size", 1, group.size));
        NICRT_RETURN_IF_ERROR(read_array(file, name, "frequency", 1, group.frequency));
        NICRT_RETURN_IF_ERROR(find_starts(name, group));
        NICRT_RETURN_IF_ERROR(read_channels(file, name, group));
        NICRT_RETURN_IF_ERROR(check_tables(name, group));
        if ((places += group.channel.size()) > kMaxChannelPlaces)
            return refuse(name,
                          "more than " + std::to_string(kMaxChannelPlaces) + " sets times channels, in all");
    }
    return {};
}

}  // namespace nicrt::bundle

#include "tables.hpp"

#include <algorithm>
#include <cstring>

#include "codebook_impl.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {
namespace {

constexpr std::uint32_t kMaxBucketBits = 8;
constexpr std::uint32_t kGoodBucketBits =
    5;  ///< with coarser ones it is better to leave the rows where they are
constexpr std::uint32_t kMinBucketBits = 1;  ///< fits for any codebook into the smallest shared memory

struct Buckets {
    std::uint32_t bits = 0;
    std::vector<SlotBucket> buckets;
    std::vector<std::uint32_t> rows;

    [[nodiscard]] std::size_t bucket_bytes() const { return buckets.size() * sizeof(SlotBucket); }
    [[nodiscard]] std::size_t row_bytes() const {
        return (rows.size() * sizeof(std::uint32_t) + 15) / 16 * 16;
    }
};

/// An entry per slot.
std::vector<std::uint32_t> entries_of(const Codebook::Impl& book, const TableInfo& table) {
    std::vector<std::uint32_t> entries;
    std::uint32_t start = 0;
    for (std::uint32_t id = 0; id <= table.coded; ++id) {
        const std::uint32_t frequency = book.frequencies[table.first + id];
        entries.insert(entries.end(), frequency, frequency << 20 | start << 8 | table.quotient_byte(id));
        start += frequency;
    }
    return entries;
}

Buckets make_buckets(const Codebook::Impl& book, std::uint32_t bits) {
    Buckets made{bits, {}, {}};
    const std::size_t slots = kProbabilityTotal >> bits;
    for (const TableInfo& table : book.tables) {
        const auto entries = entries_of(book, table);
        for (auto slot = entries.begin(); slot != entries.end(); slot += static_cast<std::ptrdiff_t>(slots)) {
            const auto end = slot + static_cast<std::ptrdiff_t>(slots);
            const bool two = std::all_of(
                slot, end, [&](std::uint32_t entry) { return entry == *slot || entry == end[-1]; });
            const auto row = static_cast<std::uint32_t>(made.rows.size() / slots);
            made.buckets.push_back(two ? SlotBucket{*slot, end[-1]} : SlotBucket{row, row});
            if (!two) made.rows.insert(made.rows.end(), slot, end);
        }
    }
    return made;
}

Buckets choose_buckets(const Codebook::Impl& book, std::size_t shared_limit) {
    for (std::uint32_t bits = kMaxBucketBits; bits >= kGoodBucketBits; --bits) {
        if (((book.tables.size() * sizeof(SlotBucket)) << bits) > shared_limit) continue;
        Buckets made = make_buckets(book, bits);
        if (made.bucket_bytes() + made.row_bytes() <= shared_limit) return made;
    }
    std::uint32_t bits = kMaxBucketBits;
    while (bits > kMinBucketBits && ((book.tables.size() * sizeof(SlotBucket)) << bits) > shared_limit)
        --bits;
    return make_buckets(book, bits);
}

}  // namespace

TablesView TablesImage::at(const std::uint8_t* data) const {
    TablesView placed = view;
    placed.buckets = reinterpret_cast<const SlotBucket*>(data);
    placed.rows = reinterpret_cast<const std::uint32_t*>(data + rows_offset);
    placed.ranges = reinterpret_cast<const TableRange*>(data + ranges_offset);
    return placed;
}

TablesImage make_tables(const Codebook& codebook, std::size_t shared_limit) {
    const Codebook::Impl& book = codebook.impl();
    const Buckets made = choose_buckets(book, shared_limit);
    const std::size_t all_bytes = made.bucket_bytes() + made.row_bytes();

    TablesImage image;
    image.view.count = static_cast<std::uint32_t>(book.tables.size());
    image.view.bucket_bits = made.bits;
    image.view.bucket_bytes = static_cast<std::uint32_t>(made.bucket_bytes());
    image.view.shared_bytes =
        static_cast<std::uint32_t>(all_bytes <= shared_limit ? all_bytes : made.bucket_bytes());
    image.rows_offset = made.bucket_bytes();
    image.ranges_offset = all_bytes;
    image.bytes.resize(all_bytes + kMaxTables * sizeof(TableRange));
    std::memcpy(image.bytes.data(), made.buckets.data(), made.bucket_bytes());
    if (!made.rows.empty())
        std::memcpy(image.bytes.data() + image.rows_offset, made.rows.data(),
                    made.rows.size() * sizeof(std::uint32_t));
    for (std::size_t i = 0; i < book.tables.size(); ++i) {
        const QuotientRange& range = book.ranges[i];
        const TableRange out{range.low, range.high, range.shift, 0};
        std::memcpy(image.bytes.data() + image.ranges_offset + i * sizeof out, &out, sizeof out);
        image.view.raw |= range.shift != 0;
    }
    return image;
}

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device

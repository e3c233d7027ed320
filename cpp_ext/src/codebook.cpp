#include "codebook_impl.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "parallel.hpp"

namespace nicrt {
namespace {

constexpr int kMaxShift = 12;
constexpr std::size_t kMaxCoded = 255;

/// What is wrong with the table, or nothing.
std::string fault(const TableView& table) {
    const std::size_t count = table.frequencies.size();
    if (count < 2 || count > kMaxCoded + 1)
        return "has " + std::to_string(count) + " frequencies, not 2 .. 256";
    const int coded = static_cast<int>(count) - 1;
    if (table.low < -127 || table.low > 128 - coded) return "codes quotients outside -127 .. 127";
    if (table.shift > kMaxShift) return "has more than 12 raw bits";
    std::uint32_t sum = 0;
    for (const std::uint16_t frequency : table.frequencies) {
        if (frequency == 0 || frequency >= kProbabilityTotal) return "has a frequency outside 1 .. 4095";
        sum += frequency;
    }
    if (sum != kProbabilityTotal) return "has frequencies that sum to " + std::to_string(sum) + ", not 4096";
    return {};
}

/// Calls visit(id, frequency, start) for every id of the table, the escape's last.
template <class Visit>
void for_each_id(const Codebook::Impl& impl, const TableInfo& table, Visit visit) {
    std::uint32_t start = 0;
    for (std::uint32_t id = 0; id <= table.coded; ++id) {
        const std::uint32_t frequency = impl.frequencies[table.first + id];
        visit(id, frequency, start);
        start += frequency;
    }
}

void fill_lookup(const Codebook::Impl& impl, const TableInfo& table, std::uint32_t* entries) {
    for_each_id(impl, table, [&](std::uint32_t id, std::uint32_t frequency, std::uint32_t start) {
        const std::uint32_t base = frequency << 20 | table.quotient_byte(id);
        for (std::uint32_t offset = 0; offset < frequency; ++offset)
            entries[start + offset] = base | offset << 8;
    });
}

void append_buckets(const Codebook::Impl& impl, const TableInfo& table, SearchForm& form) {
    std::array<std::uint32_t, kProbabilityTotal> entries;
    for_each_id(impl, table, [&](std::uint32_t id, std::uint32_t frequency, std::uint32_t start) {
        std::fill_n(entries.begin() + start, frequency,
                    frequency << 20 | start << 8 | table.quotient_byte(id));
    });
    for (auto slot = entries.cbegin(); slot != entries.cend(); slot += kBucketSlots) {
        const auto end = slot + kBucketSlots;
        const std::uint32_t last = end[-1];
        const bool two = *slot == last || std::all_of(slot, end, [&](std::uint32_t entry) {
            return entry == *slot || entry == last;
        });
        if (two) {
            form.buckets.push_back({*slot, last});
            continue;
        }
        const auto row = static_cast<std::uint32_t>(form.rows.size() / kBucketSlots);
        form.rows.insert(form.rows.end(), slot, end);
        form.buckets.push_back({row, row});
    }
}

void fill_encode(const Codebook::Impl& impl, const TableInfo& table, std::uint32_t* entries) {
    std::uint32_t escape = 0;
    std::array<std::uint32_t, kMaxCoded> coded{};
    for_each_id(impl, table, [&](std::uint32_t id, std::uint32_t frequency, std::uint32_t start) {
        (id == table.coded ? escape : coded[id]) = frequency | start << 16;
    });
    std::fill_n(entries, 256, escape);
    for (std::uint32_t id = 0; id < table.coded; ++id) entries[table.quotient_byte(id)] = coded[id];
}

void add_maps(const TableInfo& table, std::size_t index, Codebook::Impl& impl) {
    ByteMaps& bytes = impl.bytes;
    bytes.shift[index] = static_cast<std::uint8_t>(table.shift);
    bytes.low[index] = static_cast<std::int8_t>(table.low);
    bytes.high[index] = static_cast<std::int8_t>(table.low + static_cast<std::int32_t>(table.coded) - 1);
    impl.ranges[index] = {bytes.low[index], bytes.high[index], bytes.shift[index]};
    if (table.shift == 0) return;
    bytes.first_shift = std::min(bytes.first_shift, static_cast<unsigned>(index));
    const std::size_t high = index / 16, low = index % 16;
    bytes.has_shift[high / 8 * 16 + low] |= static_cast<std::uint8_t>(1u << high % 8);
}

}  // namespace

const std::uint32_t* Codebook::Impl::lookup() const {
    std::call_once(lookup_once_, [this] {
        lookup_.resize(tables.size() * kProbabilityTotal);
        for (std::size_t i = 0; i < tables.size(); ++i)
            fill_lookup(*this, tables[i], &lookup_[i * kProbabilityTotal]);
        lookup_ready_.store(true, std::memory_order_release);
    });
    return lookup_.data();
}

const SearchForm& Codebook::Impl::search() const {
    std::call_once(search_once_, [this] {
        search_.buckets.reserve(tables.size() << kBucketBits);
        for (const TableInfo& table : tables) append_buckets(*this, table, search_);
    });
    return search_;
}

const std::uint32_t* Codebook::Impl::encode() const {
    std::call_once(encode_once_, [this] {
        encode_.resize(tables.size() * 256);
        for (std::size_t i = 0; i < tables.size(); ++i) fill_encode(*this, tables[i], &encode_[i * 256]);
    });
    return encode_.data();
}

Codebook::Codebook() : impl_(std::make_unique<Impl>()) {}
Codebook::~Codebook() = default;

std::size_t Codebook::size() const { return impl_->tables.size(); }

TableView Codebook::table(std::size_t number) const {
    const TableInfo& table = impl_->tables[number];
    return {static_cast<std::int16_t>(table.low), static_cast<std::uint8_t>(table.shift),
            std::span(impl_->frequencies).subspan(table.first, table.coded + std::size_t{1})};
}

Status Codebook::build(std::span<const TableView> tables, std::shared_ptr<const Codebook>& out) {
    return status_of([&]() -> Status {
        if (tables.empty() || tables.size() > kMaxTables)
            return invalid_argument("a codebook has 1 .. 256 tables, not " + std::to_string(tables.size()));
        for (std::size_t i = 0; i < tables.size(); ++i)
            if (const std::string what = fault(tables[i]); !what.empty())
                return invalid_argument("table " + std::to_string(i) + " " + what);

        const std::shared_ptr<Codebook> book(new Codebook);
        Impl& impl = *book->impl_;
        for (std::size_t i = 0; i < tables.size(); ++i) {
            const auto& frequencies = tables[i].frequencies;
            const TableInfo info{tables[i].low, static_cast<std::uint32_t>(frequencies.size() - 1),
                                 tables[i].shift, impl.frequencies.size()};
            impl.frequencies.insert(impl.frequencies.end(), frequencies.begin(), frequencies.end());
            add_maps(info, i, impl);
            impl.tables.push_back(info);
        }
        out = book;
        return {};
    });
}

}  // namespace nicrt

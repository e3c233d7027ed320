// What symbols cost: bits as multiples of 2^-16, by integers alone. So an encoder's choices are the same on
// every processor, with every library of mathematics, and in whatever order costs are added up.
#include <algorithm>
#include <string>
#include <utility>

#include "codebook_impl.hpp"
#include "nicrt/stream.hpp"
#include "parallel.hpp"

namespace nicrt {
namespace {

constexpr unsigned kFractionBits = 16;
constexpr std::uint32_t kEscapeBits = 16;  // of an escape's quotient
constexpr std::int32_t kMaxReach = 32767;

/// log2 of a number from 1 to 4095, times 2^16, rounded.
std::uint32_t log2_of(std::uint32_t number) {
    std::uint32_t whole = 0;
    while (number >> (whole + 1) != 0) ++whole;
    std::uint64_t rest = std::uint64_t{number} << (31 - whole);  // 1 .. 2, times 2^31
    std::uint32_t log = whole;
    for (unsigned bit = 0; bit <= kFractionBits; ++bit) {  // one more than is kept, to round by
        rest = rest * rest >> 31;
        const bool doubled = rest >> 32 != 0;
        log = log << 1 | (doubled ? 1U : 0U);
        if (doubled) rest >>= 1;
    }
    return (log + 1) >> 1;
}

/// The table's entry of `Impl::lengths` for a symbol.
std::uint32_t length_of(const std::uint32_t* lengths, const TableInfo& table, std::int32_t symbol) {
    const std::int64_t id = std::int64_t{symbol >> table.shift} - table.low;
    const bool escaped = id < 0 || id >= std::int64_t{table.coded};
    return lengths[table.quotient_byte(escaped ? table.coded : static_cast<std::uint32_t>(id))];
}

void add_row(const Codebook::Impl& impl, const std::uint8_t* ids, std::size_t id_step,
             const std::int32_t* symbols, std::size_t count, std::uint64_t& bits, std::uint64_t& coded) {
    const std::uint32_t* const lengths = impl.lengths();
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t table = ids[i * id_step];
        if (table >= impl.tables.size()) continue;
        bits += length_of(lengths + table * 256, impl.tables[table], symbols[i]);
        ++coded;
    }
}

}  // namespace

const std::uint32_t* Codebook::Impl::lengths() const {
    std::call_once(lengths_once_, [this] {
        lengths_.resize(tables.size() * 256);
        for (std::size_t i = 0; i < tables.size(); ++i) {
            const TableInfo& table = tables[i];
            const auto length = [&](std::uint32_t id) {
                const std::uint32_t raw = table.shift + (id == table.coded ? kEscapeBits : 0);
                return ((12 + raw) << kFractionBits) - log2_of(frequencies[table.first + id]);
            };
            std::uint32_t* const entries = &lengths_[i * 256];
            std::fill_n(entries, 256, length(table.coded));
            for (std::uint32_t id = 0; id < table.coded; ++id) entries[table.quotient_byte(id)] = length(id);
        }
    });
    return lengths_.data();
}

Status code_lengths(const Codebook& codebook, std::int32_t reach, std::vector<float>& out) {
    return status_of([&]() -> Status {
        if (reach < 0 || reach > kMaxReach)
            return invalid_argument("code lengths of symbols up to " + std::to_string(reach) +
                                    ", not 0 .. 32767");
        const Codebook::Impl& impl = codebook.impl();
        const std::uint32_t* const lengths = impl.lengths();
        std::vector<float> result;
        result.reserve(impl.tables.size() * (2 * static_cast<std::size_t>(reach) + 1));
        for (std::size_t i = 0; i < impl.tables.size(); ++i)
            for (std::int32_t symbol = -reach; symbol <= reach; ++symbol)
                result.push_back(static_cast<float>(length_of(lengths + i * 256, impl.tables[i], symbol)) /
                                 (1 << kFractionBits));
        out = std::move(result);
        return {};
    });
}

Status cost_of_stream(const Codebook& codebook, TableChoice tables, const std::int32_t* symbols,
                      TensorShape shape, StreamCost& out) {
    return status_of([&]() -> Status {
        if (shape.places() == 0) return invalid_argument("a tensor of symbols without places");
        const std::size_t plane = shape.places() / shape.channels;
        std::uint64_t bits = 0, coded = 0;
        for (std::size_t channel = 0; channel < shape.channels; ++channel) {
            const std::uint8_t* const ids = tables.ids + (tables.by_channel ? channel : channel * plane);
            add_row(codebook.impl(), ids, tables.by_channel ? 0 : 1, symbols + channel * plane, plane, bits,
                    coded);
        }
        out = {static_cast<double>(bits) / (1 << kFractionBits), coded};
        return {};
    });
}

}  // namespace nicrt

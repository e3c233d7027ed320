#include "nicrt/segment.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "bytes.hpp"
#include "codebook_impl.hpp"
#include "compiler.hpp"
#include "marks.hpp"
#include "nicrt/crc32c.hpp"
#include "parallel.hpp"
#include "rans_decode.hpp"
#include "segment_impl.hpp"

namespace nicrt {
namespace {

/// Symbols per run of the inner loop: its quotients and table ids stay in the first-level cache until they
/// are finished.
constexpr std::size_t kRun = 2048;
static_assert(kRun % kMaxLanes == 0 && kRun % kMarkRun == 0 && kSymbolsPerLook % kRun == 0);

struct Parts {
    const std::uint8_t* states;
    const std::uint8_t* words;
    const std::uint8_t* raw;  ///< also where the words end
    const std::uint8_t* escapes;
    std::uint32_t escape_count;
};

Status find_parts(std::span<const std::uint8_t> segment, unsigned lanes, std::uint64_t raw_bits,
                  Parts& parts) {
    if (segment.size() < min_segment_size(lanes))
        return corrupt("segment of " + std::to_string(segment.size()) + " bytes is too short for its lanes");
    const std::size_t body = segment.size() - kCrcBytes;
    if (crc32c(segment.first(body)) != load_le<std::uint32_t>(&segment[body]))
        return corrupt("damaged: the checksum of a segment differs");

    const std::uint8_t* const end = segment.data() + body;
    parts.states = read_varint(segment.data(), end, parts.escape_count);
    if (parts.states == nullptr) return corrupt("segment begins with a malformed escape count");
    const auto left = static_cast<std::uint64_t>(end - parts.states);
    const std::uint64_t raw_size = raw_bytes(raw_bits);
    const std::uint64_t fixed = 4 * lanes + raw_size + std::uint64_t{2} * parts.escape_count;
    if (fixed > left || (left - fixed) % 2 != 0)
        return corrupt("sizes of the parts of a segment do not add up");
    parts.words = parts.states + 4 * lanes;
    parts.raw = parts.words + (left - fixed);
    parts.escapes = parts.raw + raw_size;
    if (raw_bits % 8 != 0 && parts.escapes[-1] >> raw_bits % 8 != 0)
        return corrupt("unused raw bits are set");
    return {};
}

/// The coder of one segment, fed run by run.
class Lanes {
public:
    Lanes(const DecodeTables& tables, DecodePath path, Isa isa, unsigned lanes)
        : tables_(tables), path_(path), lanes_(lanes), rounds_(select(path, isa, lanes)) {}

    [[nodiscard]] bool start(const Parts& parts) {
        for (unsigned lane = 0; lane < lanes_; ++lane) {
            states_.state[lane] = load_le<std::uint32_t>(parts.states + 4 * lane);
            if (states_.state[lane] < kStateFloor) return false;
        }
        states_.next = parts.words;
        states_.end = words_end_ = parts.raw;
        return true;
    }

    /// Only the last run may end within a round. False: the words ran out.
    [[nodiscard]] bool decode(const std::uint8_t* table_ids, std::size_t n, std::int16_t* quotients) {
        const std::size_t rounds = n / lanes_;
        std::size_t done = rounds_(tables_, table_ids, rounds, quotients, states_);
        if (done < rounds) {
            if (padded_) return false;
            pad();
            done += rounds_(tables_, table_ids + done * lanes_, rounds - done, quotients + done * lanes_,
                            states_);
            if (done < rounds) return false;
        }
        const std::size_t whole = rounds * lanes_;
        return decode_partial_round(tables_, path_, table_ids + whole, n - whole, quotients + whole, states_);
    }

    /// Whether everything has been taken and every lane is back where the encoder began.
    [[nodiscard]] bool at_end() const {
        return states_.next == words_end_ &&
               std::all_of(states_.state.begin(), states_.state.begin() + lanes_,
                           [](std::uint32_t state) { return state == kStateFloor; });
    }

private:
    static DecodeRounds select(DecodePath path, Isa isa, unsigned lanes) {
        if (isa == Isa::avx512) return decode_rounds_avx512(path, lanes);
        if (isa == Isa::avx2) return decode_rounds_avx2(path, lanes);
        return decode_rounds_scalar(path, lanes);
    }

    /// A round needs `lanes` words to look at. The last ones, fewer than that, move to where as many may
    /// follow them, so that the loop can go on; a round that takes one of the padding leaves `next` behind
    /// words_end_ for good.
    void pad() {
        const auto left = static_cast<std::size_t>(words_end_ - states_.next);
        std::memcpy(padding_.data(), states_.next, left);
        states_.next = padding_.data();
        words_end_ = padding_.data() + left;
        states_.end = words_end_ + 2 * lanes_;
        padded_ = true;
    }

    DecodeTables tables_;
    DecodePath path_;
    unsigned lanes_;
    DecodeRounds rounds_;
    LaneStates states_;
    const std::uint8_t* words_end_ = nullptr;
    bool padded_ = false;
    std::array<std::uint8_t, 2 * 2 * kMaxLanes> padding_{};
};

/// Turns quotient bytes into symbols with the side arrays.
class Finisher {
public:
    Finisher(const Codebook::Impl& book, const MarkLoops& loops, const Parts& parts)
        : book_(book),
          mark_(loops.special),
          raw_(parts.raw),
          escapes_(parts.escapes),
          count_(parts.escape_count) {}

    /// At most kRun symbols.
    [[nodiscard]] bool finish(const std::uint8_t* table_ids, std::size_t n, std::int16_t* symbols) {
        std::array<std::uint64_t, kRun / kMarkRun> marks;
        mark_(book_.bytes, table_ids, symbols, n, marks.data());
        bool good = true;
        for (std::size_t i = 0; i < n; i += kMarkRun)
            for_each_mark(marks[i / kMarkRun],
                          [&](std::size_t j) { good &= finish_one(table_ids[i + j], symbols[i + j]); });
        return good;
    }

    [[nodiscard]] bool at_end() const { return used_ == count_; }

private:
    bool finish_one(std::uint8_t table_id, std::int16_t& symbol) {
        const QuotientRange table = book_.ranges[table_id];
        std::int32_t quotient = symbol;
        bool good = true;
        if (quotient == kEscape) {
            if (used_ == count_) return false;
            quotient = load_le<std::int16_t>(escapes_ + 2 * std::size_t{used_++});
            good = quotient < table.low || quotient > table.high;
        }
        // At most 7 + 12 bits of these four bytes are used; the last raw byte has at least the CRC behind it.
        const std::uint32_t bits = load_le<std::uint32_t>(raw_ + (bit_ >> 3)) >> (bit_ & 7);
        bit_ += table.shift;
        const std::int32_t value =
            quotient * (1 << table.shift) + static_cast<std::int32_t>(bits & ((1u << table.shift) - 1));
        symbol = static_cast<std::int16_t>(value);
        return good && value == symbol;
    }

    const Codebook::Impl& book_;
    decltype(MarkLoops::special) mark_;
    const std::uint8_t* raw_;
    std::uint64_t bit_ = 0;
    const std::uint8_t* escapes_;
    std::uint32_t count_, used_ = 0;
};

/// With vectors the search is as fast as the look-up table until streams outgrow the caches, and with cold
/// caches twice as fast, because its tables are a sixth of the size. One lane by one, the look-up table is a
/// quarter faster once it is hot, which repays the miss on each of its cache lines (200 microseconds for 64
/// tables) from about 2^20 symbols on, and its making (500 microseconds more) from about 2^21.
DecodePath choose_path(const Codebook::Impl& book, std::size_t n) {
    const std::size_t repaid = std::size_t{1} << (book.lookup_ready() ? 20 : 21);
    return n >= repaid ? DecodePath::lookup : DecodePath::search;
}

/// With cold caches a table entry is a miss of some 100 ns that all lanes of a round wait for, and there are
/// thousands; asked for in one go, the buckets of 64 tables come in 5 microseconds, too long for a stream of
/// few symbols.
void prefetch_buckets(const std::vector<Bucket>& buckets, std::size_t n) {
    if (n < 2 * buckets.size()) return;
    for (std::size_t i = 0; i < buckets.size(); i += 64 / sizeof(Bucket)) prefetch(&buckets[i]);
}

DecodeTables prepare_tables(const Codebook::Impl& book, DecodePath path, std::size_t n) {
    DecodeTables tables;
    if (path == DecodePath::lookup) {
        tables.lookup = book.lookup();
    } else {
        const SearchForm& form = book.search();
        prefetch_buckets(form.buckets, n);
        tables.buckets = form.buckets.data();
        tables.rows = form.rows.data();
    }
    return tables;
}

}  // namespace

Status decode_segment(const Codebook& codebook, const std::uint8_t* table_ids, std::size_t n, unsigned lanes,
                      std::span<const std::uint8_t> segment, std::int16_t* symbols, DecodeOptions options) {
    return status_of([&]() -> Status {
        NICRT_RETURN_IF_ERROR(check_arguments(n, lanes, options.isa));
        const Isa isa = resolve_isa(options.isa);
        const Codebook::Impl& book = codebook.impl();
        const MarkLoops marks = mark_loops(isa);
        const TableScan scan = marks.scan(book.bytes, table_ids, n);
        if (scan.largest >= book.tables.size())
            return invalid_argument("table id is not one of the codebook's");

        Parts parts{};
        NICRT_RETURN_IF_ERROR(find_parts(segment, lanes, scan.raw_bits, parts));
        const DecodePath path = options.path == DecodePath::automatic ? choose_path(book, n) : options.path;
        Lanes coder(prepare_tables(book, path, n), path, isa, lanes);
        if (!coder.start(parts)) return corrupt("state of a lane is below 2^16");
        Finisher finisher(book, marks, parts);
        for (std::size_t i = 0; i < n; i += kRun) {
            if (i % kSymbolsPerLook == 0 && options.control != nullptr)
                NICRT_RETURN_IF_ERROR(options.control->check());
            const std::size_t count = std::min(kRun, n - i);
            if (!coder.decode(table_ids + i, count, symbols + i)) return corrupt("segment has too few words");
            if (!finisher.finish(table_ids + i, count, symbols + i))
                return corrupt("escapes are too few, coded by their table, or not 16-bit symbols");
        }
        if (!coder.at_end()) return corrupt("words are left over or a final state is wrong");
        if (!finisher.at_end()) return corrupt("escapes are left over");
        return {};
    });
}

}  // namespace nicrt

#include <algorithm>
#include <array>
#include <string>

#include "bytes.hpp"
#include "nicrt/crc32c.hpp"
#include "parallel.hpp"
#include "rans_encode.hpp"
#include "segment_impl.hpp"

namespace nicrt {
namespace {

constexpr std::size_t kRun =
    2048;  ///< symbols that pass through the loops at a time, all in the first-level cache
static_assert(kRun % kMaxLanes == 0 && kRun % kMarkRun == 0 && kSymbolsPerLook % kRun == 0);

/// Raw bits and escapes, filled from the last symbol to the first.
class SideArrays {
public:
    explicit SideArrays(std::uint64_t raw_bits) : raw_(raw_bytes(raw_bits) + kRawSlack), bit_(raw_bits) {}

    void put(std::int16_t symbol, unsigned shift, bool escaped) {
        if (escaped) escapes_.push_back(static_cast<std::int16_t>(symbol >> shift));
        bit_ -= shift;
        const std::uint32_t bits = static_cast<std::uint32_t>(symbol) & ((1u << shift) - 1);
        std::uint8_t* const place = &raw_[bit_ >> 3];
        store_le(place, load_le<std::uint32_t>(place) | bits << (bit_ & 7));
    }

    [[nodiscard]] std::span<const std::uint8_t> raw() const {
        return std::span(raw_).first(raw_.size() - kRawSlack);
    }
    [[nodiscard]] const std::vector<std::int16_t>& escapes() const { return escapes_; }  ///< last first
    [[nodiscard]] std::vector<std::int16_t>& escapes() { return escapes_; }

private:
    static constexpr std::size_t kRawSlack = 4;  ///< bits are put four bytes at a time

    std::vector<std::uint8_t> raw_;
    std::vector<std::int16_t> escapes_;
    std::uint64_t bit_;  ///< first bit that is filled
};

/// The coder of one segment, fed run by run from the last to the first.
class Encoder {
public:
    Encoder(const Codebook::Impl& book, const EncodeLoops& loops, unsigned lanes, std::uint64_t raw_bits,
            Budget* budget)
        : book_(book),
          entries_(book.encode()),
          loops_(loops),
          lanes_(lanes),
          held_(budget, raw_bytes(raw_bits)),
          side_(raw_bits) {
        states_.fill(kStateFloor);
    }

    /// At most kRun symbols; only the last run of the segment may end within a round.
    void encode(const std::uint8_t* table_ids, const std::int16_t* symbols, std::size_t n) {
        make_room(words_, n);
        make_room(side_.escapes(), n);
        loops_.split(book_, table_ids, symbols, n, quotients_.data(), marks_.data());
        for (std::size_t run = (n + kMarkRun - 1) / kMarkRun; run-- > 0;)
            for_each_mark_down(marks_[run], [&](std::size_t mark) {
                const std::size_t i = run * kMarkRun + mark;
                side_.put(symbols[i], book_.bytes.shift[table_ids[i]],
                          static_cast<std::int8_t>(quotients_[i]) == kEscape);
            });
        const std::size_t rounds = n / lanes_, whole = rounds * lanes_;
        std::uint16_t* const end = buffer_.data() + buffer_.size();
        std::uint16_t* words = encode_partial_round(entries_, table_ids + whole, quotients_.data() + whole,
                                                    n - whole, states_.data(), end);
        words = loops_.rounds(entries_, table_ids, quotients_.data(), rounds, states_.data(), words);
        words_.insert(words_.end(), std::make_reverse_iterator(end), std::make_reverse_iterator(words));
    }

    void append(std::vector<std::uint8_t>& out) const {
        const std::size_t first = out.size();
        const std::vector<std::int16_t>& escapes = side_.escapes();
        append_varint(static_cast<std::uint32_t>(escapes.size()), out);
        std::size_t place = out.size();
        out.resize(place + 4 * std::size_t{lanes_} + 2 * words_.size() + side_.raw().size() +
                   2 * escapes.size() + kCrcBytes);
        const auto put = [&](auto value) {
            store_le(&out[place], value);
            place += sizeof value;
        };
        for (unsigned lane = 0; lane < lanes_; ++lane) put(states_[lane]);
        std::for_each(words_.rbegin(), words_.rend(), put);
        std::copy(side_.raw().begin(), side_.raw().end(), out.begin() + static_cast<std::ptrdiff_t>(place));
        place += side_.raw().size();
        std::for_each(escapes.rbegin(), escapes.rend(), put);
        put(crc32c(std::span(out).subspan(first, place - first)));
    }

private:
    /// For the words or escapes of n symbols, which have at most one each; counted before it is taken.
    template <class Value>
    void make_room(std::vector<Value>& values, std::size_t n) {
        if (values.capacity() - values.size() >= n) return;
        const std::size_t capacity = 2 * values.capacity() + n;
        held_.add((capacity - values.capacity()) * sizeof(Value));
        values.reserve(capacity);
    }

    const Codebook::Impl& book_;
    const std::uint32_t* entries_;
    EncodeLoops loops_;
    unsigned lanes_;
    Held held_;
    SideArrays side_;
    std::vector<std::uint16_t> words_;  ///< last first
    std::array<std::uint32_t, kMaxLanes> states_;
    std::array<std::uint8_t, kRun> quotients_;
    std::array<std::uint64_t, kRun / kMarkRun> marks_;
    std::array<std::uint16_t, kRun + kWordSlack> buffer_;
};

EncodeLoops encode_loops(Isa isa, unsigned lanes) {
    if (isa == Isa::avx512) return encode_loops_avx512(lanes);
    if (isa == Isa::avx2) return encode_loops_avx2(lanes);
    return encode_loops_scalar(lanes);
}

}  // namespace

Status encode_segment(const Codebook& codebook, const std::uint8_t* table_ids, const std::int16_t* symbols,
                      std::size_t n, unsigned lanes, std::vector<std::uint8_t>& out, Isa isa,
                      const Work& work) {
    return status_of([&]() -> Status {
        NICRT_RETURN_IF_ERROR(check_arguments(n, lanes, isa));
        isa = resolve_isa(isa);
        const Codebook::Impl& book = codebook.impl();
        const TableScan scan = mark_loops(isa).scan(book.bytes, table_ids, n);
        if (scan.largest >= book.tables.size())
            return invalid_argument("table id is not one of the codebook's");

        Encoder encoder(book, encode_loops(isa, lanes), lanes, scan.raw_bits, work.budget);
        for (std::size_t end = n; end > 0;) {
            const std::size_t begin = (end - 1) / kRun * kRun;
            if (begin % kSymbolsPerLook == 0) NICRT_RETURN_IF_ERROR(work.check());
            encoder.encode(table_ids + begin, symbols + begin, end - begin);
            end = begin;
        }
        encoder.append(out);
        return {};
    });
}

}  // namespace nicrt

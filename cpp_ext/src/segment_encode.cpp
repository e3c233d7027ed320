#include <algorithm>
#include <array>
#include <string>

#include "bytes.hpp"
#include "nicrt/crc32c.hpp"
#include "rans_encode.hpp"
#include "segment_impl.hpp"

namespace nicrt {
namespace {

constexpr std::size_t kRun = 2048;  ///< symbols that pass through the loops at a time, all in the first-level cache
static_assert(kRun % kMaxLanes == 0 && kRun % kMarkRun == 0);

/// Raw bits and escapes, in symbol order.
struct SideArrays {
    std::vector<std::uint8_t> raw;
    std::vector<std::int16_t> escapes;
    std::uint64_t pending = 0;
    unsigned pending_bits = 0;

    void put(std::uint32_t bits, unsigned count) {
        pending |= std::uint64_t{bits} << pending_bits;
        for (pending_bits += count; pending_bits >= 8; pending_bits -= 8, pending >>= 8)
            raw.push_back(static_cast<std::uint8_t>(pending));
    }
    void flush() {
        if (pending_bits > 0) raw.push_back(static_cast<std::uint8_t>(pending));
    }
};

SideArrays collect_side_arrays(const Codebook::Impl& book, SplitSymbols split, const std::uint8_t* table_ids,
                               const std::int16_t* symbols, std::size_t n) {
    SideArrays side;
    std::array<std::uint8_t, kMarkRun> quotients;
    for (std::size_t i = 0; i < n; i += kMarkRun) {
        const std::uint64_t marks =
            split(book, table_ids + i, symbols + i, std::min(kMarkRun, n - i), quotients.data());
        for_each_mark(marks, [&](std::size_t j) {
            const unsigned shift = book.bytes.shift[table_ids[i + j]];
            const std::int32_t symbol = symbols[i + j];
            side.put(static_cast<std::uint32_t>(symbol) & ((1u << shift) - 1), shift);
            if (static_cast<std::int8_t>(quotients[j]) == kEscape)
                side.escapes.push_back(static_cast<std::int16_t>(symbol >> shift));
        });
    }
    side.flush();
    return side;
}

/// The words of a segment, last first.
class WordsBackwards {
public:
    WordsBackwards(const Codebook::Impl& book, EncodeLoops loops, unsigned lanes)
        : book_(book), loops_(loops), lanes_(lanes) {
        states_.fill(kStateFloor);
    }

    /// Encodes a run that begins with lane 0; the runs of a segment come last first.
    void encode(const std::uint8_t* table_ids, const std::int16_t* symbols, std::size_t n) {
        for (std::size_t i = 0; i < n; i += kMarkRun)
            (void)loops_.split(book_, table_ids + i, symbols + i, std::min(kMarkRun, n - i), &quotients_[i]);
        const std::size_t rounds = n / lanes_, whole = rounds * lanes_;
        const std::uint32_t* const entries = book_.encode();
        std::uint16_t* const end = buffer_.data() + buffer_.size();
        std::uint16_t* words = encode_partial_round(entries, table_ids + whole, &quotients_[whole], n - whole,
                                                    states_.data(), end);
        words = loops_.rounds(entries, table_ids, quotients_.data(), rounds, states_.data(), words);
        words_.insert(words_.end(), std::make_reverse_iterator(end), std::make_reverse_iterator(words));
    }

    [[nodiscard]] const std::vector<std::uint16_t>& words() const { return words_; }
    [[nodiscard]] std::uint32_t state(unsigned lane) const { return states_[lane]; }

private:
    const Codebook::Impl& book_;
    EncodeLoops loops_;
    unsigned lanes_;
    std::array<std::uint32_t, kMaxLanes> states_;
    std::array<std::uint8_t, kRun> quotients_;
    std::array<std::uint16_t, kRun + 1> buffer_;  ///< one more: the word that is not given is written before the rest
    std::vector<std::uint16_t> words_;
};

void append_segment(const WordsBackwards& coder, const SideArrays& side, unsigned lanes,
                    std::vector<std::uint8_t>& out) {
    const std::size_t first = out.size();
    auto count = static_cast<std::uint32_t>(side.escapes.size());
    for (; count >= 0x80; count >>= 7) out.push_back(static_cast<std::uint8_t>(count | 0x80));
    out.push_back(static_cast<std::uint8_t>(count));
    std::size_t place = out.size();
    out.resize(place + 4 * lanes + 2 * coder.words().size() + side.raw.size() + 2 * side.escapes.size() + kCrcBytes);
    for (unsigned lane = 0; lane < lanes; ++lane, place += 4) store_le(&out[place], coder.state(lane));
    for (auto word = coder.words().rbegin(); word != coder.words().rend(); ++word, place += 2) store_le(&out[place], *word);
    std::copy(side.raw.begin(), side.raw.end(), out.begin() + static_cast<std::ptrdiff_t>(place));
    place += side.raw.size();
    for (const std::int16_t escape : side.escapes) {
        store_le(&out[place], escape);
        place += 2;
    }
    store_le(&out[place], crc32c(std::span(out).subspan(first, place - first)));
}

}  // namespace

Status encode_segment(const Codebook& codebook, const std::uint8_t* table_ids, const std::int16_t* symbols, std::size_t n,
                      unsigned lanes, std::vector<std::uint8_t>& out, Isa isa) {
    if (!lanes_allowed(lanes)) return invalid_argument("lanes must be 1, 4, 8 or 32, not " + std::to_string(lanes));
    if (n == 0 || n > kMaxSegmentSymbols) return invalid_argument("a segment has 1 .. 2^31 symbols");
    if (!isa_available(isa)) return invalid_argument("instruction set is not available here");
    isa = resolve_isa(isa);
    const Codebook::Impl& book = codebook.impl();
    if (mark_loops_scalar().scan(book.bytes, table_ids, n).largest >= book.tables.size())
        return invalid_argument("table id is not one of the codebook's");

    const EncodeLoops loops = isa == Isa::avx512 ? encode_loops_avx512(lanes) : encode_loops_scalar(lanes);
    const SideArrays side = collect_side_arrays(book, loops.split, table_ids, symbols, n);
    WordsBackwards coder(book, loops, lanes);
    for (std::size_t end = n; end > 0;) {
        const std::size_t begin = (end - 1) / kRun * kRun;
        coder.encode(table_ids + begin, symbols + begin, end - begin);
        end = begin;
    }
    append_segment(coder, side, lanes, out);
    return {};
}

}  // namespace nicrt

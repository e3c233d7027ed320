// The entropy coder: every fast path against the scalar one, and every damaged segment against the refusals
// of FORMAT.md.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "codebook_impl.hpp"
#include "nicrt/crc32c.hpp"
#include "nicrt/segment.hpp"

namespace {

using namespace nicrt;
using Bytes = std::vector<std::uint8_t>;
using Random = std::mt19937;

constexpr std::array kLanes{1u, 4u, 8u, 32u};
constexpr std::array kIsas{Isa::best, Isa::scalar, Isa::avx2, Isa::avx512};
constexpr std::array kPaths{DecodePath::automatic, DecodePath::lookup, DecodePath::search};

struct Table {
    int low = 0;
    unsigned shift = 0;
    std::vector<std::uint16_t> frequencies;
};

std::shared_ptr<const Codebook> build(const std::vector<Table>& tables) {
    std::vector<TableView> views;
    for (const Table& table : tables)
        views.push_back({static_cast<std::int16_t>(table.low), static_cast<std::uint8_t>(table.shift),
                         table.frequencies});
    std::shared_ptr<const Codebook> book;
    CHECK(Codebook::build(views, book).ok());
    return book;
}

unsigned below(Random& random, unsigned bound) {
    return std::uniform_int_distribution<unsigned>(0, bound - 1)(random);
}

/// `coded` frequencies and the escape's; the larger the skew, the more of the total a few of them share.
Table random_table(Random& random, unsigned coded, unsigned shift, double skew) {
    Table table{-127 + static_cast<int>(below(random, 256 - coded)), shift, {}};
    std::vector<double> weights(coded + 1);
    for (double& weight : weights) weight = std::pow(std::uniform_real_distribution<>(1e-3, 1)(random), skew);
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    const double spare = static_cast<double>(kProbabilityTotal) - static_cast<double>(weights.size());
    unsigned sum = 0;
    for (const double weight : weights) {
        table.frequencies.push_back(
            static_cast<std::uint16_t>(1 + static_cast<unsigned>(spare * weight / total)));
        sum += table.frequencies.back();
    }
    table.frequencies[below(random, coded + 1)] += static_cast<std::uint16_t>(kProbabilityTotal - sum);
    return table;
}

std::vector<Table> random_tables(Random& random, std::size_t count, bool shifts) {
    std::vector<Table> tables{{0, 0, {4095, 1}}, {-127, 12, {1, 4095}}};
    while (tables.size() < count) {
        constexpr std::array<unsigned, 7> kCoded{1, 2, 3, 11, 60, 254, 255};
        const unsigned shift = shifts && below(random, 3) == 0 ? below(random, 13) : 0;
        tables.push_back(random_table(random, kCoded[below(random, 7)], shift, 1 + below(random, 12)));
    }
    tables.resize(count);
    return tables;
}

struct Job {
    std::shared_ptr<const Codebook> book;
    std::vector<std::uint8_t> table_ids;
    std::vector<std::int16_t> symbols;
};

/// Symbols drawn from their tables, and now and then any 16-bit value.
Job random_job(Random& random, const std::vector<Table>& tables, std::size_t n, unsigned any_in = 50) {
    Job job{build(tables), {}, {}};
    constexpr std::array<int, 6> kExtremes{-32768, 32767, -129, -128, 127, 128};
    for (std::size_t i = 0; i < n; ++i) {
        const auto id = static_cast<std::uint8_t>(below(random, static_cast<unsigned>(tables.size())));
        const Table& table = tables[id];
        int slot = static_cast<int>(below(random, kProbabilityTotal)), quotient = table.low;
        for (const std::uint16_t frequency : table.frequencies) {
            if ((slot -= frequency) < 0) break;
            ++quotient;
        }
        int symbol = quotient * (1 << table.shift) + static_cast<int>(below(random, 1u << table.shift));
        if (below(random, any_in) == 0) symbol = static_cast<int>(below(random, 65536)) - 32768;
        if (below(random, any_in) == 0) symbol = kExtremes[below(random, 6)];
        job.table_ids.push_back(id);
        job.symbols.push_back(static_cast<std::int16_t>(std::clamp(symbol, -32768, 32767)));
    }
    return job;
}

Bytes encode(const Job& job, unsigned lanes, Isa isa = Isa::best) {
    Bytes segment;
    CHECK(encode_segment(*job.book, job.table_ids.data(), job.symbols.data(), job.symbols.size(), lanes,
                         segment, isa)
              .ok());
    return segment;
}

/// Decodes from and into memory of the exact size, so that a sanitizer sees the first byte too many.
Status decode(const Job& job, unsigned lanes, const Bytes& segment, std::vector<std::int16_t>& symbols,
              DecodeOptions options = {}) {
    const std::size_t n = job.table_ids.size();
    const auto exact = std::make_unique<std::uint8_t[]>(segment.size());
    std::copy(segment.begin(), segment.end(), exact.get());
    const auto ids = std::make_unique<std::uint8_t[]>(n);
    std::copy(job.table_ids.begin(), job.table_ids.end(), ids.get());
    const auto decoded = std::make_unique<std::int16_t[]>(n);
    Status status =
        decode_segment(*job.book, ids.get(), n, lanes, {exact.get(), segment.size()}, decoded.get(), options);
    symbols.assign(decoded.get(), decoded.get() + n);
    return status;
}

void seal(Bytes& segment) {
    const std::size_t body = segment.size() - 4;
    const std::uint32_t crc = crc32c({segment.data(), body});
    for (unsigned i = 0; i < 4; ++i) segment[body + i] = static_cast<std::uint8_t>(crc >> 8 * i);
}

void checksums() {
    const std::string_view digits = "123456789";
    CHECK(crc32c({reinterpret_cast<const std::uint8_t*>(digits.data()), digits.size()}) == 0xE3069283u);
    CHECK(crc32c({}) == 0);
    Random random(1);
    Bytes data(10007);
    for (auto& byte : data) byte = static_cast<std::uint8_t>(random());
    const std::span<const std::uint8_t> all(data);
    for (std::size_t size = 0; size <= data.size(); size += 1 + size / 5) {
        const std::uint32_t crc = crc32c(all.first(size));
        CHECK(crc == detail::crc32c_table(all.first(size)));
        CHECK(crc32c(all.subspan(size), crc) == crc32c(all));
    }
}

void codebook_refuses() {
    const auto refused = [](int low, unsigned shift, std::vector<std::uint16_t> frequencies) {
        const std::array<std::uint16_t, 2> half{2048, 2048};
        const std::array<TableView, 2> views{
            TableView{0, 0, half},
            TableView{static_cast<std::int16_t>(low), static_cast<std::uint8_t>(shift), frequencies}};
        std::shared_ptr<const Codebook> book;
        const Status status = Codebook::build(views, book);
        return status.code() == Code::invalid_argument && status.message().find("table 1 ") == 0 &&
               book == nullptr;
    };
    CHECK(refused(0, 0, {}));
    CHECK(refused(0, 0, {4096}));
    CHECK(refused(0, 0, {4096, 0}));
    CHECK(refused(0, 0, {4095, 2}));
    CHECK(refused(0, 0, {4094, 1}));
    CHECK(refused(-128, 0, {4095, 1}));
    CHECK(refused(128, 0, {4095, 1}));
    CHECK(refused(0, 13, {4095, 1}));
    CHECK(refused(-127, 0, std::vector<std::uint16_t>(257, 16)));
    std::shared_ptr<const Codebook> book;
    CHECK(Codebook::build({}, book).code() == Code::invalid_argument);
    const std::vector<std::uint16_t> even(256, 16);
    CHECK(Codebook::build(std::vector<TableView>(257, {-127, 0, even}), book).code() ==
          Code::invalid_argument);
    CHECK(Codebook::build(std::vector<TableView>(256, {-127, 12, even}), book).ok());
    CHECK(book->size() == 256);
}

/// Encodes with every instruction set and decodes by every path; all must agree.
void agree_everywhere(const Job& job) {
    std::vector<std::int16_t> decoded;
    for (const unsigned lanes : kLanes) {
        const Bytes segment = encode(job, lanes, Isa::scalar);
        for (const Isa isa : kIsas) {
            if (!isa_available(isa)) continue;
            CHECK(encode(job, lanes, isa) == segment);
            for (const DecodePath path : kPaths) {
                CHECK(decode(job, lanes, segment, decoded, {isa, path}).ok());
                CHECK(decoded == job.symbols);
            }
        }
    }
}

void every_path_agrees() {
    Random random(2);
    for (const std::size_t count : {1u, 2u, 20u, 64u, 130u, 256u}) {
        for (const bool shifts : {false, true}) {
            const auto tables = random_tables(random, count, shifts);
            for (const std::size_t n : {1u, 3u, 4u, 5u, 7u, 8u, 9u, 31u, 32u, 33u, 63u, 64u, 65u, 500u})
                agree_everywhere(random_job(random, tables, n));
            for (const std::size_t n : {2047u, 2048u, 2049u, 4096u, 5000u, 20011u})
                agree_everywhere(random_job(random, tables, n, 1 + below(random, 5000)));
        }
    }
    agree_everywhere(random_job(random, random_tables(random, 30, true), 6000, 1));  // nearly all escaped
}

void single_tables() {
    Random random(3);
    for (const unsigned frequency : {1u, 2u, 2048u, 4094u, 4095u}) {  // all words, few words, no words
        const Table table{
            5, 0, {static_cast<std::uint16_t>(frequency), static_cast<std::uint16_t>(4096 - frequency)}};
        Job job{build({table}), Bytes(5000), std::vector<std::int16_t>(5000, 5)};
        agree_everywhere(job);
        job.symbols.assign(5000, 6);
        agree_everywhere(job);
    }
    for (const unsigned shift : {0u, 1u, 7u, 12u}) {
        Job job{build({random_table(random, 255, shift, 2)}), Bytes(65536), {}};
        for (int symbol = -32768; symbol < 32768; ++symbol)
            job.symbols.push_back(static_cast<std::int16_t>(symbol));
        agree_everywhere(job);
    }
}

/// Section 6 by hand: one symbol of frequency 4095, then the escape with its quotient.
void known_segment() {
    const Job job{build({{0, 4, {4095, 1}}}), {0, 0}, {9, -20}};
    Bytes expected{1, 0, 0, 0, 0, 0, 0, 0xC9, 0xFE, 0xFF};
    // symbol 1: f 1, c 4095: x = 2^16 * 2^12 + 4095; symbol 0: f 4095: x = (x div 4095) * 2^12 + x mod 4095
    const std::uint32_t x1 = 65536u * 4096 + 4095, x0 = x1 / 4095 * 4096 + x1 % 4095;
    for (unsigned i = 0; i < 4; ++i) expected[1 + i] = static_cast<std::uint8_t>(x0 >> 8 * i);
    expected[5] = 0xC9, expected[6] = 0xFE, expected[7] = 0xFF;  // raw 9 and 12, quotient -2
    expected.resize(8 + 4);
    seal(expected);
    CHECK(encode(job, 1) == expected);
}

void appends() {
    Random random(4);
    const Job job = random_job(random, random_tables(random, 5, true), 100);
    const Bytes alone = encode(job, 4);
    Bytes twice = alone;
    CHECK(encode_segment(*job.book, job.table_ids.data(), job.symbols.data(), 100, 4, twice).ok());
    CHECK(twice.size() == 2 * alone.size() &&
          std::equal(alone.begin(), alone.end(), twice.begin() + static_cast<long>(alone.size())));
}

void arguments_are_checked() {
    Random random(5);
    Job job = random_job(random, random_tables(random, 5, true), 100);
    Bytes segment = encode(job, 4);
    std::vector<std::int16_t> decoded;
    for (const unsigned lanes : {0u, 2u, 16u, 64u}) {
        CHECK(decode(job, lanes, segment, decoded).code() == Code::invalid_argument);
        Bytes out;
        CHECK(encode_segment(*job.book, job.table_ids.data(), job.symbols.data(), 100, lanes, out).code() ==
              Code::invalid_argument);
    }
    CHECK(decode_segment(*job.book, job.table_ids.data(), 0, 4, segment, decoded.data()).code() ==
          Code::invalid_argument);
    for (const std::size_t place : {0u, 50u, 99u}) {
        Job bad = job;
        bad.table_ids[place] = 5;
        for (const Isa isa : kIsas) {
            if (!isa_available(isa)) continue;
            Bytes out;
            CHECK(encode_segment(*bad.book, bad.table_ids.data(), bad.symbols.data(), 100, 4, out, isa)
                      .code() == Code::invalid_argument);
            CHECK(decode(bad, 4, segment, decoded, {isa}).code() == Code::invalid_argument);
        }
    }
}

void damage_is_an_error() {
    Random random(6);
    std::vector<std::int16_t> decoded;
    for (const unsigned lanes : kLanes) {
        const Job job = random_job(random, random_tables(random, 12, true), 150, 10);
        const Bytes segment = encode(job, lanes);
        for (std::size_t size = 0; size < segment.size(); ++size) {
            Bytes cut(segment.begin(), segment.begin() + static_cast<long>(size));
            CHECK(decode(job, lanes, cut, decoded).code() == Code::corrupt);
            if (size < 4) continue;
            seal(cut);
            CHECK(decode(job, lanes, cut, decoded).code() == Code::corrupt);
        }
        Bytes longer = segment;
        longer.push_back(0);
        CHECK(decode(job, lanes, longer, decoded).code() == Code::corrupt);
        for (std::size_t bit = 0; bit < 8 * segment.size(); ++bit) {
            Bytes flipped = segment;
            flipped[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
            CHECK(decode(job, lanes, flipped, decoded).code() == Code::corrupt);
        }
    }
}

/// Sealed again after the damage, so that the coder's own checks are all there is. What still decodes must
/// encode to the same bytes: a segment has one form.
void hostile_segments() {
    Random random(7);
    std::vector<std::int16_t> decoded;
    std::array<unsigned, 2> outcomes{};
    for (unsigned trial = 0; trial < 6000; ++trial) {
        const unsigned lanes = kLanes[trial % 4];
        const Job job =
            random_job(random, random_tables(random, 1 + below(random, 40), true), 1 + below(random, 400), 8);
        Bytes segment = encode(job, lanes);
        for (unsigned changes = 1 + below(random, 4); changes > 0; --changes) {
            const unsigned place = below(random, static_cast<unsigned>(segment.size() - 4));
            switch (below(random, 4)) {
                case 0: segment[place] ^= static_cast<std::uint8_t>(1u << below(random, 8)); break;
                case 1: segment[place] = static_cast<std::uint8_t>(random()); break;
                case 2:
                    segment.insert(segment.begin() + place, below(random, 40),
                                   static_cast<std::uint8_t>(random()));
                    break;
                default:
                    segment.erase(
                        segment.begin() + place,
                        segment.begin() + std::min<long>(place + 2, static_cast<long>(segment.size()) - 4));
            }
        }
        seal(segment);
        for (const Isa isa : kIsas) {
            if (!isa_available(isa)) continue;
            for (const DecodePath path : kPaths) {
                const Status status = decode(job, lanes, segment, decoded, {isa, path});
                CHECK(status.ok() || status.code() == Code::corrupt);
                ++outcomes[status.ok()];
                if (!status.ok()) continue;
                Job again = job;
                again.symbols = decoded;
                CHECK(encode(again, lanes) == segment);
            }
        }
    }
    CHECK(outcomes[0] > 0 && outcomes[1] > 0);
}

/// Any bytes at all, with lengths around those that the parts need.
void random_bytes() {
    Random random(8);
    std::vector<std::int16_t> decoded;
    for (unsigned trial = 0; trial < 4000; ++trial) {
        const unsigned lanes = kLanes[trial % 4];
        const Job job = random_job(random, random_tables(random, 1 + below(random, 40), trial % 8 < 4),
                                   1 + below(random, 3000));
        Bytes segment(4 + below(random, 6000));
        for (auto& byte : segment) byte = static_cast<std::uint8_t>(random());
        if (segment.size() > 9) segment[0] = static_cast<std::uint8_t>(below(random, 3));
        seal(segment);
        for (const Isa isa : kIsas)
            if (isa_available(isa))
                CHECK(decode(job, lanes, segment, decoded, {isa}).code() == Code::corrupt);
    }
}

void lies() {
    std::vector<std::int16_t> decoded;
    const Job job{build({{0, 4, {4095, 1}}}), {0, 0}, {9, -20}};
    const Bytes good = encode(job, 1);
    const auto refused = [&](std::size_t place, Bytes bytes) {
        Bytes bad = good;
        std::copy(bytes.begin(), bytes.end(), bad.begin() + static_cast<long>(place));
        seal(bad);
        return decode(job, 1, bad, decoded).code() == Code::corrupt;
    };
    CHECK(decode(job, 1, good, decoded).ok());
    CHECK(refused(0, {0}));           // one escape left over, and an odd word
    CHECK(refused(0, {2}));           // one escape too many
    CHECK(refused(6, {0, 0}));        // the escape is quotient 0, which the table codes
    CHECK(refused(6, {0xFF, 0x7F}));  // quotient 32767 leaves 16 bits
    CHECK(refused(3, {0, 0}));        // state below 2^16
    const Bytes huge{0xFF, 0xFF, 0xFF, 0xFF, 0x0F};
    Bytes claim(huge);
    claim.insert(claim.end(), good.begin() + 1, good.end());
    seal(claim);
    CHECK(decode(job, 1, claim, decoded).code() == Code::corrupt);
    Bytes longer_form{0x81, 0x00};
    longer_form.insert(longer_form.end(), good.begin() + 1, good.end());
    seal(longer_form);
    CHECK(decode(job, 1, longer_form, decoded).code() == Code::corrupt);
    const Job odd{build({{0, 3, {4095, 1}}}), {0}, {5}};
    Bytes unused = encode(odd, 1);
    unused[5] |= 8;  // bit 3 of 8, three of which are used
    seal(unused);
    CHECK(decode(odd, 1, unused, decoded).code() == Code::corrupt);
}

}  // namespace

int main() {
    checksums();
    codebook_refuses();
    known_segment();
    single_tables();
    every_path_agrees();
    appends();
    arguments_are_checked();
    damage_is_an_error();
    lies();
    hostile_segments();
    random_bytes();
}

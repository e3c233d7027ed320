// Random numbers and codebooks for the tests of the device's decoder.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "check.hpp"
#include "nicrt/codebook.hpp"

namespace nicrt::testing {

inline std::mt19937 random_bits(1);

inline int random_int(int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random_bits);
}

/// Tables of every size, from steep to flat, some with raw bits; tails are of frequency 1.
inline std::shared_ptr<const Codebook> make_codebook(unsigned tables, unsigned most_quotients = 60,
                                                     bool raw = true) {
    std::vector<std::vector<std::uint16_t>> frequencies(tables);
    std::vector<TableView> views;
    for (unsigned t = 0; t < tables; ++t) {
        const auto m = static_cast<unsigned>(random_int(1, static_cast<int>(most_quotients)));
        frequencies[t].assign(m + 1, 1);
        unsigned left = kProbabilityTotal - m - 1;
        for (unsigned i = 0; i < m && left > 0; ++i) {
            const unsigned share =
                i + 1 == m ? left - left / 50 : left / static_cast<unsigned>(random_int(2, 30));
            const unsigned place = (m / 2 + (i % 2 != 0 ? i / 2 + 1 : m - i / 2)) % m;
            frequencies[t][place] += static_cast<std::uint16_t>(share);
            left -= share;
        }
        frequencies[t][m] += static_cast<std::uint16_t>(left);
        const auto shift = static_cast<std::uint8_t>(raw && random_int(0, 3) == 0 ? random_int(0, 12) : 0);
        views.push_back({static_cast<std::int16_t>(-static_cast<int>(m / 2)), shift, frequencies[t]});
    }
    std::shared_ptr<const Codebook> codebook;
    CHECK(Codebook::build(views, codebook).ok());
    return codebook;
}

}  // namespace nicrt::testing

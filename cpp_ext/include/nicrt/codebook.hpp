// Frequency tables of one stream, in the forms that the coders need (FORMAT.md section 4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "nicrt/status.hpp"

namespace nicrt {

inline constexpr unsigned kProbabilityBits = 12;
inline constexpr unsigned kProbabilityTotal = 1u << kProbabilityBits;
inline constexpr std::size_t kMaxTables = 256;

/// One table as a bundle stores it: the last frequency is the escape's.
struct TableView {
    std::int16_t low = 0;    ///< quotient of id 0
    std::uint8_t shift = 0;  ///< raw low bits of every symbol
    std::span<const std::uint16_t> frequencies;
};

/// Immutable after `build` and safe to use from many threads; look-up tables that only long streams repay are
/// made on first use.
class Codebook {
public:
    /// Checks the tables against FORMAT.md section 4; `invalid_argument` names the first table that breaks
    /// it.
    static Status build(std::span<const TableView> tables, std::shared_ptr<const Codebook>& out);
    ~Codebook();

    [[nodiscard]] std::size_t size() const;

    /// The table of this number: a view of the codebook.
    [[nodiscard]] TableView table(std::size_t number) const;

    struct Impl;
    [[nodiscard]] const Impl& impl() const { return *impl_; }

private:
    Codebook();
    std::unique_ptr<Impl> impl_;
};

/// Bits that symbols -reach .. reach cost with each table, raw bits and escapes included: [tables, 2 * reach
/// + 1]. Multiples of 2^-16 below 64, so that sums of doubles are exact, whatever their order.
/// invalid_argument: a reach outside 0 .. 32767.
Status code_lengths(const Codebook& codebook, std::int32_t reach, std::vector<float>& out);

}  // namespace nicrt

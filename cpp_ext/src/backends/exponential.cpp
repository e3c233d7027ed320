// Compiled without contraction, as all that must give the same bits everywhere.
#include "exponential.hpp"

#include <cstdint>
#include <limits>

#include "compiler.hpp"

namespace nicrt {
namespace {

/// ln 2 in two parts: the first has 16 zero bits at its end, so that its product with any exponent is exact.
constexpr double kLn2High = 0x1.62e42fefap-1, kLn2Low = 0x1.cf79abc9e3b3ap-40, kLog2E = 0x1.71547652b82fep+0;
constexpr double kLargest = 710, kSmallest = -746;  ///< beyond them it is infinite, and 0
constexpr int kTerms = 14;  ///< of the series: the rest is below 2^-57 within ln 2 / 2

/// 2^exponent, for a normal number.
double power_of_two(std::int64_t exponent) {
    return bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
}

}  // namespace

double exponential(double x) {
    if (x != x) return x;
    if (x > kLargest) return std::numeric_limits<double>::infinity();
    if (x < kSmallest) return 0;
    const double scaled = x * kLog2E;
    const auto exponent = static_cast<std::int64_t>(scaled + (scaled < 0 ? -0.5 : 0.5));
    const auto whole = static_cast<double>(exponent);
    const double rest = (x - whole * kLn2High) - whole * kLn2Low;
    double sum = 1;
    for (int term = kTerms; term > 0; --term) sum = 1 + rest / term * sum;
    const std::int64_t half = exponent / 2;  // of a subnormal number one power alone would be 0
    return sum * power_of_two(half) * power_of_two(exponent - half);
}

}  // namespace nicrt

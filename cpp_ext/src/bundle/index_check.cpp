// Rules of a native form that make indices of tables from integers, in float32.
#include <algorithm>
#include <cmath>

#include "bundle/check.hpp"

namespace nicrt::bundle {
namespace {

// Within these, index rules are exact in float32, so that no backend can round them in a way of its own.
constexpr std::int64_t kMaxOffset = 1 << 16, kMaxPlace = 1 << 24;
constexpr double kMinIndexUnit = 0x1p-8, kMinScaleUnit = 0x1p-24;

/// From `least` to 1.
bool is_power_of_two(double value, double least) {
    int exponent = 0;
    return least <= value && value <= 1 && std::frexp(value, &exponent) == 0.5;
}

/// Whether every place that a table is asked for is one of its `count`.
bool are_within(const ScaleTable& scales, std::int64_t count) {
    if (scales.low < 0 || scales.low > scales.high || !is_power_of_two(scales.unit, kMinScaleUnit) ||
        std::max<std::int64_t>(scales.high, reach_of({scales.limit, scales.add})) > kMaxPlace)
        return false;
    const auto inside = [&](double place) { return place >= 0 && place < static_cast<double>(count); };
    const auto coarse = [&](std::int32_t v) { return std::floor(v * scales.unit) + scales.add; };
    if (scales.low < scales.limit && !inside(std::min(scales.high, scales.limit - 1))) return false;
    return scales.high < scales.limit ||
           (inside(coarse(std::max(scales.low, scales.limit))) && inside(coarse(scales.high)));
}

}  // namespace

std::string fault_of(const IndexRule& rule, std::string_view name, std::int64_t minus, std::int64_t scales) {
    const std::string indices = "indices " + in_quotes(name);
    if (std::max(minus, reach_of({rule.add, rule.add})) > kMaxOffset)
        return indices + " are shifted by more than " + std::to_string(kMaxOffset);
    if (!is_power_of_two(rule.unit, kMinIndexUnit))
        return indices + " have a unit that is not a power of two up to 1";
    if (rule.low < 0 || rule.low > rule.high || rule.high > 255)
        return indices + " are clipped beyond 0..255";
    if (rule.scales && !are_within(*rule.scales, scales))
        return "scales of " + in_quotes(name) + " ask for a place that is not there";
    return {};
}

}  // namespace nicrt::bundle

// Rectangles of a picture.
#pragma once

#include <algorithm>
#include <cstdint>

#include "nicrt/plan.hpp"

namespace nicrt::program {

/// With `by` more pixels on each side, outward to multiples of `unit`, cut at `bounds` (multiples of it too).
[[nodiscard]] inline Rect grown(const Rect& rect, std::int64_t by, std::int64_t unit, const Rect& bounds) {
    const auto down = [&](std::int64_t place) {  // towards minus infinity
        return (place >= 0 ? place / unit : -((-place + unit - 1) / unit)) * unit;
    };
    const auto up = [&](std::int64_t place) { return -down(-place); };
    return {static_cast<std::int32_t>(std::max<std::int64_t>(bounds.top, down(rect.top - by))),
            static_cast<std::int32_t>(std::max<std::int64_t>(bounds.left, down(rect.left - by))),
            static_cast<std::int32_t>(std::min<std::int64_t>(bounds.bottom, up(rect.bottom + by))),
            static_cast<std::int32_t>(std::min<std::int64_t>(bounds.right, up(rect.right + by)))};
}

/// The smallest rectangle that covers both; an empty one covers nothing.
[[nodiscard]] inline Rect united(const Rect& a, const Rect& b) {
    if (a.is_empty()) return b;
    if (b.is_empty()) return a;
    return {std::min(a.top, b.top), std::min(a.left, b.left), std::max(a.bottom, b.bottom),
            std::max(a.right, b.right)};
}

}  // namespace nicrt::program

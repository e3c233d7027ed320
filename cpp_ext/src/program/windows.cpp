#include "program/windows.hpp"

#include <algorithm>
#include <cmath>
#include <variant>

#include "program/rect.hpp"

namespace nicrt::program {
namespace {

constexpr double kWindowBytes = 128 << 20, kLeastWorkspace = 0.25;
constexpr std::int32_t kWindowStep = 512, kMaxWindow = 1 << 14;
constexpr std::uint64_t kCallPlaces = 8;
/// Of a float graph's window with its halo. ONNX Runtime's matrix products of at most 64 columns, as smaller
/// windows have, add in blocks of another size than larger ones do: 2 pixels of 100 000 were off by one.
constexpr std::int64_t kLeastPixels = 1 << 16;

std::uint64_t windows_along(std::int32_t first, std::int32_t end, std::int32_t edge) {
    return static_cast<std::uint64_t>((std::int64_t{end} - 1) / edge - first / edge + 1);
}

}  // namespace

Cut Cut::of(const bundle::Graph& graph, std::int32_t unit, std::int32_t edge) {
    return {graph.halo.value_or(0), unit, edge, graph.exact ? 0 : kLeastPixels};
}

Rect around_of(const Rect& rect, const Rect& bounds, const Cut& cut) {
    Rect around = grown(rect, cut.halo, cut.unit, bounds);
    while (around.area() < cut.least_pixels && !(around == bounds))
        around = grown(around, cut.unit, cut.unit, bounds);
    return around;
}

Status Room::take(std::uint64_t places) {
    if (places > left_)
        return {Code::limit,
                "the picture is too large for this bundle: its graphs would be called too often"};
    left_ -= places;
    return {};
}

std::int32_t window_edge(const Rect& bounds, double workspace_bytes_per_pixel, std::int32_t unit) {
    if (bounds.area() < kMinWindowed) return 0;
    const double workspace =
        workspace_bytes_per_pixel > kLeastWorkspace ? workspace_bytes_per_pixel : kLeastWorkspace;
    const auto largest = static_cast<std::int32_t>(std::sqrt(std::floor(kWindowBytes / workspace)));
    const std::int32_t edge = std::clamp(largest / kWindowStep * kWindowStep, kWindowStep, kMaxWindow);
    return edge / unit * unit;
}

Status add_windows(const Rect& rect, const Rect& bounds, const Cut& cut, Room& room,
                   std::vector<Call>& calls) {
    const auto add = [&](const Rect& kept) {
        calls.push_back({around_of(kept, bounds, cut), kept, 0, bounds.bottom});
    };
    if (cut.edge == 0) {
        NICRT_RETURN_IF_ERROR(room.take(kCallPlaces));
        add(rect);
        return {};
    }
    NICRT_RETURN_IF_ERROR(room.take(kCallPlaces * windows_along(rect.top, rect.bottom, cut.edge) *
                                    windows_along(rect.left, rect.right, cut.edge)));
    const std::int64_t edge = cut.edge;
    for (std::int64_t top = rect.top / edge * edge; top < rect.bottom; top += edge)
        for (std::int64_t left = rect.left / edge * edge; left < rect.right; left += edge)
            add({static_cast<std::int32_t>(std::max<std::int64_t>(top, rect.top)),
                 static_cast<std::int32_t>(std::max<std::int64_t>(left, rect.left)),
                 static_cast<std::int32_t>(std::min<std::int64_t>(top + edge, rect.bottom)),
                 static_cast<std::int32_t>(std::min<std::int64_t>(left + edge, rect.right))});
    return {};
}

Status add_bands(const Rect& bounds, std::int32_t rows, Room& room, std::vector<Call>& calls) {
    NICRT_RETURN_IF_ERROR(room.take(kCallPlaces * windows_along(0, bounds.bottom, rows)));
    for (std::int64_t row = 0; row < bounds.bottom; row += rows)
        calls.push_back({bounds, bounds, static_cast<std::int32_t>(row),
                         static_cast<std::int32_t>(std::min<std::int64_t>(row + rows, bounds.bottom))});
    return {};
}

}  // namespace nicrt::program

// Which rectangles a graph runs on. Graphs whose manifest gives a halo can run on a window of the picture:
// their inputs are cut to the window grown by the halo, and of their outputs only the window is kept. That
// bounds memory for large pictures and decodes regions without the rest.
#pragma once

#include <cstdint>
#include <vector>

#include "nicrt/plan.hpp"
#include "nicrt/status.hpp"

namespace nicrt::program {

constexpr std::int64_t kMinWindowed = std::int64_t{4} << 20;  ///< pixels below which a picture runs whole

/// Calls, sources, values and tensors of one plan, by their size in memory about. A file cannot make a plan
/// larger.
class Room {
public:
    /// limit: the plan would become too large.
    Status take(std::uint64_t places);

private:
    std::uint64_t left_ = std::uint64_t{1} << 22;
};

/// How a graph may be cut into windows.
struct Cut {
    std::int32_t halo = 0, unit = 1;
    std::int32_t edge = 0;          ///< 0: one window
    std::int64_t least_pixels = 0;  ///< of what it runs on

    static Cut of(const bundle::Graph& graph, std::int32_t unit, std::int32_t edge = 0);
};

/// What a graph runs on to make `rect`.
[[nodiscard]] Rect around_of(const Rect& rect, const Rect& bounds, const Cut& cut);

/// Edge in pixels of a graph's windows on a picture of `bounds`: as large as they may be by its workspace,
/// since every window repeats its halo. It depends on nothing that the region decides, and windows begin at
/// multiples of it: a region gives the calls that the whole picture gives, or parts of them.
[[nodiscard]] std::int32_t window_edge(const Rect& bounds, double workspace_bytes_per_pixel,
                                       std::int32_t unit);

/// Windows that tile `rect`.
Status add_windows(const Rect& rect, const Rect& bounds, const Cut& cut, Room& room,
                   std::vector<Call>& calls);

/// Bands of so many rows of all of `bounds`.
Status add_bands(const Rect& bounds, std::int32_t rows, Room& room, std::vector<Call>& calls);

/// Every step's rectangle that showing `region` needs; empty ones where nothing does. False where that cannot
/// be: a graph without a halo, or rounds of several sizes.
bool narrow(const Plan& whole, const Rect& region, std::int32_t tile, std::vector<Rect>& rects);

}  // namespace nicrt::program

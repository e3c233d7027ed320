#include "tile.hpp"

#include <cstring>

#include "compact.hpp"

namespace nicrt {
namespace {

/// Some milliseconds, where the memory is touched for the first time.
constexpr std::size_t kPartPlaces = std::size_t{1} << 20;

bool narrow(const std::int32_t* symbols, std::size_t count, std::int16_t* coded) {
    std::int32_t outside = 0;
    for (std::size_t i = 0; i < count; ++i) {
        coded[i] = static_cast<std::int16_t>(symbols[i]);
        outside |= coded[i] ^ symbols[i];
    }
    return outside == 0;
}

}  // namespace

/// visit(channel, offset of the first place, rows), with as few and long rows as the tile allows, but short
/// enough to end soon.
template <class Visit>
Status TilePlaces::for_each_part(const Control* control, Visit visit) const {
    const bool whole_rows = rect_.right - rect_.left == shape_.width;
    const bool whole_planes = whole_rows && rect_.bottom - rect_.top == shape_.height;
    const auto ended = [&] { return control == nullptr ? Status() : control->check(); };
    if (whole_planes && !choice_.by_channel) {
        for (std::size_t i = 0; i < shape_.places(); i += kPartPlaces) {
            NICRT_RETURN_IF_ERROR(ended());
            visit(std::uint32_t{0}, i, Rows{1, std::min(kPartPlaces, shape_.places() - i), 0});
        }
        return {};
    }
    const Rows rows = whole_rows ? Rows{1, rect_.cells(), 0}
                                 : Rows{rect_.bottom - rect_.top, rect_.right - rect_.left, shape_.width};
    for (std::uint32_t channel = 0; channel < shape_.channels; ++channel) {
        NICRT_RETURN_IF_ERROR(ended());
        const std::size_t row = std::size_t{channel} * shape_.height + rect_.top;
        visit(channel, row * shape_.width + rect_.left, rows);
    }
    return {};
}

Status TilePlaces::ids(const Control* control, std::uint8_t* ids, std::size_t& n) const {
    n = 0;
    const auto& kernels = compact_kernels();
    return for_each_part(control, [&](std::uint32_t channel, std::size_t offset, Rows rows) {
        if (!choice_.by_channel) {
            n += kernels.ids(choice_.ids + offset, rows, tables_, ids + n);
        } else if (channel_coded(channel)) {
            std::memset(ids + n, choice_.ids[channel], rect_.cells());
            n += rect_.cells();
        }
    });
}

Status TilePlaces::gather(const Control* control, std::int32_t* symbols, std::uint8_t* ids,
                          std::int16_t* coded, std::size_t& n, bool& fits) const {
    n = 0;
    const auto& kernels = compact_kernels();
    return for_each_part(control, [&](std::uint32_t channel, std::size_t offset, Rows rows) {
        std::int32_t* const part = symbols + offset;
        if (!choice_.by_channel) {
            n += kernels.gather(choice_.ids + offset, part, rows, tables_, ids + n, coded + n, fits);
            return;
        }
        std::memset(ids + n, choice_.ids[channel], rect_.cells());
        for (std::size_t row = 0; row < rows.count; ++row) {
            if (!channel_coded(channel)) {
                std::fill_n(part + row * rows.stride, rows.length, 0);
                continue;
            }
            if (!narrow(part + row * rows.stride, rows.length, coded + n)) fits = false;
            n += rows.length;
        }
    });
}

Status TilePlaces::scatter(const Control* control, const std::int16_t* coded, std::int32_t* symbols) const {
    const auto& kernels = compact_kernels();
    return for_each_part(control, [&](std::uint32_t channel, std::size_t offset, Rows rows) {
        std::int32_t* const part = symbols + offset;
        if (!choice_.by_channel) {
            coded += kernels.scatter(choice_.ids + offset, rows, tables_, coded, part);
            return;
        }
        for (std::size_t row = 0; row < rows.count; ++row) {
            if (!channel_coded(channel)) {
                std::fill_n(part + row * rows.stride, rows.length, 0);
                continue;
            }
            std::copy_n(coded, rows.length, part + row * rows.stride);
            coded += rows.length;
        }
    });
}

}  // namespace nicrt

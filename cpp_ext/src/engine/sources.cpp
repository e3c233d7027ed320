// What the input ports of graphs get.
#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "engine/rectangles.hpp"
#include "engine/state.hpp"

namespace nicrt::engine {
namespace {

using program::Extent;
using program::Rect;
using program::Source;

Status small_array(std::size_t count, Array& out) {
    const std::array<std::int64_t, 1> shape{static_cast<std::int64_t>(count)};
    return Array::make(bundle::Element::int32, shape, nullptr, out);
}

Status numbers(std::span<const std::int32_t> values, Array& out) {
    NICRT_RETURN_IF_ERROR(small_array(values.size(), out));
    std::copy(values.begin(), values.end(), out.as<std::int32_t>());
    return {};
}

Status counting(std::int32_t first, std::int32_t end, Array& out) {
    NICRT_RETURN_IF_ERROR(small_array(static_cast<std::size_t>(end - first), out));
    std::iota(out.as<std::int32_t>(), out.as<std::int32_t>() + (end - first), first);
    return {};
}

/// [height, width, 3] → [1, 3, ...] of `rect`, the last row and column repeated beyond the picture.
void pad(const float* picture, Extent size, const Rect& rect, float* out) {
    for (std::int32_t channel = 0; channel < 3; ++channel)
        for (std::int32_t y = rect.top; y < rect.bottom; ++y) {
            const float* const row = picture + std::size_t(std::min(y, size.height - 1)) *
                                                   static_cast<std::size_t>(size.width) * 3;
            const std::int32_t inside = std::clamp(size.width - rect.left, 0, rect.width());
            for (std::int32_t x = 0; x < inside; ++x) out[x] = row[3 * (rect.left + x) + channel];
            std::fill(out + inside, out + rect.width(), row[3 * (size.width - 1) + channel]);
            out += rect.width();
        }
}

}  // namespace

Status Execution::Impl::picture_of(Extent size, Array& out) {
    if (in.picture.shape[0] == size.height && in.picture.shape[1] == size.width) {
        out = in.picture;
        return {};
    }
    if (!resampled || !(resampled->first == size)) {  // only the last: rounds grow
        resampled.reset();
        if (!in.resample)
            return {Code::internal, "nothing resamples the picture for a round of another size"};
        Array made;
        NICRT_RETURN_IF_ERROR(in.resample(size, made));
        const std::vector<std::int64_t> wanted{size.height, size.width, 3};
        if (made.shape != wanted || made.dtype != bundle::Element::float32)
            return {Code::internal, "the picture was resampled to another size"};
        resampled.emplace(size, std::move(made));
    }
    out = resampled->second;
    return {};
}

Status Execution::Impl::picture(const program::Round& round, const Rect& rect, Array& out) {
    if (!in.encoding) return {Code::internal, "a graph of a decoder takes the picture"};
    Array whole;
    NICRT_RETURN_IF_ERROR(picture_of(round.size, whole));
    const std::array<std::int64_t, 4> shape{1, 3, rect.height(), rect.width()};
    NICRT_RETURN_IF_ERROR(Array::make(bundle::Element::float32, shape, in.work.budget, out));
    pad(whole.as<const float>(), round.size, rect, out.as<float>());
    return {};
}

Status Execution::Impl::source(const Source& source, const program::Step& step, const program::Call& call,
                               Array& out) {
    switch (source.kind) {
        case Source::Kind::tensor: {
            const program::Tensor& tensor = plan.tensors[source.tensor];
            const Array& array = tensors[source.tensor];
            if (array.data == nullptr) return {Code::internal, "a step reads a tensor that is not there"};
            return read_part(tensor, array, call.around, in.work.budget, out);
        }
        case Source::Kind::parameter:
        case Source::Kind::size: return numbers(source.values, out);
        case Source::Kind::rows: return counting(call.first_row, call.end_row, out);
        case Source::Kind::columns: return counting(0, round_of(step).padded.width, out);
        case Source::Kind::picture: break;
    }
    return picture(round_of(step), call.around, out);
}

}  // namespace nicrt::engine

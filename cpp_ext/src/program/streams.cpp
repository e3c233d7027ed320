// Entropy steps of a plan.
#include <algorithm>
#include <string>

#include "bundle/check.hpp"
#include "bundle/names.hpp"
#include "program/builder.hpp"

namespace nicrt::program {
namespace {

std::int32_t places(std::int32_t pixels, std::int32_t stride) {
    return static_cast<std::int32_t>((std::int64_t{pixels} + stride - 1) / stride);
}

}  // namespace

Status Builder::add_entropy(const Entry& entry) {
    EntropyStep step;
    step.entropy = entry.entropy;
    step.stream = entry.stream;
    const bundle::Entropy& entropy = *entry.entropy;
    const Extent padded = round().padded;
    step.whole = {entropy.channels, places(padded.height, entropy.stride),
                  places(padded.width, entropy.stride)};
    if (request_.tile % static_cast<std::uint32_t>(entropy.stride) != 0)
        return invalid_argument("tiles of " + std::to_string(request_.tile) +
                                " pixels do not fit the bundle's stride " + std::to_string(entropy.stride));
    find_tiles(step);
    if (step_->needed) {
        NICRT_RETURN_IF_ERROR(find_tables(step));
        if (request_.direction == Direction::encode) NICRT_RETURN_IF_ERROR(find_symbols(step));
    }
    Tensor out;
    out.name = entropy.out;
    out.dtype = bundle::Element::int32;
    out.per_picture = true;
    if (step_->needed) {
        out.shape = {request_.batch, step.shape[0], step.shape[1], step.shape[2]};
        out.rect = step_->rect;
        const bool covers = std::int64_t{step.shape[1]} * entropy.stride == out.rect.height() &&
                            std::int64_t{step.shape[2]} * entropy.stride == out.rect.width();
        out.stride = covers ? entropy.stride : 0;
        if (!covers) out.rect = {};
    }
    NICRT_RETURN_IF_ERROR(add_tensor(std::move(out), step.out));
    step_->work = std::move(step);
    return {};
}

/// The tiles that cover the step's rectangle, whose edges are those of tiles.
void Builder::find_tiles(EntropyStep& step) const {
    step.shape = step.whole;
    if (request_.tile == 0) return;
    const Extent padded = round().padded;
    const auto tile = static_cast<std::int32_t>(std::min<std::uint32_t>(request_.tile, INT32_MAX));
    step.grid_columns = places(padded.width, tile);
    step.tile_rows = places(padded.height, tile);
    step.tile_columns = step.grid_columns;
    if (!step_->needed || step_->rect == Rect::of(padded)) return;
    const Rect& rect = step_->rect;
    const std::int32_t stride = step.entropy->stride;
    step.first_tile_row = rect.top / tile;
    step.first_tile_column = rect.left / tile;
    step.tile_rows = places(rect.bottom, tile) - step.first_tile_row;
    step.tile_columns = places(rect.right, tile) - step.first_tile_column;
    step.shape[1] = std::min(rect.bottom / stride, step.whole[1]) - rect.top / stride;
    step.shape[2] = std::min(rect.right / stride, step.whole[2]) - rect.left / stride;
}

Status Builder::find_tables(EntropyStep& step) {
    const bundle::Entropy& entropy = *step.entropy;
    if (entropy.by != bundle::kByChannel) {
        NICRT_RETURN_IF_ERROR(find(entropy.by, step.index.emplace()));
        if (plan_.tensors[*step.index].dtype != bundle::Element::uint8)
            return unsupported("the bundle's index " + bundle::in_quotes(entropy.by) + " is not uint8");
        return check_streamed(*step.index, step.shape, false);
    }
    step.sets = {0};
    if (!entropy.set) return {};
    std::uint32_t parameter = 0;
    NICRT_RETURN_IF_ERROR(resolver_.parameter(*entropy.set, parameter));
    step.sets = request_.values[parameter];
    return room_.take(step.sets.size());
}

Status Builder::find_symbols(EntropyStep& step) {
    NICRT_RETURN_IF_ERROR(find(step.entropy->out, step.symbols.emplace()));
    if (plan_.tensors[*step.symbols].dtype != bundle::Element::int32)
        return unsupported("the bundle's symbols " + bundle::in_quotes(step.entropy->out) + " are not int32");
    return check_streamed(*step.symbols, step.shape, true);
}

/// Whether a tensor has the places of a stream. exactly: and no more rows and columns.
Status Builder::check_streamed(std::uint32_t tensor, std::span<const std::int32_t> shape,
                               bool exactly) const {
    const Shape there = shape_on(plan_.tensors[tensor], step_->rect);
    const auto holds = [&](std::size_t axis) {
        return exactly ? there[axis] == shape[axis - 1] : there[axis] >= shape[axis - 1];
    };
    if (there.size() == 4 && there[0] == request_.batch && there[1] == shape[0] && holds(2) && holds(3))
        return {};
    return unsupported("the bundle's tensor " + bundle::in_quotes(plan_.tensors[tensor].name) + " is " +
                       text_of(plan_.tensors[tensor].dtype, there) + ", its stream has " +
                       std::to_string(shape[0]) + " x " + std::to_string(shape[1]) + " x " +
                       std::to_string(shape[2]) + " symbols");
}

}  // namespace nicrt::program

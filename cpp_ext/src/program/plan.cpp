// From a request to a plan. Nothing runs: shapes stand for tensors.
#include <algorithm>
#include <string>

#include "nicrt/plan.hpp"
#include "parallel.hpp"
#include "program/builder.hpp"
#include "program/memory.hpp"
#include "program/windows.hpp"

namespace nicrt::program {
namespace {

constexpr std::int32_t kMaxBatch = 1 << 16;

std::string text_of(Extent extent) {
    return std::to_string(extent.width) + " x " + std::to_string(extent.height) + " pixels";
}

Status check_request(const Request& request) {
    const auto is_side = [](std::int32_t side) { return side >= 1 && side <= kMaxSide; };
    if (!is_side(request.picture.height) || !is_side(request.picture.width))
        return invalid_argument("a picture of " + text_of(request.picture) + "; sides are 1.." +
                                std::to_string(kMaxSide));
    if (request.batch < 1 || request.batch > kMaxBatch)
        return invalid_argument("a batch has 1.." + std::to_string(kMaxBatch) + " pictures");
    if (request.direction == Direction::encode && !request.program->encodes())
        return unsupported("the bundle only decodes: it was made without its encoder graphs");
    return check_values(*request.program, request.values, {UINT32_MAX, UINT64_MAX, UINT32_MAX});
}

/// The rounds that run. invalid_argument: sizes among the values are those of another picture.
Status find_rounds(const Request& request, Plan& plan) {
    plan.rounds = rounds_of(*request.program, request.values, request.picture);
    if (!(plan.rounds.back().size == request.picture))
        return invalid_argument("the picture has " + text_of(request.picture) + ", its last layer " +
                                text_of(plan.rounds.back().size));
    if (request.rounds == 0) return invalid_argument("at least one round runs");
    if (request.rounds < plan.rounds.size()) plan.rounds.resize(request.rounds);
    return {};
}

std::vector<Entry> entries_of(const Request& request, const Plan& plan) {
    const bool encoding = request.direction == Direction::encode;
    std::vector<Entry> entries;
    std::uint32_t stream = 0;
    for (const Round& round : plan.rounds)
        for (const bundle::Step& step : round.stage->steps) {
            if (const auto* const coded = std::get_if<bundle::Entropy>(&step))
                entries.push_back({round.number, coded, nullptr, stream++});
            else if (const auto& run = std::get<bundle::Run>(step); encoding || !run.enc)
                entries.push_back({round.number, nullptr, &run, 0});
        }
    if (!encoding && request.show)
        for (const bundle::Run& run : plan.rounds.back().stage->show.runs)
            entries.push_back({plan.rounds.back().number, nullptr, &run, 0});
    return entries;
}

Status find_region(const Request& request, Plan& plan) {
    const Rect all = Rect::of(plan.rounds.back().size);
    plan.region = request.region.value_or(all);
    const Rect& region = plan.region;
    if (!region.is_empty() && region.top >= 0 && region.left >= 0 && region.bottom <= all.bottom &&
        region.right <= all.right)
        return {};
    return invalid_argument("region " + std::to_string(region.left) + "," + std::to_string(region.top) + "," +
                            std::to_string(std::int64_t{region.right} - region.left) + "," +
                            std::to_string(std::int64_t{region.bottom} - region.top) +
                            " does not lie in the picture of " + text_of(plan.rounds.back().size));
}

Status build(const Request& request, Resolver& resolver, const std::vector<Entry>& entries,
             const std::vector<Rect>* rects, Plan& plan) {
    plan.steps.clear();
    plan.tensors.clear();
    Builder builder(request, resolver, rects, plan);
    NICRT_RETURN_IF_ERROR(builder.add(entries));
    if (request.direction == Direction::decode && request.show) NICRT_RETURN_IF_ERROR(builder.show());
    builder.mark_deaths();
    return {};
}

}  // namespace

Status make_plan(const Request& request, Plan& out) {
    return status_of([&]() -> Status {
        NICRT_RETURN_IF_ERROR(check_request(request));
        Plan plan;
        NICRT_RETURN_IF_ERROR(find_rounds(request, plan));
        const bool shows = request.direction == Direction::decode && request.show;
        if (shows) NICRT_RETURN_IF_ERROR(find_region(request, plan));
        else if (request.region) return invalid_argument("a region is of what is shown, and nothing is");
        const std::vector<Entry> entries = entries_of(request, plan);
        Resolver resolver(*request.manifest, *request.program);
        NICRT_RETURN_IF_ERROR(build(request, resolver, entries, nullptr, plan));
        std::vector<Rect> rects;
        if (request.region && narrow(plan, plan.region, static_cast<std::int32_t>(request.tile), rects))
            NICRT_RETURN_IF_ERROR(build(request, resolver, entries, &rects, plan));
        plan.memory_bytes = memory_of(request, plan);
        out = std::move(plan);
        return {};
    });
}

Part part_of(const Tensor& tensor, const Rect& rect) {
    const auto clipped = [&](std::int32_t place, std::int32_t first, std::int64_t extent) {
        return std::clamp<std::int64_t>((std::int64_t{place} - first) / tensor.stride, 0, extent);
    };
    const std::int64_t rows = tensor.shape[tensor.axes[0]], columns = tensor.shape[tensor.axes[1]];
    const std::int64_t top = clipped(rect.top, tensor.rect.top, rows),
                       left = clipped(rect.left, tensor.rect.left, columns);
    return {top, clipped(rect.bottom, tensor.rect.top, rows) - top, left,
            clipped(rect.right, tensor.rect.left, columns) - left};
}

std::vector<std::int64_t> shape_on(const Tensor& tensor, const Rect& rect) {
    std::vector<std::int64_t> shape = tensor.shape;
    if (tensor.stride == 0) return shape;
    const Part part = part_of(tensor, rect);
    shape[tensor.axes[0]] = part.rows;
    shape[tensor.axes[1]] = part.columns;
    return shape;
}

std::vector<std::int64_t> shape_covering(const Tensor& tensor, const Rect& rect) {
    std::vector<std::int64_t> shape = tensor.shape;
    if (tensor.stride != 0) {
        shape[tensor.axes[0]] = rect.height() / tensor.stride;
        shape[tensor.axes[1]] = rect.width() / tensor.stride;
    }
    return shape;
}

std::vector<std::int64_t> shape_of_call(const Tensor& tensor, const GraphStep& step, std::string_view port,
                                        const Call& call) {
    if (!step.banded) return shape_covering(tensor, call.around);
    std::vector<std::int64_t> shape = tensor.shape;
    std::int64_t& rows = shape[kBandAxis];
    const bundle::Dimension& dimension = step.graph->outputs.find(port)->dims[kBandAxis];
    if (dimension.symbol.empty()) rows = dimension.extent;  // the same of every band
    else rows = rows * (call.end_row - call.first_row) / step.calls.back().end_row;
    return shape;
}

}  // namespace nicrt::program

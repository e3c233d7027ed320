// From the region that is wanted back to the rectangles that each step has to make for it.
#include <variant>

#include "program/rect.hpp"
#include "program/windows.hpp"

namespace nicrt::program {
namespace {

/// Whether a step can make any rectangle of its picture from rectangles of its inputs.
bool is_local(const Plan& plan, const Step& step) {
    const auto* const work = std::get_if<GraphStep>(&step.work);
    if (work == nullptr) return true;
    if (work->banded || !work->graph->halo || work->unit == 0) return false;
    for (const auto& [port, tensor] : work->outputs)
        if (plan.tensors[tensor].stride == 0) return false;
    return true;
}

/// What a step needs of its inputs to make `rect`.
void need_inputs(const Step& step, const Rect& rect, const Rect& bounds, std::vector<Rect>& needs) {
    if (const auto* const coded = std::get_if<EntropyStep>(&step.work)) {
        if (coded->index) needs[*coded->index] = united(rect, needs[*coded->index]);
        return;
    }
    const auto& work = std::get<GraphStep>(step.work);
    const Rect around = around_of(rect, bounds, Cut::of(*work.graph, work.unit));
    for (const Source& source : work.inputs)
        if (source.kind == Source::Kind::tensor) needs[source.tensor] = united(around, needs[source.tensor]);
}

}  // namespace

bool narrow(const Plan& whole, const Rect& region, std::int32_t tile, std::vector<Rect>& rects) {
    const Rect bounds = whole.steps.back().rect;
    for (const Step& step : whole.steps)
        if (!(step.rect == bounds) || !is_local(whole, step)) return false;
    std::vector<Rect> needs(whole.tensors.size());
    needs[*whole.shown] = region;
    rects.assign(whole.steps.size(), Rect{});
    for (std::size_t i = whole.steps.size(); i-- > 0;) {
        const Step& step = whole.steps[i];
        Rect wanted;
        std::int32_t unit = tile;
        if (const auto* const coded = std::get_if<EntropyStep>(&step.work)) {
            wanted = needs[coded->out];
        } else {
            const auto& work = std::get<GraphStep>(step.work);
            unit = work.unit;
            for (const auto& [port, tensor] : work.outputs) wanted = united(wanted, needs[tensor]);
        }
        if (wanted.is_empty()) continue;
        rects[i] = unit == 0 ? bounds : grown(wanted, 0, unit, bounds);
        need_inputs(step, rects[i], bounds, needs);
    }
    return true;
}

}  // namespace nicrt::program

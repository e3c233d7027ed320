// Programs: of any manifest, checked or not, and any request a plan is refused with a typed status, or it
// holds together: windows tile what they are to make, every tensor is alive where it is read, and nothing
// lies outside the picture.
#include <algorithm>
#include <cmath>
#include <string>

#include "bundle/check.hpp"
#include "bundle/manifest.hpp"
#include "input.hpp"
#include "nicrt/plan.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;
using program::Extent;
using program::Plan;
using program::Rect;
using program::Step;

constexpr std::size_t kChoices = 64;  // bytes in front of the manifest

bool is_typed(const Status& status) {
    return status.ok() || status.code() == Code::unsupported || status.code() == Code::limit ||
           status.code() == Code::invalid_argument;
}

template <class T>
T* any_of(std::vector<T>& items, Input& input) {
    return items.empty() ? nullptr : &items[input.below(static_cast<std::uint32_t>(items.size()))];
}

std::int32_t number_in(Input& input, std::int32_t low, std::int32_t high) {
    static constexpr std::int32_t kUsual[] = {1, 2, 3, 4, 8, 16, 64, 512};
    const std::uint32_t choice = input.below(12);
    const std::int32_t number =
        choice < 8 ? kUsual[choice] : static_cast<std::int32_t>(input.number() & INT32_MAX);
    return std::clamp(number, low, high);
}

void change_graph(bundle::Graph& graph, Input& input) {
    if (input.flag()) {
        graph.halo = number_in(input, 0, 1 << 16);
        graph.workspace_bytes_per_pixel = input.flag() ? 1e9 : input.byte();
        return;
    }
    auto& ports = input.flag() ? graph.inputs.items : graph.outputs.items;
    auto* const port = any_of(ports, input);
    if (port == nullptr) return;
    auto* const dimension = any_of(port->second.dims, input);
    if (dimension == nullptr) return;
    if (dimension->symbol.empty()) dimension->extent = number_in(input, 1, 1 << 24);
    else dimension->factor = number_in(input, 1, 9999999);
}

/// Another number in a place that may hold it.
void change(bundle::Manifest& manifest, bundle::Program& program, Input& input) {
    auto* const stage = any_of(program.stages, input);
    auto* const graph = any_of(manifest.graphs.items, input);
    if (graph != nullptr && input.flag()) return change_graph(graph->second, input);
    if (stage == nullptr) return;
    stage->align = input.flag() ? number_in(input, 1, 1024) : stage->align;
    auto* const step = any_of(stage->steps, input);
    if (step == nullptr) return;
    if (auto* const coded = std::get_if<bundle::Entropy>(step)) {
        coded->stride = number_in(input, 1, 1024);
        coded->channels = number_in(input, 1, 4096);
    } else {
        std::get<bundle::Run>(*step).bands = number_in(input, 4, 1 << 16);
    }
}

/// Whether the rules of section 8 hold, with tables that fit whatever codes with them.
bool is_valid(const bundle::Manifest& manifest) {
    bundle::TableGroups groups;
    for (const auto& [name, variant] : manifest.variants)
        for (const bundle::Stage& stage : variant.program.stages)
            for (const bundle::Step& step : stage.steps)
                if (const auto* const coded = std::get_if<bundle::Entropy>(&step)) {
                    bundle::TableGroup& group = groups[coded->tables];
                    group.size = {2};
                    if (coded->by == "channel") group.sets = INT32_MAX, group.channels = coded->channels;
                }
    return bundle::check_programs(manifest, groups).ok();
}

bool lies_in(const Rect& inner, const Rect& outer) {
    return !inner.is_empty() && inner.top >= outer.top && inner.left >= outer.left &&
           inner.bottom <= outer.bottom && inner.right <= outer.right;
}

/// The tensor is there, and alive, when a step reads it.
void check_read(const Plan& plan, std::uint32_t tensor, std::size_t step) {
    MUST(tensor < plan.tensors.size());
    const program::Tensor& read = plan.tensors[tensor];
    MUST(read.first_step < step && read.last_step >= step && plan.steps[read.first_step].needed);
    MUST(!read.shape.empty() && read.bytes() > 0);
}

void check_calls(const Plan& plan, const Step& step, const program::GraphStep& work, std::size_t number) {
    const Rect bounds = Rect::of(plan.rounds[step.round].padded);
    MUST(!work.calls.empty());
    std::int64_t area = 0, rows = 0;
    for (const program::Call& call : work.calls) {
        MUST(lies_in(call.kept, step.rect) && lies_in(call.kept, call.around) &&
             lies_in(call.around, bounds));
        area += call.kept.area();
        rows += call.end_row - call.first_row;
    }
    if (work.banded) MUST(rows == bounds.bottom);
    else MUST(area == step.rect.area());
    for (const program::Source& source : work.inputs) {
        if (source.kind != program::Source::Kind::tensor) continue;
        check_read(plan, source.tensor, number);
        const program::Tensor& tensor = plan.tensors[source.tensor];
        if (tensor.stride == 0) continue;
        const program::Part part = program::part_of(tensor, work.calls.back().around);
        MUST(part.first_row + part.rows <= tensor.shape[tensor.axes[0]]);
        MUST(part.first_column + part.columns <= tensor.shape[tensor.axes[1]]);
    }
}

void check_plan(const Plan& plan) {
    std::size_t dead = 0, made = 0;
    for (std::size_t i = 0; i < plan.steps.size(); ++i) {
        const Step& step = plan.steps[i];
        MUST(step.round < plan.rounds.size());
        dead += step.dies.size();
        if (!step.needed) continue;
        MUST(lies_in(step.rect, Rect::of(plan.rounds[step.round].padded)));
        if (const auto* const coded = std::get_if<program::EntropyStep>(&step.work)) {
            ++made;
            MUST(coded->out < plan.tensors.size() && coded->shape[1] > 0 && coded->shape[2] > 0);
            MUST(coded->first_tile_column + coded->tile_columns <= coded->grid_columns);
            if (coded->index) check_read(plan, *coded->index, i);
            if (coded->symbols) check_read(plan, *coded->symbols, i);
        } else {
            const auto& work = std::get<program::GraphStep>(step.work);
            made += work.outputs.size();
            check_calls(plan, step, work, i);
        }
        for (const std::uint32_t tensor : step.dies) MUST(plan.tensors[tensor].last_step == i);
    }
    MUST(dead + (plan.shown ? 1 : 0) == made);
}

program::Values values_of(const bundle::Program& program, Extent picture, Input& input) {
    program::Values values = program::default_values(program, picture);
    for (std::vector<std::int32_t>& list : values) {
        if (input.byte() >= 32) continue;
        list.resize(input.below(9));
        for (std::int32_t& value : list) value = number_in(input, INT32_MIN, INT32_MAX);
    }
    return values;
}

void try_plan(const bundle::Manifest& manifest, const bundle::Program& program, Input& input) {
    program::Request request;
    request.manifest = &manifest;
    request.program = &program;
    request.picture = {number_in(input, 1, 1 << 24), number_in(input, 1, 1 << 24)};
    request.values = values_of(program, request.picture, input);
    request.direction = input.flag() ? program::Direction::encode : program::Direction::decode;
    if (input.flag()) request.rounds = input.below(5);
    request.show = input.byte() < 200;
    request.tile = input.flag() ? 0 : static_cast<std::uint32_t>(number_in(input, 0, INT32_MAX));
    request.batch = input.byte() < 200 ? 1 : number_in(input, 1, 1 << 16);
    request.effort = static_cast<std::int32_t>(input.below(10));
    request.windows = input.byte() < 250;
    if (input.flag()) {
        const std::int32_t top = number_in(input, 0, 1 << 24) - 1, left = number_in(input, 0, 1 << 24) - 1;
        request.region =
            Rect{top, left, top + number_in(input, 0, 1 << 24), left + number_in(input, 0, 1 << 24)};
    }
    Plan plan;
    const Status status = program::make_plan(request, plan);
    MUST(is_typed(status));
    if (status.ok()) check_plan(plan);
}

void try_file(const bundle::Manifest& manifest, const bundle::Variant& variant, Input& input) {
    Header header;
    for (std::size_t i = 0; i < 8; ++i) {
        const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
        header.symbol_id[i] = static_cast<std::uint8_t>(digit(variant.symbol_id[2 * i]) << 4 |
                                                        digit(variant.symbol_id[2 * i + 1]));
    }
    header.width = input.word();
    header.height = input.word();
    header.tile_size = input.flag() ? 512 : 0;
    const Extent picture{static_cast<std::int32_t>(header.height), static_cast<std::int32_t>(header.width)};
    header.parameters = values_of(variant.program, picture, input);
    header.stages.resize(input.below(8));
    for (Stage& stage : header.stages) {
        stage.streams.resize(input.below(4));
        for (Stream& stream : stage.streams) stream.tiles.resize(input.below(5));
    }
    program::Opened opened;
    const Status status = program::open_file(manifest, header, {}, opened);
    MUST(status.ok() || status.code() == Code::corrupt || status.code() == Code::limit ||
         status.code() == Code::unsupported);
    if (status.ok()) MUST(opened.rounds.size() == header.stages.size());
}

void try_choice(const bundle::Manifest& manifest, Input& input) {
    program::Wish wish;
    wish.quality = input.flag() ? input.byte() : input.real();
    if (input.flag()) wish.scales = {std::vector<double>{input.real(), input.real(), input.real()}};
    std::string_view variant;
    program::Values values;
    const Extent picture{number_in(input, 1, 1 << 24), number_in(input, 1, 1 << 24)};
    MUST(is_typed(program::choose(manifest, wish, picture, variant, values)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::size_t choices = std::min(size, kChoices);
    Input input(data, choices);
    bundle::Manifest manifest;
    if (!bundle::read_manifest({data + choices, data + size}, manifest).ok()) return 0;
    bundle::Variant& variant = manifest.variants.items.front().second;
    for (std::uint32_t changes = input.below(4); changes > 0; --changes)
        change(manifest, variant.program, input);
    if (input.byte() < 230 && !is_valid(manifest)) return 0;  // the rest: what no reader would let in
    try_plan(manifest, variant.program, input);
    if (input.flag()) try_file(manifest, variant, input);
    if (input.flag() && !manifest.quality.empty()) try_choice(manifest, input);
    return 0;
}

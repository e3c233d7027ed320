#include "program/builder.hpp"

#include <algorithm>
#include <numeric>
#include <set>
#include <string>

#include "bundle/check.hpp"
#include "bundle/names.hpp"
#include "program/memory.hpp"
#include "program/rect.hpp"

namespace nicrt::program {
namespace {

constexpr std::uint64_t kTensorPlaces = 16, kSourcePlaces = 8;

/// What the inputs say of their symbols.
std::vector<std::pair<std::string_view, std::int64_t>> symbols_of(const PreparedGraph& graph,
                                                                  const Extents& extents) {
    std::vector<std::pair<std::string_view, std::int64_t>> symbols;
    for (std::size_t i = 0; i < graph.input_symbols; ++i) symbols.emplace_back(graph.symbols[i], extents[i]);
    return symbols;
}

/// Two symbols that only outputs have are height and width of the round's picture.
void set_sized(const PreparedGraph& graph, Extent size, Extents& extents) {
    if (graph.input_symbols < extents.size()) extents[graph.input_symbols] = size.height;
    if (graph.input_symbols + 1 < extents.size()) extents[graph.input_symbols + 1] = size.width;
}

}  // namespace

Status Builder::add(const std::vector<Entry>& entries) {
    plan_.steps.reserve(entries.size());
    for (const Entry& entry : entries) {
        step_ = &plan_.steps.emplace_back();
        step_->round = entry.round;
        step_->rect = rects_ != nullptr ? (*rects_)[plan_.steps.size() - 1] : Rect::of(round().padded);
        step_->needed = !step_->rect.is_empty();
        NICRT_RETURN_IF_ERROR(entry.entropy != nullptr ? add_entropy(entry) : add_graph(entry));
    }
    return {};
}

Status Builder::find(std::string_view name, std::uint32_t& out) const {
    const auto found = scope_.find(name);
    if (found == scope_.end())
        return unsupported("the bundle's program takes " + bundle::in_quotes(name) + ", which is not there");
    out = found->second;
    return {};
}

Status Builder::add_tensor(Tensor tensor, std::uint32_t& out) {
    NICRT_RETURN_IF_ERROR(room_.take(kTensorPlaces));
    out = static_cast<std::uint32_t>(plan_.tensors.size());
    tensor.first_step = tensor.last_step = static_cast<std::uint32_t>(plan_.steps.size() - 1);
    scope_[tensor.name] = out;
    plan_.tensors.push_back(std::move(tensor));
    return {};
}

Status Builder::add_graph(const Entry& entry) {
    const PreparedRun* run = nullptr;
    const bool encoding = request_.direction == Direction::encode;
    NICRT_RETURN_IF_ERROR(resolver_.run(*entry.run, encoding ? request_.effort : 0, run));
    GraphStep step;
    step.run = entry.run;
    step.graph = run->graph->graph;
    step.name = run->graph->name;
    step.banded = entry.run->bands.has_value();
    Extents extents(run->graph->symbols.size(), kUnknown);
    if (step_->needed) {
        for (const PreparedSource& prepared : run->inputs) {
            NICRT_RETURN_IF_ERROR(room_.take(kSourcePlaces));
            Source& source = step.inputs.emplace_back();
            NICRT_RETURN_IF_ERROR(find_source(prepared, source));
            step.one_by_one |= request_.batch > 1 && source.per_picture && !prepared.port->is_batched();
        }
        find_unit(*run, step);
        NICRT_RETURN_IF_ERROR(find_calls(*run, step));
        const Call& first = step.calls.front();
        NICRT_RETURN_IF_ERROR(
            bind_inputs(*run, step, {step_->rect, step_->rect, first.first_row, first.end_row}, extents));
        NICRT_RETURN_IF_ERROR(room_.take(2 * kTensorPlaces * run->graph->input_symbols));
        step.symbols = symbols_of(*run->graph, extents);
        if (step.banded) find_least_band(*run, step);
        NICRT_RETURN_IF_ERROR(check_windows(*run, step));
    }
    NICRT_RETURN_IF_ERROR(add_outputs(*run, extents, step));
    step_->work = std::move(step);
    return {};
}

/// Bands that end at multiples of the stage's alignment: the last one has a multiple of what divides both.
void Builder::find_least_band(const PreparedRun& run, GraphStep& step) const {
    const std::int32_t rows = std::gcd(*step.run->bands, round().stage->align);
    Extents extents(run.graph->symbols.size(), kUnknown);
    if (bind_inputs(run, step, {step_->rect, step_->rect, 0, rows}, extents).ok())
        step.least_symbols = symbols_of(*run.graph, extents);
}

Status Builder::find_source(const PreparedSource& prepared, Source& out) {
    out.port = prepared.port->name;
    out.kind = prepared.kind;
    switch (prepared.kind) {
        case Source::Kind::tensor:
            NICRT_RETURN_IF_ERROR(find(prepared.tensor, out.tensor));
            out.per_picture = plan_.tensors[out.tensor].per_picture;
            return {};
        case Source::Kind::picture:
            out.per_picture = true;
            return request_.direction == Direction::encode
                       ? Status()
                       : unsupported("the bundle's program takes the picture when decoding");
        case Source::Kind::size: out.values = {round().size.height, round().size.width}; return {};
        case Source::Kind::parameter: break;
        default: return {};
    }
    out.parameter = prepared.parameter;
    const std::vector<std::int32_t>& values = request_.values[prepared.parameter];
    if (!prepared.of_round) {
        out.values = values;
        return room_.take(values.size());
    }
    const std::uint32_t item = round().item;
    if (item >= values.size()) return unsupported("the bundle's program takes more values than a list has");
    out.element = item;
    out.values = {values[item]};
    return {};
}

bundle::Element Builder::type_of(const Source& source) const {
    if (source.kind == Source::Kind::tensor) return plan_.tensors[source.tensor].dtype;
    return source.kind == Source::Kind::picture ? bundle::Element::float32 : bundle::Element::int32;
}

/// What a call gets from a source; of a batch whose pictures run one by one, for one of them.
Shape Builder::shape_of_source(const Source& source, const Call& call, bool one_by_one) const {
    const std::int64_t pictures = one_by_one ? 1 : request_.batch;
    switch (source.kind) {
        case Source::Kind::picture:
            return {pictures, bundle::kPictureChannels, call.around.height(), call.around.width()};
        case Source::Kind::rows: return {std::int64_t{call.end_row} - call.first_row};
        case Source::Kind::columns: return {round().padded.width};
        case Source::Kind::tensor: break;
        default: return {static_cast<std::int64_t>(source.values.size())};
    }
    Shape shape = shape_on(plan_.tensors[source.tensor], call.around);
    if (one_by_one && source.per_picture && !shape.empty()) shape.front() = 1;
    return shape;
}

Status Builder::bind_inputs(const PreparedRun& run, const GraphStep& step, const Call& call,
                            Extents& extents) const {
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
        const Source& source = step.inputs[i];
        NICRT_RETURN_IF_ERROR(bind_port(*run.graph, *run.inputs[i].port, type_of(source),
                                        shape_of_source(source, call, step.one_by_one), extents));
    }
    return {};
}

/// Every extent of a call that differs from the first one's fits as well. Of windows that are as large one is
/// enough.
Status Builder::check_windows(const PreparedRun& run, const GraphStep& step) const {
    std::set<std::array<std::int32_t, 3>> seen;
    for (const Call& call : step.calls) {
        if (!seen.insert({call.around.height(), call.around.width(), call.end_row - call.first_row}).second)
            continue;
        Extents extents(run.graph->symbols.size(), kUnknown);
        NICRT_RETURN_IF_ERROR(bind_inputs(run, step, call, extents));
    }
    return {};
}

/// Pixels that one unit of the symbols `h` and `w` stands for: what the spatial inputs agree on.
void Builder::find_unit(const PreparedRun& run, GraphStep& step) const {
    std::int64_t unit = 0;
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
        const Source& source = step.inputs[i];
        const auto& spatial = run.inputs[i].port->spatial;
        std::int64_t stride = source.kind == Source::Kind::picture ? 1 : 0;
        if (source.kind == Source::Kind::tensor) stride = plan_.tensors[source.tensor].stride;
        if (!spatial || stride == 0) continue;
        const std::int64_t own = stride * spatial->factor;
        if ((unit != 0 && own != unit) || own > INT32_MAX) return;  // step.unit stays 0
        unit = own;
    }
    step.unit = static_cast<std::int32_t>(unit);
}

Status Builder::find_calls(const PreparedRun& run, GraphStep& step) {
    const Rect bounds = Rect::of(round().padded);
    if (step.banded) return add_bands(bounds, *step.run->bands, room_, step.calls);
    bool windowed = step.graph->halo.has_value() && step.unit != 0;
    for (const auto& [port, name] : run.outputs)
        windowed &= port->spatial.has_value() && step.unit % port->spatial->factor == 0;
    Cut cut;
    if (windowed) {
        cut = Cut::of(*step.graph, step.unit);
        if (request_.windows)
            cut.edge = request_.window_edge > 0
                           ? request_.window_edge / step.unit * step.unit
                           : window_edge(bounds, workspace_of(request_, step.name, *step.graph), step.unit);
    }
    return add_windows(step_->rect, bounds, cut, room_, step.calls);
}

Status Builder::add_outputs(const PreparedRun& run, const Extents& input_extents, GraphStep& step) {
    Extents extents = input_extents;
    set_sized(*run.graph, round().size, extents);
    bool batched = false;
    for (const Source& source : step.inputs) batched |= source.per_picture;
    for (const auto& [port, name] : run.outputs) {
        Tensor tensor;
        tensor.name = name;
        tensor.dtype = port->port->dtype;
        tensor.per_picture = batched && (request_.batch == 1 || step.one_by_one || port->is_batched());
        if (step_->needed) {
            NICRT_RETURN_IF_ERROR(shape_of(*run.graph, *port, extents, tensor.shape));
            if (step.one_by_one) {
                if (tensor.shape.empty() || tensor.shape.front() != 1)
                    return unsupported("graph " + bundle::in_quotes(step.name) + " makes " +
                                       text_of(tensor.dtype, tensor.shape) + " of one picture of a batch");
                tensor.shape.front() = request_.batch;
            }
            if (step.banded) NICRT_RETURN_IF_ERROR(join_bands(run, *port, step, tensor.shape));
            place(*port, step, tensor);
        }
        NICRT_RETURN_IF_ERROR(add_tensor(std::move(tensor), step.outputs.emplace_back(port->name, 0).second));
    }
    return {};
}

/// From the shape of the first band to that of all of them, one behind the other along the third dimension.
Status Builder::join_bands(const PreparedRun& run, const PreparedPort& port, const GraphStep& step,
                           Shape& shape) const {
    if (shape.size() < 3)
        return unsupported("graph " + bundle::in_quotes(step.name) + " runs in bands, and makes " +
                           text_of(port.port->dtype, shape));
    Extents extents(run.graph->symbols.size(), kUnknown);
    NICRT_RETURN_IF_ERROR(bind_inputs(run, step, step.calls.back(), extents));
    Shape last;
    set_sized(*run.graph, round().size, extents);
    NICRT_RETURN_IF_ERROR(shape_of(*run.graph, port, extents, last));
    if (step.one_by_one) last.front() = request_.batch;
    const std::int64_t last_rows = last[2];
    last[2] = shape[2];
    if (last != shape)
        return unsupported("graph " + bundle::in_quotes(step.name) +
                           " makes bands that do not fit each other: " + text_of(port.port->dtype, shape) +
                           " and " + text_of(port.port->dtype, last));
    const auto others = static_cast<std::int64_t>(step.calls.size() - 1);
    if (shape[2] > static_cast<std::int64_t>(kMaxTensorBytes) / (others + 1)) return too_large(*run.graph);
    shape[2] = shape[2] * others + last_rows;
    if (bytes_of(port.port->dtype, shape) > kMaxTensorBytes) return too_large(*run.graph);
    return {};
}

/// Where an output covers the step's rectangle, place by place, it is spatial.
void Builder::place(const PreparedPort& port, const GraphStep& step, Tensor& tensor) const {
    const Rect& rect = step_->rect;
    bundle::Spatial spatial{{2, 3}, 1};
    std::int32_t stride = 1;
    if (step.banded) {
        if (tensor.shape.size() != 4) return;
    } else {
        if (!port.spatial || step.unit == 0 || step.unit % port.spatial->factor != 0) return;
        spatial = *port.spatial;
        stride = step.unit / spatial.factor;
    }
    const auto covers = [&](std::uint8_t axis, std::int32_t pixels) {
        return pixels % stride == 0 && tensor.shape[axis] == pixels / stride;
    };
    if (!covers(spatial.axes[0], rect.height()) || !covers(spatial.axes[1], rect.width())) return;
    tensor.rect = rect;
    tensor.stride = stride;
    tensor.axes = spatial.axes;
}

Status Builder::show() {
    const Round& last = plan_.rounds.back();
    std::uint32_t shown = 0;
    NICRT_RETURN_IF_ERROR(find(last.stage->show.shown(), shown));
    const Tensor& tensor = plan_.tensors[shown];
    const Rect rect = tensor.stride == 0 ? Rect::of(last.padded) : tensor.rect;
    const Shape& shape = tensor.shape;
    const bool fits = tensor.dtype == bundle::Element::uint8 && shape.size() == 4 &&
                      shape[0] == request_.batch && shape[1] >= plan_.region.bottom - rect.top &&
                      shape[2] >= plan_.region.right - rect.left && shape[3] == bundle::kPictureChannels;
    if (!fits)
        return unsupported("the bundle shows " + text_of(tensor.dtype, shape) + " for a picture of " +
                           std::to_string(last.size.width) + " x " + std::to_string(last.size.height));
    plan_.shown = shown;
    return {};
}

void Builder::mark_deaths() {
    const auto read = [&](std::uint32_t tensor, std::size_t step) {
        plan_.tensors[tensor].last_step = static_cast<std::uint32_t>(step);
    };
    for (std::size_t i = 0; i < plan_.steps.size(); ++i) {
        if (!plan_.steps[i].needed) continue;
        if (const auto* const coded = std::get_if<EntropyStep>(&plan_.steps[i].work)) {
            if (coded->symbols) read(*coded->symbols, i);
            if (coded->index) read(*coded->index, i);
            continue;
        }
        for (const Source& source : std::get<GraphStep>(plan_.steps[i].work).inputs)
            if (source.kind == Source::Kind::tensor) read(source.tensor, i);
    }
    if (plan_.shown) plan_.tensors[*plan_.shown].last_step = UINT32_MAX;
    for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
        const std::uint32_t last = plan_.tensors[i].last_step;
        if (last != UINT32_MAX && plan_.steps[last].needed)
            plan_.steps[last].dies.push_back(static_cast<std::uint32_t>(i));
    }
}

}  // namespace nicrt::program

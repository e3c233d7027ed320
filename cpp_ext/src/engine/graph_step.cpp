// Runs the graph of a step, on all of it at once, in windows or in bands.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>

#include "bundle/check.hpp"
#include "engine/rectangles.hpp"
#include "engine/state.hpp"
#include "parallel.hpp"
#include "program/shapes.hpp"

namespace nicrt::engine {
namespace {

using bundle::in_quotes;
using program::Call;
using program::GraphStep;
using program::kBandAxis;
using program::Rect;
using program::Step;

template <class Value>
bool lies_in(const Array& array, const bundle::Pair& range) {
    const auto* const values = array.as<const Value>();
    const std::size_t count = array.bytes() / sizeof(Value);
    if (count == 0) return true;
    Value least = values[0], most = values[0];
    for (std::size_t i = 1; i < count; ++i) {  // which compilers make faster than std::minmax_element
        least = std::min(least, values[i]);
        most = std::max(most, values[i]);
    }
    return std::int64_t{least} >= range[0] && std::int64_t{most} <= range[1];
}

bool lies_in(const Array& array, const bundle::Pair& range) {
    switch (array.dtype) {
        case bundle::Element::int32: return lies_in<std::int32_t>(array, range);
        case bundle::Element::int64: return lies_in<std::int64_t>(array, range);
        case bundle::Element::uint8: return lies_in<std::uint8_t>(array, range);
        case bundle::Element::uint16: return lies_in<std::uint16_t>(array, range);
        default: return true;  // exact graphs take integers alone
    }
}

/// An exact graph is exact for inputs in its range; a file that leaves it must not reach a device that may
/// differ.
Status check_ranges(std::string_view name, const bundle::Graph& graph, std::span<const Named> inputs) {
    for (const Named& input : inputs) {
        const auto& range = graph.inputs.find(input.port)->range;
        if (range && !lies_in(input.array, *range))
            return corrupt("values for " + in_quotes(input.port) + " of graph " + in_quotes(name) +
                           " are outside " + std::to_string((*range)[0]) + ".." +
                           std::to_string((*range)[1]));
    }
    return {};
}

/// Puts a band's part behind what lies before `row` along the third dimension.
void append(const Array& part, std::int64_t row, const Array& whole) {
    std::size_t outer = 1, inner = bundle::bytes_of(whole.dtype);
    for (std::size_t axis = 0; axis < kBandAxis; ++axis) outer *= static_cast<std::size_t>(whole.shape[axis]);
    for (std::size_t axis = kBandAxis + 1; axis < whole.shape.size(); ++axis)
        inner *= static_cast<std::size_t>(whole.shape[axis]);
    const std::size_t part_bytes = static_cast<std::size_t>(part.shape[kBandAxis]) * inner;
    const std::size_t whole_bytes = static_cast<std::size_t>(whole.shape[kBandAxis]) * inner;
    for (std::size_t i = 0; i < outer; ++i)
        std::memcpy(whole.data + i * whole_bytes + static_cast<std::size_t>(row) * inner,
                    part.data + i * part_bytes, part_bytes);
}

}  // namespace

Status Execution::Impl::execute(const GraphStep& work, std::string_view name, const Call& at,
                                std::span<const Named> inputs, std::span<Named> outputs) {
    const bundle::Graph& graph = name == work.name ? *work.graph : *bundle.manifest().graphs.find(name);
    NICRT_RETURN_IF_ERROR(in.work.check());
    if (graph.exact) NICRT_RETURN_IF_ERROR(check_ranges(name, graph, inputs));
    std::shared_ptr<const Executable> executable;
    NICRT_RETURN_IF_ERROR(in.graphs->get(name, executable, in.work));
    std::vector<Named> wanted(outputs.begin(), outputs.end());
    const auto start = std::chrono::steady_clock::now();
    NICRT_RETURN_IF_ERROR(executable->run(inputs, outputs, in.work));
    const std::int64_t rows = work.banded ? at.end_row - at.first_row : at.around.height();
    in.graphs->count(name, static_cast<std::uint64_t>(rows * at.around.width()));
    if (in.trace) {
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        NICRT_RETURN_IF_ERROR(in.trace("graph " + std::string(name), seconds.count()));
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const Array &got = outputs[i].array, &planned = wanted[i].array;
        if (got.data == nullptr || got.dtype != planned.dtype || got.shape != planned.shape)
            return {Code::unsupported, "graph " + in_quotes(name) + ": port " + in_quotes(outputs[i].port) +
                                           " is " + program::text_of(planned.dtype, planned.shape) +
                                           ", its array " + program::text_of(got.dtype, got.shape)};
    }
    return {};
}

Status Execution::Impl::call(const Step& step, const GraphStep& work, const Call& call,
                             std::vector<Array>& out) {
    std::vector<Named> inputs, outputs;
    inputs.reserve(work.inputs.size());
    for (const program::Source& each : work.inputs) {
        Named& input = inputs.emplace_back();
        input.port = each.port;
        NICRT_RETURN_IF_ERROR(source(each, step, call, input.array));
    }
    for (const auto& [port, number] : work.outputs) {
        const program::Tensor& tensor = plan.tensors[number];
        outputs.push_back({port, {tensor.dtype, shape_of_call(tensor, work, port, call), nullptr, nullptr}});
    }
    NICRT_RETURN_IF_ERROR(execute(work, work.name, call, inputs, outputs));
    inputs.clear();  // copies of windows are not needed any more
    out.resize(outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        if (work.banded) out[i] = std::move(outputs[i].array);
        else
            NICRT_RETURN_IF_ERROR(crop(plan.tensors[work.outputs[i].second], outputs[i].array, call.around,
                                       call.kept, in.work.budget, out[i]));
    }
    return {};
}

Status Execution::Impl::run_calls(const Step& step, const GraphStep& work, std::vector<Array>& out) {
    if (work.calls.size() == 1) return call(step, work, work.calls.front(), out);
    std::vector<std::int64_t> rows(work.outputs.size(), 0);
    out.resize(work.outputs.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
        const program::Tensor& tensor = plan.tensors[work.outputs[i].second];
        NICRT_RETURN_IF_ERROR(Array::make(tensor.dtype, tensor.shape, in.work.budget, out[i]));
    }
    std::vector<Array> parts;
    for (const Call& each : work.calls) {
        parts.clear();
        NICRT_RETURN_IF_ERROR(call(step, work, each, parts));
        for (std::size_t i = 0; i < out.size(); ++i) {
            const program::Tensor& tensor = plan.tensors[work.outputs[i].second];
            if (!work.banded) {
                paste(tensor, parts[i], each.kept, out[i], step.rect);
                continue;
            }
            append(parts[i], rows[i], out[i]);
            rows[i] += parts[i].shape[kBandAxis];
        }
    }
    return {};
}

/// What goes into a step: versions of tensors, values of parameters, kinds of the rest.
Memo::Key Execution::Impl::made_of(const Step& step, const GraphStep& work) const {
    const program::Round& round = round_of(step);
    Memo::Key key{static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(work.graph)), round.size.height,
                  round.size.width};
    for (const program::Source& each : work.inputs) {
        key.push_back(static_cast<std::int64_t>(each.kind));
        if (each.kind == program::Source::Kind::tensor)
            key.push_back(static_cast<std::int64_t>(versions[each.tensor]));
        key.push_back(static_cast<std::int64_t>(each.values.size()));
        key.insert(key.end(), each.values.begin(), each.values.end());
    }
    return key;
}

Status Execution::Impl::run_graph(const Step& step, const GraphStep& work) {
    std::vector<Array> outputs;
    if (in.memo == nullptr) {
        NICRT_RETURN_IF_ERROR(run_calls(step, work, outputs));
    } else {
        const Memo::Place place{round_of(step).number, work.run};
        Memo::Key key = made_of(step, work);
        auto kept = in.memo->last(place);
        if (kept == nullptr || kept->key != key) {
            in.memo->macs += work.graph->macs_per_pixel.value_or(0) * static_cast<double>(step.rect.area());
            NICRT_RETURN_IF_ERROR(run_calls(step, work, outputs));
            kept = in.memo->keep(place, std::move(key), std::move(outputs));
        }
        outputs = kept->tensors;
        for (std::size_t i = 0; i < outputs.size(); ++i) versions[work.outputs[i].second] = kept->versions[i];
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) tensors[work.outputs[i].second] = std::move(outputs[i]);
    return {};
}

/// What a step of another plan, of the same picture, reads.
Status Execution::Impl::source_by_name(const program::Source& source, std::string_view name, const Step& step,
                                       const Call& at, Array& out) {
    if (source.kind != program::Source::Kind::tensor) return this->source(source, step, at, out);
    const auto number = find(name);
    if (!number) return invalid_argument("there is no tensor " + in_quotes(name) + " now");
    return read_part(plan.tensors[*number], tensors[*number], at.around, in.work.budget, out);
}

Status Execution::evaluate(const program::Plan& plan, std::uint32_t number, std::string_view graph,
                           const Rect& rect, std::span<const Named> given, std::vector<Array>& out) {
    return status_of([&]() -> Status {
        const auto* const work =
            number < plan.steps.size() ? std::get_if<GraphStep>(&plan.steps[number].work) : nullptr;
        const bundle::Graph* const spec = impl_->bundle.manifest().graphs.find(graph);
        if (work == nullptr || spec == nullptr) return invalid_argument("there is no such graph to evaluate");
        const Step& step = plan.steps[number];
        if (impl_->in.memo != nullptr)
            impl_->in.memo->macs += spec->macs_per_pixel.value_or(0) * static_cast<double>(rect.area());
        const Call at{rect, rect, 0, impl_->round_of(step).padded.height};
        std::vector<Named> inputs, outputs;
        for (const program::Source& each : work->inputs) {
            using Kind = program::Source::Kind;
            std::string_view name;
            if (each.kind == Kind::tensor) name = plan.tensors[each.tensor].name;
            if (each.kind == Kind::picture) name = "@x";
            const auto found =
                std::find_if(given.begin(), given.end(), [&](const Named& g) { return g.port == name; });
            Named& input = inputs.emplace_back();
            input.port = each.port;
            if (found != given.end()) input.array = found->array;
            else NICRT_RETURN_IF_ERROR(impl_->source_by_name(each, name, step, at, input.array));
        }
        for (const auto& [port, tensor] : work->outputs) {
            const program::Tensor& planned = plan.tensors[tensor];
            outputs.push_back(
                {port, {planned.dtype, program::shape_covering(planned, rect), nullptr, nullptr}});
        }
        NICRT_RETURN_IF_ERROR(impl_->execute(*work, graph, at, inputs, outputs));
        out.clear();
        for (Named& output : outputs) out.push_back(std::move(output.array));
        return {};
    });
}

}  // namespace nicrt::engine

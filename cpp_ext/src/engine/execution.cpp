#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "bundle/check.hpp"
#include "engine/state.hpp"
#include "parallel.hpp"

namespace nicrt::engine {

using bundle::in_quotes;
using program::EntropyStep;
using program::GraphStep;
using program::Rect;
using program::Step;

Execution::Impl::Impl(Input given_input)
    : in(std::move(given_input)),
      plan(*in.plan),
      bundle(*in.graphs->bundle()),
      tensors(plan.tensors.size()),
      versions(plan.tensors.size(), 0) {
    if (in.directory == nullptr) return;
    for (const Stage& stage : in.directory->header.stages)
        for (const Stream& stream : stage.streams) streams.push_back(&stream);
}

bool Execution::Impl::runs(const Step& step) const {
    const auto* const graph = std::get_if<GraphStep>(&step.work);
    return step.needed && !(graph != nullptr && graph->run->enc && in.given);
}

Status Execution::Impl::run(const Step& step) {
    coded.reset();
    NICRT_RETURN_IF_ERROR(in.work.check());
    if (const auto* const graph = std::get_if<GraphStep>(&step.work)) return run_graph(step, *graph);
    return run_entropy(step, std::get<EntropyStep>(step.work));
}

void Execution::Impl::forget(const Step& step) {
    for (const std::uint32_t tensor : step.dies) tensors[tensor] = {};
}

Execution::Execution(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Execution::~Execution() = default;

Status Execution::make(Input input, std::unique_ptr<Execution>& out) {
    return status_of([&]() -> Status {
        const std::vector<std::int64_t>& shape = input.picture.shape;
        if (input.encoding &&
            (input.picture.dtype != bundle::Element::float32 || shape.size() != 3 || shape[2] != 3))
            return invalid_argument("a picture to encode is float32 [height, width, 3]");
        if (!input.encoding && !input.given && input.directory == nullptr)
            return invalid_argument("nothing to decode");
        auto impl = std::make_unique<Impl>(std::move(input));
        std::size_t most = 0;
        for (const Step& step : impl->plan.steps)
            if (const auto* const entropy = std::get_if<EntropyStep>(&step.work))
                most = std::max<std::size_t>(most, entropy->stream + std::size_t{1});
        if (impl->in.directory != nullptr && most > impl->streams.size())
            return corrupt("the file has fewer streams than its program");
        out.reset(new Execution(std::move(impl)));
        return {};
    });
}

Status Execution::step(std::uint32_t& number, bool& done) {
    return status_of([&]() -> Status {
        Impl& state = *impl_;
        if (state.last) state.forget(state.plan.steps[*state.last]);
        state.last.reset();
        while (state.next < state.plan.steps.size() && !state.runs(state.plan.steps[state.next]))
            state.forget(state.plan.steps[state.next++]);
        done = state.next == state.plan.steps.size();
        if (done) return {};
        number = state.next;
        NICRT_RETURN_IF_ERROR(state.run(state.plan.steps[number]));
        state.last = state.next++;
        return {};
    });
}

Status Execution::run() {
    std::uint32_t number = 0;
    bool done = false;
    while (!done) NICRT_RETURN_IF_ERROR(step(number, done));
    return {};
}

std::optional<std::size_t> Execution::Impl::find(std::string_view name) const {
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < tensors.size(); ++i)
        if (plan.tensors[i].name == name && tensors[i].data != nullptr &&
            (!found || plan.tensors[i].first_step >= plan.tensors[*found].first_step))
            found = i;
    return found;
}

Status Execution::tensor(std::string_view name, Array& out, const program::Tensor*& planned) const {
    const auto found = impl_->find(name);
    if (!found) return invalid_argument("there is no tensor " + in_quotes(name) + " now");
    planned = &impl_->plan.tensors[*found];
    out = impl_->tensors[*found];
    return {};
}

Status Execution::change(std::string_view name, Array& out, const program::Tensor*& planned) {
    NICRT_RETURN_IF_ERROR(tensor(name, out, planned));
    Array copy;
    NICRT_RETURN_IF_ERROR(Array::make(out.dtype, out.shape, impl_->in.work.budget, copy));
    std::memcpy(copy.data, out.data, copy.bytes());
    const auto number = static_cast<std::size_t>(planned - impl_->plan.tensors.data());
    if (impl_->in.memo != nullptr) impl_->versions[number] = impl_->in.memo->version();
    impl_->tensors[number] = out = std::move(copy);
    return {};
}

Status Execution::picture(std::uint32_t round, const Rect& rect, Array& out) {
    return impl_->picture(impl_->plan.rounds[round], rect, out);
}

Status Execution::coded(std::uint32_t step, Coded& out) const {
    if (!impl_->coded || impl_->last != step)
        return invalid_argument("this step has not coded anything just now");
    out = *impl_->coded;
    return {};
}

Status Execution::shown(Array& out) const {
    return status_of([&]() -> Status {
        const program::Plan& plan = impl_->plan;
        if (!plan.shown || impl_->tensors[*plan.shown].data == nullptr)
            return {Code::internal, "nothing has been shown"};
        const program::Tensor& planned = plan.tensors[*plan.shown];
        const Array& picture = impl_->tensors[*plan.shown];
        const program::Extent size = plan.rounds.back().size;
        const Rect covered = planned.stride > 0 ? planned.rect : Rect::of(plan.rounds.back().padded);
        const Rect wanted = plan.region;
        const std::int32_t top = wanted.top - covered.top, left = wanted.left - covered.left;
        const auto& shape = picture.shape;
        if (picture.dtype != bundle::Element::uint8 || shape.size() != 4 || shape[3] != 3 ||
            shape[1] < top + wanted.height() || shape[2] < left + wanted.width())
            return {Code::unsupported, "the bundle shows a tensor that is no picture of " +
                                           std::to_string(size.width) + " x " + std::to_string(size.height) +
                                           " pixels of uint8 RGB, the only one that this version shows"};
        const std::array<std::int64_t, 3> extents{wanted.height(), wanted.width(), 3};
        if (shape[0] == 1 && shape[1] == extents[0] && shape[2] == extents[1]) {
            out = picture;
            out.shape.assign(extents.begin(), extents.end());
            return {};
        }
        NICRT_RETURN_IF_ERROR(Array::make(bundle::Element::uint8, extents, nullptr, out));
        const std::size_t line = static_cast<std::size_t>(wanted.width()) * 3;
        for (std::int32_t y = 0; y < wanted.height(); ++y)
            std::memcpy(out.data + static_cast<std::size_t>(y) * line,
                        picture.data + static_cast<std::size_t>((top + y) * shape[2] + left) * 3, line);
        return {};
    });
}

}  // namespace nicrt::engine

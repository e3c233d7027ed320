#include <algorithm>
#include <list>
#include <mutex>
#include <string>

#include "nicrt/engine.hpp"
#include "parallel.hpp"
#include "program/windows.hpp"

namespace nicrt::engine {
namespace {

using program::Plan;
using program::Request;

constexpr std::size_t kMaxKept = 16;

bool same(const Request& a, const Request& b) {
    return a.program == b.program && a.values == b.values && a.picture == b.picture &&
           a.direction == b.direction && a.rounds == b.rounds && a.show == b.show && a.tile == b.tile &&
           a.effort == b.effort && a.window_edge == b.window_edge;
}

}  // namespace

struct Plans::Impl {
    struct Kept {
        Request request;
        std::shared_ptr<const Plan> plan;
    };

    std::shared_ptr<Graphs> graphs;
    std::uint64_t memory_bytes;
    std::mutex mutex;
    std::list<Kept> kept;  ///< the last used ones first

    std::shared_ptr<const Plan> find(const Request& request);
    void keep(Request request, std::shared_ptr<const Plan> plan);
    Status make(Request request, bool ask_backends, const Work& work, Plan& out);
};

Plans::Plans(std::shared_ptr<Graphs> graphs, std::uint64_t memory_bytes) : impl_(std::make_unique<Impl>()) {
    impl_->graphs = std::move(graphs);
    impl_->memory_bytes = memory_bytes;
}
Plans::~Plans() = default;

std::shared_ptr<const Plan> Plans::Impl::find(const Request& request) {
    const std::lock_guard lock(mutex);
    const auto found =
        std::find_if(kept.begin(), kept.end(), [&](const Kept& k) { return same(k.request, request); });
    if (found == kept.end()) return nullptr;
    kept.splice(kept.begin(), kept, found);
    return found->plan;
}

void Plans::Impl::keep(Request request, std::shared_ptr<const Plan> plan) {
    const std::lock_guard lock(mutex);
    kept.push_front({std::move(request), std::move(plan)});
    if (kept.size() > kMaxKept) kept.pop_back();
}

Status Plans::Impl::make(Request request, bool ask_backends, const Work& work, Plan& out) {
    Status asked;
    if (ask_backends)
        request.workspace = [&](std::string_view graph) {
            double bytes_per_pixel = 0;
            if (asked.ok()) asked = graphs->workspace(graph, bytes_per_pixel, work);
            return bytes_per_pixel;
        };
    const Status made = program::make_plan(request, out);
    NICRT_RETURN_IF_ERROR(asked);
    return made;
}

Status Plans::get(Request request, std::shared_ptr<const Plan>& out, const Work& work) {
    return status_of([&]() -> Status {
        if (!request.region && (out = impl_->find(request)) != nullptr) return {};
        auto plan = std::make_shared<Plan>();
        const bool large =
            std::int64_t{request.picture.height} * request.picture.width >= program::kMinWindowed;
        NICRT_RETURN_IF_ERROR(impl_->make(request, large, work, *plan));
        if (plan->memory_bytes > impl_->memory_bytes && !large) {
            *plan = {};
            NICRT_RETURN_IF_ERROR(impl_->make(request, true, work, *plan));
        }
        if (plan->memory_bytes > impl_->memory_bytes)
            return {Code::limit, "the picture needs about " + std::to_string(plan->memory_bytes >> 20) +
                                     " MiB, more than the limit of " +
                                     std::to_string(impl_->memory_bytes >> 20) +
                                     " MiB (--max-memory, Limits.memory_bytes)"};
        if (!request.region) impl_->keep(std::move(request), plan);
        out = std::move(plan);
        return {};
    });
}

}  // namespace nicrt::engine

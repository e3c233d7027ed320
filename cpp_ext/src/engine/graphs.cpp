#include <atomic>
#include <chrono>
#include <mutex>
#include <sstream>

#include "bundle/check.hpp"
#include "nicrt/engine.hpp"
#include "nicrt/proofs.hpp"
#include "parallel.hpp"

namespace nicrt::engine {
namespace {

using bundle::in_quotes;
using Clock = std::chrono::steady_clock;

constexpr double kMaxSeconds = 1e9;  ///< far from the end of the clock

class CallbackBackend final : public Backend {
public:
    explicit CallbackBackend(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}
    [[nodiscard]] std::string_view name() const override { return callbacks_.name; }
    [[nodiscard]] std::string identity() const override { return callbacks_.identity(); }
    [[nodiscard]] bool proven_when_built() const override { return callbacks_.proves; }
    Status load(const bundle::Bundle&, std::string_view graph, std::shared_ptr<const Executable>& out,
                bool& other_kind) const override {
        return callbacks_.load(graph, out, other_kind);
    }

private:
    Callbacks callbacks_;
};

/// Ends what loading takes too long, or when the work that it is for ends.
class LoadControl final : public Control {
public:
    LoadControl(Clock::time_point deadline, const Control* outer) : Control(deadline), outer_(outer) {}

private:
    [[nodiscard]] bool wants_end() const override { return outer_ != nullptr && outer_->ended(); }

    const Control* outer_;
};

std::string joined(const std::vector<std::string>& first, const std::vector<std::string>& second) {
    std::string text;
    for (const auto* const list : {&first, &second})
        for (const std::string& each : *list) text.append(text.empty() ? "" : "; ").append(each);
    return text;
}

/// A graph, and who runs it once it has been loaded.
struct Slot {
    std::string_view name;
    const bundle::Graph* graph = nullptr;
    std::mutex mutex;  ///< of who loads it
    std::atomic<bool> ready{false};
    std::shared_ptr<const Executable> executable;
    std::string_view backend;
    std::vector<std::string> refusals;
    std::atomic<std::uint64_t> calls{0}, pixels{0};
};

}  // namespace

std::shared_ptr<const Backend> make_callback_backend(Callbacks callbacks) {
    return std::make_shared<CallbackBackend>(std::move(callbacks));
}

struct Graphs::Impl {
    std::shared_ptr<const bundle::Bundle> bundle;
    std::vector<std::shared_ptr<const Backend>> backends;
    double load_seconds;
    ProofMarks marks;
    std::map<std::string_view, Slot> slots;
    std::mutex mutex;
    double spent_seconds = 0;

    Status slot_of(std::string_view graph, Slot*& out);
    Status load(Slot& slot, const Work& work);
    Status load_by(const Backend& backend, Slot& slot, bool& other_kind, const Work& work);
    Status check_parts(const Slot& slot) const;
    Status too_long() const;
};

Status Graphs::Impl::slot_of(std::string_view graph, Slot*& out) {
    const auto found = slots.find(graph);
    if (found == slots.end()) return invalid_argument("the bundle has no graph " + in_quotes(graph));
    out = &found->second;
    return {};
}

Status Graphs::Impl::too_long() const {
    std::ostringstream text;
    text << "the bundle's graphs take more than " << load_seconds
         << " s to load and prove (--max-load-time, Limits.load_s)";
    return {Code::limit, text.str()};
}

/// What a backend could not read is no reason to take another form: the bundle is not what its manifest says.
Status Graphs::Impl::check_parts(const Slot& slot) const {
    std::vector<bundle::Tensor> tensors;
    if (slot.graph->native) NICRT_RETURN_IF_ERROR(bundle->weights(slot.name, tensors));
    std::vector<std::uint8_t> model;
    if (slot.graph->onnx) NICRT_RETURN_IF_ERROR(bundle->onnx(slot.name, model));
    return {};
}

Status Graphs::Impl::load_by(const Backend& backend, Slot& slot, bool& other_kind, const Work& work) {
    NICRT_RETURN_IF_ERROR(backend.load(*bundle, slot.name, slot.executable, other_kind));
    if (!slot.graph->exact || backend.proven_when_built()) return {};
    const std::string key = marks.has || marks.set ? proof_key(*bundle, slot.name, backend.identity()) : "";
    if (marks.has && marks.has(key)) return {};
    NICRT_RETURN_IF_ERROR(prove(*slot.graph, *slot.executable, work));
    if (marks.set) marks.set(key);
    return {};
}

Status Graphs::Impl::load(Slot& slot, const Work& work) {
    std::vector<std::string> refusals, others;
    for (const auto& backend : backends) {
        bool other_kind = false;
        const Status status = status_of([&] { return load_by(*backend, slot, other_kind, work); });
        if (status.ok()) {
            slot.backend = backend->name();
            slot.refusals = std::move(refusals);
            return {};
        }
        slot.executable.reset();
        if (status.code() != Code::unsupported) return status;
        if (!other_kind) NICRT_RETURN_IF_ERROR(check_parts(slot));
        (other_kind ? others : refusals).push_back(std::string(backend->name()) + ": " + status.message());
    }
    return {Code::unsupported, "no backend can run graph " + in_quotes(slot.name) +
                                   " of this bundle: " + joined(others, refusals)};
}

Graphs::Graphs(std::shared_ptr<const bundle::Bundle> bundle,
               std::vector<std::shared_ptr<const Backend>> backends, double load_seconds, ProofMarks marks)
    : impl_(std::make_unique<Impl>()) {
    impl_->bundle = std::move(bundle);
    impl_->backends = std::move(backends);
    impl_->load_seconds = load_seconds;
    impl_->marks = std::move(marks);
    for (const auto& [name, graph] : impl_->bundle->manifest().graphs) {
        Slot& slot = impl_->slots[name];
        slot.name = name;
        slot.graph = &graph;
    }
}
Graphs::~Graphs() = default;

Status Graphs::get(std::string_view graph, std::shared_ptr<const Executable>& out, const Work& work) {
    Slot* slot = nullptr;
    NICRT_RETURN_IF_ERROR(impl_->slot_of(graph, slot));
    if (!slot->ready.load(std::memory_order_acquire)) {
        const std::lock_guard lock(slot->mutex);
        if (!slot->ready.load(std::memory_order_relaxed)) {
            double left = 0;
            {
                const std::lock_guard time(impl_->mutex);
                left = impl_->load_seconds - impl_->spent_seconds;
            }
            if (!(left > 0)) return impl_->too_long();
            const auto start = Clock::now();
            const std::chrono::duration<double> within_seconds(std::min(left, kMaxSeconds));
            const LoadControl deadline(start + std::chrono::duration_cast<Clock::duration>(within_seconds),
                                       work.control);
            Work within = work;
            within.control = &deadline;
            Status status = impl_->load(*slot, within);
            const std::lock_guard time(impl_->mutex);
            impl_->spent_seconds += std::chrono::duration<double>(Clock::now() - start).count();
            if (!status.ok())
                return deadline.ended() && status.code() == Code::limit ? impl_->too_long() : status;
            slot->ready.store(true, std::memory_order_release);
        }
    }
    out = slot->executable;
    return {};
}

Status Graphs::workspace(std::string_view graph, double& bytes_per_pixel, const Work& work) {
    std::shared_ptr<const Executable> executable;
    NICRT_RETURN_IF_ERROR(get(graph, executable, work));
    const bundle::Graph& spec = *impl_->bundle->manifest().graphs.find(graph);
    bytes_per_pixel =
        executable->workspace_bytes_per_pixel().value_or(spec.workspace_bytes_per_pixel.value_or(0.0));
    return {};
}

std::vector<Graphs::Report> Graphs::report() const {
    std::vector<Report> reports;
    for (const auto& [name, slot] : impl_->slots)
        if (slot.ready.load(std::memory_order_acquire))
            reports.push_back({name, slot.backend, slot.refusals, slot.calls, slot.pixels});
    return reports;
}

void Graphs::count(std::string_view graph, std::uint64_t pixels) {
    Slot& slot = impl_->slots.at(graph);
    slot.calls.fetch_add(1, std::memory_order_relaxed);
    slot.pixels.fetch_add(pixels, std::memory_order_relaxed);
}

const std::shared_ptr<const bundle::Bundle>& Graphs::bundle() const { return impl_->bundle; }

}  // namespace nicrt::engine

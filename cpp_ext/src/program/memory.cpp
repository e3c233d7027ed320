#include "program/memory.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>

#include "bundle/check.hpp"
#include "parallel.hpp"
#include "program/shapes.hpp"

namespace nicrt::program {
namespace {

constexpr double kArenaGrowth = 2;  // backends take memory in blocks that double
constexpr double kRefinedAtOnce =
    768 * 768;  // pixels of a window in which an encoder looks at what its symbols show
constexpr double kPictureBytes = 12, kShownBytes = 3;  // per pixel: float32 and uint8 of three channels
constexpr double kCodedBytes = 2;  // of a file, a symbol; so much only where pictures are noise
constexpr double kDecodingBytes =
    5;  // a symbol, besides itself: its table's number and what the coder works on

/// Bytes are counted in float64: what overflows 64 bits stays large.
class Count {
public:
    Count(const Request& request, const Plan& plan) : request_(request), plan_(plan) {}

    double most() {
        live_ = picture_bytes();
        most_ = live_;
        for (const Step& step : plan_.steps) {
            if (!step.needed) continue;
            if (const auto* const coded = std::get_if<EntropyStep>(&step.work)) add(*coded);
            else add(step, std::get<GraphStep>(step.work));
            for (const std::uint32_t tensor : step.dies) live_ -= bytes(tensor);
        }
        const double shown = plan_.shown ? kShownBytes * double(plan_.region.area()) * request_.batch : 0;
        return std::max(most_, live_ + shown + workspaces_);
    }

private:
    [[nodiscard]] double bytes(std::uint32_t tensor) const { return double(plan_.tensors[tensor].bytes()); }

    [[nodiscard]] double picture_bytes() const {
        if (request_.direction == Direction::decode) return 0;
        double resampled = 0;  // of the round that runs
        for (const Round& round : plan_.rounds)
            if (!(round.size == request_.picture))
                resampled = std::max(resampled, double(Rect::of(round.size).area()));
        return kPictureBytes * (double(Rect::of(request_.picture).area()) + resampled) * request_.batch;
    }

    void at_once(double temporary) { most_ = std::max(most_, live_ + temporary + workspaces_); }

    void add(const EntropyStep& step) {
        const double symbols = double(step.shape[0]) * step.shape[1] * step.shape[2] * request_.batch;
        live_ += bytes(step.out);
        if (request_.direction == Direction::encode) live_ += kCodedBytes * symbols;
        at_once(kDecodingBytes * symbols);
    }

    void add(const Step& step, const GraphStep& work) {
        const Call& largest =
            *std::max_element(work.calls.begin(), work.calls.end(),
                              [](const Call& a, const Call& b) { return pixels(a) < pixels(b); });
        const double pictures = work.one_by_one ? 1 : request_.batch;
        keep_workspace(work.name,
                       workspace_of(request_, work.name, *work.graph) * pixels(largest) * pictures);
        if (work.run->effort.size() != 0) keep_refining(plan_.rounds[step.round]);
        double given = 0, made = 0;
        for (const Source& source : work.inputs) given += source_bytes(source, work, largest);
        for (const auto& [port, tensor] : work.outputs) {
            live_ += bytes(tensor);
            const double share = pixels(largest) / std::max(1.0, double(step.rect.area()));
            if (work.calls.size() > 1 || !(largest.around == largest.kept)) made += share * bytes(tensor);
        }
        at_once(given + made);
    }

    /// What a call gets besides tensors that are alive anyway.
    [[nodiscard]] double source_bytes(const Source& source, const GraphStep& work, const Call& call) const {
        const double pictures = work.one_by_one ? 1 : request_.batch;
        if (source.kind == Source::Kind::picture)
            return kPictureBytes * double(call.around.area()) * pictures;
        if (source.kind == Source::Kind::rows) return 4.0 * (call.end_row - call.first_row);
        if (source.kind == Source::Kind::columns) return 4.0 * call.around.right;
        if (source.kind != Source::Kind::tensor) return 4.0 * double(source.values.size());
        const Tensor& tensor = plan_.tensors[source.tensor];
        if (tensor.stride == 0 || tensor.rect == call.around) return 0;
        return double(program::bytes_of(tensor.dtype, shape_on(tensor, call.around)));
    }

    [[nodiscard]] static double pixels(const Call& call) {
        const double columns = call.around.width();
        const bool banded = call.end_row - call.first_row < call.around.height() && call.around == call.kept;
        return columns * (banded ? call.end_row - call.first_row : call.around.height());
    }

    /// Of a graph's runs so far that of the largest.
    void keep_workspace(std::string_view name, double needed) {
        double& kept = kept_[name];
        if (kArenaGrowth * needed <= kept) return;
        workspaces_ += kArenaGrowth * needed - kept;
        kept = kArenaGrowth * needed;
    }

    /// A step with several graphs may be an encoder's choice, for which it runs all graphs of the round on
    /// parts of the picture: memory besides that of their other runs, since blocks of one size do not serve
    /// another.
    void keep_refining(const Round& round) {
        if (!std::exchange(refines_, true)) workspaces_ += kArenaGrowth * refining_bytes(round);
    }

    [[nodiscard]] double refining_bytes(const Round& round) const {
        double per_pixel = 0;
        for (const bundle::Step& step : round.stage->steps)
            if (const auto* const run = std::get_if<bundle::Run>(&step)) per_pixel += largest_workspace(*run);
        for (const bundle::Run& run : round.stage->show.runs) per_pixel += largest_workspace(run);
        return per_pixel * std::min(double(Rect::of(round.padded).area()), kRefinedAtOnce);
    }

    [[nodiscard]] double largest_workspace(const bundle::Run& run) const {
        const auto& graphs = request_.manifest->graphs;
        const auto of = [&](std::string_view name) {
            const auto* const graph = graphs.find(name);
            return graph == nullptr ? 0 : workspace_of(request_, name, *graph);
        };
        double largest = of(run.graph);
        for (const auto& [level, name] : run.effort) largest = std::max(largest, of(name));
        return largest;
    }

    const Request& request_;
    const Plan& plan_;
    double live_ = 0, workspaces_ = 0, most_ = 0;
    bool refines_ = false;
    std::unordered_map<std::string_view, double> kept_;
};

/// The largest side whose square is at most `pixels`, and that a picture may have.
std::int32_t root_of(std::uint64_t pixels) {
    auto root =
        static_cast<std::uint64_t>(std::sqrt(static_cast<double>(std::min(pixels, std::uint64_t{1} << 48))));
    while (root * root > pixels) --root;
    while (root < kMaxSide && (root + 1) * (root + 1) <= pixels) ++root;
    return static_cast<std::int32_t>(root);
}

}  // namespace

double workspace_of(const Request& request, std::string_view name, const bundle::Graph& graph) {
    const double found =
        request.workspace ? request.workspace(name) : graph.workspace_bytes_per_pixel.value_or(0);
    return found > 0 ? found : 0;
}

std::uint64_t memory_of(const Request& request, const Plan& plan) {
    const double most = Count(request, plan).most();
    return most < 0x1p63 ? static_cast<std::uint64_t>(most) : UINT64_MAX;
}

std::uint64_t Tensor::bytes() const { return shape.empty() ? 0 : bytes_of(dtype, shape); }

Status most_pixels(const bundle::Manifest& manifest, const bundle::Program& program, std::uint64_t max_pixels,
                   std::uint64_t memory_bytes, Direction direction, std::uint64_t& out) {
    return status_of([&]() -> Status {
        const auto fits = [&](std::int32_t side) {
            Request request;
            request.manifest = &manifest;
            request.program = &program;
            request.picture = {side, side};
            request.values = default_values(program, request.picture);
            request.direction = direction;
            Plan plan;
            return make_plan(request, plan).ok() && plan.memory_bytes <= memory_bytes;
        };
        std::int32_t low = 0, high = root_of(max_pixels);
        while (low < high) {
            const std::int32_t middle = low + (high - low + 1) / 2;
            if (fits(middle)) low = middle;
            else high = middle - 1;
        }
        out = std::uint64_t(low) * std::uint64_t(low);
        return {};
    });
}

}  // namespace nicrt::program

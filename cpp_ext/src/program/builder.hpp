// Makes the steps and tensors of a plan, in the order in which they run.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "nicrt/plan.hpp"
#include "program/resolve.hpp"
#include "program/windows.hpp"

namespace nicrt::program {

/// One step of one round, before anything is known of its tensors.
struct Entry {
    std::uint32_t round = 0;
    const bundle::Entropy* entropy = nullptr;  ///< else a graph step
    const bundle::Run* run = nullptr;
    std::uint32_t stream = 0;
};

class Builder {
public:
    /// `plan` has the rounds. rects: what each step makes, empty where it is not needed; nullptr: all of its
    /// picture.
    Builder(const Request& request, Resolver& resolver, const std::vector<Rect>* rects, Plan& plan)
        : request_(request), resolver_(resolver), rects_(rects), plan_(plan) {}

    Status add(const std::vector<Entry>& entries);

    /// The tensor that shows the last round.
    Status show();

    /// Which step reads each tensor last.
    void mark_deaths();

private:
    [[nodiscard]] const Round& round() const { return plan_.rounds[step_->round]; }

    Status add_entropy(const Entry& entry);
    Status find_tables(EntropyStep& step);
    Status find_symbols(EntropyStep& step);
    void find_tiles(EntropyStep& step) const;
    Status check_streamed(std::uint32_t tensor, std::span<const std::int32_t> shape, bool exactly) const;

    Status add_graph(const Entry& entry);
    Status find_source(const PreparedSource& prepared, Source& out);
    [[nodiscard]] Shape shape_of_source(const Source& source, const Call& call, bool one_by_one) const;
    [[nodiscard]] bundle::Element type_of(const Source& source) const;
    Status bind_inputs(const PreparedRun& run, const GraphStep& step, const Call& call,
                       Extents& extents) const;
    void find_least_band(const PreparedRun& run, GraphStep& step) const;
    void find_unit(const PreparedRun& run, GraphStep& step) const;
    Status find_calls(const PreparedRun& run, GraphStep& step);
    Status check_windows(const PreparedRun& run, const GraphStep& step) const;
    Status add_outputs(const PreparedRun& run, const Extents& extents, GraphStep& step);
    Status join_bands(const PreparedRun& run, const PreparedPort& port, const GraphStep& step,
                      Shape& shape) const;
    void place(const PreparedPort& port, const GraphStep& step, Tensor& tensor) const;

    Status find(std::string_view name, std::uint32_t& out) const;
    Status add_tensor(Tensor tensor, std::uint32_t& out);

    const Request& request_;
    Resolver& resolver_;
    const std::vector<Rect>* rects_;
    Plan& plan_;
    Step* step_ = nullptr;  ///< the one that is being made
    Room room_;
    std::unordered_map<std::string_view, std::uint32_t> scope_;  ///< name → its newest tensor
};

}  // namespace nicrt::program

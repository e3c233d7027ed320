// The state of one execution: its tensors so far, and how its steps make the next ones.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "nicrt/engine.hpp"

namespace nicrt::engine {

struct Execution::Impl {
    explicit Impl(Input given_input);

    Input in;
    const program::Plan& plan;
    const bundle::Bundle& bundle;
    std::vector<Array> tensors;           ///< of the plan; without data where they are not alive
    std::vector<std::uint64_t> versions;  ///< of the tensors, with a memo
    std::vector<const Stream*> streams;   ///< of the file, in its order
    std::uint32_t next = 0;               ///< the step that is run next
    std::optional<std::uint32_t> last;    ///< the one that ran last
    std::size_t given_next = 0;
    std::optional<Coded> coded;  ///< of the step that ran last
    std::optional<std::pair<program::Extent, Array>> resampled;

    [[nodiscard]] const program::Round& round_of(const program::Step& step) const {
        return plan.rounds[step.round];
    }

    /// The tensor that has this name now.
    [[nodiscard]] std::optional<std::size_t> find(std::string_view name) const;

    /// Whether it is run at all.
    [[nodiscard]] bool runs(const program::Step& step) const;
    Status run(const program::Step& step);
    void forget(const program::Step& step);

    // sources.cpp
    Status source(const program::Source& source, const program::Step& step, const program::Call& call,
                  Array& out);
    Status source_by_name(const program::Source& source, std::string_view name, const program::Step& step,
                          const program::Call& at, Array& out);
    Status picture(const program::Round& round, const program::Rect& rect, Array& out);
    Status picture_of(program::Extent size, Array& out);

    // graph_step.cpp
    Status run_graph(const program::Step& step, const program::GraphStep& work);
    Status run_calls(const program::Step& step, const program::GraphStep& work, std::vector<Array>& out);
    Status call(const program::Step& step, const program::GraphStep& work, const program::Call& call,
                std::vector<Array>& out);
    /// Checks what goes in and what comes out.
    Status execute(const program::GraphStep& work, std::string_view graph, const program::Call& at,
                   std::span<const Named> inputs, std::span<Named> outputs);
    [[nodiscard]] Memo::Key made_of(const program::Step& step, const program::GraphStep& work) const;

    // entropy_step.cpp
    Status run_entropy(const program::Step& step, const program::EntropyStep& work);
    Status decode(const program::Step& step, const program::EntropyStep& work);
    Status decode_given(const program::Step& step, const program::EntropyStep& work);
    Status encode(const program::Step& step, const program::EntropyStep& work);
    Status tables(const program::Step& step, const program::EntropyStep& work, Coded& out) const;
    Status take_given(const program::EntropyStep& work, Array& out);
    Status keep(const program::Step& step, const program::EntropyStep& work, Memo::Key key);
};

}  // namespace nicrt::engine

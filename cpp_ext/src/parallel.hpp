// Work over an index range on a few threads, with one deterministic Status.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>

#include "budget.hpp"
#include "fork.hpp"
#include "nicrt/runner.hpp"
#include "nicrt/status.hpp"

namespace nicrt {

/// The Status of `work()`, where an exception becomes `limit` (no memory, or no container that large) or
/// `internal`.
template <class Function>
Status status_of(Function&& work) noexcept {
    try {
        try {
            return work();
        } catch (const OverBudget& over) {
            return over_budget(over.limit);
        }
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    } catch (const std::length_error&) {
        return out_of_memory();
    } catch (const std::exception& error) {
        return {Code::internal, error.what()};
    }
}

/// Calls function(i) -> Status for i in [0, count) as `work` says, on the calling thread and others. After an
/// error, and once its control says so, no further index begins. The error of the lowest index is returned:
/// indices are handed out in order, so every index below one that failed has begun and is waited for,
/// whatever the number of threads.
template <class Function>
Status parallel_for(std::size_t count, const Work& work, const Function& function) {
    struct Shared {
        const Work& work;
        const Function& function;
        std::atomic<bool> failed{false};
        std::mutex mutex{};
        std::size_t first_failure = SIZE_MAX;
        Status result{};

        void one(std::size_t i) {
            if (failed.load(std::memory_order_relaxed)) return;
            Status status = work.check();
            if (status.ok()) status = status_of([&] { return function(i); });
            if (status.ok()) return;
            failed.store(true, std::memory_order_relaxed);
            const std::lock_guard lock(mutex);
            if (i < first_failure) {
                first_failure = i;
                result = std::move(status);
            }
        }
    } shared{work, function};

    if (work.runner == nullptr || work.threads < 2) {
        for (std::size_t i = 0; i < count && !shared.failed; ++i) shared.one(i);
        return std::move(shared.result);
    }
    const unsigned generation = fork_generation();
    work.runner->for_each(
        count, work.threads, [](void* context, std::size_t i) { static_cast<Shared*>(context)->one(i); },
        &shared);
    if (generation != fork_generation())
        return {Code::internal,
                "the process was forked in the middle of this work: it goes on in the parent"};
    return std::move(shared.result);
}

}  // namespace nicrt

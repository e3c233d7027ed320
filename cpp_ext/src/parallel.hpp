// Work over an index range on a few threads, with one deterministic Status.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#include "compiler.hpp"
#include "nicrt/status.hpp"

namespace nicrt {

/// The Status of `work()`, where an exception becomes `limit` (no memory, or no container that large) or
/// `internal`.
template <class Work>
Status status_of(Work&& work) noexcept {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    } catch (const std::length_error&) {
        return out_of_memory();
    } catch (const std::exception& error) {
        return {Code::internal, error.what()};
    }
}

/// Calls work(i) -> Status for i in [0, count) on up to `threads` threads, the calling one included.
/// After an error no further index begins. The error of the lowest index is returned: indices are handed out
/// in order, so every index below one that failed has begun and is waited for, whatever the number of
/// threads.
template <class Work>
Status parallel_for(std::size_t count, unsigned threads, const Work& work) {
    std::atomic<std::size_t> next{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;
    std::size_t first_failure = count;
    Status result;

    const auto run = [&] {
        while (!failed.load(std::memory_order_relaxed)) {
            const std::size_t i = next.fetch_add(1, std::memory_order_relaxed);
            if (i >= count) return;
            Status status = status_of([&] { return work(i); });
            if (status.ok()) continue;
            failed.store(true, std::memory_order_relaxed);
            const std::lock_guard lock(mutex);
            if (i < first_failure) {
                first_failure = i;
                result = std::move(status);
            }
        }
    };

    const std::size_t helpers = std::min<std::size_t>(threads, count);
    std::vector<std::thread> workers;
    if constexpr (kThreads) try {
            for (std::size_t i = 1; i < helpers; ++i) workers.emplace_back(run);
        } catch (const std::exception&) {
            // No memory or no more threads: those that started and this one do all of the work.
        }
    run();
    for (auto& worker : workers) worker.join();
    return result;
}

}  // namespace nicrt

// Runs that share memory with an end.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "nicrt/runner.hpp"
#include "nicrt/status.hpp"

namespace nicrt {

/// Runs in one arena. Each may take all of it, but many at once may not: one that fails beside others is run
/// again alone.
class Turns {
public:
    /// `call` returns a Status, and sets its argument where the arena was full. It throws nothing.
    template <class Call>
    Status run(const Control* control, Call&& call) {
        bool is_full = false;
        std::uint64_t number = 0;
        {
            std::unique_lock lock(mutex_);
            NICRT_RETURN_IF_ERROR(wait(lock, control, [this] { return alone_ == 0; }));
            number = start();
        }
        Status status = call(is_full);
        std::unique_lock lock(mutex_);
        --running_;
        changed_.notify_all();
        if (!is_full || last_beside_others_ < number) return status;
        ++alone_;
        status = wait(lock, control, [this] { return running_ == 0; });
        if (status.ok()) {
            start();
            lock.unlock();
            status = call(is_full);
            lock.lock();
            --running_;
        }
        --alone_;
        changed_.notify_all();
        return status;
    }

private:
    template <class Ready>
    Status wait(std::unique_lock<std::mutex>& lock, const Control* control, Ready ready) {
        constexpr std::chrono::milliseconds kInterval{5};
        while (!changed_.wait_for(lock, kInterval, ready))
            if (control != nullptr) NICRT_RETURN_IF_ERROR(control->check());
        return {};
    }

    std::uint64_t start() {
        if (++running_ > 1) last_beside_others_ = starts_ + 1;
        return ++starts_;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::uint32_t running_ = 0;
    std::uint32_t alone_ = 0;  ///< those that want to be, or are
    std::uint64_t starts_ = 0;
    std::uint64_t last_beside_others_ = 0;  ///< number of the start at which there was last more than one
};

}  // namespace nicrt

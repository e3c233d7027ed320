// Who does work side by side, when it has to stop, and what memory it may take. Handed down to every loop of
// the coder and of the kernels, so that no library code starts threads of its own or asks for memory that
// nobody counts.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "nicrt/status.hpp"

namespace nicrt {

inline constexpr unsigned kMaxThreads = 1024;

/// Threads that work is spread over.
class Runner {
public:
    virtual ~Runner() = default;

    /// Calls work(context, i) once for each i in [0, count), in order of their start, on the calling thread
    /// and on up to `threads` - 1 others at the same time. Returns when all calls have. `work` throws
    /// nothing. May be called from many threads at once, and from within `work`.
    virtual void for_each(std::size_t count, unsigned threads, void (*work)(void* context, std::size_t i),
                          void* context) = 0;
};

/// A pool of at most `threads` - 1 threads. As many are started, when they are first needed, as the work that
/// asks for most of them can use; all callers share them. In the child of a fork() it starts its own: the
/// parent's are not there. What was being run when the process was forked is not finished in the child.
[[nodiscard]] std::shared_ptr<Runner> make_pool(unsigned threads);

/// The pool of hosts that bring none of their own: one for the whole process, until its end. Pictures side by
/// side, each on several threads, share its threads.
[[nodiscard]] Runner& process_pool();

/// What ends work before it is done. Looked at before every strip, segment and call of a graph.
class Control {
public:
    using Clock = std::chrono::steady_clock;

    explicit Control(std::optional<Clock::time_point> deadline = std::nullopt) : deadline_(deadline) {}
    virtual ~Control() = default;
    Control(const Control&) = delete;
    Control& operator=(const Control&) = delete;

    /// From any thread, at any time.
    void cancel() { cancelled_.store(true, std::memory_order_relaxed); }

    /// Whether work is to end: from then on always true.
    [[nodiscard]] bool ended() const { return is_cancelled() || (deadline_ && Clock::now() >= *deadline_); }

    [[nodiscard]] std::optional<Clock::time_point> deadline() const { return deadline_; }

    /// cancelled, or limit once the deadline has passed.
    [[nodiscard]] Status check() const;

protected:
    /// Another reason to end, for hosts that have to be asked: from any thread. Once true always true.
    [[nodiscard]] virtual bool wants_end() const { return false; }

private:
    [[nodiscard]] bool is_cancelled() const {
        return cancelled_.load(std::memory_order_relaxed) || wants_end();
    }

    std::atomic<bool> cancelled_{false};
    std::optional<Clock::time_point> deadline_;
};

/// Bytes that may be held at once. Safe to use from many threads. Values that outlive the work that has made
/// them keep a budget that is shared.
class Budget : public std::enable_shared_from_this<Budget> {
public:
    explicit Budget(std::uint64_t bytes) : limit_(bytes) {}

    /// False, and nothing taken, where that would be more than there is.
    [[nodiscard]] bool take(std::uint64_t bytes);
    void give_back(std::uint64_t bytes) { held_.fetch_sub(bytes, std::memory_order_relaxed); }

    [[nodiscard]] std::uint64_t limit() const { return limit_; }
    [[nodiscard]] std::uint64_t held() const { return held_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t most_held() const { return most_.load(std::memory_order_relaxed); }

private:
    std::uint64_t limit_;
    std::atomic<std::uint64_t> held_{0}, most_{0};
};

/// How a piece of work is to be done. What is nullptr is not there: one thread, no end, no limit.
struct Work {
    Runner* runner = nullptr;
    unsigned threads = 1;  ///< 1 .. kMaxThreads; results do not depend on it
    const Control* control = nullptr;
    Budget* budget = nullptr;

    /// The same on the calling thread alone, for what is too little to share.
    [[nodiscard]] Work alone() const { return {nullptr, 1, control, budget}; }

    /// Status of `control`.
    [[nodiscard]] Status check() const { return control == nullptr ? Status() : control->check(); }
};

}  // namespace nicrt

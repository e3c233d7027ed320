#include "nicrt/runner.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "compiler.hpp"
#include "fork.hpp"

namespace nicrt {
namespace {

/// One call of for_each; it lies on the stack of its caller, who waits for the threads that have joined in.
struct Job {
    std::size_t count;
    void (*work)(void*, std::size_t);
    void* context;
    std::atomic<std::size_t> next{0};
    std::size_t room;        ///< for so many more threads; under the pool's mutex, as is
    std::size_t inside = 0;  ///< how many have joined in
    std::condition_variable left;

    Job(std::size_t count, std::size_t room, void (*work)(void*, std::size_t), void* context)
        : count(count), work(work), context(context), room(room) {}

    void run() {
        for (std::size_t i = next.fetch_add(1, std::memory_order_relaxed); i < count;
             i = next.fetch_add(1, std::memory_order_relaxed))
            work(context, i);
    }
};

/// Threads and what they wait for. Of one generation of the process: a child of a fork() leaves its parent's
/// where it is, with a mutex that may be locked for ever, and makes a new one.
class Crew {
public:
    explicit Crew(unsigned most) : generation(fork_generation()), most_(most) {}
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;
    ~Crew() {
        {
            const std::lock_guard lock(mutex_);
            ending_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    void run(Job& job) {
        if (!open(job)) {
            job.run();
            return;
        }
        job.run();
        if (generation != fork_generation()) return;  // forked by `work`: the other threads are not here
        std::unique_lock lock(mutex_);
        const auto found = std::find(jobs_.begin(), jobs_.end(), &job);
        if (found != jobs_.end()) jobs_.erase(found);
        job.left.wait(lock, [&] { return job.inside == 0; });
    }

    const unsigned generation;

private:
    /// Whether any other thread may join in.
    bool open(Job& job) {
        const std::size_t wanted = std::min<std::size_t>(job.room, most_);
        {
            const std::lock_guard lock(mutex_);
            start(wanted);
            if (threads_.empty() || wanted == 0) return false;
            try {
                jobs_.push_back(&job);
            } catch (const std::exception&) {  // no memory: the caller does all of the work
                return false;
            }
        }
        if (wanted == 1) wake_.notify_one();
        else wake_.notify_all();
        return true;
    }

    void start(std::size_t wanted) {
        try {
            while (threads_.size() < wanted) threads_.emplace_back([this] { serve(); });
        } catch (const std::exception&) {
            // No memory or no more threads: those that there are do the work.
        }
    }

    /// What every thread of the crew does: joins in the oldest work that has room.
    void serve() {
        std::unique_lock lock(mutex_);
        while (true) {
            wake_.wait(lock, [&] { return ending_ || !jobs_.empty(); });
            if (jobs_.empty()) return;
            Job& job = *jobs_.front();
            ++job.inside;
            if (--job.room == 0) jobs_.pop_front();
            lock.unlock();
            job.run();
            if (generation != fork_generation()) return;  // forked by `work`
            lock.lock();
            // All of it has been begun: no other thread is to join in.
            const auto found = std::find(jobs_.begin(), jobs_.end(), &job);
            if (found != jobs_.end()) jobs_.erase(found);
            if (--job.inside == 0)
                job.left.notify_one();  // under the mutex: the job ends where it is given up
        }
    }

    const std::size_t most_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Job*> jobs_;  ///< that have room, the oldest first
    std::vector<std::thread> threads_;
    bool ending_ = false;
};

class Pool final : public Runner {
public:
    explicit Pool(unsigned threads) : most_(std::clamp(threads, 1U, kMaxThreads) - 1) {}
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    ~Pool() override {
        Crew* const crew = crew_.load();
        if (crew != nullptr && crew->generation == fork_generation()) delete crew;
    }

    void for_each(std::size_t count, unsigned threads, void (*work)(void*, std::size_t),
                  void* context) override {
        const std::size_t others = std::min<std::size_t>({threads, count, most_ + std::size_t{1}});
        Job job(count, others > 0 ? others - 1 : 0, work, context);
        Crew* const helpers = kThreads && job.room > 0 ? crew() : nullptr;
        if (helpers == nullptr) job.run();
        else helpers->run(job);
    }

private:
    /// Of this process; nullptr without memory for one.
    Crew* crew() {
        Crew* now = crew_.load(std::memory_order_acquire);
        if (now != nullptr && now->generation == fork_generation()) return now;
        auto* const made = new (std::nothrow) Crew(most_);
        if (made == nullptr || crew_.compare_exchange_strong(now, made, std::memory_order_acq_rel))
            return made;
        delete made;  // another thread was faster
        return now;
    }

    const unsigned most_;
    std::atomic<Crew*> crew_{nullptr};
};

/// Never destroyed: a thread that a host leaves running may be in the middle of its work at the very end.
Pool& the_pool = *new Pool(kMaxThreads);

}  // namespace

std::shared_ptr<Runner> make_pool(unsigned threads) { return std::make_shared<Pool>(threads); }

Runner& process_pool() { return the_pool; }

Status Control::check() const {
    if (is_cancelled()) return {Code::cancelled, "cancelled"};
    if (deadline_ && Clock::now() >= *deadline_) return {Code::limit, "the time for this work is over"};
    return {};
}

bool Budget::take(std::uint64_t bytes) {
    std::uint64_t held = held_.load(std::memory_order_relaxed);
    do {
        if (bytes > limit_ || held > limit_ - bytes) return false;
    } while (!held_.compare_exchange_weak(held, held + bytes, std::memory_order_relaxed));
    const std::uint64_t now = held + bytes;
    std::uint64_t most = most_.load(std::memory_order_relaxed);
    while (most < now && !most_.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
    }
    return true;
}

}  // namespace nicrt

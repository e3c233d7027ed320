// What ends work that a library does, and that cannot look at a control itself.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "nicrt/runner.hpp"

namespace nicrt {

/// Calls `stop`, from a thread of its own, once the control says that work is to end; nothing is called after
/// the end of this. Without a control there is no thread. Throws std::system_error where the machine has none
/// left.
class Watch {
public:
    Watch(const Control* control, std::function<void()> stop) : control_(control), stop_(std::move(stop)) {
        if (control_ != nullptr) thread_ = std::thread([this] { wait(); });
    }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    ~Watch() { end(); }

    /// Ends the watch. Whether `stop` has been called.
    bool end() {
        if (thread_.joinable()) {
            {
                const std::lock_guard lock(mutex_);
                ended_ = true;
            }
            wake_.notify_all();
            thread_.join();
        }
        return stopped_;
    }

private:
    static constexpr std::chrono::milliseconds kInterval{5};

    void wait() {
        std::unique_lock lock(mutex_);
        while (!wake_.wait_for(lock, kInterval, [this] { return ended_; })) {
            if (control_->check().ok()) continue;
            stopped_ = true;
            stop_();
            return;
        }
    }

    const Control* control_;
    std::function<void()> stop_;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool ended_ = false, stopped_ = false;
    std::thread thread_;
};

}  // namespace nicrt

// Work space that outlives a run: fresh pages from the system cost as much as a tenth of the arithmetic
// (measured).
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <tuple>
#include <utility>
#include <vector>

#include "../budget.hpp"

namespace nicrt::native {

class Pool;

/// Floats at a cache line's start, contents unknown; they go back to their pool.
class Floats {
public:
    Floats() = default;
    Floats(Floats&& other) noexcept { *this = std::move(other); }
    Floats& operator=(Floats&& other) noexcept {
        std::swap(pool_, other.pool_);
        std::swap(data_, other.data_);
        std::swap(count_, other.count_);
        std::swap(held_, other.held_);
        return *this;
    }
    inline ~Floats();

    [[nodiscard]] float* get() const { return data_; }

private:
    friend class Pool;
    Pool* pool_ = nullptr;
    float* data_ = nullptr;
    std::size_t count_ = 0;
    Held held_;
};

/// Keeps what was given back, up to a limit. Any number of threads may use it. What it keeps is nobody's: a
/// budget counts what is in use.
class Pool {
public:
    Pool() = default;
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    ~Pool() {
        for (const auto& [data, count] : free_) release(data);
    }

    /// Throws OverBudget or std::bad_alloc. budget: nullptr for none.
    Floats take(std::size_t count, Budget* budget) {
        Floats floats;
        floats.pool_ = this;
        floats.held_ = Held(budget, count * sizeof(float));
        {
            const std::lock_guard lock(mutex_);
            const auto fits = [&](const auto& block) {
                return block.second >= count && block.second / 2 <= count;
            };
            const auto found = std::find_if(free_.begin(), free_.end(), fits);
            if (found != free_.end()) {
                floats.held_.add((found->second - count) * sizeof(float));
                std::tie(floats.data_, floats.count_) = *found;
                kept_ -= floats.count_;
                free_.erase(found);
                return floats;
            }
        }
        floats.data_ = static_cast<float*>(::operator new[](count * sizeof(float), cache_line));
        floats.count_ = count;
        return floats;
    }

private:
    friend class Floats;
    static constexpr std::align_val_t cache_line{64};
    static constexpr std::size_t most_kept = std::size_t{8} << 20;  ///< floats
    static constexpr std::size_t most_blocks = 64;

    static void release(float* data) { ::operator delete[](data, cache_line); }

    void give_back(float* data, std::size_t count) noexcept {
        {
            const std::lock_guard lock(mutex_);
            if (kept_ + count <= most_kept && free_.size() < free_.capacity()) {
                free_.emplace_back(data, count);  // within the capacity: cannot throw
                kept_ += count;
                return;
            }
        }
        release(data);
    }

    static std::vector<std::pair<float*, std::size_t>> with_room() {
        std::vector<std::pair<float*, std::size_t>> blocks;
        blocks.reserve(most_blocks);
        return blocks;
    }

    std::mutex mutex_;
    std::vector<std::pair<float*, std::size_t>> free_ = with_room();
    std::size_t kept_ = 0;
};

Floats::~Floats() {
    if (data_ != nullptr) pool_->give_back(data_, count_);
}

/// Where one run gets its work space from.
struct Memory {
    Pool& pool;
    Budget* budget;

    [[nodiscard]] Floats take(std::size_t count) const { return pool.take(count, budget); }
};

}  // namespace nicrt::native

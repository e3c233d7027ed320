// What a piece of work holds of its caller's budget.
#pragma once

#include <cstdint>
#include <new>
#include <string>
#include <utility>

#include "nicrt/runner.hpp"
#include "nicrt/status.hpp"

namespace nicrt {

/// Thrown where a budget has too little left for what a container or a kernel is about to take.
struct OverBudget : std::bad_alloc {
    explicit OverBudget(std::uint64_t limit) : limit(limit) {}
    std::uint64_t limit;
};

/// `limit`, for a budget of so many bytes.
inline Status over_budget(std::uint64_t limit) {
    return {Code::limit, "more memory is needed than the limit of " + std::to_string(limit >> 20) + " MiB"};
}

/// Bytes that are held of a budget while this lives; none where there is no budget.
class Held {
public:
    Held() = default;
    explicit Held(Budget* budget) : budget_(budget) {}
    Held(Budget* budget, std::uint64_t bytes) : budget_(budget) { add(bytes); }
    Held(Held&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Held& operator=(Held&& other) noexcept {
        std::swap(budget_, other.budget_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Held() {
        if (budget_ != nullptr) budget_->give_back(bytes_);
    }

    /// Throws OverBudget, and takes nothing, where that is too much.
    void add(std::uint64_t bytes) {
        if (budget_ == nullptr) return;
        if (!budget_->take(bytes)) throw OverBudget(budget_->limit());
        bytes_ += bytes;
    }

private:
    Budget* budget_ = nullptr;
    std::uint64_t bytes_ = 0;
};

}  // namespace nicrt

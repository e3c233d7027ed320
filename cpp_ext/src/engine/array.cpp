#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string>

#include "budget.hpp"
#include "nicrt/engine.hpp"
#include "parallel.hpp"
#include "program/shapes.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace nicrt::engine {
namespace {

constexpr std::size_t kAlignment = 64, kHugePage = std::size_t{1} << 21;

/// Large blocks ask for huge pages: with small ones, the first touch of a large picture's tensors costs a
/// tenth of its decoding. nullptr without memory.
void* allocate(std::uint64_t bytes) {
    const std::size_t alignment = bytes < 2 * kHugePage ? kAlignment : kHugePage;
    const std::uint64_t rounded = (std::max<std::uint64_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    if (rounded > std::numeric_limits<std::size_t>::max() / 2) return nullptr;
    void* const memory = std::aligned_alloc(alignment, static_cast<std::size_t>(rounded));
#ifdef MADV_HUGEPAGE
    if (memory != nullptr && alignment == kHugePage)
        madvise(memory, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
#endif
    return memory;
}

/// Bytes that a budget gets back when the deleter that holds this ends. Keeps a budget that is shared: values
/// may outlive the work that has made them.
class GivenBack {
public:
    GivenBack(Budget* budget, std::uint64_t bytes) {
        if (budget == nullptr) return;
        auto owner = budget->weak_from_this().lock();
        bytes_ = std::shared_ptr<void>(nullptr, [budget, owner, bytes](void*) { budget->give_back(bytes); });
    }

private:
    std::shared_ptr<void> bytes_;
};

Status bytes_of_shape(bundle::Element dtype, std::span<const std::int64_t> shape, std::uint64_t& bytes) {
    if (std::any_of(shape.begin(), shape.end(), [](std::int64_t extent) { return extent < 0; }))
        return {Code::internal, "a tensor with a negative extent"};
    bytes = program::bytes_of(dtype, shape);
    return bytes > std::numeric_limits<std::uint64_t>::max() / 2 ? out_of_memory() : Status();
}

}  // namespace

std::uint64_t Array::bytes() const { return program::bytes_of(dtype, shape); }

Status Array::make(bundle::Element dtype, std::span<const std::int64_t> shape, Budget* budget, Array& out) {
    return status_of([&]() -> Status {
        std::uint64_t bytes = 0;
        NICRT_RETURN_IF_ERROR(bytes_of_shape(dtype, shape, bytes));
        if (budget != nullptr && !budget->take(bytes)) return over_budget(budget->limit());
        void* const memory = allocate(bytes);
        if (memory == nullptr) {
            if (budget != nullptr) budget->give_back(bytes);
            return out_of_memory();
        }
        Array made;
        made.keeper =
            std::shared_ptr<void>(memory, [given = GivenBack(budget, bytes)](void* p) { std::free(p); });
        made.dtype = dtype;
        made.shape.assign(shape.begin(), shape.end());
        made.data = static_cast<std::uint8_t*>(memory);
        out = std::move(made);
        return {};
    });
}

Status Array::charge(Budget* budget) {
    if (budget == nullptr) return {};
    const std::uint64_t size = bytes();
    if (!budget->take(size)) return over_budget(budget->limit());
    void* const memory = keeper.get();
    keeper =
        std::shared_ptr<void>(memory, [kept = std::move(keeper), given = GivenBack(budget, size)](void*) {});
    return {};
}

}  // namespace nicrt::engine

#include "nicrt/engine.hpp"

namespace nicrt::engine {

Memo::Memo(std::uint64_t bytes) : left_bytes_(bytes) {}
Memo::~Memo() = default;

std::shared_ptr<const Memo::Kept> Memo::last(const Place& place) const {
    const auto found = kept_.find(place);
    return found == kept_.end() ? nullptr : found->second;
}

std::shared_ptr<const Memo::Kept> Memo::keep(const Place& place, Key key, std::vector<Array> tensors) {
    if (const auto before = kept_.find(place); before != kept_.end()) {
        left_bytes_ += before->second->bytes;
        kept_.erase(before);
    }
    auto kept = std::make_shared<Kept>();
    kept->key = std::move(key);
    for (const Array& tensor : tensors) {
        kept->versions.push_back(version());
        kept->bytes += tensor.bytes();
    }
    kept->tensors = std::move(tensors);
    if (kept->bytes <= left_bytes_) {
        left_bytes_ -= kept->bytes;
        kept_.emplace(place, kept);
    }
    return kept;
}

}  // namespace nicrt::engine

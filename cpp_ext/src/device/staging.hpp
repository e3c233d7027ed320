// What of a batch goes to the device, laid out in one piece of page-locked memory for one copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "entropy_layout.hpp"
#include "nicrt/device.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

/// Offsets of the parts: number of segments, tiles, segments, payload.
struct StagingLayout {
    std::size_t tiles = 16, segments = 0, payload = 0, bytes = 0;

    StagingLayout(std::size_t batch_tiles, std::size_t max_segments, std::size_t max_bytes);
};

class Staging {
public:
    static Status make(const BatchGrid& grid, const DecoderShape& shape, std::unique_ptr<Staging>& out);

    [[nodiscard]] const StagingLayout& layout() const { return layout_; }
    [[nodiscard]] const std::uint8_t* data() const { return memory_->data(); }

    /// Fills it with a batch after every check that needs no count of coded symbols; `bytes` is how many of
    /// it are to be copied. An error leaves it unusable until the next call.
    Status fill(std::span<const FileStream> files, std::size_t& bytes);

    /// A batch of nothing.
    std::size_t clear();

private:
    Staging(const BatchGrid& grid, const DecoderShape& shape, std::shared_ptr<PinnedMemory> memory);
    Status add_stream(const FileStream& stream, std::uint32_t picture);
    Status add_segment(std::span<const std::uint8_t> segment, SegmentEntry entry);
    template <class Value>
    void put(std::size_t offset, const Value& value);

    BatchGrid grid_;
    std::size_t max_segments_, max_bytes_;
    StagingLayout layout_;
    std::shared_ptr<PinnedMemory> memory_;
    std::uint32_t segments_ = 0;
    std::size_t file_bytes_ = 0;     ///< of the segments so far
    std::size_t payload_bytes_ = 0;  ///< as laid out
};

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device

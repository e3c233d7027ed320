#include "staging.hpp"

#include <cstring>
#include <string>

#include "bytes.hpp"
#include "nicrt/crc32c.hpp"
#include "segment_impl.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {
namespace {

using std::to_string;

constexpr std::uint32_t kStateFloor = 1u << 16;
constexpr std::size_t kAlignmentLoss = 32;  ///< most that aligning its parts adds to a segment

std::size_t round_up(std::size_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

StagingLayout::StagingLayout(std::size_t batch_tiles, std::size_t max_segments, std::size_t max_bytes) {
    segments = round_up(tiles + batch_tiles * sizeof(TileEntry));
    payload = segments + max_segments * sizeof(SegmentEntry);
    bytes = payload + round_up(max_bytes + max_segments * kAlignmentLoss) + kPayloadSlack;
}

Staging::Staging(const BatchGrid& grid, const DecoderShape& shape, std::shared_ptr<PinnedMemory> memory)
    : grid_(grid),
      max_segments_(shape.max_segments),
      max_bytes_(shape.max_bytes),
      layout_(grid.batch_tiles(), shape.max_segments, shape.max_bytes),
      memory_(std::move(memory)) {}

Status Staging::make(const BatchGrid& grid, const DecoderShape& shape, std::unique_ptr<Staging>& out) {
    const StagingLayout layout(grid.batch_tiles(), shape.max_segments, shape.max_bytes);
    std::shared_ptr<PinnedMemory> memory;
    NICRT_RETURN_IF_ERROR(PinnedMemory::allocate(layout.bytes, memory));
    out.reset(new Staging(grid, shape, std::move(memory)));
    return {};
}

template <class Value>
void Staging::put(std::size_t offset, const Value& value) {
    std::memcpy(memory_->data() + offset, &value, sizeof value);
}

std::size_t Staging::clear() {
    std::memset(memory_->data(), 0, layout_.segments);
    segments_ = 0;
    file_bytes_ = payload_bytes_ = 0;
    return layout_.segments;
}

Status Staging::fill(std::span<const FileStream> files, std::size_t& bytes) {
    clear();
    if (files.size() != grid_.pictures)
        return invalid_argument(to_string(files.size()) + " streams for a decoder of " +
                                to_string(grid_.pictures));
    for (std::uint32_t picture = 0; picture < grid_.pictures; ++picture) {
        Status status = add_stream(files[picture], picture);
        if (status.ok()) continue;
        if (grid_.pictures == 1) return status;
        return {status.code(), "picture " + to_string(picture) + " of the batch: " + status.message()};
    }
    put(0, segments_);
    bytes = layout_.payload + payload_bytes_;
    return {};
}

Status Staging::add_stream(const FileStream& stream, std::uint32_t picture) {
    const auto& tiles = stream.directory->tiles;
    const std::span<const std::uint8_t> file = stream.file;
    if (tiles.size() != grid_.tiles())
        return corrupt("a stream of " + to_string(tiles.size()) + " tiles, where the picture has " +
                       to_string(grid_.tiles()));
    for (std::uint32_t i = 0; i < tiles.size(); ++i) {
        const Tile& tile = tiles[i];
        const std::uint32_t number = picture * grid_.tiles() + i;
        if (tile.segments.size() > max_segments_ - segments_)
            return {Code::limit,
                    "more than the " + to_string(max_segments_) + " segments that the decoder was made for"};
        const auto count = static_cast<std::uint32_t>(tile.segments.size());
        put(layout_.tiles + number * sizeof(TileEntry), TileEntry{segments_, count});
        if (count > 0) NICRT_RETURN_IF_ERROR(check_arguments(1, tile.lanes, Isa::scalar));
        for (std::uint32_t j = 0; j < count; ++j) {
            const Segment& segment = tile.segments[j];
            if (segment.offset > file.size() || segment.size > file.size() - segment.offset)
                return truncated("the file ends after " + to_string(file.size()) +
                                 " bytes, before the segment at byte " + to_string(segment.offset) + " does");
            SegmentEntry entry;
            entry.tile = number;
            entry.number = j;
            entry.lanes = tile.lanes;
            NICRT_RETURN_IF_ERROR(add_segment(file.subspan(segment.offset, segment.size), entry));
        }
    }
    return {};
}

Status Staging::add_segment(std::span<const std::uint8_t> segment, SegmentEntry entry) {
    if (segment.size() > max_bytes_ - file_bytes_)
        return {Code::limit, "more than the " + to_string(max_bytes_) +
                                 " bytes of segments that the decoder was made for"};
    if (segment.size() < min_segment_size(entry.lanes))
        return corrupt("segment of " + to_string(segment.size()) + " bytes is too short for its lanes");
    const std::size_t body = segment.size() - kCrcBytes;
    // Here and not on the device: a CRC is one chain over all bytes, which this processor follows at memory
    // speed while it copies them, and a damaged file costs no device time.
    if (crc32c(segment.first(body)) != load_le<std::uint32_t>(&segment[body]))
        return corrupt("damaged: the checksum of a segment differs");
    const std::uint8_t* const end = segment.data() + body;
    const std::uint8_t* const states = read_varint(segment.data(), end, entry.escapes);
    if (states == nullptr) return corrupt("segment begins with a malformed escape count");
    const std::size_t state_bytes = 4 * std::size_t{entry.lanes};
    if (static_cast<std::size_t>(end - states) < state_bytes)
        return corrupt("sizes of the parts of a segment do not add up");
    for (unsigned lane = 0; lane < entry.lanes; ++lane)
        if (load_le<std::uint32_t>(states + 4 * lane) < kStateFloor)
            return corrupt("state of a lane is below 2^16");

    std::uint8_t* const payload = memory_->data() + layout_.payload;
    entry.states = static_cast<std::uint32_t>(payload_bytes_);
    entry.words = static_cast<std::uint32_t>(round_up(entry.states + state_bytes));
    entry.tail_bytes = static_cast<std::uint32_t>(end - states - state_bytes);
    std::memcpy(payload + entry.states, states, state_bytes);
    std::memcpy(payload + entry.words, states + state_bytes, entry.tail_bytes);
    put(layout_.segments + segments_ * sizeof(SegmentEntry), entry);
    ++segments_;
    file_bytes_ += segment.size();
    payload_bytes_ = round_up(entry.words + entry.tail_bytes);
    return {};
}

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device

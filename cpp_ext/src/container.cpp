#include "nicrt/container.hpp"

#include <algorithm>
#include <string>

#include "byte_stream.hpp"
#include "nicrt/crc32c.hpp"
#include "parallel.hpp"

namespace nicrt {
namespace {

using std::to_string;

constexpr std::array<std::uint8_t, 8> kSignature{0x89, 0x4E, 0x49, 0x43, 0x0D, 0x0A, 0x1A, 0x0A};
constexpr std::size_t kIdentifyingBytes = 4;  // a difference in the rest is damage, not another format
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kCrcBytes = 4;
constexpr std::array<unsigned, 4> kLaneCodes{1, 4, 8, 32};

constexpr std::uint32_t kMaxEdge = 1u << 24;
constexpr std::uint32_t kMaxParameters = 64;
constexpr std::uint32_t kMaxParameterLength = 4096;
constexpr std::uint32_t kMaxStages = 64;
constexpr std::uint32_t kMaxStreams = 64;
constexpr std::uint32_t kMaxTiles = 1u << 20;
constexpr std::uint32_t kMinSegmentBytes = 9;
constexpr std::uint32_t kMaxSegments = UINT32_MAX / 4;

Status too_short(std::uint64_t have, std::uint64_t need) {
    return truncated("the file ends after " + to_string(have) + " of " + to_string(need) + " bytes");
}

Status check_signature(std::span<const std::uint8_t> data) {
    if (data.empty()) return truncated("the file is empty");
    const std::size_t have = std::min(data.size(), kSignature.size());
    const auto differs =
        std::mismatch(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(have), kSignature.begin());
    const auto position = static_cast<std::size_t>(differs.first - data.begin());
    if (position < std::min(have, kIdentifyingBytes)) return {Code::unsupported, "not a .nic file"};
    if (position < have) return corrupt("the signature is damaged, as by a transfer in text mode");
    if (have < kSignature.size()) return truncated("the file ends within its signature");
    return {};
}

/// Reads the fields between header_size and header_crc. Every count is held against the bytes that are left
/// before anything is reserved for it: each counted thing takes at least one byte.
class HeaderParser {
public:
    HeaderParser(std::span<const std::uint8_t> header, const Limits& limits, std::uint64_t payload_start)
        : reader_(header), limits_(limits), offset_(payload_start) {}

    Status parse(File& file) {
        NICRT_RETURN_IF_ERROR(fixed_fields(file.header));
        NICRT_RETURN_IF_ERROR(parameters(file.header.parameters));
        NICRT_RETURN_IF_ERROR(stages(file));
        if (reader_.remaining() != 0) return corrupt("the header is longer than its fields");
        file.total_bytes = offset_;
        return {};
    }

private:
    Status fixed_fields(Header& header) {
        const std::uint32_t flags = reader_.varint();
        if (flags != 0)
            return {Code::unsupported,
                    "the file needs a later version of nicrt (flags " + to_string(flags) + ")"};
        const auto symbol_id = reader_.bytes(header.symbol_id.size());
        const auto picture_id = reader_.bytes(header.picture_id.size());
        header.width = reader_.varint();
        header.height = reader_.varint();
        header.tile_size = reader_.varint();
        NICRT_RETURN_IF_ERROR(reader_state());
        std::copy(symbol_id.begin(), symbol_id.end(), header.symbol_id.begin());
        std::copy(picture_id.begin(), picture_id.end(), header.picture_id.begin());

        const std::string size = to_string(header.width) + " x " + to_string(header.height);
        if (header.width < 1 || header.height < 1 || header.width > kMaxEdge || header.height > kMaxEdge)
            return corrupt("a picture of " + size + " pixels");
        if (header.tile_size > kMaxEdge)
            return corrupt("tiles of " + to_string(header.tile_size) + " pixels");
        if (std::uint64_t{header.width} * header.height > limits_.max_pixels)
            return {Code::limit,
                    "a picture of " + size + " pixels is over the limit of " + to_string(limits_.max_pixels)};
        return {};
    }

    Status parameters(std::vector<std::vector<std::int32_t>>& out) {
        std::uint32_t count = 0;
        NICRT_RETURN_IF_ERROR(read_count(kMaxParameters, "parameters", count));
        out.resize(count);
        for (auto& parameter : out) {
            NICRT_RETURN_IF_ERROR(read_count(kMaxParameterLength, "numbers in a parameter", count));
            parameter.resize(count);
            for (auto& value : parameter) value = reader_.svarint();
        }
        return reader_state();
    }

    Status stages(File& file) {
        std::uint32_t count = 0;
        NICRT_RETURN_IF_ERROR(read_count(kMaxStages, "stages", count));
        if (count == 0) return corrupt("the header has no stage");
        if (count > limits_.max_stages)
            return {Code::limit,
                    to_string(count) + " stages are over the limit of " + to_string(limits_.max_stages)};
        file.header.stages.resize(count);
        for (auto& stage : file.header.stages) {
            NICRT_RETURN_IF_ERROR(read_count(kMaxStreams, "streams in a stage", count));
            stage.streams.resize(count);
            for (auto& stream : stage.streams) NICRT_RETURN_IF_ERROR(read_stream(stream));
            file.stage_ends.push_back(offset_);
        }
        return {};
    }

    Status read_stream(Stream& stream) {
        std::uint32_t count = 0;
        NICRT_RETURN_IF_ERROR(read_count(kMaxTiles, "tiles in a stream", count));
        stream.tiles.resize(count);
        for (auto& tile : stream.tiles) NICRT_RETURN_IF_ERROR(read_tile(tile));
        return {};
    }

    Status read_tile(Tile& tile) {
        const std::uint32_t layout = reader_.varint();
        NICRT_RETURN_IF_ERROR(reader_state());
        const std::uint32_t lane_code = layout % 4;
        const std::uint32_t segment_count = layout / 4;
        if (segment_count == 0 && lane_code != 0) return corrupt("lanes in a tile without segments");
        NICRT_RETURN_IF_ERROR(check_count(segment_count, kMaxSegments, "segments in a tile"));
        tile.lanes = kLaneCodes[lane_code];
        tile.segments.resize(segment_count);
        for (auto& segment : tile.segments) {
            segment = {offset_, reader_.varint()};
            NICRT_RETURN_IF_ERROR(reader_state());
            if (segment.size < kMinSegmentBytes)
                return corrupt("a segment of " + to_string(segment.size) + " bytes");
            offset_ += segment.size;  // at most 2^32 sizes below 2^32
        }
        return {};
    }

    Status read_count(std::uint32_t maximum, const char* what, std::uint32_t& count) {
        count = reader_.varint();
        NICRT_RETURN_IF_ERROR(reader_state());
        return check_count(count, maximum, what);
    }

    [[nodiscard]] Status check_count(std::uint32_t count, std::uint32_t maximum, const char* what) const {
        if (count > maximum) return corrupt(to_string(count) + " " + what);
        if (count > reader_.remaining())
            return corrupt("the header ends before its " + to_string(count) + " " + what);
        return {};
    }

    [[nodiscard]] Status reader_state() const {
        switch (reader_.error()) {
            case ReadError::none: return {};
            case ReadError::end: return corrupt("the header ends within a field");
            case ReadError::malformed: break;
        }
        return corrupt("a malformed number in the header");
    }

    ByteReader reader_;
    const Limits& limits_;
    std::uint64_t offset_;
};

Status parse_file(std::span<const std::uint8_t> data, const Limits& limits, File& out) {
    NICRT_RETURN_IF_ERROR(check_signature(data));
    ByteReader reader(data);
    reader.bytes(kSignature.size());
    const std::uint32_t version = reader.varint();
    if (reader.ok() && version != kVersion)
        return {Code::unsupported, "format version " + to_string(version) + "; this nicrt reads version 1"};
    const std::uint32_t header_size = reader.varint();
    if (reader.error() == ReadError::end) return truncated("the file ends before its header");
    if (reader.error() == ReadError::malformed) return corrupt("a malformed number before the header");
    if (header_size > limits.max_header_bytes)
        return {Code::limit, "a header of " + to_string(header_size) + " bytes is over the limit of " +
                                 to_string(limits.max_header_bytes)};

    File file;
    const std::size_t header_start = reader.position();
    file.header_bytes = std::uint64_t{header_start} + header_size + kCrcBytes;
    if (data.size() < file.header_bytes)
        return truncated("the file ends within its header, after " + to_string(data.size()) + " of " +
                         to_string(file.header_bytes) + " bytes");
    const auto header = reader.bytes(header_size);
    if (reader.u32() != crc32c(data.first(header_start + header_size)))
        return corrupt("the header is damaged (CRC)");
    NICRT_RETURN_IF_ERROR(HeaderParser(header, limits, file.header_bytes).parse(file));
    out = std::move(file);
    return {};
}

template <class Visit>
Status for_each_segment(std::span<const Stage> stages, Visit visit) {
    for (const auto& stage : stages)
        for (const auto& stream : stage.streams)
            for (const auto& tile : stream.tiles)
                for (const auto& segment : tile.segments) NICRT_RETURN_IF_ERROR(visit(segment));
    return {};
}

std::size_t lane_code_of(unsigned lanes) {
    return static_cast<std::size_t>(std::find(kLaneCodes.begin(), kLaneCodes.end(), lanes) -
                                    kLaneCodes.begin());
}

Status put_stream(const Stream& stream, std::uint64_t& payload_bytes, std::vector<std::uint8_t>& out) {
    if (stream.tiles.size() > kMaxTiles)
        return invalid_argument(to_string(stream.tiles.size()) + " tiles in a stream");
    put_varint(out, static_cast<std::uint32_t>(stream.tiles.size()));
    for (const auto& tile : stream.tiles) {
        const std::size_t lane_code = tile.segments.empty() ? 0 : lane_code_of(tile.lanes);
        if (lane_code == kLaneCodes.size()) return invalid_argument(to_string(tile.lanes) + " lanes");
        if (tile.segments.size() > kMaxSegments)
            return invalid_argument(to_string(tile.segments.size()) + " segments in a tile");
        put_varint(out, static_cast<std::uint32_t>(4 * tile.segments.size() + lane_code));
        for (const auto& segment : tile.segments) {
            if (segment.size < kMinSegmentBytes)
                return invalid_argument("a segment of " + to_string(segment.size) + " bytes");
            put_varint(out, segment.size);
            payload_bytes += segment.size;
        }
    }
    return {};
}

Status put_header(const Header& header, std::uint64_t& payload_bytes, std::vector<std::uint8_t>& out) {
    if (header.width < 1 || header.height < 1 || header.width > kMaxEdge || header.height > kMaxEdge)
        return invalid_argument("a picture of " + to_string(header.width) + " x " + to_string(header.height) +
                                " pixels");
    if (header.tile_size > kMaxEdge)
        return invalid_argument("tiles of " + to_string(header.tile_size) + " pixels");
    if (header.parameters.size() > kMaxParameters)
        return invalid_argument(to_string(header.parameters.size()) + " parameters");
    if (header.stages.empty() || header.stages.size() > kMaxStages)
        return invalid_argument(to_string(header.stages.size()) + " stages");

    put_varint(out, 0);  // flags
    put_bytes(out, header.symbol_id);
    put_bytes(out, header.picture_id);
    for (const std::uint32_t field : {header.width, header.height, header.tile_size}) put_varint(out, field);
    put_varint(out, static_cast<std::uint32_t>(header.parameters.size()));
    for (const auto& parameter : header.parameters) {
        if (parameter.size() > kMaxParameterLength)
            return invalid_argument(to_string(parameter.size()) + " numbers in a parameter");
        put_varint(out, static_cast<std::uint32_t>(parameter.size()));
        for (const std::int32_t value : parameter) put_svarint(out, value);
    }
    put_varint(out, static_cast<std::uint32_t>(header.stages.size()));
    for (const auto& stage : header.stages) {
        if (stage.streams.size() > kMaxStreams)
            return invalid_argument(to_string(stage.streams.size()) + " streams in a stage");
        put_varint(out, static_cast<std::uint32_t>(stage.streams.size()));
        for (const auto& stream : stage.streams)
            NICRT_RETURN_IF_ERROR(put_stream(stream, payload_bytes, out));
    }
    if (out.size() > UINT32_MAX) return invalid_argument("a header of " + to_string(out.size()) + " bytes");
    return {};
}

}  // namespace

std::size_t File::complete_stages(std::uint64_t size) const {
    if (size < header_bytes) return 0;
    return static_cast<std::size_t>(std::upper_bound(stage_ends.begin(), stage_ends.end(), size) -
                                    stage_ends.begin());
}

Status parse_header(std::span<const std::uint8_t> data, const Limits& limits, File& out) {
    return status_of([&] { return parse_file(data, limits, out); });
}

Status check_complete(const File& file, std::uint64_t size) {
    if (size < file.total_bytes) return too_short(size, file.total_bytes);
    if (size > file.total_bytes)
        return corrupt(to_string(size - file.total_bytes) + " bytes follow the end of the file at " +
                       to_string(file.total_bytes));
    return {};
}

Status check_segments(const File& file, std::span<const std::uint8_t> data, std::size_t stages) {
    const std::span all(file.header.stages);
    return for_each_segment(all.first(std::min(stages, all.size())), [&](const Segment& segment) -> Status {
        if (data.size() < segment.offset + segment.size) return too_short(data.size(), file.total_bytes);
        const auto bytes = data.subspan(segment.offset, segment.size);
        const auto content = bytes.first(bytes.size() - kCrcBytes);
        if (ByteReader(bytes.last(kCrcBytes)).u32() != crc32c(content))
            return corrupt("the segment at byte " + to_string(segment.offset) + " is damaged (CRC)");
        return {};
    });
}

Status write(const Header& header, std::span<const std::span<const std::uint8_t>> payload,
             std::vector<std::uint8_t>& out) {
    return status_of([&]() -> Status {
        std::vector<std::uint8_t> fields;
        std::uint64_t directory_bytes = 0;
        NICRT_RETURN_IF_ERROR(put_header(header, directory_bytes, fields));
        std::uint64_t payload_bytes = 0;
        for (const auto& piece : payload) payload_bytes += piece.size();
        if (payload_bytes != directory_bytes)
            return invalid_argument("a payload of " + to_string(payload_bytes) +
                                    " bytes, where the directory has " + to_string(directory_bytes));

        std::vector<std::uint8_t> file(kSignature.begin(), kSignature.end());
        put_varint(file, kVersion);
        put_varint(file, static_cast<std::uint32_t>(fields.size()));
        file.reserve(file.size() + fields.size() + kCrcBytes + payload_bytes);
        put_bytes(file, fields);
        put_u32(file, crc32c(file));
        for (const auto& piece : payload) put_bytes(file, piece);
        out = std::move(file);
        return {};
    });
}

}  // namespace nicrt

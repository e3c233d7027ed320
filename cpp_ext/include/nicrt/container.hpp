// The `.nic` container: header, stream directory, segment boundaries (FORMAT.md sections 1 and 2).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "nicrt/status.hpp"

namespace nicrt {

/// What a caller is willing to open. Checked before memory is reserved.
struct Limits {
    std::uint32_t max_header_bytes = 1u << 20;
    std::uint64_t max_pixels = std::uint64_t{1} << 26;
    std::uint32_t max_stages = 64;
};

struct Segment {
    std::uint64_t offset = 0;  ///< from the start of the file; `write` ignores it
    std::uint32_t size = 0;
};

struct Tile {
    unsigned lanes = 1;  ///< 1, 4, 8 or 32; 1 where nothing is coded
    std::vector<Segment> segments;
};

/// One entropy step of one stage; tiles in raster order.
struct Stream {
    std::vector<Tile> tiles;
};

struct Stage {
    std::vector<Stream> streams;
};

struct Header {
    std::array<std::uint8_t, 8> symbol_id{};
    std::array<std::uint8_t, 4> picture_id{};
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    std::uint32_t tile_size = 0;  ///< 0: no tiles
    std::vector<std::vector<std::int32_t>> parameters;
    std::vector<Stage> stages;
};

/// A parsed header and where things lie. The segments themselves stay in the caller's bytes.
struct File {
    Header header;
    std::uint64_t header_bytes = 0;         ///< signature to header CRC; the first segment starts here
    std::uint64_t total_bytes = 0;          ///< the whole file
    std::vector<std::uint64_t> stage_ends;  ///< per stage, where its last segment ends

    /// How many whole stages, from the first on, the first `size` bytes of the file hold.
    [[nodiscard]] std::size_t complete_stages(std::uint64_t size) const;
};

/// Parses signature to header CRC; `data` may lack any of the payload, or go on after it.
/// truncated: `data` ends before the header does. `out` is written only on success.
Status parse_header(std::span<const std::uint8_t> data, const Limits& limits, File& out);

/// truncated: `size` bytes are fewer than the file has; corrupt: more.
Status check_complete(const File& file, std::uint64_t size);

/// Checks the CRC of every segment of the first `stages` stages. `data` starts where the file does.
Status check_segments(const File& file, std::span<const std::uint8_t> data, std::size_t stages = SIZE_MAX);

/// Gives the whole file. The pieces of `payload`, one after the other, are all segments in directory order;
/// how the segments are spread over pieces does not matter. invalid_argument: a field outside its range, or a
/// payload that is not as long as the directory says.
Status write(const Header& header, std::span<const std::span<const std::uint8_t>> payload,
             std::vector<std::uint8_t>& out);

}  // namespace nicrt

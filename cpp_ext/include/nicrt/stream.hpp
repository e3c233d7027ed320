// A tensor of symbols to and from the segments of its tiles (FORMAT.md section 3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "nicrt/codebook.hpp"
#include "nicrt/container.hpp"
#include "nicrt/runner.hpp"
#include "nicrt/status.hpp"

namespace nicrt {

struct TensorShape {
    std::uint32_t channels = 0;
    std::uint32_t height = 0;
    std::uint32_t width = 0;

    [[nodiscard]] std::size_t places() const { return std::size_t{channels} * height * width; }
};

/// Which table codes a place. An id >= the number of tables means that the place is not coded and holds 0.
struct TableChoice {
    const std::uint8_t* ids = nullptr;  ///< [channels] when by_channel, else [channels, height, width]
    bool by_channel = false;
};

struct StreamOptions {
    std::uint32_t tile = 0;  ///< edge of a tile in places, 0 for one tile
    Work work;               ///< the result does not depend on it
};

/// Coded symbols per lane that encoders aim at: fewer lanes cost fewer bytes, more lanes decode faster.
inline constexpr std::uint32_t kCompactSymbolsPerLane = 16384;
inline constexpr std::uint32_t kBalancedSymbolsPerLane = 2048;
inline constexpr std::uint32_t kParallelSymbolsPerLane = 512;  ///< or fewer: rather up to twice the lanes
inline constexpr std::uint32_t kMaxSymbolsPerLane = 1u << 20;  // keeps every segment far below 4 GB

struct EncodedStream {
    Stream directory;                 ///< segment offsets are those within `bytes`
    std::vector<std::uint8_t> bytes;  ///< all segments in directory order
    std::uint64_t coded = 0;          ///< symbols that were coded
};

/// Encodes symbols [channels, height, width] and sets the places that are not coded to 0, as the decoder
/// will. invalid_argument: an empty shape, more than 2^20 tiles, threads or symbols_per_lane out of range, or
/// a coded symbol outside -32768 .. 32767; places that are not coded may be 0 already then.
Status encode_stream(const Codebook& codebook, TableChoice tables, std::int32_t* symbols, TensorShape shape,
                     StreamOptions options, std::uint32_t symbols_per_lane, EncodedStream& out);

/// Decodes into symbols [channels, height, width]. `file`: the bytes that the offsets of `directory` count
/// in. corrupt: also when tiles or segments do not fit the shape and the number of coded places; truncated: a
/// segment past the end of `file`. The first tile that fails decides the error; the contents of `symbols` are
/// then unspecified.
Status decode_stream(const Codebook& codebook, TableChoice tables, TensorShape shape, StreamOptions options,
                     std::span<const std::uint8_t> file, const Stream& directory, std::int32_t* symbols);

/// What a stream of these symbols would take, but for lanes and headers. bits: exact to 2^-17 for each
/// symbol.
struct StreamCost {
    double bits = 0;
    std::uint64_t coded = 0;  ///< symbols that would be coded
};

/// invalid_argument: an empty shape. Symbols may be any: those that `encode_stream` refuses count as escapes.
Status cost_of_stream(const Codebook& codebook, TableChoice tables, const std::int32_t* symbols,
                      TensorShape shape, StreamCost& out);

}  // namespace nicrt

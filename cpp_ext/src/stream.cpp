#include "nicrt/stream.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "compact.hpp"
#include "compiler.hpp"
#include "nicrt/segment.hpp"
#include "parallel.hpp"
#include "tile.hpp"

namespace nicrt {
namespace {

using std::to_string;

/// Far from any overflow below: a place takes at most 7 bytes, its symbol, coded symbol and table id.
constexpr std::uint64_t kMaxPlaces = std::min<std::uint64_t>(std::uint64_t{1} << 40, PTRDIFF_MAX / 8);
constexpr std::uint64_t kMaxTiles = 1u << 20;

// Fewer coded symbols take about as long as it takes to wake a thread.
constexpr std::size_t kEncodeWorthThreads = 1u << 16;
constexpr std::size_t kDecodeWorthThreads = 1u << 18;
constexpr std::size_t kPlacesPerSymbol = 4;  // a guess, where the coded symbols are not counted yet

Status check_arguments(TensorShape shape, StreamOptions options) {
    if (shape.channels == 0 || shape.height == 0 || shape.width == 0)
        return invalid_argument("a tensor of symbols without places");
    if (std::uint64_t{shape.height} * shape.width > kMaxPlaces / shape.channels)
        return invalid_argument("a tensor of symbols with more than " + to_string(kMaxPlaces) + " places");
    if (options.work.threads < 1 || options.work.threads > kMaxThreads)
        return invalid_argument(to_string(options.work.threads) + " threads; 1 to " + to_string(kMaxThreads) +
                                " are possible");
    return {};
}

/// Where segment i of `segments` begins among n coded symbols: floor(n i / segments), without the wide
/// product.
std::size_t segment_begin(std::size_t n, std::size_t segments, std::size_t i) {
    return n / segments * i + n % segments * i / segments;
}

struct TileLayout {
    unsigned lanes = 1;
    std::size_t segments = 0;
};

TileLayout layout_for(std::size_t n, std::size_t symbols_per_lane) {
    if (n == 0) return {};
    const std::size_t wanted = std::max<std::size_t>(1, (n + symbols_per_lane / 2) / symbols_per_lane);
    TileLayout layout{1, std::max<std::size_t>(1, wanted / 32)};
    // Where every lane waits for the longest one (a GPU), one with half as many symbols is better than a lane
    // too few.
    const std::size_t most = symbols_per_lane <= kParallelSymbolsPerLane ? 2 * wanted : wanted;
    for (const unsigned lanes : {4u, 8u, 32u})
        if (lanes <= most) layout.lanes = lanes;
    return layout;
}

struct EncodedTile {
    Tile directory;
    std::vector<std::uint8_t> bytes;
    std::size_t coded = 0;
};

class Encoder {
public:
    Encoder(const Codebook& codebook, std::uint32_t symbols_per_lane)
        : codebook_(codebook), symbols_per_lane_(symbols_per_lane) {}

    Status tile(const TilePlaces& places, std::int32_t* symbols, const Work& work, EncodedTile& out) const {
        const Held held(work.budget,
                        (places.count() + kCompactSlack) * (sizeof(std::uint8_t) + sizeof(std::int16_t)));
        const auto ids = uninitialised<std::uint8_t>(places.count() + kCompactSlack);
        const auto coded = uninitialised<std::int16_t>(places.count() + kCompactSlack);
        bool fits = true;
        std::size_t n = 0;
        NICRT_RETURN_IF_ERROR(places.gather(work.control, symbols, ids.get(), coded.get(), n, fits));
        if (!fits) return invalid_argument("a symbol outside -32768 .. 32767");

        const TileLayout layout = layout_for(n, symbols_per_lane_);
        std::vector<std::vector<std::uint8_t>> segments(layout.segments);
        NICRT_RETURN_IF_ERROR(
            parallel_for(layout.segments, n > kEncodeWorthThreads ? work : work.alone(), [&](std::size_t i) {
                const std::size_t begin = segment_begin(n, layout.segments, i);
                const std::size_t end = segment_begin(n, layout.segments, i + 1);
                return encode_segment(codebook_, ids.get() + begin, coded.get() + begin, end - begin,
                                      layout.lanes, segments[i], Isa::best, work);
            }));
        out.coded = n;
        out.directory.lanes = layout.lanes;
        if (layout.segments == 1) {
            out.directory.segments = {{0, static_cast<std::uint32_t>(segments[0].size())}};
            out.bytes = std::move(segments[0]);
            return {};
        }
        for (const auto& segment : segments) {
            out.directory.segments.push_back({0, static_cast<std::uint32_t>(segment.size())});
            out.bytes.insert(out.bytes.end(), segment.begin(), segment.end());
        }
        return {};
    }

private:
    const Codebook& codebook_;
    std::uint32_t symbols_per_lane_;
};

EncodedStream join(std::vector<EncodedTile> tiles) {
    EncodedStream stream;
    std::size_t bytes = 0;
    for (const auto& tile : tiles) bytes += tile.bytes.size();
    stream.bytes.reserve(bytes);
    std::uint64_t offset = 0;
    for (auto& tile : tiles) {
        stream.bytes.insert(stream.bytes.end(), tile.bytes.begin(), tile.bytes.end());
        stream.coded += tile.coded;
        for (auto& segment : tile.directory.segments) {
            segment.offset = offset;
            offset += segment.size;
        }
        stream.directory.tiles.push_back(std::move(tile.directory));
    }
    return stream;
}

class Decoder {
public:
    Decoder(const Codebook& codebook, std::span<const std::uint8_t> file)
        : codebook_(codebook), file_(file) {}

    Status tile(const TilePlaces& places, const Tile& directory, const Work& work,
                std::int32_t* symbols) const {
        Held held(work.budget, places.count() + kCompactSlack);
        const auto ids = uninitialised<std::uint8_t>(places.count() + kCompactSlack);
        std::size_t n = 0;
        NICRT_RETURN_IF_ERROR(places.ids(work.control, ids.get(), n));
        const std::size_t segments = directory.segments.size();
        if ((segments == 0) != (n == 0) || segments > n)
            return corrupt("a tile with " + to_string(segments) + " segments for " + to_string(n) +
                           " coded symbols");

        held.add((n + kCompactSlack) * sizeof(std::int16_t));
        const auto coded = uninitialised<std::int16_t>(n + kCompactSlack);
        NICRT_RETURN_IF_ERROR(parallel_for(
            segments, n > kDecodeWorthThreads ? work : work.alone(), [&](std::size_t i) -> Status {
                const Segment& segment = directory.segments[i];
                if (segment.offset > file_.size() || segment.size > file_.size() - segment.offset)
                    return truncated("the file ends after " + to_string(file_.size()) +
                                     " bytes, before the segment at byte " + to_string(segment.offset) +
                                     " does");
                const std::size_t begin = segment_begin(n, segments, i);
                const std::size_t end = segment_begin(n, segments, i + 1);
                return decode_segment(codebook_, ids.get() + begin, end - begin, directory.lanes,
                                      file_.subspan(segment.offset, segment.size), coded.get() + begin,
                                      {Isa::best, DecodePath::automatic, work.control});
            }));
        return places.scatter(work.control, coded.get(), symbols);
    }

private:
    const Codebook& codebook_;
    std::span<const std::uint8_t> file_;
};

/// function(tile, work): threads go to the tiles where there are several, else to the segments of the only
/// one.
template <class Function>
Status for_each_tile(const TileGrid& grid, bool worth_threads, const Work& work, const Function& function) {
    const auto tiles = static_cast<std::size_t>(grid.count());
    if (tiles == 1) return function(std::size_t{0}, work);
    return parallel_for(tiles, worth_threads ? work : work.alone(),
                        [&](std::size_t tile) { return function(tile, work.alone()); });
}

}  // namespace

Status encode_stream(const Codebook& codebook, TableChoice tables, std::int32_t* symbols, TensorShape shape,
                     StreamOptions options, std::uint32_t symbols_per_lane, EncodedStream& out) {
    return status_of([&]() -> Status {
        NICRT_RETURN_IF_ERROR(check_arguments(shape, options));
        if (symbols_per_lane < 1 || symbols_per_lane > kMaxSymbolsPerLane)
            return invalid_argument(to_string(symbols_per_lane) + " symbols per lane; 1 to " +
                                    to_string(kMaxSymbolsPerLane) + " are possible");
        const TileGrid grid(shape, options.tile);
        if (grid.count() > kMaxTiles)
            return invalid_argument(to_string(grid.count()) + " tiles are more than 2^20");
        const Encoder encoder(codebook, symbols_per_lane);
        std::vector<EncodedTile> tiles(grid.count());
        const bool worth_threads = shape.places() / kPlacesPerSymbol > kEncodeWorthThreads;
        NICRT_RETURN_IF_ERROR(
            for_each_tile(grid, worth_threads, options.work, [&](std::size_t tile, const Work& work) {
                const TilePlaces places(shape, grid.rect(tile), tables, codebook.size());
                return encoder.tile(places, symbols, work, tiles[tile]);
            }));
        out = join(std::move(tiles));
        return {};
    });
}

Status decode_stream(const Codebook& codebook, TableChoice tables, TensorShape shape, StreamOptions options,
                     std::span<const std::uint8_t> file, const Stream& directory, std::int32_t* symbols) {
    return status_of([&]() -> Status {
        NICRT_RETURN_IF_ERROR(check_arguments(shape, options));
        const TileGrid grid(shape, options.tile);
        if (directory.tiles.size() != grid.count())
            return corrupt("a stream of " + to_string(directory.tiles.size()) +
                           " tiles, where the picture has " + to_string(grid.count()));
        const Decoder decoder(codebook, file);
        const bool worth_threads = shape.places() / kPlacesPerSymbol > kDecodeWorthThreads;
        return for_each_tile(grid, worth_threads, options.work, [&](std::size_t tile, const Work& work) {
            const TilePlaces places(shape, grid.rect(tile), tables, codebook.size());
            return decoder.tile(places, directory.tiles[tile], work, symbols);
        });
    });
}

}  // namespace nicrt
